//! The disk seam: every file operation that log, snapshots, epoch files and purge make goes through [`Disk`], so that
//! simulation can stand in for the real one (`disk_sim`).
//! Not here: file formats, names, retries. An error is returned once, as the system gave it.
//!
//! What callers may rely on, and nothing more: bytes are durable after [`DiskFile::sync_data`] returned `Ok`; names are
//! durable after [`Disk::sync_dir`] returned `Ok`; before that any part of it may or may not survive a power cut.

use crate::log::mapping;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file system as the engine sees it.
pub trait Disk: Send + Sync + 'static {
    /// Makes `dir` and its missing parents, durably. No error when it is there already.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Files of `dir` (no directories), ascending by name; `NotFound` when there is no such directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>>;
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>>;
    /// Atomic; replaces `to`. Durable after `sync_dir` of the directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn unlink(&self, path: &Path) -> io::Result<()>;
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that an ordinary user may still allocate on the file system of `dir`.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// Four random bytes, never all zero: the id of a new log file.
    fn fresh_id(&self) -> [u8; 4];

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.open(path, Open::Read) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The whole file; for small ones.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, Open::Read)?;
        let mut bytes = vec![0; file.len()? as usize];
        let mut done = 0;
        while done < bytes.len() {
            match file.read_at(&mut bytes[done..], done as u64)? {
                0 => break,
                more => done += more,
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }
}

/// One name in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    pub name: String,
    pub bytes: u64,
}

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Open {
    Read,
    /// Reading and writing a file that exists.
    Write,
    /// Reading and writing an empty file: made, or cut to nothing.
    Create,
}

/// An open file. Offsets and lengths are bytes.
pub trait DiskFile: Send + Sync {
    fn len(&self) -> io::Result<u64>;
    /// Bytes read; 0 only at the end of the file.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes all of `bytes`.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// fdatasync: contents, stores through a mapping included, and the length.
    fn sync_data(&self) -> io::Result<()>;
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Reserves blocks for `bytes` from the start, so that later writes there cannot fail for lack of space. A file system
    /// that cannot reserve is no error: the zero-writing that follows allocates as well.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Drops clean pages from the page cache; a wish.
    fn forget_cached(&self);
    /// The same file past the page cache; `None` where the file system cannot. What is written so must not be stored or
    /// written in another way as well.
    fn direct(&self) -> io::Result<Option<Box<dyn DirectFile>>>;
    /// The whole file as memory to store to. The file must keep its length while the mapping lives.
    fn map(&self) -> io::Result<Box<dyn Mapping>>;
    /// The whole file to read, ahead of need and in order.
    fn contents(&self) -> io::Result<Contents>;

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Memory over a file. What was stored is durable after the file's `sync_data`.
pub trait Mapping: Send {
    /// Becomes visible after every earlier `store`; up to 4 bytes become visible at once. Panics outside the mapping.
    fn store(&mut self, at: u64, bytes: &[u8]);
}

/// What writes past the page cache count in, bytes: no device in use asks for more.
pub const BLOCK_BYTES: usize = 4096;

/// A file without a page cache between.
pub trait DirectFile: Send {
    /// Writes whole blocks; on `Ok` they are durable. `blocks` lies at a multiple of [`BLOCK_BYTES`] in memory, it goes to
    /// one in the file, and is as long as some. A killed process or a power cut may leave any part of it.
    fn write_blocks(&self, blocks: &[u8], at: u64) -> io::Result<()>;
}

/// A file's bytes.
pub struct Contents(Held);

enum Held {
    Mapped(mapping::ReadMap),
    Owned(Vec<u8>),
}

impl Contents {
    pub fn owned(bytes: Vec<u8>) -> Contents {
        Contents(Held::Owned(bytes))
    }
}

impl Deref for Contents {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Held::Mapped(map) => map.bytes(),
            Held::Owned(bytes) => bytes,
        }
    }
}

/// The machine's own file system.
#[derive(Clone, Copy, Default, Debug)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.create_dir(parent)?;
        }
        match std::fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !dir.is_dir() => return Err(error),
            _ => {}
        }
        self.sync_dir(parent.unwrap_or(Path::new(".")))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            // A file that went away between the listing and the question is not there.
            let Ok(about) = std::fs::metadata(entry.path()) else { continue };
            if about.is_file() {
                files.push(Listed {
                    name: entry.file_name().to_string_lossy().into_owned(),
                    bytes: about.len(),
                });
            }
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match how {
            Open::Read => {}
            Open::Write => {
                options.write(true);
            }
            Open::Create => {
                options.write(true).create(true).truncate(true);
            }
        }
        Ok(Box::new(RealFile { file: options.open(path)?, path: path.to_path_buf() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        mapping::free_bytes(dir)
    }

    fn fresh_id(&self) -> [u8; 4] {
        loop {
            // The standard library seeds each `RandomState` from the system's random source.
            let id = (RandomState::new().build_hasher().finish() as u32).to_be_bytes();
            if id != [0; 4] {
                return id;
            }
        }
    }
}

struct RealFile {
    file: File,
    path: PathBuf,
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        loop {
            match self.file.read_at(bytes, at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        mapping::allocate(&self.file, bytes)
    }

    fn forget_cached(&self) {
        mapping::forget_cached(&self.file);
    }

    fn direct(&self) -> io::Result<Option<Box<dyn DirectFile>>> {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC);
        match options.open(&self.path) {
            Ok(file) => Ok(Some(Box::new(RealDirectFile(file)))),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn map(&self) -> io::Result<Box<dyn Mapping>> {
        Ok(Box::new(mapping::WriteMap::new(&self.file, &self.path)?))
    }

    fn contents(&self) -> io::Result<Contents> {
        if self.len()? == 0 {
            return Ok(Contents::owned(Vec::new()));
        }
        Ok(Contents(Held::Mapped(mapping::ReadMap::new(&self.file, &self.path)?)))
    }
}

struct RealDirectFile(File);

impl DirectFile for RealDirectFile {
    fn write_blocks(&self, blocks: &[u8], at: u64) -> io::Result<()> {
        self.0.write_all_at(blocks, at)
    }
}

/// Whether the error says that the file system, or this user's share of it, is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_file_goes_the_whole_way() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b");
        let disk = RealDisk;
        disk.create_dir(&dir).unwrap();
        disk.create_dir(&dir).unwrap();
        let path = dir.join("spare");
        let file = disk.open(&path, Open::Create).unwrap();
        file.allocate(8192).unwrap();
        file.write_at(&[0; 8192], 0).unwrap();
        let mut map = file.map().unwrap();
        map.store(4090, b"over the edge");
        file.sync_data().unwrap();
        drop(map);
        disk.rename(&path, &dir.join("named")).unwrap();
        disk.sync_dir(&dir).unwrap();
        assert_eq!(disk.list(&dir).unwrap(), [Listed { name: "named".into(), bytes: 8192 }]);
        assert!(!disk.exists(&path).unwrap());
        let contents = disk.open(&dir.join("named"), Open::Read).unwrap().contents().unwrap();
        assert_eq!(&contents[4090..4103], b"over the edge");
        assert!(disk.free_bytes(&dir).unwrap() > 0);
        disk.unlink(&dir.join("named")).unwrap();
        assert!(disk.list(&dir).unwrap().is_empty());
    }
}
