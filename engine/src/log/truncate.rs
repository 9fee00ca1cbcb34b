//! TRUNC: removing everything behind a zxid, in the order that leaves a prefix of the old history at every crash point.
//! Not here: deciding that it is due; recovering up to there, which comes first, into a state of its own, and says where the
//! log is cut. While that can still fail nothing has been changed. The writer must be stopped, or have no file open.

use super::mark;
use super::quarantine;
use super::record::FILE_HEADER_BYTES;
use super::recover::{LogEnd, Recovered};
use super::segments::log_files;
use crate::io::disk::{Disk, Open};
use ostler_replication::{Epoch, Zxid};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What the truncation works on.
pub struct Truncation<'a> {
    /// `version-2` under dataLogDir and under dataDir.
    pub log_dir: &'a Path,
    pub snapshot_dir: &'a Path,
    pub current_epoch: Epoch,
    pub to: Zxid,
}

/// Why nothing was removed, or not everything.
#[derive(Debug)]
pub enum TruncateError {
    /// We cannot end exactly there: ask the leader for a snapshot instead. Nothing was changed.
    NotOurs { to: Zxid, reason: String },
    /// Part of it may be done; doing it again is safe.
    Io { path: PathBuf, source: io::Error },
}

impl fmt::Display for TruncateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TruncateError::NotOurs { to, reason } => {
                write!(f, "cannot truncate to {to}: {reason}; a snapshot is needed")
            }
            TruncateError::Io { path, source } => {
                write!(f, "truncating the log: {}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for TruncateError {}

/// Removes every snapshot and record behind `to`. `recovered` is what a recovery until there found, from a snapshot that is
/// no newer.
pub fn truncate(disk: &dyn Disk, what: &Truncation<'_>, recovered: &Recovered) -> Result<(), TruncateError> {
    // A leader without a commit has a whole epoch removed, which begins behind (e, 0).
    let whole_epoch = what.to.counter() == 0 && what.to.epoch() == what.current_epoch;
    if recovered.last != what.to && !whole_epoch {
        let reason = format!("there is no such txn here, the one before is {}", recovered.last);
        return Err(TruncateError::NotOurs { to: what.to, reason });
    }
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| TruncateError::Io { path, source }
    };
    mark::remove(disk, what.log_dir).map_err(failed(what.log_dir))?;
    for path in snapshots_behind(disk, what).map_err(failed(what.snapshot_dir))?.iter().rev() {
        disk.unlink(path).and_then(|()| disk.sync_dir(what.snapshot_dir)).map_err(failed(path))?;
    }
    for path in files_behind(disk, what, recovered.end.as_ref()).map_err(failed(what.log_dir))?.iter().rev() {
        disk.unlink(path).and_then(|()| disk.sync_dir(what.log_dir)).map_err(failed(path))?;
    }
    match &recovered.end {
        Some(LogEnd { segment, offset_bytes }) if *offset_bytes > FILE_HEADER_BYTES as u64 => {
            cut(disk, segment, *offset_bytes).map_err(failed(segment))
        }
        _ => Ok(()),
    }
}

/// Log files that hold nothing up to the end of what was recovered.
fn files_behind(disk: &dyn Disk, what: &Truncation<'_>, end: Option<&LogEnd>) -> io::Result<Vec<PathBuf>> {
    let files = log_files(disk, what.log_dir)?;
    let from = match end {
        Some(end) => {
            let at = files.iter().position(|file| file.path == end.segment).unwrap_or(files.len());
            // Without a record it would be no log file.
            at + usize::from(end.offset_bytes > FILE_HEADER_BYTES as u64)
        }
        None => files.iter().position(|file| file.first > what.to).unwrap_or(files.len()),
    };
    Ok(files.into_iter().skip(from).map(|file| file.path).collect())
}

fn snapshots_behind(disk: &dyn Disk, what: &Truncation<'_>) -> io::Result<Vec<PathBuf>> {
    let found = quarantine::snapshots(disk, what.snapshot_dir)?.into_iter();
    Ok(found.filter(|(zxid, _)| *zxid > what.to).map(|(_, path)| path).collect())
}

fn cut(disk: &dyn Disk, path: &Path, bytes: u64) -> io::Result<()> {
    let file = disk.open(path, Open::Write)?;
    file.set_len(bytes)?;
    file.sync_data()
}
