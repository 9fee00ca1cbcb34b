//! From the files of a data directory to the newest state they hold.
//! Not here: the formats (snapshot, log), applying (world).

use super::StartError;
use crate::config::Config;
use crate::io::disk::Disk;
use crate::limits;
use crate::log::{self, RecoverSettings};
use crate::snapshot::{self, Pinned, Progress, ReadOptions};
use crate::wire::TxnEntry;
use crate::world::{Changes, Head, Restorer, Settings};
use ostler_replication::Zxid;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// `version-2` below `dataDir` and `dataLogDir`.
#[derive(Clone, Debug)]
pub struct Paths {
    pub snapshots: PathBuf,
    pub logs: PathBuf,
}

pub struct Recovery {
    pub head: Head,
    /// Size of the snapshot it started from; 0 when there was none.
    pub snapshot_bytes: u64,
}

impl Paths {
    pub fn of(config: &Config) -> Paths {
        Paths { snapshots: config.data_dir.join("version-2"), logs: config.data_log_dir.join("version-2") }
    }
}

/// Newest snapshot that loads, then the log behind it. A directory without either gets `snapshot.0`, as Apache's does.
pub fn recover(
    disk: &dyn Disk,
    paths: &Paths,
    config: &Config,
    seed: [u64; 2],
) -> Result<Recovery, StartError> {
    let settings = Settings { hash_seed: seed, digests: config.digest };
    for path in snapshot::remove_leftovers(disk, &paths.snapshots).map_err(StartError::Purge)? {
        tracing::info!(path = %path.display(), "removed a snapshot that was not finished");
    }
    let options =
        ReadOptions { field_bytes_max: config.entry_bytes_max() as usize, ..ReadOptions::default() };
    let loaded = snapshot::load_newest(disk, &paths.snapshots, options, |zxid| Restorer::new(settings, zxid))
        .map_err(StartError::Snapshot)?;
    let (mut head, base, snapshot) = match loaded {
        Some(loaded) => {
            let head = loaded.restored.finish().map_err(|error| StartError::Content {
                path: loaded.path.clone(),
                reason: error.to_string(),
            })?;
            (head, loaded.zxid, Some(loaded.path))
        }
        None => {
            let failed = |source| StartError::Io { path: paths.logs.clone(), source };
            if log::has_records(disk, &paths.logs).map_err(failed)? && !config.trust_empty_snapshot {
                return Err(StartError::NoSnapshot {
                    logs: paths.logs.clone(),
                    snapshots: paths.snapshots.clone(),
                });
            }
            (Head::new(settings), Zxid::ZERO, None)
        }
    };
    let recovered = replay(disk, paths, base, &mut head)?;
    recovered.notes.iter().for_each(|note| tracing::warn!("{note}"));
    if let Some(cut) = &recovered.cut {
        tracing::warn!(
            segment = %cut.segment.display(),
            offset_bytes = cut.offset_bytes,
            "cut a torn tail off the log: {}; nothing of it had been acknowledged",
            cut.problem
        );
    }
    let snapshot_bytes = match &snapshot {
        Some(path) => std::fs::metadata(path).map_or(0, |file| file.len()),
        None => first_snapshot(disk, paths, config, &mut head)?,
    };
    tracing::info!(
        zxid = %head.zxid(),
        znodes = head.totals().znodes,
        sessions = head.sessions().len(),
        snapshot = %snapshot.map_or("none".to_owned(), |path| path.display().to_string()),
        replayed = recovered.records,
        "recovered"
    );
    Ok(Recovery { head, snapshot_bytes })
}

fn replay(disk: &dyn Disk, paths: &Paths, base: Zxid, head: &mut Head) -> Result<log::Recovered, StartError> {
    let mut changes = Changes::default();
    let mut applied = 0u32;
    let mut apply = |zxid: Zxid, entry: &[u8]| {
        let (entry, _) = TxnEntry::decode(entry).map_err(|error| error.to_string())?;
        head.apply(&entry.header, &entry.body, &mut changes);
        changes.list.clear();
        changes.text.clear();
        applied = applied.wrapping_add(1);
        // Nobody reads yet: what was replaced is freed as replay goes on.
        if applied.is_multiple_of(limits::BATCH_TXNS_MAX_DEFAULT) {
            head.seal();
            head.committed(zxid);
            head.reclaim(usize::MAX);
        }
        Ok(())
    };
    let recovered = log::recover(disk, &paths.logs, base, RecoverSettings { repair: true }, &mut apply)
        .map_err(StartError::Log)?;
    head.seal();
    head.committed(recovered.last);
    head.reclaim(usize::MAX);
    Ok(recovered)
}

fn first_snapshot(
    disk: &dyn Disk,
    paths: &Paths,
    config: &Config,
    head: &mut Head,
) -> Result<u64, StartError> {
    let source = Pinned { view: head.seal(), digest: config.digest };
    let mut go_on = |_: Progress| ControlFlow::Continue(());
    let compression = super::compression(config);
    snapshot::writer::write(disk, &paths.snapshots, &source, compression, &mut go_on)
        .map(|written| written.file_bytes)
        .map_err(StartError::FirstSnapshot)
}
