//! Which snapshot a server starts from: newest first, structurally valid, and then the first that loads.
//! Not here: whether the log is contiguous from the one chosen; after a fallback the log's recovery checks that.

use super::codec::{Compression, GZIP_MAGIC, SNAPPY_MAGIC};
use super::decode::Contents;
use super::reader::{self, ReadOptions, SnapshotError};
use super::{Restore, encode, names};
use crate::io::disk::{Disk, Listed, Open};
use ostler_replication::Zxid;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// How many structurally valid snapshots are tried before giving up, as Apache does.
pub const CANDIDATES_MAX: usize = crate::limits::SNAPSHOTS_TRIED_MAX;
/// Shortest plain file that can be a snapshot to Apache.
const PLAIN_BYTES_MIN: u64 = 10;

/// A file with a snapshot's name and a snapshot's ends. Its middle has not been looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    pub zxid: Zxid,
    pub path: PathBuf,
    pub file_bytes: u64,
}

/// State read back from the newest snapshot that loads.
#[derive(Debug)]
pub struct Loaded<R> {
    pub restored: R,
    /// From the file's name: where replay of the log goes on.
    pub zxid: Zxid,
    pub path: PathBuf,
    /// As the file holds them.
    pub file_bytes: u64,
    pub contents: Contents,
    /// Newer ones that did not load, newest first. The log must now be contiguous from an older zxid.
    pub skipped: Vec<SnapshotError>,
    /// Of the newest that was tried. Its txns were in the log before it was taken: replay that ends below it has lost
    /// some.
    pub known: Zxid,
}

#[derive(Debug)]
pub enum LoadError {
    /// The directory cannot be listed, or a candidate not be looked at.
    Io { path: PathBuf, source: io::Error },
    /// There are candidates and none of them loads; newest first, never empty.
    NoneLoads(Vec<SnapshotError>),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Io { path, source } => write!(f, "{}: {source}", path.display()),
            LoadError::NoneLoads(errors) => {
                write!(f, "none of {} snapshots loads:", errors.len())?;
                errors.iter().try_for_each(|error| write!(f, "\n  {error}"))
            }
        }
    }
}

impl std::error::Error for LoadError {}

/// The structurally valid snapshots of `dir`, newest first. A directory that does not exist has none.
pub fn candidates(disk: &dyn Disk, dir: &Path) -> Result<Vec<Candidate>, LoadError> {
    let files = match disk.list(dir) {
        Ok(files) => files,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(LoadError::Io { path: dir.to_owned(), source }),
    };
    let mut found = Vec::new();
    for Listed { name, bytes } in files {
        let Some(zxid) = names::zxid_in_name(&name, names::SNAPSHOT_PREFIX) else { continue };
        let path = dir.join(&name);
        match looks_valid(disk, &path) {
            Ok(true) => found.push(Candidate { zxid, path, file_bytes: bytes }),
            Ok(false) => tracing::warn!(path = %path.display(), "not a complete snapshot: passed over"),
            Err(source) => return Err(LoadError::Io { path, source }),
        }
    }
    // Equal zxids (plain beside compressed): any fixed order.
    found.sort_by(|a, b| b.zxid.cmp(&a.zxid).then_with(|| a.path.cmp(&b.path)));
    Ok(found)
}

/// Loads the newest snapshot of `dir` that loads, each attempt into a fresh state from `fresh`, which gets the zxid of the
/// file's name. `None`: no candidates.
pub fn load_newest<R: Restore>(
    disk: &dyn Disk,
    dir: &Path,
    options: ReadOptions,
    fresh: impl FnMut(Zxid) -> R,
) -> Result<Option<Loaded<R>>, LoadError> {
    load_newest_until(disk, dir, Zxid(u64::MAX), options, fresh)
}

/// The same among those that are no newer than `until`.
pub fn load_newest_until<R: Restore>(
    disk: &dyn Disk,
    dir: &Path,
    until: Zxid,
    options: ReadOptions,
    mut fresh: impl FnMut(Zxid) -> R,
) -> Result<Option<Loaded<R>>, LoadError> {
    let mut skipped = Vec::new();
    let mut candidates = candidates(disk, dir)?;
    candidates.retain(|candidate| candidate.zxid <= until);
    let known = candidates.first().map_or(Zxid::ZERO, |newest| newest.zxid);
    for Candidate { zxid, path, file_bytes } in candidates.into_iter().take(CANDIDATES_MAX) {
        let mut restored = fresh(zxid);
        match reader::read(disk, &path, options, &mut restored) {
            Ok(contents) => {
                return Ok(Some(Loaded { restored, zxid, path, file_bytes, contents, skipped, known }));
            }
            Err(error) => {
                tracing::warn!(%error, "snapshot does not load: trying an older one");
                skipped.push(error);
            }
        }
    }
    if skipped.is_empty() { Ok(None) } else { Err(LoadError::NoneLoads(skipped)) }
}

/// Apache's test before loading (SnapStream): a few bytes at the ends. A file that is gone is not valid.
pub fn looks_valid(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    let file = match disk.open(path, Open::Read) {
        // Purged since it was listed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    let length = file.len()?;
    let at = |from: u64, most: usize| -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; most];
        let read = file.read_at(&mut bytes, from)?;
        bytes.truncate(read);
        Ok(bytes)
    };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    Ok(match Compression::of_name(name) {
        Compression::Plain => {
            length >= PLAIN_BYTES_MIN
                && at(length - encode::SLASH.len() as u64, encode::SLASH.len())? == encode::SLASH
        }
        Compression::Gzip => at(0, GZIP_MAGIC.len())? == GZIP_MAGIC,
        Compression::Snappy => at(0, SNAPPY_MAGIC.len())? == SNAPPY_MAGIC,
    })
}
