//! TRUNC: removing everything behind a zxid, in the order that leaves a prefix of the old history at every crash point
//! (storage.md §10).
//! Not here: deciding that it is due, reloading memory afterwards. The writer must be stopped.

use super::mark;
use super::record::{At, FILE_HEADER_BYTES, origin, record_at};
use super::recover::{RecoverError, RecoverSettings, recover};
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
    /// Zxids of the snapshots that load.
    pub snapshots: &'a [Zxid],
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

/// Removes every snapshot and record behind `to`; the last zxid that is left.
pub fn truncate(disk: &dyn Disk, what: &Truncation<'_>) -> Result<Zxid, TruncateError> {
    let last = check(disk, what)?;
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| TruncateError::Io { path, source }
    };
    mark::remove(disk, what.log_dir).map_err(failed(what.log_dir))?;
    for path in snapshots_behind(disk, what).map_err(failed(what.snapshot_dir))?.iter().rev() {
        disk.unlink(path).and_then(|()| disk.sync_dir(what.snapshot_dir)).map_err(failed(path))?;
    }
    let files = log_files(disk, what.log_dir).map_err(failed(what.log_dir))?;
    let (kept, gone): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.first <= what.to);
    for file in gone.iter().rev() {
        disk.unlink(&file.path).and_then(|()| disk.sync_dir(what.log_dir)).map_err(failed(&file.path))?;
    }
    if let Some(file) = kept.last() {
        cut(disk, &file.path, what.to).map_err(failed(&file.path))?;
    }
    Ok(last)
}

/// That we hold `to`, and a way back to it: a snapshot with a log without holes up to there.
fn check(disk: &dyn Disk, what: &Truncation<'_>) -> Result<Zxid, TruncateError> {
    let not_ours = |reason: String| TruncateError::NotOurs { to: what.to, reason };
    let Some(base) = what.snapshots.iter().copied().filter(|zxid| *zxid <= what.to).max() else {
        return Err(not_ours("every snapshot is newer".into()));
    };
    let mut last = base;
    let mut note = |zxid: Zxid, _: &[u8]| {
        if zxid <= what.to {
            last = zxid;
        }
        Ok(())
    };
    match recover(disk, what.log_dir, base, RecoverSettings { repair: false, alone: false }, &mut note) {
        Ok(_) => {}
        Err(RecoverError::Io { segment, source }) => return Err(TruncateError::Io { path: segment, source }),
        // What is behind goes anyway.
        Err(RecoverError::Corrupt { last_good, .. } | RecoverError::Gap { last_good, .. })
            if last_good >= what.to => {}
        Err(error) => return Err(not_ours(error.to_string())),
    }
    let whole_epoch = what.to.counter() == 0 && what.to.epoch() == what.current_epoch;
    if last != what.to && !whole_epoch {
        return Err(not_ours(format!("there is no such txn here, the one before is {last}")));
    }
    Ok(last)
}

fn snapshots_behind(disk: &dyn Disk, what: &Truncation<'_>) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    for file in disk.list(what.snapshot_dir)? {
        let mut parts = file.name.split('.');
        let zxid = (parts.next() == Some("snapshot"))
            .then(|| parts.next().and_then(|hex| u64::from_str_radix(hex, 16).ok()))
            .flatten();
        if let Some(zxid) = zxid
            && Zxid(zxid) > what.to
        {
            found.push((zxid, what.snapshot_dir.join(file.name)));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Cuts a log file behind its last record up to `to`.
fn cut(disk: &dyn Disk, path: &Path, to: Zxid) -> io::Result<()> {
    let file = disk.open(path, Open::Write)?;
    let contents = file.contents()?;
    let Ok(origin) = origin(&contents) else { return Ok(()) };
    let mut end = FILE_HEADER_BYTES as u64;
    while let At::Record(record) = record_at(&contents, end, origin) {
        if record.zxid > to {
            break;
        }
        end = record.next_bytes;
    }
    // Unmapped before the file gets shorter.
    drop(contents);
    file.set_len(end)?;
    file.sync_data()
}
