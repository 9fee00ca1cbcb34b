//! The log writer: proposals in, records on stable storage. Group after group: encode, store, sync, name the file when
//! it is new. Owned by one thread; every error that is not a full disk is final.
//! Not here: threads and queues (`thread`), making segments (`segments`), reading (`recover`).
//!
//! Order of stores through the page cache, because a kill may fall between any two (FORMAT.md): first everything of a batch but its first record header, then that header's checksum, last its length. Before that
//! last store a reader finds length 0 and stops; after it the whole batch is there. Past the page cache the batch is one
//! write, of which a kill or a power cut may leave a part: a torn batch.
//!
//! An epoch begins its own file, and its first record says behind which zxid: a file that is missing before it shows.
//!
//! Order of syncs: a batch is stored only after the sync of the one before returned; a new segment's header and first
//! batch are synced before the file gets its name, and the name before anything in it is acknowledged.

use super::blocks::Blocks;
use super::mark::{self, Mark, MarkFile};
use super::record::{
    FILE_HEADER_BYTES, FileId, RECORD_EXTRA_BYTES, entry_zxid, file_header, follows, opens_epoch,
    put_epoch_record, put_record,
};
use super::segments::{NoSpare, Spares, log_name};
use crate::io::disk::{DirectFile, Disk, DiskFile, Mapping};
use ostler_replication::{Proposal, Zxid};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How bytes reach the segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Method {
    /// Whole blocks past the page cache, durable when the write returns (`O_DIRECT`, `O_DSYNC`). As `Mapped` where the file
    /// system cannot, and when nothing is to be synced.
    #[default]
    Direct,
    /// Store through a shared mapping, fdatasync the file.
    Mapped,
    /// pwrite, fdatasync.
    Pwrite,
}

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// The `version-2` directory under dataLogDir; made when missing.
    pub dir: PathBuf,
    /// The one under dataDir: epoch files and snapshots.
    pub snapshot_dir: PathBuf,
    /// `preAllocSize`.
    pub segment_bytes: u64,
    /// `txnLogSizeLimitInKb`: a new file once one holds more than this.
    pub roll_bytes: Option<u64>,
    pub method: Method,
    /// `forceSync`: false reports batches as durable that are not. What a power cut leaves is then still a whole prefix:
    /// each file is synced when it gets its name and when the next one does, and no record but the first claims to prove
    /// a sync.
    pub sync: bool,
    /// `fsync.warningthresholdms`: a group that takes longer is reported in the server's log.
    pub sync_warning_ms: u64,
}

impl LogSettings {
    /// Snapshots lie in the same directory.
    pub fn new(dir: impl Into<PathBuf>) -> LogSettings {
        let dir = dir.into();
        LogSettings {
            snapshot_dir: dir.clone(),
            dir,
            segment_bytes: crate::limits::SEGMENT_BYTES_DEFAULT,
            roll_bytes: None,
            method: Method::default(),
            sync: true,
            sync_warning_ms: crate::limits::SYNC_WARNING_MS_DEFAULT,
        }
    }

    /// Whether spares are to be made for writing past the page cache.
    pub fn is_direct(&self) -> bool {
        self.method == Method::Direct && self.sync
    }
}

/// The disk did not do what it must: nothing later may be acknowledged, and the call is never repeated.
#[derive(Debug)]
pub struct LogFailure {
    pub doing: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl fmt::Display for LogFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the log's disk failed: {} {}: {}; stopping at once, because a write that may not be on disk must not be \
             acknowledged (check the disk, then start again: recovery keeps all that was acknowledged)",
            self.doing,
            self.path.display(),
            self.source
        )
    }
}

impl std::error::Error for LogFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Why an append stopped. What was logged before stays logged.
#[derive(Debug)]
pub enum AppendError {
    /// No segment to be had: append the same proposals again once there is space.
    NoSpace,
    /// The pool of spares was closed.
    Closed,
    Failed(LogFailure),
}

/// Bytes and syncs since the start, for counters.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Written {
    pub bytes: u64,
    pub records: u64,
    pub syncs: u64,
    pub segments: u64,
}

/// See the module's header.
pub struct LogWriter {
    disk: Arc<dyn Disk>,
    settings: LogSettings,
    spares: Arc<Spares>,
    open: Option<Segment>,
    /// Last zxid on stable storage.
    last: Zxid,
    batch: Vec<u8>,
    /// For segments without a page cache; kept from one to the next.
    blocks: Option<Blocks>,
    mark: MarkFile,
    marked: Zxid,
    written: Written,
}

/// The way bytes take into a segment.
enum Way {
    Direct(Box<dyn DirectFile>),
    Mapped(Box<dyn Mapping>),
    Pwrite,
}

/// The segment being written.
struct Segment {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    way: Way,
    id: FileId,
    bytes: u64,
    /// Offset of the next record.
    end_bytes: u64,
    /// From the name; `None` until the file is a log file by name.
    named: Option<Zxid>,
}

impl LogWriter {
    /// `last`: the last zxid recovered; the first proposal continues there. The directory exists.
    pub fn new(disk: Arc<dyn Disk>, settings: LogSettings, spares: Arc<Spares>, last: Zxid) -> LogWriter {
        LogWriter {
            disk,
            settings,
            spares,
            open: None,
            last,
            batch: Vec::new(),
            blocks: None,
            mark: MarkFile::default(),
            marked: last,
            written: Written::default(),
        }
    }

    /// Last zxid on stable storage.
    pub fn last(&self) -> Zxid {
        self.last
    }

    pub fn dir(&self) -> &Path {
        &self.settings.dir
    }

    pub fn snapshot_dir(&self) -> &Path {
        &self.settings.snapshot_dir
    }

    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// The log's files end at `last` now, by other means than appending. No file is open.
    pub fn go_on_behind(&mut self, last: Zxid) {
        assert!(self.open.is_none(), "a file is open that may be gone");
        self.last = last;
        self.marked = last;
    }

    pub fn written(&self) -> Written {
        self.written
    }

    /// Logs and syncs all of `proposals`, in one batch per segment touched. Entries up to `last` are skipped, so that the
    /// same call can be made again after `NoSpace`. So is one with the zxid of the one before: an Apache leader gives it to
    /// the error txn of a request that it cannot decode, which changes nothing.
    pub fn append<'a>(&mut self, proposals: impl Iterator<Item = &'a Proposal>) -> Result<(), AppendError> {
        let (last, mut before) = (self.last, self.last);
        let mut entries = proposals
            .flat_map(Proposal::entries)
            .filter(|entry| {
                let zxid = entry_zxid(entry).expect("whoever hands an entry over has decoded its header");
                if zxid == before || (before == last && zxid < last) {
                    return false;
                }
                assert!(follows(before, zxid, entry), "log out of order: {zxid:?} after {before:?}");
                before = zxid;
                true
            })
            .peekable();
        while let Some(first) = entries.peek() {
            let bytes_least = (first.len() + RECORD_EXTRA_BYTES) as u64;
            let zxid_of = |entry: &[u8]| entry_zxid(entry).expect("asked before");
            let opens = opens_epoch(self.last, zxid_of(first));
            if opens && self.open.as_ref().is_some_and(|segment| segment.named.is_some()) {
                self.roll().map_err(AppendError::Failed)?;
            }
            let (id, mut end, room) = self.segment_for(bytes_least)?;
            self.batch.clear();
            let mut batch_last = self.last;
            while let Some(entry) = entries.next_if(|entry| {
                let has_room = end + (entry.len() + RECORD_EXTRA_BYTES) as u64 <= room;
                has_room && (self.batch.is_empty() || !opens_epoch(batch_last, zxid_of(entry)))
            }) {
                let proves_sync = self.settings.sync || end == FILE_HEADER_BYTES as u64;
                let begins_batch = self.batch.is_empty() && proves_sync;
                if opens && self.batch.is_empty() {
                    put_epoch_record(&mut self.batch, id, end, self.last, entry);
                } else {
                    put_record(&mut self.batch, id, end, begins_batch, entry);
                }
                batch_last = zxid_of(entry);
                end += (entry.len() + RECORD_EXTRA_BYTES) as u64;
                self.written.records += 1;
            }
            self.store_batch(batch_last).map_err(AppendError::Failed)?;
        }
        if let (Some(segment), Some(limit)) = (&self.open, self.settings.roll_bytes)
            && segment.end_bytes > limit
        {
            self.roll().map_err(AppendError::Failed)?;
        }
        Ok(())
    }

    /// Whether an append of `proposals` is one write into the open segment, past the page cache, and nothing else.
    pub fn has_room<'a>(&self, proposals: impl Iterator<Item = &'a Proposal>) -> bool {
        let Some(Segment { named: Some(_), way: Way::Direct(_), bytes, end_bytes, .. }) = self.open else {
            return false;
        };
        let mut more = 0;
        for proposal in proposals {
            // An epoch begins its own file.
            if proposal.last.epoch() != self.last.epoch() {
                return false;
            }
            more += proposal.entries().map(|entry| (entry.len() + RECORD_EXTRA_BYTES) as u64).sum::<u64>();
        }
        more <= bytes - end_bytes
    }

    /// The next append opens a new file.
    pub fn roll(&mut self) -> Result<(), LogFailure> {
        self.leave_segment()?;
        self.spares.note_open_bytes(0);
        Ok(())
    }

    fn leave_segment(&mut self) -> Result<(), LogFailure> {
        let Some(segment) = self.open.take() else { return Ok(()) };
        if self.settings.sync {
            return Ok(());
        }
        segment.file.sync_data().map_err(failure("syncing", &segment.path))
    }

    /// Whether the side mark lags behind the log.
    pub fn mark_is_stale(&self) -> bool {
        self.marked != self.last && self.open.is_some()
    }

    /// Writes the side mark. A mark that cannot be written for lack of space is left out.
    pub fn write_mark(&mut self) -> Result<(), LogFailure> {
        let Some(Segment { named: Some(segment), id, end_bytes, .. }) = self.open else { return Ok(()) };
        self.marked = self.last;
        if !self.settings.sync {
            return Ok(());
        }
        let mark = Mark { segment, id, end_bytes, last: self.last };
        match self.mark.write(&*self.disk, &self.settings.dir, &mark) {
            Err(error) if !crate::io::disk::is_full(&error) => {
                Err(failure("writing the side mark in", &self.settings.dir)(error))
            }
            _ => Ok(()),
        }
    }

    /// Writes the mark and gives the rest of the open segment back.
    pub fn close(&mut self) -> Result<(), LogFailure> {
        self.write_mark()?;
        let Some(mut segment) = self.open.take() else { return Ok(()) };
        segment.way = Way::Pwrite;
        // Everything up to here is synced; zeros behind it are worth nothing.
        let end = segment.end_bytes;
        segment.file.set_len(end).map_err(failure("cutting the unused rest of", &segment.path))?;
        segment.file.sync_data().map_err(failure("syncing", &segment.path))
    }

    /// File id, offset of the next record and length of a segment that has room for so much.
    fn segment_for(&mut self, bytes: u64) -> Result<(FileId, u64, u64), AppendError> {
        if self.open.as_ref().is_none_or(|segment| segment.bytes - segment.end_bytes < bytes) {
            self.leave_segment().map_err(AppendError::Failed)?;
            self.open = Some(self.next_segment(bytes + FILE_HEADER_BYTES as u64)?);
        }
        let segment = self.open.as_ref().expect("just opened");
        Ok((segment.id, segment.end_bytes, segment.bytes))
    }

    fn next_segment(&mut self, bytes_least: u64) -> Result<Segment, AppendError> {
        let spare = self.spares.take(bytes_least).map_err(|no| match no {
            NoSpare::Full => AppendError::NoSpace,
            NoSpare::Closed => AppendError::Closed,
            NoSpare::Failed { path, source } => {
                AppendError::Failed(LogFailure { doing: "preparing", path, source })
            }
        })?;
        let id = FileId(self.disk.fresh_id());
        let way = match (spare.direct, self.settings.method) {
            (Some(direct), _) => Way::Direct(direct),
            (None, Method::Direct | Method::Mapped) => Way::Mapped(
                spare.file.map().map_err(failure("mapping", &spare.path)).map_err(AppendError::Failed)?,
            ),
            (None, Method::Pwrite) => Way::Pwrite,
        };
        let mut segment = Segment {
            path: spare.path,
            file: spare.file,
            way,
            id,
            bytes: spare.bytes,
            end_bytes: 0,
            named: None,
        };
        segment.store_header(&file_header(id), &mut self.blocks).map_err(AppendError::Failed)?;
        segment.end_bytes = FILE_HEADER_BYTES as u64;
        Ok(segment)
    }

    /// Stores and syncs `batch` and names the segment if it is new. On return `batch_last` is durable.
    fn store_batch(&mut self, batch_last: Zxid) -> Result<(), LogFailure> {
        let segment = self.open.as_mut().expect("a batch is encoded for an open segment");
        let durable = segment.store_batch(&self.batch, &mut self.blocks)?;
        if !durable && (self.settings.sync || segment.named.is_none()) {
            segment.file.sync_data().map_err(failure("syncing", &segment.path))?;
        }
        self.written.syncs += u64::from(self.settings.sync || segment.named.is_none());
        if segment.named.is_none() {
            let first = self.batch.get(12..).and_then(entry_zxid).expect("a batch has a record");
            let path = self.settings.dir.join(log_name(first));
            name_segment(&*self.disk, &self.settings.dir, &segment.path, &path)?;
            tracing::info!(
                bytes = segment.bytes,
                "log rolled: txns from {first} on go to {}",
                path.display()
            );
            segment.path = path;
            segment.named = Some(first);
            self.written.segments += 1;
        }
        segment.end_bytes += self.batch.len() as u64;
        self.written.bytes += self.batch.len() as u64;
        self.last = batch_last;
        self.spares.note_open_bytes(segment.bytes - segment.end_bytes);
        Ok(())
    }
}

fn name_segment(disk: &dyn Disk, dir: &Path, from: &Path, to: &Path) -> Result<(), LogFailure> {
    // Recovery leaves no file that begins behind the last zxid; replacing one would lose what it holds.
    if disk.exists(to).map_err(failure("looking for", to))? {
        let source = io::Error::new(io::ErrorKind::AlreadyExists, "a log file of this name exists already");
        return Err(failure("naming", to)(source));
    }
    disk.rename(from, to).map_err(failure("naming", to))?;
    disk.sync_dir(dir).map_err(failure("syncing the directory", dir))
}

impl Segment {
    /// The first bytes of the file. Past the page cache they go with the first batch.
    fn store_header(&mut self, header: &[u8], blocks: &mut Option<Blocks>) -> Result<(), LogFailure> {
        if !matches!(self.way, Way::Direct(_)) {
            return self.store(0, header);
        }
        let begun = match blocks {
            Some(blocks) => blocks.begin(header),
            None => Blocks::new().and_then(|made| blocks.insert(made).begin(header)),
        };
        begun.map_err(failure("buffering for", &self.path))
    }

    fn store(&mut self, at: u64, bytes: &[u8]) -> Result<(), LogFailure> {
        match &mut self.way {
            Way::Mapped(mapping) => mapping.store(at, bytes),
            _ => self.file.write_at(bytes, at).map_err(failure("writing", &self.path))?,
        }
        Ok(())
    }

    /// True: it is durable already.
    fn store_batch(&mut self, batch: &[u8], blocks: &mut Option<Blocks>) -> Result<bool, LogFailure> {
        if let (Way::Direct(file), Some(blocks)) = (&self.way, blocks) {
            blocks.push(batch).map_err(failure("buffering for", &self.path))?;
            let (bytes, at) = blocks.blocks();
            file.write_blocks(bytes, at).map_err(failure("writing and syncing", &self.path))?;
            blocks.written();
            return Ok(true);
        }
        self.store_in_order(batch)?;
        Ok(false)
    }

    /// Such that a kill leaves the whole batch or what looks like the end.
    fn store_in_order(&mut self, batch: &[u8]) -> Result<(), LogFailure> {
        let at = self.end_bytes;
        let (checksum, rest) = batch.split_at(8);
        let (length, bodies) = rest.split_at(4);
        let page = |at: u64| at / 4096;
        // One pwrite within a page is not cut by a kill; a longer one may be, between pages.
        if !matches!(self.way, Way::Mapped(_)) && page(at) == page(at + batch.len() as u64 - 1) {
            return self.store(at, batch);
        }
        self.store(at + 12, bodies)?;
        self.store(at, checksum)?;
        self.store(at + 8, length)
    }
}

fn failure(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogFailure {
    let path = path.to_path_buf();
    move |source| LogFailure { doing, path, source }
}

/// Makes the log's directory and says where a mark of it would lie; for whoever starts a writer.
pub fn open_dir(disk: &dyn Disk, dir: &Path) -> Result<Option<Mark>, LogFailure> {
    disk.create_dir(dir).map_err(failure("making", dir))?;
    mark::read(disk, dir).map_err(failure("reading the side mark in", dir))
}
