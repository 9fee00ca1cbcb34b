//! Records for a learner that lags behind what its leader keeps in memory, read from the log files: on a thread of its own,
//! in bounded pieces, so that neither the log nor voting waits for it. Only what is known to be this server's history is
//! handed out: never across a hole, never from behind the snapshot that the log begins with.
//! Not here: what the leader makes of it, what is still in memory.
//!
//! Read with plain reads, not mapped: the log's thread may cut a file meanwhile. What it may be writing just now stands behind
//! what was asked for, which is on stable storage.

use super::quarantine;
use super::record::{
    At, FILE_HEADER_BYTES, Origin, Record, follows, is_undecodable_request, opens_epoch, origin, record_in,
};
use super::segments::{LogFile, log_files};
use crate::io::disk::{BLOCK_BYTES, Disk, DiskFile, Open};
use crate::limits::{BATCH_BYTES_MAX, HISTORY_READ_BYTES};
use ostler_replication::{History, Link, Number, Proposal, Zxid};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering};
use std::thread::JoinHandle;

/// What is to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Exclusive.
    pub after: Zxid,
    /// Inclusive, and on stable storage.
    pub to: Zxid,
    /// Most bytes of log files behind the first: more would cost more than a snapshot (`snapshotSizeFactor`). What is
    /// allocated ahead of need in the last one does not count. `None`: any number.
    pub bytes_max: Option<u64>,
}

/// Hands out what `wanted` asks for, in pieces of bounded size; `give` says whether to go on. The last piece says so. What
/// cannot be had, or not to its end, ends with a piece without `from`.
pub fn read(
    disk: &dyn Disk,
    log_dir: &Path,
    snapshot_dir: &Path,
    wanted: Wanted,
    give: &mut dyn FnMut(History) -> bool,
) {
    let mut reading = Reading { wanted, last: None, from: None, piece: Piece::default(), give };
    match reading.files(disk, log_dir, snapshot_dir) {
        Ok(Step::Done) => reading.finish(),
        Ok(Step::GivenUp) => {}
        Ok(Step::Missing(reason)) => reading.refuse(&reason),
        // Purged since it was listed, or the disk fails: the learner takes a snapshot.
        Err(error) => reading.refuse(&error.to_string()),
    }
}

enum Step {
    Done,
    /// Nobody wants the rest.
    GivenUp,
    Missing(String),
}

/// Entries gathered, each behind its length.
#[derive(Default)]
struct Piece {
    first: Option<Zxid>,
    records: Vec<u8>,
}

struct Reading<'a> {
    wanted: Wanted,
    /// Last record read.
    last: Option<Zxid>,
    from: Option<Zxid>,
    piece: Piece,
    give: &'a mut dyn FnMut(History) -> bool,
}

impl Reading<'_> {
    fn files(&mut self, disk: &dyn Disk, log_dir: &Path, snapshot_dir: &Path) -> io::Result<Step> {
        let files = log_files(disk, log_dir)?;
        let snapshots = quarantine::snapshots(disk, snapshot_dir)?;
        let start = files.iter().rposition(|file| file.first <= self.wanted.after).unwrap_or(0);
        if let Some(most) = self.wanted.bytes_max
            && let Some((last, before)) = files.get(start + 1..).and_then(<[LogFile]>::split_last)
        {
            let before: u64 = before.iter().map(|file| file.bytes).sum();
            let later = before + if before > most { last.bytes } else { written_bytes(disk, last)? };
            if later > most {
                return Ok(Step::Missing(format!("{later} bytes of log are more than a snapshot costs")));
            }
        }
        for file in &files[start.min(files.len())..] {
            match self.file(disk, file, &snapshots)? {
                None => {}
                Some(step) => return Ok(step),
            }
        }
        // Where nothing is to be sent, the end of the log is where the learner stands.
        if self.from.is_none() && self.last == Some(self.wanted.to) {
            self.from = self.last;
            return Ok(Step::Done);
        }
        Ok(Step::Missing(format!("the log ends before {}", self.wanted.to)))
    }

    /// `None`: the file ends, the next one may go on.
    fn file(
        &mut self,
        disk: &dyn Disk,
        file: &LogFile,
        snapshots: &[(Zxid, PathBuf)],
    ) -> io::Result<Option<Step>> {
        let mut window = Window::open(disk, &file.path)?;
        let Ok(origin) = origin(&window.bytes) else {
            return Ok(None);
        };
        let mut at = FILE_HEADER_BYTES as u64;
        loop {
            let At::Record(record) = window.record(at, origin)? else { return Ok(None) };
            if let Some(step) = self.record(&record, snapshots) {
                return Ok(Some(step));
            }
            at = record.next_bytes;
        }
    }

    fn record(&mut self, record: &Record<'_>, snapshots: &[(Zxid, PathBuf)]) -> Option<Step> {
        let Wanted { after, to, .. } = self.wanted;
        let zxid = record.zxid;
        let stands_behind = |last| {
            follows(last, zxid, record.entry)
                && (!opens_epoch(last, zxid) || record.behind.is_none_or(|behind| behind.is(last)))
        };
        // What an Apache leader could not decode repeats a zxid, and changes nothing.
        if self.last == Some(zxid) && is_undecodable_request(record.entry) {
            return None;
        }
        if let Some(last) = self.last
            && !stands_behind(last)
        {
            return Some(Step::Missing(format!("txns are missing between {last} and {zxid}")));
        }
        if zxid > after && self.from.is_none() {
            // Before the first record of all stands the snapshot that the log was begun behind: the newest below it, and no
            // older one, such as that of an empty server's first start before a leader sent it everything.
            let newest = || snapshots.iter().map(|(base, _)| *base).rfind(|base| *base < zxid);
            let base = || newest().filter(|base| *base <= after && stands_behind(*base));
            self.from = self.last.or_else(base);
            if self.from.is_none() {
                return Some(Step::Missing(format!("the log begins with {zxid}")));
            }
        }
        if zxid > to {
            return Some(Step::Done);
        }
        if zxid > after {
            // The piece before ends with the last record.
            if !self.piece.has_room(record.entry) && !self.hand_out(false) {
                return Some(Step::GivenUp);
            }
            self.piece.put(zxid, record.entry);
        }
        self.last = Some(zxid);
        // An equal one behind it would change nothing.
        if zxid != to {
            return None;
        }
        self.from = self.from.or(self.last);
        Some(Step::Done)
    }

    fn hand_out(&mut self, is_last: bool) -> bool {
        let Piece { first, records } = std::mem::take(&mut self.piece);
        let records =
            first.zip(self.last).map(|(first, last)| Proposal { first, last, records: Arc::new(records) });
        (self.give)(History { from: self.from, records, is_last })
    }

    fn finish(&mut self) {
        self.hand_out(true);
    }

    fn refuse(&mut self, reason: &str) {
        tracing::info!("the log is no help to a learner at {}: {reason}", self.wanted.after);
        (self.give)(History { from: None, records: None, is_last: true });
    }
}

/// About how much of a file is written: behind that it is full of zeros. Blocks of zeros inside a record may mislead it, and
/// then a learner gets records where a snapshot would have cost less.
fn written_bytes(disk: &dyn Disk, file: &LogFile) -> io::Result<u64> {
    const STEP_BYTES: u64 = 64 << 10;
    let mut window = Window::open(disk, &file.path)?;
    let (mut written, mut empty) = (0, file.bytes.div_ceil(STEP_BYTES));
    while written + 1 < empty {
        let middle = written.midpoint(empty);
        window.load(middle * STEP_BYTES, BLOCK_BYTES)?;
        if window.bytes.iter().all(|byte| *byte == 0) { empty = middle } else { written = middle }
    }
    Ok(file.bytes.min(empty * STEP_BYTES))
}

impl Piece {
    fn has_room(&self, entry: &[u8]) -> bool {
        self.first.is_none() || self.records.len() + 4 + entry.len() <= BATCH_BYTES_MAX as usize
    }

    fn put(&mut self, zxid: Zxid, entry: &[u8]) {
        self.first.get_or_insert(zxid);
        self.records.extend_from_slice(&(entry.len() as u32).to_be_bytes());
        self.records.extend_from_slice(entry);
    }
}

/// A part of a file.
struct Window {
    file: Box<dyn DiskFile>,
    file_bytes: u64,
    /// Offset of the first of `bytes`.
    from: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn open(disk: &dyn Disk, path: &Path) -> io::Result<Window> {
        let file = disk.open(path, Open::Read)?;
        let file_bytes = file.len()?;
        let mut window = Window { file, file_bytes, from: 0, bytes: Vec::new() };
        window.load(0, HISTORY_READ_BYTES)?;
        Ok(window)
    }

    /// The record at an offset, whatever its length.
    fn record(&mut self, at: u64, origin: Origin) -> io::Result<At<'_>> {
        let mut wanted = HISTORY_READ_BYTES;
        loop {
            let rest = self.rest(at);
            let length =
                rest.get(8..12).and_then(|raw| raw.first_chunk::<4>()).map(|raw| i32::from_be_bytes(*raw));
            // Header, entry, end byte; a length that leads out of the file is none.
            let needed = length.map_or(12, |length| 13 + usize::try_from(length).unwrap_or(0));
            let left = self.file_bytes.saturating_sub(at);
            if rest.len() >= needed || needed as u64 > left {
                break;
            }
            wanted = wanted.max(needed);
            let (had, had_bytes) = (self.from, self.bytes.len());
            self.load(at, wanted)?;
            // The file ends there.
            if (self.from, self.bytes.len()) == (had, had_bytes) || self.bytes.len() < wanted {
                break;
            }
        }
        let rest = self.rest(at);
        Ok(record_in(rest, at, origin))
    }

    fn rest(&self, at: u64) -> &[u8] {
        let skip = usize::try_from(at.saturating_sub(self.from)).unwrap_or(usize::MAX);
        self.bytes.get(skip..).unwrap_or_default()
    }

    fn load(&mut self, from: u64, most: usize) -> io::Result<()> {
        self.from = from;
        self.bytes.resize(most, 0);
        let mut done = 0;
        while done < most {
            match self.file.read_at(&mut self.bytes[done..], from + done as u64)? {
                0 => break,
                more => done += more,
            }
        }
        self.bytes.truncate(done);
        Ok(())
    }
}

/// A piece of history that a learner's link waits for.
pub type Tell = dyn Fn(Link, Number, History) + Send + Sync;

/// One request that waits for the reader.
pub struct Request {
    pub link: Link,
    pub number: Number,
    pub wanted: Wanted,
    /// Set when the link is gone: the rest is not read.
    pub gone: Arc<AtomicBool>,
}

/// Whoever reads history for learners, beside the log's queue.
pub trait HistoryRequests: Send {
    /// False: there is no room for another, and nothing will come.
    fn ask(&self, request: Request) -> bool;
}

impl Request {
    /// Reads, and tells piece by piece until the link is gone or `tell` wants no more.
    pub fn serve(
        &self,
        disk: &dyn Disk,
        log_dir: &Path,
        snapshot_dir: &Path,
        tell: &mut dyn FnMut(History) -> bool,
    ) {
        read(disk, log_dir, snapshot_dir, self.wanted, &mut |history| {
            !self.gone.load(Ordering::Relaxed) && tell(history)
        });
    }
}

/// The thread `ostler-history`. Dropping it ends it behind the piece it is at.
pub struct HistoryReader {
    requests: Option<SyncSender<Request>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Learners that may wait at once; more get the answer that leads to a snapshot.
const REQUESTS_MAX: usize = 256;

impl HistoryReader {
    /// `tell` may block: that is what bounds the pieces under way.
    pub fn start(
        disk: Arc<dyn Disk>,
        log_dir: PathBuf,
        snapshot_dir: PathBuf,
        tell: Arc<Tell>,
    ) -> io::Result<HistoryReader> {
        let (requests, taken) = sync_channel(REQUESTS_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let run = move || serve(&*disk, &log_dir, &snapshot_dir, &taken, &stopping, &*tell);
        let thread = std::thread::Builder::new().name("ostler-history".into()).spawn(run)?;
        Ok(HistoryReader { requests: Some(requests), stop, thread: Some(thread) })
    }
}

impl HistoryRequests for HistoryReader {
    fn ask(&self, request: Request) -> bool {
        let Some(requests) = &self.requests else { return false };
        !matches!(requests.try_send(request), Err(TrySendError::Full(_) | TrySendError::Disconnected(_)))
    }
}

impl Drop for HistoryReader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing to report; its panic was printed.
            let _ = thread.join();
        }
    }
}

fn serve(
    disk: &dyn Disk,
    log_dir: &Path,
    snapshot_dir: &Path,
    requests: &Receiver<Request>,
    stop: &AtomicBool,
    tell: &Tell,
) {
    for request in requests {
        request.serve(disk, log_dir, snapshot_dir, &mut |history| {
            let goes_on = !stop.load(Ordering::Relaxed);
            if goes_on {
                tell(request.link, request.number, history);
            }
            goes_on
        });
    }
}
