//! A disk that tells before each call that changes it, and in the middle of those that a kill can tear.
//! Not here: what is done with a moment; the disk itself.

use ostler_engine::io::disk::{BLOCK_BYTES, Contents, DirectFile, Disk, DiskFile, Listed, Mapping, Open};
use ostler_engine::io::disk_sim::SimDisk;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which call comes next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Next {
    /// A store through a mapping; or the rest of one of which a part is done.
    Store,
    RestOfStore,
    Write,
    RestOfWrite,
    /// A write past the page cache, durable when it returns; or the rest of one.
    Blocks,
    RestOfBlocks,
    /// A page of zeros for a spare segment: nothing depends on where among them a crash falls.
    Zeros,
    Sync,
    SyncDirectory,
    Create,
    Rename,
    Unlink,
    Length,
}

impl Next {
    pub const fn words(self) -> &'static str {
        match self {
            Next::Store => "before a store into a mapping",
            Next::RestOfStore => "within a store into a mapping",
            Next::Write => "before a write",
            Next::RestOfWrite => "within a write, between pages",
            Next::Blocks => "before a write past the page cache",
            Next::RestOfBlocks => "within a write past the page cache, between blocks",
            Next::Zeros => "between writes of zeros for a spare",
            Next::Sync => "before a sync of a file",
            Next::SyncDirectory => "before a sync of a directory",
            Next::Create => "before making a file or directory",
            Next::Rename => "before a rename",
            Next::Unlink => "before an unlink",
            Next::Length => "before an allocation or cut",
        }
    }
}

/// Called on the thread that makes the call; the disk is as a kill would leave it.
pub type Watch = dyn Fn(&SimDisk, Next, &Path) + Send + Sync;

/// `under` does the work on `sim`, which it is or wraps.
#[derive(Clone)]
pub struct Watched {
    pub sim: SimDisk,
    pub under: Arc<dyn Disk>,
    pub watch: Arc<Watch>,
}

impl Watched {
    fn tell(&self, next: Next, path: &Path) {
        (self.watch)(&self.sim, next, path);
    }
}

impl Disk for Watched {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.tell(Next::Create, dir);
        self.under.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        self.under.list(dir)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        if how == Open::Create {
            self.tell(Next::Create, path);
        }
        let file = self.under.open(path, how)?;
        Ok(Box::new(WatchedFile { place: Place { disk: self.clone(), path: path.to_owned() }, file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.tell(Next::Rename, to);
        self.under.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.tell(Next::Unlink, path);
        self.under.unlink(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.tell(Next::SyncDirectory, dir);
        self.under.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.under.free_bytes(dir)
    }

    fn fresh_id(&self) -> [u8; 4] {
        self.under.fresh_id()
    }
}

/// Which file of which disk.
#[derive(Clone)]
struct Place {
    disk: Watched,
    path: PathBuf,
}

impl Place {
    fn tell(&self, next: Next) {
        self.disk.tell(next, &self.path);
    }
}

struct WatchedFile {
    place: Place,
    file: Box<dyn DiskFile>,
}

const PAGE_BYTES: u64 = 4096;

impl DiskFile for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let zeros = bytes.len() as u64 == PAGE_BYTES && bytes.iter().all(|byte| *byte == 0);
        self.place.tell(if zeros { Next::Zeros } else { Next::Write });
        // A kill lets the kernel finish the page it is copying.
        let first = (at / PAGE_BYTES + 1) * PAGE_BYTES - at;
        if first >= bytes.len() as u64 {
            return self.file.write_at(bytes, at);
        }
        let (done, rest) = bytes.split_at(first as usize);
        self.file.write_at(done, at)?;
        self.place.tell(Next::RestOfWrite);
        self.file.write_at(rest, at + first)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.place.tell(Next::Sync);
        self.file.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.place.tell(Next::Length);
        self.file.set_len(bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.place.tell(Next::Length);
        self.file.allocate(bytes)
    }

    fn forget_cached(&self) {
        self.file.forget_cached();
    }

    fn direct(&self) -> io::Result<Option<Box<dyn DirectFile>>> {
        let Some(direct) = self.file.direct()? else { return Ok(None) };
        let file = self.place.disk.under.open(&self.place.path, Open::Write)?;
        Ok(Some(Box::new(WatchedBlocks { place: self.place.clone(), direct, file })))
    }

    fn map(&self) -> io::Result<Box<dyn Mapping>> {
        let mapping = self.file.map()?;
        Ok(Box::new(WatchedMapping { place: self.place.clone(), mapping }))
    }

    fn contents(&self) -> io::Result<Contents> {
        self.file.contents()
    }
}

struct WatchedBlocks {
    place: Place,
    direct: Box<dyn DirectFile>,
    /// The same file, for what reaches it without being durable yet.
    file: Box<dyn DiskFile>,
}

impl DirectFile for WatchedBlocks {
    fn write_blocks(&self, blocks: &[u8], at: u64) -> io::Result<()> {
        if blocks.iter().all(|byte| *byte == 0) {
            self.place.tell(Next::Zeros);
            return self.direct.write_blocks(blocks, at);
        }
        self.place.tell(Next::Blocks);
        let before_last = blocks.len().saturating_sub(BLOCK_BYTES);
        for (number, block) in blocks[..before_last].chunks(BLOCK_BYTES).enumerate() {
            self.file.write_at(block, at + (number * BLOCK_BYTES) as u64)?;
            self.place.tell(Next::RestOfBlocks);
        }
        self.direct.write_blocks(blocks, at)
    }
}

struct WatchedMapping {
    place: Place,
    mapping: Box<dyn Mapping>,
}

/// What a store makes visible at once.
const WHOLE_BYTES: usize = 4;

impl Mapping for WatchedMapping {
    fn store(&mut self, at: u64, bytes: &[u8]) {
        self.place.tell(Next::Store);
        let mut done = 0;
        if bytes.len() > WHOLE_BYTES {
            // A kill in the middle, a few bytes behind the start and a few before the end.
            for cut in [bytes.len() / 8, bytes.len() / 2, bytes.len() - 1] {
                if cut <= done {
                    continue;
                }
                self.mapping.store(at + done as u64, &bytes[done..cut]);
                self.place.tell(Next::RestOfStore);
                done = cut;
            }
        }
        self.mapping.store(at + done as u64, &bytes[done..]);
    }
}
