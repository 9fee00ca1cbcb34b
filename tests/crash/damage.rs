//! Recorded data directories, damaged: every bit of the log flipped, every sector and page zeroed, the last batch torn at
//! every byte and in every mixture of its sectors. A start either has everything, or refuses with file and offset; what a
//! torn write explains keeps no server from starting.
//! Not here: crashes (`explore`).

use crate::explore::{first_page, words};
use crate::figures::Figures;
use crate::ledger::Ledger;
use crate::server::{Server, Shape, Subject, lock};
use ostler_engine::io::disk::Disk;
use ostler_engine::io::disk_sim::SimDisk;
use ostler_engine::log::{FILE_HEADER_BYTES, Found, LogFile, Method, log_files, scan};
use ostler_engine::snapshot::Compression;
use ostler_tests::random::Random;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

const SECTOR_BYTES: usize = 512;
const PAGE_BYTES: usize = 4096;
/// Of the last batch so many sectors at most are mixed in every way.
const MIXED_SECTORS_MOST: usize = 8;

/// How much of all this is done: every bit, or one in so many.
#[derive(Clone, Copy, Debug)]
pub struct Stride(pub u64);

/// A server's directories after a clean run, everything stable.
struct Recording {
    shape: Shape,
    disk: SimDisk,
    ledger: Ledger,
    /// Where the last batch begins, in zxids and bytes; where it ends.
    last_batch: u64,
    last_bytes: std::ops::Range<usize>,
    /// The side mark as it was before the last batch.
    earlier_mark: Vec<u8>,
}

/// Everything, on several recordings.
pub fn damage(subject: &Subject, stride: Stride) -> Result<Figures, String> {
    let mut figures = Figures::default();
    for (seed, method) in [(1, Method::Mapped), (2, Method::Pwrite), (3, Method::Direct)] {
        for snapshot in [false, true] {
            let recording = Recording::new(seed, method, snapshot)?;
            let mut bench = Bench { subject, figures: &mut figures, recording: &recording };
            let story = |why: String| format!("recording {seed} {method:?} snapshot {snapshot}: {why}");
            bench.flip(stride).and_then(|()| bench.tear()).map_err(story)?;
        }
    }
    Ok(figures)
}

impl Recording {
    fn new(seed: u64, method: Method, snapshot: bool) -> Result<Recording, String> {
        let shape = Shape {
            method,
            roll_bytes: None,
            data_bytes_most: 60,
            batch_txns_most: 4,
            snapshot_one_in: 1000,
            compression: Compression::Plain,
            one_dir: true,
        };
        let (disk, ledger) = (SimDisk::new(), first_page(&shape)?);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let random = Random::new(seed);
        let mut server = Server::start(shared, &shape, &Subject::ENGINE, &ledger, random)?;
        for (txns, roll) in [(1, false), (4, true), (6, false), (3, snapshot), (1, true), (3, false)] {
            server.batch(txns)?;
            match roll {
                true if txns == 3 => server.snapshot()?,
                true => server.roll()?,
                false => {}
            }
        }
        server.mark()?;
        let logs = shape.paths().logs;
        let earlier_mark = disk.read(&logs.join("synced")).map_err(|error| error.to_string())?;
        let last_batch = lock(&ledger).submitted() + 1;
        server.batch(5)?;
        server.mark()?;
        let disk = disk.copy();
        let bytes = disk.read(&last_file(&disk, &shape)?.path).map_err(|error| error.to_string())?;
        let begins = |found: &Found<'_>| match found {
            Found::Record(record) if record.zxid.0 == last_batch => Some(record.offset_bytes as usize),
            _ => None,
        };
        let from = scan(&bytes).find_map(|found| begins(&found)).ok_or("no last batch")?;
        let last_bytes = from..used_bytes(&bytes);
        let ledger = lock(&ledger).clone();
        Ok(Recording { shape, disk, ledger, last_batch, last_bytes, earlier_mark })
    }

    fn files(&self) -> Result<Vec<LogFile>, String> {
        log_files(&self.disk, &self.shape.paths().logs).map_err(|error| error.to_string())
    }

    /// As if the power had gone before the mark of the last sync was stable.
    fn without_mark(&self) -> SimDisk {
        let disk = self.disk.copy();
        disk.put(&self.shape.paths().logs.join("synced"), b"");
        disk
    }

    /// As it was while the last batch was on its way.
    fn last_under_way(&self) -> SimDisk {
        let disk = self.disk.copy();
        disk.put(&self.shape.paths().logs.join("synced"), &self.earlier_mark);
        disk
    }
}

fn last_file(disk: &SimDisk, shape: &Shape) -> Result<LogFile, String> {
    let files = log_files(disk, &shape.paths().logs).map_err(|error| error.to_string())?;
    files.into_iter().last().ok_or_else(|| "no log".into())
}

/// A refusal names file and offset. That of a file zeroed whole is the next one's: it does not continue what is left.
fn refuses(why: &str, file: &Path) -> bool {
    let dir = file.parent().unwrap_or(file).join("log.");
    why.contains("no start") && why.contains(&*dir.to_string_lossy()) && why.contains("offset")
}

fn used_bytes(file: &[u8]) -> usize {
    file.len() - file.iter().rev().take_while(|byte| **byte == 0).count()
}

struct Bench<'a> {
    subject: &'a Subject,
    figures: &'a mut Figures,
    recording: &'a Recording,
}

impl Bench<'_> {
    /// Single flipped bits, and zeroed sectors and pages, with the mark of the last sync and without.
    fn flip(&mut self, stride: Stride) -> Result<(), String> {
        let recording = self.recording;
        let files = recording.files()?;
        for (disk, marked) in [(recording.disk.copy(), true), (recording.without_mark(), false)] {
            for (index, file) in files.iter().enumerate() {
                let is_last = index + 1 == files.len();
                let bytes = disk.read(&file.path).map_err(|error| error.to_string())?;
                let used = used_bytes(&bytes);
                let zeros = (used as u64 * 8..bytes.len() as u64 * 8).step_by(20_011);
                for bit in (0..used as u64 * 8).step_by(stride.0 as usize).chain(zeros) {
                    let damaged = disk.copy();
                    damaged.flip(&file.path, bit);
                    self.figures.damage.add("bits flipped in the log", 1);
                    self.all_or_refused(&damaged, &file.path, is_last && !marked).map_err(|why| {
                        format!("bit {bit} of {}, mark {marked}: {why}", file.path.display())
                    })?;
                }
                for (unit, name) in [(SECTOR_BYTES, "sectors zeroed"), (PAGE_BYTES, "pages zeroed")] {
                    for at in (0..used).step_by(unit) {
                        // Without the mark, zeros up to the end of the log look like what was never written: then nothing
                        // but the last batch is tried.
                        let to_the_end = is_last && at + unit >= used;
                        if !marked && to_the_end && at < recording.last_bytes.start {
                            continue;
                        }
                        let damaged = disk.copy();
                        damaged.edit(&file.path, |file| {
                            let end = file.len().min(at + unit);
                            file[at..end].fill(0);
                        });
                        self.figures.damage.add(name, 1);
                        self.all_or_refused(&damaged, &file.path, is_last && !marked).map_err(|why| {
                            format!("{name} at {at} of {}, mark {marked}: {why}", file.path.display())
                        })?;
                    }
                }
            }
        }
        self.flip_beside(stride)
    }

    /// Bits of the side mark, of which none matters as long as the log is whole.
    fn flip_beside(&mut self, stride: Stride) -> Result<(), String> {
        let mark = self.recording.shape.paths().logs.join("synced");
        let bytes = self.recording.disk.read(&mark).map_err(|error| error.to_string())?;
        for bit in (0..bytes.len() as u64 * 8).step_by(stride.0 as usize) {
            let damaged = self.recording.disk.copy();
            damaged.flip(&mark, bit);
            self.figures.damage.add("bits flipped in the side mark", 1);
            let head = self.start(&damaged).map_err(|why| format!("bit {bit} of the mark: {why}"))?;
            if head != self.recording.ledger.submitted() {
                return Err(format!("bit {bit} of the mark: {head:#x} is the last"));
            }
        }
        Ok(())
    }

    /// Everything is there, or the start refuses and says where. `last_may_go`: the last batch may seem torn.
    fn all_or_refused(&mut self, damaged: &SimDisk, file: &Path, last_may_go: bool) -> Result<(), String> {
        let all = self.recording.ledger.submitted();
        let mut ledger = self.recording.ledger.clone();
        if last_may_go {
            ledger.promise_only(self.recording.last_batch - 1);
        }
        match self.start_by(damaged, &ledger) {
            Ok(zxid) if zxid == all => self.figures.damage.add("... which changes nothing", 1),
            Ok(_) => self.figures.damage.add("... in the last batch, its mark lost: cut as torn", 1),
            Err(why) if refuses(&why, file) => {
                self.figures.damage.add("... refused, naming file and offset", 1);
            }
            Err(why) => return Err(why),
        }
        Ok(())
    }

    /// The last batch torn while it was on its way; and torn off although it had been synced.
    fn tear(&mut self) -> Result<(), String> {
        let recording = self.recording;
        let path = last_file(&recording.disk, &recording.shape)?.path;
        let mut ledger = recording.ledger.clone();
        ledger.promise_only(recording.last_batch - 1);
        let under_way = recording.last_under_way();
        let batch = recording.last_bytes.clone();
        for prefix in batch.clone().chain([batch.end]) {
            for zeros_behind in [true, false] {
                let torn = under_way.copy();
                torn.edit(&path, |file| {
                    let bytes = file.len();
                    file.truncate(prefix);
                    file.resize(if zeros_behind { bytes } else { prefix }, 0);
                });
                self.figures.damage.add("the last batch torn at a byte: started", 1);
                self.start_by(&torn, &ledger).map_err(|why| format!("torn at {prefix}: {why}"))?;
            }
        }
        let sectors: Vec<usize> =
            (batch.start / SECTOR_BYTES..batch.end.div_ceil(SECTOR_BYTES)).take(MIXED_SECTORS_MOST).collect();
        for kept in 0..1_u32 << sectors.len() {
            let torn = under_way.copy();
            torn.edit(&path, |file| {
                for (index, sector) in sectors.iter().enumerate() {
                    let from = batch.start.max(sector * SECTOR_BYTES);
                    let to = batch.end.min((sector + 1) * SECTOR_BYTES);
                    if kept & (1 << index) == 0 {
                        file[from..to].fill(0);
                    }
                }
            });
            self.figures.damage.add("the last batch without some of its sectors: started", 1);
            self.start_by(&torn, &ledger).map_err(|why| format!("sectors {kept:b} kept: {why}"))?;
        }
        for prefix in FILE_HEADER_BYTES..batch.end {
            let torn = recording.disk.copy();
            torn.edit(&path, |file| file[prefix..].fill(0));
            self.figures.damage.add("synced bytes torn off at a byte", 1);
            self.all_or_refused(&torn, &path, false).map_err(|why| format!("torn off at {prefix}: {why}"))?;
        }
        Ok(())
    }

    fn start(&self, disk: &SimDisk) -> Result<u64, String> {
        self.start_by(disk, &self.recording.ledger)
    }

    /// Starts there and judges; a panic is an error like any other.
    fn start_by(&self, disk: &SimDisk, ledger: &Ledger) -> Result<u64, String> {
        let start = || {
            let under = (self.subject.lay)(disk.clone());
            let mut head = (self.subject.start)(&*under, &self.recording.shape)
                .map_err(|why| format!("no start: {why}"))?;
            ledger.judge(&mut head)
        };
        catch_unwind(AssertUnwindSafe(start)).unwrap_or_else(|panic| Err(words(&*panic)))
    }
}
