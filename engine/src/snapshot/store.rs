//! The few file operations snapshots need. The border to the operating system; simulated disks replace it.

use std::io::{self, Read, Write};
use std::path::Path;

/// A file being written from its start.
pub trait StoreWrite: Send {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Everything appended so far is on stable storage when this returns.
    fn sync(&mut self) -> io::Result<()>;
}

/// A directory tree that snapshots live in.
pub trait Store: Send + Sync {
    /// File names, no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>>;
    /// Length in bytes, and the first and last few bytes of a file (at most `n` each).
    fn ends(&self, path: &Path, n: usize) -> io::Result<(u64, Vec<u8>, Vec<u8>)>;
    /// Creates or empties.
    fn create(&self, path: &Path) -> io::Result<Box<dyn StoreWrite>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names created, renamed and removed in `dir` so far are on stable storage when this returns.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// The machine's own files.
#[derive(Clone, Copy, Default, Debug)]
pub struct Local;

struct LocalWrite(std::fs::File);

impl StoreWrite for LocalWrite {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl Store for Local {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            // A name that is not UTF-8 is none of ours and none of Apache's.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(std::fs::File::open(path)?))
    }

    fn ends(&self, path: &Path, n: usize) -> io::Result<(u64, Vec<u8>, Vec<u8>)> {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(n);
        let (mut head, mut tail) = (vec![0; wanted], vec![0; wanted]);
        file.read_exact_at(&mut head, 0)?;
        file.read_exact_at(&mut tail, length - wanted as u64)?;
        Ok((length, head, tail))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StoreWrite>> {
        Ok(Box::new(LocalWrite(std::fs::File::create(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::File::open(dir)?.sync_all()
    }
}
