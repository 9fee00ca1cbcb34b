//! Defects planted in what the runner tests: each must be seen.

use crate::damage::{Stride, damage};
use crate::explore::{Effort, explore};
use crate::server::{Shape, Subject, engine_start};
use ostler_engine::io::disk::{Contents, DirectFile, Disk, DiskFile, Listed, Mapping, Open};
use ostler_engine::io::disk_sim::SimDisk;
use ostler_engine::log::{At, FILE_HEADER_BYTES, FileId, Origin, log_files, origin, put_record, record_at};
use ostler_engine::world::Head;
use std::io;
use std::path::Path;
use std::sync::Arc;

const EFFORT: Effort = Effort { exhaustive_most: 16, random_cuts: 2, nested_one_in: 20 };

/// A disk that leaves out some of what it is told.
struct Lazy {
    disk: SimDisk,
    skips: fn(&str, &Path) -> bool,
}

impl Lazy {
    fn skips(&self, what: &str, path: &Path) -> bool {
        (self.skips)(what, path)
    }
}

impl Disk for Lazy {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        self.disk.list(dir)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.open(path, how)?;
        Ok(Box::new(LazyFile { disk: self.disk.clone(), file, path: path.to_owned(), skips: self.skips }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.disk.unlink(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.skips("sync_dir", dir) { Ok(()) } else { self.disk.sync_dir(dir) }
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.disk.free_bytes(dir)
    }

    fn fresh_id(&self) -> [u8; 4] {
        self.disk.fresh_id()
    }
}

struct LazyFile {
    disk: SimDisk,
    file: Box<dyn DiskFile>,
    path: std::path::PathBuf,
    skips: fn(&str, &Path) -> bool,
}

impl DiskFile for LazyFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let zeros = bytes.iter().all(|byte| *byte == 0);
        let skipped = zeros && (self.skips)("zeros", &self.path);
        if skipped { Ok(()) } else { self.file.write_at(bytes, at) }
    }

    fn sync_data(&self) -> io::Result<()> {
        if (self.skips)("sync", &self.path) { Ok(()) } else { self.file.sync_data() }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.file.allocate(bytes)
    }

    fn forget_cached(&self) {
        self.file.forget_cached();
    }

    fn direct(&self) -> io::Result<Option<Box<dyn DirectFile>>> {
        let Some(direct) = self.file.direct()? else { return Ok(None) };
        let file = self.disk.open(&self.path, Open::Write)?;
        Ok(Some(Box::new(LazyBlocks { direct, file, path: self.path.clone(), skips: self.skips })))
    }

    fn map(&self) -> io::Result<Box<dyn Mapping>> {
        self.file.map()
    }

    fn contents(&self) -> io::Result<Contents> {
        self.file.contents()
    }
}

struct LazyBlocks {
    direct: Box<dyn DirectFile>,
    file: Box<dyn DiskFile>,
    path: std::path::PathBuf,
    skips: fn(&str, &Path) -> bool,
}

impl DirectFile for LazyBlocks {
    fn write_blocks(&self, blocks: &[u8], at: u64) -> io::Result<()> {
        let zeros = blocks.iter().all(|byte| *byte == 0);
        match () {
            () if zeros && (self.skips)("zeros", &self.path) => Ok(()),
            () if (self.skips)("sync", &self.path) => self.file.write_at(blocks, at),
            () => self.direct.write_blocks(blocks, at),
        }
    }
}

fn lazy(disk: SimDisk, skips: fn(&str, &Path) -> bool) -> Arc<dyn Disk> {
    Arc::new(Lazy { disk, skips })
}

fn is_log(path: &Path) -> bool {
    path.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        name.starts_with("log.") || name.starts_with("spare.")
    })
}

/// What the runner says of a defect: something that holds `expected`, before the seeds are through.
fn check_lives(subject: Subject, expected: &str) {
    crate::without_huge_pages();
    let found = (0..40).find_map(|seed| explore(seed, 4, &subject, EFFORT).err());
    let why = found.expect("the defect was not seen");
    assert!(why.contains(expected), "{why}");
}

fn check_damage(start: crate::server::Start, expected: &str) {
    crate::without_huge_pages();
    let why = damage(&Subject { start, ..Subject::ENGINE }, Stride(17)).err();
    let why = why.expect("the defect was not seen");
    assert!(why.contains(expected), "{why}");
}

#[test]
fn the_engine_as_it_is_passes() {
    crate::without_huge_pages();
    for seed in 0..3 {
        let figures = explore(seed, 4, &Subject::ENGINE, EFFORT).unwrap();
        assert!(figures.points.sum() > 100, "{figures:?}");
    }
    let figures = damage(&Subject::ENGINE, Stride(101)).unwrap();
    assert!(figures.damage.sum() > 1000, "{figures:?}");
}

#[test]
fn a_batch_acknowledged_before_its_sync_is_seen() {
    check_lives(Subject { acknowledges_early: true, ..Subject::ENGINE }, "acknowledged txns are lost");
}

#[test]
fn syncs_of_the_log_that_do_nothing_are_seen() {
    let lay = |disk| lazy(disk, |what, path| what == "sync" && is_log(path));
    check_lives(Subject { lay, ..Subject::ENGINE }, "acknowledged txns are lost");
}

#[test]
fn syncs_of_directories_that_do_nothing_are_seen() {
    let lay = |disk| lazy(disk, |what, _| what == "sync_dir");
    check_lives(Subject { lay, ..Subject::ENGINE }, "acknowledged txns are lost");
}

#[test]
fn a_segment_used_again_without_zeros_is_seen() {
    let lay = |disk| lazy(disk, |what, path| what == "zeros" && is_log(path));
    check_lives(Subject { lay, ..Subject::ENGINE }, "Apache would refuse");
}

#[test]
fn a_snapshot_named_before_its_sync_is_seen() {
    let lay = |disk| {
        lazy(disk, |what, path| {
            what == "sync" && path.file_name().is_some_and(|name| name.to_string_lossy().contains("snapshot"))
        })
    };
    check_lives(Subject { lay, ..Subject::ENGINE }, "there is no snapshot");
}

/// Writes every record of ours anew with checksums that fit whatever it holds: a start from there is what a start would be
/// that verifies none.
fn trust_every_record(disk: &dyn Disk, shape: &Shape) {
    for file in log_files(disk, &shape.paths().logs).unwrap() {
        let bytes = disk.read(&file.path).unwrap();
        let Ok(Origin::Ostler(FileId(id))) = origin(&bytes) else { continue };
        let mut at = FILE_HEADER_BYTES;
        let mut fixed = bytes[..at].to_vec();
        while let Some(length) = bytes.get(at + 8..at + 12) {
            let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
            let Some(record) = bytes.get(at + 12..at + 12 + length).filter(|record| record.len() > 8) else {
                break;
            };
            let (entry, trailer) = record.split_at(length - 8);
            put_record(&mut fixed, FileId(id), at as u64, trailer[3] & 1 == 1, entry);
            at += 12 + length + 1;
        }
        fixed.extend_from_slice(bytes.get(fixed.len()..).unwrap_or_default());
        fixed.truncate(bytes.len());
        disk.open(&file.path, Open::Write).unwrap().write_at(&fixed, 0).unwrap();
    }
}

#[test]
fn records_whose_checksums_nobody_verifies_are_seen() {
    // The rewriting itself changes nothing in a log that is whole.
    fn start(disk: &dyn Disk, shape: &Shape) -> Result<Head, String> {
        if disk.exists(&shape.paths().logs).is_ok() && disk.list(&shape.paths().logs).is_ok() {
            trust_every_record(disk, shape);
        }
        engine_start(disk, shape)
    }
    check_damage(start, "another state");
}

/// A start that takes whatever it cannot read, and all behind it, for a torn tail.
fn cut_and_start(disk: &dyn Disk, shape: &Shape, behind: fn(&[u8]) -> bool) -> Result<Head, String> {
    let why = match engine_start(disk, shape) {
        Err(why) => why,
        done => return done,
    };
    let logs = shape.paths().logs;
    let mut cut = false;
    for file in log_files(disk, &logs).unwrap() {
        if cut {
            disk.unlink(&file.path).unwrap();
            continue;
        }
        let bytes = disk.read(&file.path).unwrap();
        let Ok(origin) = origin(&bytes) else { return Err(why) };
        let mut at = FILE_HEADER_BYTES as u64;
        while let At::Record(record) = record_at(&bytes, at, origin) {
            at = record.next_bytes;
        }
        let rest = &bytes[at as usize..];
        cut = rest.iter().any(|byte| *byte != 0) && behind(rest);
        if cut {
            disk.open(&file.path, Open::Write).unwrap().set_len(at).unwrap();
        }
    }
    let _ = disk.unlink(&logs.join("synced"));
    if cut { engine_start(disk, shape) } else { Err(why) }
}

#[test]
fn a_damaged_middle_that_is_cut_is_seen() {
    check_damage(|disk, shape| cut_and_start(disk, shape, |_| true), "acknowledged txns are lost");
}

#[test]
fn a_synced_last_batch_that_is_cut_is_seen() {
    // Only what ends the log is cut: short rests.
    check_damage(
        |disk, shape| cut_and_start(disk, shape, |rest| rest.iter().filter(|byte| **byte != 0).count() < 300),
        "acknowledged txns are lost",
    );
}
