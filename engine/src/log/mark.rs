//! The side mark: a small file beside the log that says how far a segment had been synced. Written lazily: when the log
//! has been idle for a while, at a roll, on shutdown.
//! Not here: when it is written, what follows from it.
//!
//! Why: a torn batch and a damaged one look alike at the end of the log, unless a later batch proves that the bad one had
//! been synced. For the very last batch only this file can prove it. Losing it loses that proof and nothing else; a mark
//! of a file that is gone, or was cut shorter on purpose (TRUNC by either implementation), proves nothing.

use super::record::{FileId, MARKER};
use super::segments::log_name;
use crate::io::disk::{Disk, DiskFile, Open};
use ostler_replication::Zxid;
use std::io;
use std::path::{Path, PathBuf};

/// No prefix that Apache reads or purges.
pub const NAME: &str = "synced";
const VERSION: u32 = 1;
const BYTES: usize = 40;

/// Bytes `..end_bytes` of the segment were on stable storage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// Zxid in the segment's name.
    pub segment: Zxid,
    pub id: FileId,
    pub end_bytes: u64,
    /// Last zxid in these bytes.
    pub last: Zxid,
}

impl Mark {
    pub fn segment_name(&self) -> String {
        log_name(self.segment)
    }

    fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..4].copy_from_slice(&MARKER);
        bytes[4..8].copy_from_slice(&VERSION.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.id.0);
        bytes[12..20].copy_from_slice(&self.segment.0.to_be_bytes());
        bytes[20..28].copy_from_slice(&self.end_bytes.to_be_bytes());
        bytes[28..36].copy_from_slice(&self.last.0.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Mark> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let (covered, crc) = bytes.split_at(36);
        let long = |at: usize| Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk::<8>()?));
        if crc32c::crc32c(covered).to_be_bytes() != *crc
            || covered[..4] != MARKER
            || covered[4..8] != VERSION.to_be_bytes()
        {
            return None;
        }
        let id = FileId([bytes[8], bytes[9], bytes[10], bytes[11]]);
        Some(Mark { segment: Zxid(long(12)?), id, end_bytes: long(20)?, last: Zxid(long(28)?) })
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// `None` when there is none, or when it is torn: then it proves nothing.
pub fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Option<Mark>> {
    match disk.read(&path(dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(bytes) => Ok(Mark::decode(&bytes)),
    }
}

/// Takes the mark away, durably: before anything it speaks of is removed.
pub fn remove(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    match disk.unlink(&path(dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => disk.sync_dir(dir),
    }
}

/// Keeps the mark's file open between writes.
#[derive(Default)]
pub struct MarkFile(Option<Box<dyn DiskFile>>);

impl MarkFile {
    /// Written in place: the whole mark lies in one sector, and a torn one is no mark.
    pub fn write(&mut self, disk: &dyn Disk, dir: &Path, mark: &Mark) -> io::Result<()> {
        let file = match self.0.take() {
            Some(file) => file,
            None => disk.open(&path(dir), Open::Create)?,
        };
        file.write_at(&mark.encode(), 0)?;
        file.sync_data()?;
        self.0 = Some(file);
        Ok(())
    }
}
