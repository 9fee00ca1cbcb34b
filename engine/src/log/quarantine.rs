//! A leader's snapshot in place of the history that this server had (SNAP). The old log files and the snapshots that are not
//! older are set aside under names that neither Apache nor we open: txns that no quorum has may stand in them, and must
//! never be replayed or served again (ZOOKEEPER-2846).
//! Not here: receiving and checking the snapshot, which lies there under a temporary name, complete; when it is due.
//!
//! A crash leaves the old history or the new one. What commits is a small file, `unfinished-install`, which appears when all
//! that is needed lies on the disk; a start that finds it does the rest again before anything is read.

use super::mark;
use super::segments::log_files;
use crate::io::disk::{Disk, Open};
use ostler_replication::Zxid;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Neither reader's prefix.
pub const PREFIX: &str = "quarantined-";
const INTENT: &str = "unfinished-install";
const INTENT_STAGED: &str = "unfinished-install.tmp";

/// What is installed where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Install<'a> {
    /// `version-2` under dataLogDir and under dataDir.
    pub log_dir: &'a Path,
    pub snapshot_dir: &'a Path,
    pub zxid: Zxid,
    /// Name in the snapshots' directory under which the snapshot lies there, complete.
    pub staged: &'a str,
    /// The name it is to have.
    pub name: &'a str,
}

/// A call that failed. Part of it may be done; the next start finishes it or finds nothing to do.
#[derive(Debug)]
pub struct InstallError {
    pub path: PathBuf,
    pub source: io::Error,
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "installing a snapshot of the leader: {}: {}", self.path.display(), self.source)
    }
}

impl std::error::Error for InstallError {}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_path_buf();
    move |source| InstallError { path, source }
}

/// Makes the staged snapshot durable and commits to it: from here on a start installs it.
pub fn commit(disk: &dyn Disk, what: &Install<'_>) -> Result<(), InstallError> {
    let staged = what.snapshot_dir.join(what.staged);
    disk.open(&staged, Open::Write).and_then(|file| file.sync_data()).map_err(failed(&staged))?;
    disk.sync_dir(what.snapshot_dir).map_err(failed(what.snapshot_dir))?;
    let (temporary, intent) = (what.snapshot_dir.join(INTENT_STAGED), what.snapshot_dir.join(INTENT));
    let text = format!("{:x}\n{}\n{}\n", what.zxid.0, what.staged, what.name);
    let write = || {
        let file = disk.open(&temporary, Open::Create)?;
        file.write_at(text.as_bytes(), 0)?;
        file.sync_data()?;
        disk.rename(&temporary, &intent)?;
        disk.sync_dir(what.snapshot_dir)
    };
    write().map_err(failed(&intent))
}

/// Takes back a commit that failed.
pub fn withdraw(disk: &dyn Disk, what: &Install<'_>) -> Result<(), InstallError> {
    for name in [INTENT_STAGED, INTENT] {
        let path = what.snapshot_dir.join(name);
        match disk.unlink(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(failed(&path)(source)),
            _ => {}
        }
    }
    disk.sync_dir(what.snapshot_dir).map_err(failed(what.snapshot_dir))
}

/// Does what was committed to. The writer has no file open, and none is begun before this returns.
pub fn finish(disk: &dyn Disk, what: &Install<'_>) -> Result<(), InstallError> {
    let Install { log_dir, snapshot_dir, zxid, staged, name } = *what;
    let (staged, installed) = (snapshot_dir.join(staged), snapshot_dir.join(name));
    // The new history gets its name first: an Apache server that is started on what a crash leaves here finds one or the
    // other, and never nothing.
    match disk.rename(&staged, &installed) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            // Renamed by an earlier attempt.
            if !disk.exists(&installed).map_err(failed(&installed))? {
                return Err(failed(&staged)(source));
            }
        }
        renamed => renamed.map_err(failed(&installed))?,
    }
    disk.sync_dir(snapshot_dir).map_err(failed(snapshot_dir))?;
    mark::remove(disk, log_dir).map_err(failed(log_dir))?;
    let snapshots = newer_snapshots(disk, snapshot_dir, zxid, name).map_err(failed(snapshot_dir))?;
    set_aside(disk, snapshot_dir, &snapshots)?;
    let logs = log_files(disk, log_dir).map_err(failed(log_dir))?;
    set_aside(disk, log_dir, &logs.into_iter().map(|file| file.path).collect::<Vec<_>>())?;
    let intent = snapshot_dir.join(INTENT);
    disk.unlink(&intent).and_then(|()| disk.sync_dir(snapshot_dir)).map_err(failed(&intent))
}

/// At the start, before anything is read: finishes an install that a crash broke off. The zxid of its snapshot.
pub fn finish_interrupted(
    disk: &dyn Disk,
    log_dir: &Path,
    snapshot_dir: &Path,
) -> Result<Option<Zxid>, InstallError> {
    match disk.unlink(&snapshot_dir.join(INTENT_STAGED)) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(failed(&snapshot_dir.join(INTENT_STAGED))(source));
        }
        _ => {}
    }
    let intent = snapshot_dir.join(INTENT);
    let text = match disk.read(&intent) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(failed(&intent))?,
    };
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines();
    let parsed = (|| {
        let zxid = Zxid(u64::from_str_radix(lines.next()?, 16).ok()?);
        let (staged, name) = (lines.next()?, lines.next()?);
        // It names files of this directory and no others.
        (!staged.contains('/') && !name.contains('/')).then_some(Install {
            log_dir,
            snapshot_dir,
            zxid,
            staged,
            name,
        })
    })();
    let Some(install) = parsed else {
        let reason = "it is none of ours. Remove it, or put back the right one";
        return Err(failed(&intent)(io::Error::new(io::ErrorKind::InvalidData, reason)));
    };
    finish(disk, &install)?;
    Ok(Some(install.zxid))
}

/// Snapshots that a start would prefer to the one of this zxid and name.
fn newer_snapshots(disk: &dyn Disk, dir: &Path, zxid: Zxid, name: &str) -> io::Result<Vec<PathBuf>> {
    let files = snapshots(disk, dir)?.into_iter();
    let newer = files.filter(|(at, path)| *at >= zxid && path.file_name().is_none_or(|it| it != name));
    Ok(newer.map(|(_, path)| path).collect())
}

/// Files with a snapshot's name, ascending.
pub(super) fn snapshots(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<(Zxid, PathBuf)>> {
    let listed = match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    let mut found = Vec::new();
    for file in listed {
        let mut parts = file.name.split('.');
        let zxid = (parts.next() == Some("snapshot"))
            .then(|| parts.next().and_then(|hex| u64::from_str_radix(hex, 16).ok()))
            .flatten();
        found.extend(zxid.map(|zxid| (Zxid(zxid), dir.join(&file.name))));
    }
    found.sort();
    Ok(found)
}

/// Newest first: what a crash leaves is then still the beginning of the old history.
fn set_aside(disk: &dyn Disk, dir: &Path, files: &[PathBuf]) -> Result<(), InstallError> {
    for path in files.iter().rev() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = dir.join(format!("{PREFIX}{name}"));
        disk.rename(path, &aside).and_then(|()| disk.sync_dir(dir)).map_err(failed(path))?;
    }
    Ok(())
}
