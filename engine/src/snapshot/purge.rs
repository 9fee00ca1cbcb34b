//! Removing old snapshots and the logs nobody needs after them, and our own leftovers.
//! Not here: when (autopurge's interval and a full disk are the caller's), epoch files, the log's spare segments.
//! Invariant: what is kept always contains the newest valid snapshots and every log record behind the oldest of them.

use super::candidates;
use super::names::{self, LOG_PREFIX, SNAPSHOT_PREFIX};
use crate::io::disk::Disk;
use ostler_replication::Zxid;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Fewest snapshots kept; a smaller `autopurge.snapRetainCount` is raised to it, as Apache does.
pub const RETAIN_MIN: usize = 3;

/// A file or directory that could not be listed, looked at or removed. What was removed before stays removed.
#[derive(Debug)]
pub struct PurgeError {
    pub path: PathBuf,
    pub source: io::Error,
}

impl fmt::Display for PurgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot purge {}: {}", self.path.display(), self.source)
    }
}

impl std::error::Error for PurgeError {}

/// Removes what `retain` (at least [`RETAIN_MIN`]) snapshots make superfluous and returns the paths, in the order of
/// removal: snapshots first and durably, so that a crash in between leaves no snapshot without the log behind it.
/// `snap_dir` and `log_dir` are the `version-2` directories and may be the same.
pub fn purge(
    disk: &dyn Disk,
    log_dir: &Path,
    snap_dir: &Path,
    retain: usize,
) -> Result<Vec<PathBuf>, PurgeError> {
    remove_behind(disk, log_dir, snap_dir, retain.max(RETAIN_MIN))
}

/// For a full disk: leaves the newest valid snapshot and the logs behind it, which recover everything.
pub fn make_room(disk: &dyn Disk, log_dir: &Path, snap_dir: &Path) -> Result<Vec<PathBuf>, PurgeError> {
    remove_behind(disk, log_dir, snap_dir, 1)
}

fn remove_behind(
    disk: &dyn Disk,
    log_dir: &Path,
    snap_dir: &Path,
    keep: usize,
) -> Result<Vec<PathBuf>, PurgeError> {
    let (snapshots, logs) = behind(disk, log_dir, snap_dir, keep)?;
    remove_all(disk, snap_dir, &snapshots)?;
    remove_all(disk, log_dir, &logs)?;
    Ok([snapshots, logs].concat())
}

/// What [`purge`] would remove now: snapshots, and logs.
pub fn superfluous(
    disk: &dyn Disk,
    log_dir: &Path,
    snap_dir: &Path,
    retain: usize,
) -> Result<(Vec<PathBuf>, Vec<PathBuf>), PurgeError> {
    behind(disk, log_dir, snap_dir, retain.max(RETAIN_MIN))
}

/// Snapshots and logs that the newest `keep` valid snapshots make superfluous.
fn behind(
    disk: &dyn Disk,
    log_dir: &Path,
    snap_dir: &Path,
    keep: usize,
) -> Result<(Vec<PathBuf>, Vec<PathBuf>), PurgeError> {
    let valid = candidates::candidates(disk, snap_dir).map_err(|error| match error {
        candidates::LoadError::Io { path, source } => PurgeError { path, source },
        other => PurgeError { path: snap_dir.to_owned(), source: io::Error::other(other.to_string()) },
    })?;
    // Newest first: the last of the kept ones is the oldest state anybody may start from.
    let Some(oldest_kept) = valid.iter().take(keep).next_back() else {
        return Ok((Vec::new(), Vec::new()));
    };
    let snapshots = list(disk, snap_dir, SNAPSHOT_PREFIX)?;
    let logs = list(disk, log_dir, LOG_PREFIX)?;
    let snapshots = superfluous_snapshots(&snapshots, oldest_kept.zxid).map(|name| snap_dir.join(name));
    let logs = superfluous_logs(&logs, oldest_kept.zxid).map(|name| log_dir.join(name));
    let (mut snapshots, mut logs): (Vec<_>, Vec<_>) = (snapshots.collect(), logs.collect());
    // Apache leaves them alone. For an operator they are worth something until this server has moved on.
    let is_old = |zxid: Option<Zxid>| keep < RETAIN_MIN || zxid < Some(oldest_kept.zxid);
    for (dir, prefix, found) in
        [(snap_dir, SNAPSHOT_PREFIX, &mut snapshots), (log_dir, LOG_PREFIX, &mut logs)]
    {
        let aside = format!("{}{prefix}", names::QUARANTINE_PREFIX);
        let names = list(disk, dir, &aside)?;
        let old = names.into_iter().filter(|name| is_old(names::zxid_in_name(name, &aside)));
        found.extend(old.map(|name| dir.join(name)));
    }
    Ok((snapshots, logs))
}

/// Removes snapshots that were being written when the process ended. Called at start, before anything else writes there.
pub fn remove_leftovers(disk: &dyn Disk, snap_dir: &Path) -> Result<Vec<PathBuf>, PurgeError> {
    let leftovers = list(disk, snap_dir, names::PARTIAL_PREFIX.trim_end_matches('.'))?;
    let mut removed = Vec::new();
    for name in leftovers {
        let path = snap_dir.join(name);
        remove(disk, &path)?;
        removed.push(path);
    }
    Ok(removed)
}

/// A name of the prefix that says no zxid counts as older than everything.
fn superfluous_snapshots(names: &[String], oldest_kept: Zxid) -> impl Iterator<Item = &String> {
    names.iter().filter(move |name| names::zxid_in_name(name, SNAPSHOT_PREFIX) < Some(oldest_kept))
}

/// The newest log that starts at or before the oldest kept snapshot may hold records behind it, and stays.
fn superfluous_logs(names: &[String], oldest_kept: Zxid) -> impl Iterator<Item = &String> {
    let zxid = |name: &String| names::zxid_in_name(name, LOG_PREFIX);
    let spanning = names.iter().filter_map(zxid).filter(|zxid| *zxid <= oldest_kept).max();
    names.iter().filter(move |name| {
        zxid(name) < Some(oldest_kept) && (zxid(name).is_none() || zxid(name) != spanning)
    })
}

/// Names that start with `prefix` and a dot, sorted by zxid and then by name, so that removal has one order.
fn list(disk: &dyn Disk, dir: &Path, prefix: &str) -> Result<Vec<String>, PurgeError> {
    let names = disk.list(dir).map_err(|source| PurgeError { path: dir.to_owned(), source })?;
    let names = names.into_iter().map(|file| file.name);
    let of_prefix = |name: &String| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'));
    let mut names: Vec<String> = names.filter(of_prefix).collect();
    names.sort_by_cached_key(|name| (names::zxid_in_name(name, prefix), name.clone()));
    Ok(names)
}

fn remove_all(disk: &dyn Disk, dir: &Path, paths: &[PathBuf]) -> Result<(), PurgeError> {
    paths.iter().try_for_each(|path| remove(disk, path))?;
    if paths.is_empty() { Ok(()) } else { sync_dir(disk, dir) }
}

fn remove(disk: &dyn Disk, path: &Path) -> Result<(), PurgeError> {
    match disk.unlink(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(PurgeError { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<(), PurgeError> {
    disk.sync_dir(dir).map_err(|source| PurgeError { path: dir.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk::RealDisk;

    /// `files`: names in one directory; a `!` before a snapshot makes it structurally invalid.
    fn check(files: &str, retain: usize, removed: &str) {
        check_by(files, removed, |dir| purge(&RealDisk, dir, dir, retain));
    }

    fn check_by(files: &str, removed: &str, purge: impl Fn(&Path) -> Result<Vec<PathBuf>, PurgeError>) {
        let dir = tempfile::tempdir().unwrap();
        for name in files.split_whitespace() {
            let (name, body): (_, &[u8]) = match name.strip_prefix('!') {
                Some(name) => (name, b"cut off in the middle"),
                None => (name, b"........\0\0\0\x01/"),
            };
            std::fs::write(dir.path().join(name), body).unwrap();
        }
        let gone = purge(dir.path()).unwrap();
        let gone: Vec<_> = gone.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(gone.join(" "), removed, "of {files}");
        assert!(gone.iter().all(|name| !dir.path().join(name).exists()));
    }

    #[test]
    fn purge_keeps_the_newest_valid_snapshots_and_the_logs_behind_the_oldest_of_them() {
        check("", 3, "");
        check("log.1 log.5", 3, "");
        check("!snapshot.5 log.1", 3, "");
        check("snapshot.0 log.1", 3, "");
        check("snapshot.0 snapshot.10 snapshot.20 log.1 log.11", 3, "");
        check("snapshot.0 snapshot.10 snapshot.20 snapshot.30 log.1 log.11 log.21", 3, "snapshot.0");
        check(
            "snapshot.0 snapshot.10 snapshot.20 snapshot.30 snapshot.40 log.1 log.11 log.21 log.31",
            3,
            "snapshot.0 snapshot.10 log.1",
        );
        check(
            "snapshot.10 snapshot.20 snapshot.30 snapshot.40 snapshot.50 log.1 log.18 log.30",
            4,
            "snapshot.10 log.1",
        );
        // A log that begins exactly at the oldest kept snapshot is the one that stays.
        check("snapshot.20 snapshot.30 snapshot.40 log.11 log.20 log.31", 3, "log.11");
    }

    #[test]
    fn fewer_than_three_are_never_kept_by_choice() {
        check("snapshot.1 snapshot.2 snapshot.3 snapshot.4", 1, "snapshot.1");
    }

    #[test]
    fn a_full_disk_keeps_the_newest_valid_snapshot_and_the_logs_behind_it() {
        check_by(
            "snapshot.1 snapshot.20 snapshot.30 !snapshot.40 log.2 log.21 log.29 log.31",
            "snapshot.1 snapshot.20 log.2 log.21",
            |dir| make_room(&RealDisk, dir, dir),
        );
        check_by("!snapshot.5 log.1", "", |dir| make_room(&RealDisk, dir, dir));
    }

    #[test]
    fn an_invalid_snapshot_is_not_one_of_the_kept() {
        check("snapshot.1 snapshot.2 snapshot.3 !snapshot.4 log.1 log.4", 3, "");
        check("snapshot.1 snapshot.2 !snapshot.3 snapshot.4 snapshot.5 log.1", 3, "snapshot.1");
    }

    #[test]
    fn names_without_a_zxid_count_as_oldest_and_others_are_left_alone() {
        check(
            "snapshot.x log.y snapshot.1 log.1 snapshots.0 spare.1 acceptedEpoch partial-snapshot.0 log",
            3,
            "snapshot.x log.y",
        );
    }

    #[test]
    fn side_files_go_with_their_snapshot() {
        check("snapshot.1 !snapshot.1.crc snapshot.2 snapshot.3 snapshot.4", 3, "snapshot.1 snapshot.1.crc");
    }

    #[test]
    fn what_an_install_set_aside_goes_when_this_server_has_moved_on() {
        let kept = "snapshot.10 snapshot.20 snapshot.30 log.11 ";
        check(
            &format!("{kept} quarantined-log.5 quarantined-snapshot.10 quarantined-log.12"),
            3,
            "quarantined-log.5",
        );
        check_by(
            "snapshot.10 quarantined-snapshot.20 quarantined-log.12",
            "quarantined-snapshot.20 quarantined-log.12",
            |dir| make_room(&RealDisk, dir, dir),
        );
        check("quarantined-log.5", 3, "");
        assert_eq!(names::QUARANTINE_PREFIX, crate::log::quarantine::PREFIX);
    }

    #[test]
    fn leftovers_of_a_crash_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["partial-snapshot.5", "partial-snapshot.6.gz", "snapshot.5", "partial"] {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        assert_eq!(remove_leftovers(&RealDisk, dir.path()).unwrap().len(), 2);
        let mut left = RealDisk.list(dir.path()).unwrap();
        left.sort_by(|a, b| a.name.cmp(&b.name));
        let left: Vec<_> = left.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(left, ["partial", "snapshot.5"]);
    }
}
