//! Tests of the log as a whole. Shared here: entries, proposals, a writer on any disk, reading a directory back.

mod crash;
mod damage;
mod format;
mod history;
mod install;
mod order;
mod random;
mod request;
mod threads;
mod turn;

use super::*;
use crate::io::disk::Disk;
use ostler_replication::{Proposal, Zxid};
use std::path::Path;
use std::sync::Arc;

/// A txn header of that zxid, then `body_bytes` bytes that depend on both.
fn entry(zxid: u64, body_bytes: usize) -> Vec<u8> {
    let mut entry = Vec::with_capacity(32 + body_bytes);
    entry.extend_from_slice(&0x0100_0000_0000_0001_i64.to_be_bytes());
    entry.extend_from_slice(&7_i32.to_be_bytes());
    entry.extend_from_slice(&zxid.to_be_bytes());
    entry.extend_from_slice(&1_700_000_000_000_i64.to_be_bytes());
    entry.extend_from_slice(&5_i32.to_be_bytes());
    entry.extend((0..body_bytes).map(|at| (zxid as usize * 31 + at * 7) as u8));
    entry
}

/// The -5 error txn of a request that an Apache leader could not decode.
fn undecodable(zxid: u64) -> Vec<u8> {
    let mut bytes = entry(zxid, 0);
    bytes[28..32].copy_from_slice(&(-1_i32).to_be_bytes());
    bytes.extend((-5_i32).to_be_bytes());
    bytes
}

fn proposal(entries: &[Vec<u8>]) -> Proposal {
    let mut records = Vec::new();
    for entry in entries {
        records.extend_from_slice(&(entry.len() as u32).to_be_bytes());
        records.extend_from_slice(entry);
    }
    let zxid = |entry: Option<&Vec<u8>>| super::record::entry_zxid(entry.unwrap()).unwrap();
    Proposal { first: zxid(entries.first()), last: zxid(entries.last()), records: records.into() }
}

/// Zxids `from..=to`, bodies of varying length.
fn batch(from: u64, to: u64) -> Proposal {
    proposal(&(from..=to).map(|zxid| entry(zxid, 10 + (zxid as usize * 37) % 90)).collect::<Vec<_>>())
}

fn settings(dir: &Path, method: Method) -> LogSettings {
    LogSettings { segment_bytes: 64 << 10, method, ..LogSettings::new(dir) }
}

/// A writer without threads: spares are made when they are taken.
fn writer(disk: &Arc<dyn Disk>, settings: LogSettings, last: Zxid) -> Result<LogWriter, LogFailure> {
    writer::open_dir(&**disk, &settings.dir)?;
    let failed = |source| LogFailure { doing: "starting", path: settings.dir.clone(), source };
    let spares = Spares::open(disk.clone(), &settings, false, Box::new(|_| {})).map_err(failed)?;
    Ok(LogWriter::new(disk.clone(), settings, spares, last))
}

type Replayed = Vec<(Zxid, Vec<u8>)>;

fn replay(disk: &dyn Disk, dir: &Path, base: u64) -> Result<(Recovered, Replayed), RecoverError> {
    replay_by(Reading::Single, disk, dir, base, None)
}

/// How the log is read back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reading {
    /// Entry by entry.
    Single,
    Groups,
    /// In groups, on a thread of its own.
    Ahead,
}

/// A group's entries as they are.
#[derive(Default)]
struct Kept(Vec<Vec<u8>>);

impl Content for Kept {
    fn clear(&mut self) {
        self.0.clear();
    }
}

fn replay_by(
    reading: Reading,
    disk: &dyn Disk,
    dir: &Path,
    base: u64,
    refused: Option<Zxid>,
) -> Result<(Recovered, Replayed), RecoverError> {
    let settings = RecoverSettings { repair: true, alone: false, until: None };
    let mut seen = Vec::new();
    let mut take = |zxid: Zxid, entry: &[u8]| {
        if Some(zxid) == refused {
            return Err("not this one".to_owned());
        }
        seen.push((zxid, entry.to_vec()));
        Ok(())
    };
    let base = Zxid(base);
    let recovered = if reading == Reading::Single {
        recover(disk, dir, base, settings, &mut take)?
    } else {
        let keep = |kept: &mut Kept, entry: &[u8]| kept.0.push(entry.to_vec());
        super::replay(disk, dir, base, settings, reading == Reading::Ahead, keep, &mut |group| {
            group.0.iter().enumerate().try_for_each(|(index, entry)| {
                let zxid = super::record::entry_zxid(entry).unwrap();
                take(zxid, entry).map_err(|reason| (index, reason))
            })
        })?
    };
    Ok((recovered, seen))
}

fn names(disk: &dyn Disk, dir: &Path) -> Vec<String> {
    log_files(disk, dir)
        .unwrap()
        .into_iter()
        .map(|file| file.path.file_name().unwrap().to_string_lossy().into_owned())
        .collect()
}
