//! Log files by name, and segments made ahead of need: zero-written, synced.
//! Not here: what is written into a segment, the writer's state.
//!
//! Spares are named `spare.<hex>`: Apache reads and purges by the prefixes `log.` and `snapshot.` only. A spare of an
//! earlier life of the process, and a log file that purge gave back, may hold old records, which Apache's reader would
//! follow without an error; so it is written with zeros and synced again before it can become a log file.
//!
//! Who runs at once: the log thread takes spares, the thread `ostler-segments` makes them, purge hands files in; all
//! under one mutex, never held during I/O.

use super::blocks::{ZEROS_BYTES, zeros};
use super::record::FILE_HEADER_BYTES;
use super::writer::LogSettings;
use crate::io::disk::{DirectFile, Disk, DiskFile, Open, is_full};
use crate::limits::{RESERVE_BYTES_FLOOR, SEGMENT_BYTES_LEAST, SEGMENT_ZERO_BYTES_STEP, SEGMENTS_SPARE};
use ostler_replication::Zxid;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The first segment after a start: small, so that the first write does not wait for a large one to be written.
const SEGMENT_BYTES_FIRST: u64 = 4 << 20;
/// Zeros are synced in portions of this size, so that a sync of the log never queues behind a whole segment.
const ZERO_BYTES_PER_SYNC: u64 = 1 << 20;
/// How often a full disk is asked again when nobody says that space came back.
const SPACE_RETRY: Duration = Duration::from_millis(500);

/// `log.<hex>` of the first zxid.
pub fn log_name(first: Zxid) -> String {
    format!("log.{:x}", first.0)
}

/// The zxid in a log file's name, as Apache parses it: parts beyond the second are ignored. `None` for other files.
pub fn log_name_zxid(name: &str) -> Option<Zxid> {
    let mut parts = name.split('.');
    if parts.next() != Some("log") {
        return None;
    }
    u64::from_str_radix(parts.next()?, 16).ok().map(Zxid)
}

/// One log file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogFile {
    /// From the name.
    pub first: Zxid,
    pub path: PathBuf,
    pub bytes: u64,
}

/// All log files of a `version-2` directory, ascending. No directory, no files.
///
/// `log.23.bak` is a log's name to Apache, and the only one that there may be of txns that nobody else has. Beside `log.23`
/// it is somebody's copy, or what a tool made of it, and is left alone, unless `log.23` cannot hold anything; Apache would
/// replay it a second time.
pub fn log_files(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<LogFile>> {
    let listed = match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut files: Vec<LogFile> = listed
        .into_iter()
        .filter_map(|file| {
            let first = log_name_zxid(&file.name)?;
            Some(LogFile { first, path: dir.join(&file.name), bytes: file.bytes })
        })
        .collect();
    files.sort_by(|a, b| (a.first, &a.path).cmp(&(b.first, &b.path)));
    let holds_something = |file: &&LogFile| is_plain(&file.path) && file.bytes > FILE_HEADER_BYTES as u64;
    let plain: Vec<Zxid> = files.iter().filter(holds_something).map(|file| file.first).collect();
    files.retain(|file| is_plain(&file.path) || plain.binary_search(&file.first).is_err());
    Ok(files)
}

/// Whether a log's name has nothing behind its zxid.
fn is_plain(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().matches('.').count() == 1)
}

/// How much room the log has. Ordered from plenty to none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogSpace {
    /// Segments can be allocated.
    Ok,
    /// The next segment cannot be allocated: new writes are to be refused, deletes and closes use the reserve.
    Reserve,
    /// What is left is for closeSession.
    Floor,
    /// A proposal waits in the log thread until space comes back; nothing more fits.
    Full,
}

/// A prepared file: `bytes` long, allocated, all zeros, synced; not yet a log file by name.
pub struct Spare {
    pub path: PathBuf,
    pub file: Box<dyn DiskFile>,
    /// The way past the page cache by which it was filled, when it was.
    pub direct: Option<Box<dyn DirectFile>>,
    pub bytes: u64,
}

/// Why no spare was handed out.
#[derive(Debug)]
pub enum NoSpare {
    /// The disk is full.
    Full,
    /// The disk failed; nothing that was promised is lost yet, but it cannot be relied on.
    Failed { path: PathBuf, source: io::Error },
    /// The pool was closed.
    Closed,
}

/// Spares ready and in the making.
pub struct Spares {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u64,
    /// Segments are filled, and will be written, past the page cache where that works.
    direct: bool,
    state: Mutex<State>,
    changed: Condvar,
    /// Spares are made by a thread of their own; otherwise by `take`.
    background: bool,
    tell: Box<dyn Fn(LogSpace) + Send + Sync>,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Spare>,
    /// Files to be made into spares: leftovers of an earlier process, and what purge gave back.
    raw: VecDeque<(PathBuf, u64)>,
    /// The last attempt found the disk full; `ask_again` says not to wait before the next one.
    full: bool,
    ask_again: bool,
    failed: Option<(PathBuf, io::Error)>,
    closed: bool,
    next_name: u64,
    made: u64,
    /// Free bytes of the segment being written.
    open_bytes: u64,
    /// A proposal waits for a segment.
    waiting: bool,
    told: Option<LogSpace>,
}

impl Spares {
    /// The directory exists. `tell` hears of each change of the level, from whichever thread noticed.
    pub fn open(
        disk: Arc<dyn Disk>,
        settings: &LogSettings,
        background: bool,
        tell: Box<dyn Fn(LogSpace) + Send + Sync>,
    ) -> io::Result<Arc<Spares>> {
        let dir = settings.dir.clone();
        let mut state = State::default();
        for file in disk.list(&dir)? {
            let Some(number) =
                file.name.strip_prefix("spare.").and_then(|hex| u64::from_str_radix(hex, 16).ok())
            else {
                continue;
            };
            state.next_name = state.next_name.max(number + 1);
            state.raw.push_back((dir.join(&file.name), file.bytes));
        }
        // The smallest first: one of them may serve as the first segment. Starts that wrote nothing must not pile up.
        state.raw.make_contiguous().sort_by_key(|(_, bytes)| *bytes);
        while state.raw.len() > SEGMENTS_SPARE + 1
            && let Some((path, _)) = state.raw.pop_front()
        {
            disk.unlink(&path)?;
        }
        let segment_bytes =
            settings.segment_bytes.max(SEGMENT_BYTES_LEAST).next_multiple_of(SEGMENT_ZERO_BYTES_STEP as u64);
        let direct = settings.is_direct();
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Ok(Arc::new(Spares { disk, dir, segment_bytes, direct, state, changed, background, tell }))
    }

    /// A spare of at least `bytes_least`, waiting for one in the making. When the disk is full the caller keeps what it
    /// wanted to write and asks again after [`Spares::wait_for_space`].
    pub fn take(&self, bytes_least: u64) -> Result<Spare, NoSpare> {
        if bytes_least > self.segment_bytes {
            return self.take_large(bytes_least);
        }
        let mut state = self.lock();
        loop {
            // A spare of the small first size may be too small for this record: it stays for the next one.
            if let Some(at) = state.ready.iter().position(|spare| spare.bytes >= bytes_least) {
                let spare = state.ready.remove(at).ok_or(NoSpare::Full)?;
                state.waiting = false;
                self.changed.notify_all();
                return Ok(spare);
            }
            if state.closed {
                return Err(NoSpare::Closed);
            }
            if let Some((path, source)) = state.failed.take() {
                return Err(NoSpare::Failed { path, source });
            }
            if !self.background {
                drop(state);
                let outcome = self.make();
                state = self.lock();
                self.settle(&mut state, outcome);
                if !state.full {
                    continue;
                }
            }
            if state.full {
                state.waiting = true;
                self.report(&mut state);
                return Err(NoSpare::Full);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns when a spare may be there, or after a while.
    pub fn wait_for_space(&self) {
        let state = self.lock();
        if state.full && !state.closed && state.ready.is_empty() {
            drop(self.changed.wait_timeout(state, SPACE_RETRY));
        }
    }

    /// The writer's free bytes in its segment: part of the reserve.
    pub fn note_open_bytes(&self, bytes: u64) {
        let mut state = self.lock();
        state.open_bytes = bytes;
        if state.full || state.told != Some(LogSpace::Ok) {
            self.report(&mut state);
        }
    }

    /// Space may have come back.
    pub fn retry(&self) {
        self.lock().ask_again = true;
        self.changed.notify_all();
    }

    /// Removes a log file that nobody needs: it becomes a spare when one is wanted, otherwise it is unlinked.
    pub fn retire(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let mut state = self.lock();
        let wanted = state.ready.len() + state.raw.len() < SEGMENTS_SPARE;
        if !wanted || bytes != self.segment_bytes || state.closed {
            drop(state);
            self.disk.unlink(path)?;
            self.retry();
            return Ok(());
        }
        let spare = self.next_path(&mut state);
        drop(state);
        self.disk.rename(path, &spare)?;
        // The old name must be gone for good before zeros go over its records.
        self.disk.sync_dir(&self.dir)?;
        self.lock().raw.push_back((spare, bytes));
        self.retry();
        Ok(())
    }

    /// The background thread: makes spares until closed. A bug here must not leave the log waiting for a segment that never
    /// comes: the log fails when it needs one.
    pub fn run(&self) {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.make_until_closed())) else { return };
        let source = io::Error::other("the thread that prepares segments panicked");
        let mut state = self.lock();
        state.failed = Some((self.dir.clone(), source));
        state.full = false;
        drop(state);
        self.changed.notify_all();
        resume_unwind(panic);
    }

    fn make_until_closed(&self) {
        let mut state = self.lock();
        while !state.closed {
            if state.failed.is_some() || (!state.full && state.ready.len() >= SEGMENTS_SPARE) {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if state.full && !std::mem::take(&mut state.ask_again) {
                let (guard, _) =
                    self.changed.wait_timeout(state, SPACE_RETRY).unwrap_or_else(PoisonError::into_inner);
                state = guard;
                if state.closed {
                    break;
                }
            }
            drop(state);
            let outcome = self.make();
            state = self.lock();
            self.settle(&mut state, outcome);
        }
    }

    /// One round of `run` for whoever drives the log without its threads: makes one spare if one is wanted. A full disk is
    /// asked again each time.
    pub fn prepare(&self) {
        let state = self.lock();
        let wanted = state.full || state.ready.len() < SEGMENTS_SPARE;
        if !wanted || state.closed || state.failed.is_some() {
            return;
        }
        drop(state);
        let outcome = self.make();
        self.settle(&mut self.lock(), outcome);
    }

    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn settle(&self, state: &mut State, outcome: Result<Spare, (PathBuf, io::Error)>) {
        match outcome {
            // Given up half-way; the file is zeroed anew by the next start.
            Err(_) if state.closed => return,
            Ok(spare) => {
                state.ready.push_back(spare);
                state.made += 1;
                state.full = false;
            }
            Err((_, error)) if is_full(&error) => state.full = true,
            Err((path, error)) => {
                // The open segment may still serve for long; the log stops when it needs the next one.
                tracing::error!("the log's disk failed while preparing {}: {error}", path.display());
                state.failed = Some((path, error));
                // And it must come to need one: writes refused for want of space would be refused for ever.
                state.full = false;
            }
        }
        self.report(state);
        self.changed.notify_all();
    }

    fn report(&self, state: &mut State) {
        // Small segments have a small reserve: deletes are to get most of it all the same.
        let floor = RESERVE_BYTES_FLOOR.min(self.segment_bytes / 4);
        let room = state.open_bytes + state.ready.iter().map(|spare| spare.bytes).sum::<u64>();
        let level = match () {
            () if !state.full => LogSpace::Ok,
            () if state.waiting => LogSpace::Full,
            () if room > floor => LogSpace::Reserve,
            () => LogSpace::Floor,
        };
        if state.told != Some(level) {
            state.told = Some(level);
            (self.tell)(level);
        }
    }

    /// The next spare: the small first one, then what lies there already, then new ones growing to the full size.
    fn make(&self) -> Result<Spare, (PathBuf, io::Error)> {
        let mut state = self.lock();
        let first = state.made == 0;
        let bytes = self.segment_bytes.min(SEGMENT_BYTES_FIRST << (2 * state.made).min(20));
        let small = state.raw.front().is_some_and(|(_, bytes)| *bytes <= SEGMENT_BYTES_FIRST);
        let raw = if first && !small { None } else { state.raw.pop_front() };
        let path = self.next_path(&mut state);
        drop(state);
        if let Some((path, bytes)) = raw {
            return self.reuse(path, bytes);
        }
        let outcome = self.fill(&path, bytes, Open::Create);
        if let Err(error) = &outcome {
            // What was allocated so far is of use to others; a file that stays is found by the next start.
            let _ = self.disk.unlink(&path);
            if is_full(error) {
                let raw = self.lock().raw.pop_front();
                if let Some((path, bytes)) = raw {
                    return self.reuse(path, bytes);
                }
            }
        }
        outcome.map_err(|error| (path, error))
    }

    fn reuse(&self, path: PathBuf, bytes: u64) -> Result<Spare, (PathBuf, io::Error)> {
        let bytes = bytes.max(SEGMENT_BYTES_LEAST).min(self.segment_bytes);
        let outcome = self.fill(&path, bytes, Open::Write);
        if outcome.as_ref().is_err_and(is_full) {
            // It had holes. Others can use its space better than we can.
            let _ = self.disk.unlink(&path);
        }
        outcome.map_err(|error| (path, error))
    }

    fn take_large(&self, bytes: u64) -> Result<Spare, NoSpare> {
        let path = self.next_path(&mut self.lock());
        let bytes = bytes.next_multiple_of(SEGMENT_ZERO_BYTES_STEP as u64);
        let outcome = self.fill(&path, bytes, Open::Create);
        let mut state = self.lock();
        match outcome {
            Ok(spare) => {
                state.waiting = false;
                Ok(spare)
            }
            Err(error) => {
                drop(state);
                let _ = self.disk.unlink(&path);
                if !is_full(&error) {
                    return Err(NoSpare::Failed { path, source: error });
                }
                let mut state = self.lock();
                state.full = true;
                state.waiting = true;
                self.report(&mut state);
                Err(NoSpare::Full)
            }
        }
    }

    /// Makes the file `bytes` long and all zeros, durably.
    fn fill(&self, path: &Path, bytes: u64, how: Open) -> io::Result<Spare> {
        let file = self.disk.open(path, how)?;
        if file.len()? > bytes {
            file.set_len(bytes)?;
        }
        file.allocate(bytes)?;
        // Pages that an earlier reader left may sit in large folios, and lie over what is written past them.
        file.forget_cached();
        let direct = if self.direct { file.direct()? } else { None };
        let direct = match direct {
            Some(direct) => self.zero_directly(&*direct, bytes)?.then_some(direct),
            None => None,
        };
        if direct.is_none() {
            self.zero(&*file, bytes)?;
        }
        file.sync_data()?;
        Ok(Spare { path: path.to_path_buf(), file, direct, bytes })
    }

    /// False: the device asks for larger blocks than ours.
    fn zero_directly(&self, file: &dyn DirectFile, bytes: u64) -> io::Result<bool> {
        let mut at = 0;
        while at < bytes {
            let step = (bytes - at).min(ZEROS_BYTES as u64);
            match file.write_blocks(&zeros()[..step as usize], at) {
                Err(error) if at == 0 && error.kind() == io::ErrorKind::InvalidInput => return Ok(false),
                written => written?,
            }
            at += step;
            self.go_on()?;
        }
        Ok(true)
    }

    /// In steps small enough that the page cache does not hold the file in large folios: with those each later sync of a
    /// few bytes writes a whole one (measured: 500 µs against 48).
    fn zero(&self, file: &dyn DiskFile, bytes: u64) -> io::Result<()> {
        let mut at = 0;
        while at < bytes {
            let step = (bytes - at).min(SEGMENT_ZERO_BYTES_STEP as u64);
            file.write_at(&zeros()[..step as usize], at)?;
            at += step;
            if at.is_multiple_of(ZERO_BYTES_PER_SYNC) {
                file.sync_data()?;
                self.go_on()?;
            }
        }
        Ok(())
    }

    fn go_on(&self) -> io::Result<()> {
        match self.lock().closed {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(()),
        }
    }

    fn next_path(&self, state: &mut State) -> PathBuf {
        state.next_name += 1;
        self.dir.join(format!("spare.{:x}", state.next_name - 1))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
