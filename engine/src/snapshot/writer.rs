//! One snapshot file: written under a name nobody reads, synced portion by portion, then given its name.
//! A crash at any step leaves the old files and at most one partial file, which the next start removes (FORMAT.md).

use super::codec::{Compression, Compressor};
use super::{SnapshotSource, encode, names};
use crate::io::disk::{Disk, DiskFile, Open};
use ostler_replication::Zxid;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Largest amount handed to the disk between two syncs, so that a sync of the log never waits behind more.
pub const PORTION_BYTES: usize = crate::limits::SNAPSHOT_BYTES_PORTION;

/// How far the file is, told after every portion.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Bytes on stable storage, as the file holds them.
    pub file_bytes: u64,
}

/// A snapshot that is complete and durable, name included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    pub zxid: Zxid,
    pub path: PathBuf,
    pub nodes: u64,
    /// As the file holds them.
    pub file_bytes: u64,
    /// Before compression.
    pub plain_bytes: u64,
}

#[derive(Debug)]
pub enum WriteError {
    /// `go_on` said so: nothing is left behind.
    GivenUp {
        file_bytes: u64,
    },
    Io {
        path: PathBuf,
        source: io::Error,
    },
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::GivenUp { file_bytes } => write!(f, "snapshot given up after {file_bytes} bytes"),
            WriteError::Io { path, source } => {
                write!(f, "cannot write snapshot {}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for WriteError {}

/// Writes `source` into `dir` and returns once file and name are durable. `go_on` is asked after every portion; when it
/// breaks off, or anything fails, the partial file is removed.
pub fn write(
    disk: &dyn Disk,
    dir: &Path,
    source: &dyn SnapshotSource,
    compression: Compression,
    go_on: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Written, WriteError> {
    let partial = dir.join(names::partial_name(source.zxid(), compression));
    let path = dir.join(names::snapshot_name(source.zxid(), compression));
    let written =
        write_partial(disk, &partial, source, compression, go_on).and_then(|(file_bytes, counts)| {
            disk.rename(&partial, &path).and_then(|()| disk.sync_dir(dir)).map_err(io_error(&path))?;
            Ok(Written {
                zxid: source.zxid(),
                path,
                nodes: counts.nodes,
                file_bytes,
                plain_bytes: counts.bytes,
            })
        });
    if written.is_err() {
        // Best effort: what cannot be removed now is removed at the next start, and nobody reads it until then.
        let _ = disk.unlink(&partial);
    }
    written
}

/// The same bytes without our footer, as Apache would write them. What goes to another server is `wire`'s.
pub fn stream<E>(source: &dyn SnapshotSource, sink: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    encode::encode(source, false, sink).map(|_| ())
}

fn write_partial(
    disk: &dyn Disk,
    partial: &Path,
    source: &dyn SnapshotSource,
    compression: Compression,
    go_on: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<(u64, encode::Counts), WriteError> {
    let file = disk.open(partial, Open::Create).map_err(io_error(partial))?;
    let mut portions =
        Portions { path: partial, file, packer: Compressor::new(compression), file_bytes: 0, go_on };
    let counts = encode::encode(source, true, &mut |bytes| portions.put(bytes))?;
    portions.finish()?;
    Ok((portions.file_bytes, counts))
}

struct Portions<'a> {
    path: &'a Path,
    file: Box<dyn DiskFile>,
    packer: Compressor,
    file_bytes: u64,
    go_on: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl Portions<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        // In slices, so that one large znode does not become one large portion.
        for slice in bytes.chunks(PORTION_BYTES / 4) {
            self.packer.put(slice).map_err(io_error(self.path))?;
            if self.packer.out().len() >= PORTION_BYTES / 2 {
                self.portion()?;
            }
        }
        Ok(())
    }

    fn portion(&mut self) -> Result<(), WriteError> {
        self.write_ready()?;
        match (self.go_on)(Progress { file_bytes: self.file_bytes }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(WriteError::GivenUp { file_bytes: self.file_bytes }),
        }
    }

    fn write_ready(&mut self) -> Result<(), WriteError> {
        let ready = self.packer.out();
        debug_assert!(ready.len() <= PORTION_BYTES);
        let written = self.file.write_at(ready, self.file_bytes).and_then(|()| self.file.sync_data());
        written.map_err(io_error(self.path))?;
        self.file_bytes += ready.len() as u64;
        ready.clear();
        Ok(())
    }

    fn finish(&mut self) -> Result<(), WriteError> {
        self.packer.finish().map_err(io_error(self.path))?;
        // Nobody is asked any more: giving up now would save nothing.
        self.write_ready()
    }
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> WriteError + '_ {
    move |source| WriteError::Io { path: path.to_owned(), source }
}
