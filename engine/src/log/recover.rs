//! Replaying the log behind a snapshot: every record in order to a callback, and a verdict on everything that is not a
//! record. Nothing that was reported durable is dropped silently; nothing that a torn write explains keeps a server from
//! starting.
//! Not here: entries' meaning, snapshots, the writer.
//!
//! Torn or damaged? A batch is stored only after the sync of the one before it returned, and a file gets its name only
//! after its first batch was synced. So a bad record had been synced, and is damage, when behind it stand
//! - a valid first record of a batch in the same file (any valid record in Apache's files, which mark no batches),
//! - a valid record in a later file, unless that one continues without a gap what was good here (an Apache server leaves
//!   torn bytes behind and goes on in a new file),
//! - or the side mark, for the very last batch; and always when it is the first record of a file of ours.
//!
//! Whole? Within an epoch each zxid is the last one plus 1. Where an epoch begins, our own first record of it says behind
//! which zxid it was written. Apache's says nothing: where an ensemble may have written, any end of the epoch before is
//! taken, as Apache does; elsewhere only the counter's wrap is.
//!
//! Otherwise it is torn: cut there, say so, remove later files that hold nothing, sync. A file with a name that the log will
//! want is given the name of its first record.

use super::mark::{self, Mark};
use super::record::{
    At, FILE_HEADER_BYTES, Origin, Problem, Record, follows, is_undecodable_request, opens_epoch, origin,
    record_at,
};
use super::scan::{find_record, is_zero, plausible};
use super::segments::{LogFile, log_files, log_name};
use crate::io::disk::{Contents, Disk, Open};
use ostler_replication::Zxid;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Takes one entry without its trailer; an error is a reason to refuse it, in words.
pub type Apply<'a> = dyn FnMut(Zxid, &[u8]) -> Result<(), String> + 'a;

/// Takes one record of the file at a path; an error ends the reading.
pub(super) type Take<'a> = dyn FnMut(&Path, &Record<'_>) -> Result<(), RecoverError> + 'a;

/// What recovery may do besides reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecoverSettings {
    /// Sync what lies there, cut a torn tail and remove log files that hold no record. False, for tools: change nothing and
    /// only say what would be done.
    pub repair: bool,
    /// No ensemble has written here: an epoch ends when its counter is spent, and at no other txn.
    pub alone: bool,
    /// Read no further than this: what stands behind it is neither judged nor repaired.
    pub until: Option<Zxid>,
}

/// Where what was read ends, in the last file of which anything was wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEnd {
    pub segment: PathBuf,
    pub offset_bytes: u64,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// Last zxid of the log, or the base when nothing follows it.
    pub last: Zxid,
    /// Records handed to the callback, and the bytes of their entries.
    pub records: u64,
    pub bytes: u64,
    /// `None`: there is no log file that could hold any.
    pub end: Option<LogEnd>,
    /// The torn tail that was cut (or would be).
    pub cut: Option<Cut>,
    /// Log files without a record that were removed (or would be).
    pub removed: Vec<PathBuf>,
    /// Log files whose name promised a later txn than any there is, and what they are called by their first record now (or
    /// would be).
    pub renamed: Vec<(PathBuf, PathBuf)>,
    /// Sentences for the server's log.
    pub notes: Vec<String>,
}

/// A torn tail: these bytes were never reported durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    pub segment: PathBuf,
    pub offset_bytes: u64,
    pub problem: Problem,
}

/// What proves that a bad record had been synced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Proof {
    /// A valid record that can only have been written later.
    LaterRecord {
        offset_bytes: u64,
        zxid: Zxid,
    },
    LaterFile {
        segment: PathBuf,
        zxid: Zxid,
    },
    /// The side mark says that the segment was synced up to there.
    Mark {
        end_bytes: u64,
        last: Zxid,
    },
    /// A file gets its name only after its header and first batch were synced.
    Named,
}

/// Why the log cannot be replayed. Nothing was cut or removed.
#[derive(Debug)]
pub enum RecoverError {
    /// Damage, not a torn tail.
    Corrupt {
        segment: PathBuf,
        offset_bytes: u64,
        last_good: Zxid,
        problem: Problem,
        proof: Proof,
    },
    /// Txns are missing between two readable records, or between the snapshot and the log.
    Gap {
        segment: PathBuf,
        offset_bytes: u64,
        last_good: Zxid,
        found: Zxid,
    },
    /// The callback refused an entry whose checksums are right.
    Refused {
        segment: PathBuf,
        offset_bytes: u64,
        zxid: Zxid,
        reason: String,
    },
    /// The next log file would have this one's name.
    InTheWay {
        segment: PathBuf,
        /// Of the first record, when it is a log file: then the name that it ought to have is taken, too.
        first: Option<Zxid>,
    },
    Io {
        segment: PathBuf,
        source: io::Error,
    },
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoverError::Corrupt { segment, offset_bytes, last_good, problem, proof } => {
                write!(f, "log {} is damaged at offset {offset_bytes}: {problem}; ", segment.display())?;
                match proof {
                    Proof::LaterRecord { offset_bytes, zxid } => {
                        write!(f, "txn {zxid} at offset {offset_bytes} behind it is whole")?
                    }
                    Proof::LaterFile { segment, zxid } => {
                        write!(f, "txn {zxid} in the later {} is whole", segment.display())?
                    }
                    Proof::Mark { end_bytes, last } => {
                        write!(f, "the file had been synced up to offset {end_bytes}, txn {last}")?
                    }
                    Proof::Named => write!(f, "a log file gets its name only once this was on disk")?,
                }
                write!(
                    f,
                    ", so acknowledged txns are lost, not a torn write. Last good txn: {last_good}. Put back this file from \
                     a copy; or, with other servers in the ensemble, move the data directory away and let this server \
                     fetch everything from them; or give up what follows: {}",
                    GiveUp(segment, *last_good)
                )
            }
            RecoverError::Gap { segment, offset_bytes, last_good, found } if found <= last_good => write!(
                f,
                "log {} goes back to txn {found} at offset {offset_bytes}, after {last_good}. A log file lies there under a \
                 second name, or files of two servers are mixed; move away what does not belong there",
                segment.display()
            ),
            RecoverError::Gap { segment, offset_bytes, last_good, found } => write!(
                f,
                "txns are missing: log {} goes on with {found} at offset {offset_bytes}, but the last one before it is \
                 {last_good}{}. A log file or a snapshot has been removed; put it back, or, with other servers in the \
                 ensemble, move the data directory away and let this server fetch everything from them; or give up what \
                 follows: {}",
                segment.display(),
                match found.epoch() == last_good.epoch() {
                    true => "",
                    false =>
                        ", which is not where that epoch ended (only an ensemble ends one before its counter is spent: if \
                         these are the files of a server of one, its acceptedEpoch and currentEpoch belong beside the \
                         snapshots)",
                },
                GiveUp(segment, *last_good)
            ),
            RecoverError::Refused { segment, offset_bytes, zxid, reason } => write!(
                f,
                "log {} holds txn {zxid} at offset {offset_bytes} with correct checksums, but it cannot be applied: \
                 {reason}. See it with `ostler log dump`; a newer release may have written it",
                segment.display()
            ),
            RecoverError::InTheWay { segment, first: Some(first) } => write!(
                f,
                "log {} is in the way of one that has yet to be written: its name says that it begins with a later txn than \
                 any there is, but it begins with {first}, and {} is there as well. See by `ostler log dump` what both \
                 hold, and move away what does not belong there",
                segment.display(),
                log_name(*first)
            ),
            RecoverError::InTheWay { segment, first: None } => write!(
                f,
                "{} is no log file, and in the way of the next one, which will be called so. Move it away",
                segment.display()
            ),
            RecoverError::Io { segment, source } => {
                write!(
                    f,
                    "log {} cannot be read or repaired: {source}. Check the disk and the permissions",
                    segment.display()
                )
            }
        }
    }
}

/// The command that ends the log of a file's directory with a txn.
struct GiveUp<'a>(&'a Path, Zxid);

impl fmt::Display for GiveUp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GiveUp(segment, last) = self;
        let dir = segment.parent().unwrap_or(segment);
        write!(f, "ostler log recover --give-up-after {last} {}", dir.display())
    }
}

impl std::error::Error for RecoverError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RecoverError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Replays every record behind `base`, the zxid of the snapshot that was loaded, in zxid order. `apply` gets each entry
/// without its trailer; its error stops the replay.
pub fn recover(
    disk: &dyn Disk,
    dir: &Path,
    base: Zxid,
    settings: RecoverSettings,
    apply: &mut Apply<'_>,
) -> Result<Recovered, RecoverError> {
    let mut take = |segment: &Path, record: &Record<'_>| {
        let applied = apply(record.zxid, record.entry);
        applied.map_err(|reason| refused(segment, record.offset_bytes, record.zxid, reason))
    };
    let recovered = read(disk, dir, base, settings, &mut take)?;
    if settings.repair {
        repair(disk, dir, &recovered)?;
    }
    Ok(recovered)
}

pub(super) fn refused(segment: &Path, offset_bytes: u64, zxid: Zxid, reason: String) -> RecoverError {
    RecoverError::Refused { segment: segment.to_path_buf(), offset_bytes, zxid, reason }
}

/// Reads and judges all of it, and leaves `repair` to be done once what was read has been applied.
pub(super) fn read(
    disk: &dyn Disk,
    dir: &Path,
    base: Zxid,
    settings: RecoverSettings,
    take: &mut Take<'_>,
) -> Result<Recovered, RecoverError> {
    let io_at = |segment: &Path| {
        let segment = segment.to_path_buf();
        move |source| RecoverError::Io { segment, source }
    };
    let mut files = log_files(disk, dir).map_err(io_at(dir))?;
    let earlier: Vec<LogFile> = files.drain(..first_file(disk, &files, base)?).collect();
    if settings.repair {
        settle(disk, dir, &files)?;
    }
    let mark = mark::read(disk, dir).map_err(io_at(dir))?;
    assert!(settings.until.is_none() || !settings.repair, "what was not read cannot be repaired");
    let mut replay = Replay {
        base,
        until: settings.until,
        passed: false,
        alone: settings.alone,
        last: base,
        seen: Zxid::ZERO,
        records: 0,
        bytes: 0,
        notes: Vec::new(),
        take,
    };
    let mut end: Option<End> = None;
    let mut blank: Vec<&LogFile> = Vec::new();
    let mut begun: Vec<(&LogFile, Zxid)> = Vec::new();
    let mut ahead: Option<Contents> = None;
    for (index, file) in files.iter().enumerate() {
        if replay.is_done() && (end.is_some() || Some(file.first) > settings.until) {
            break;
        }
        let contents = match ahead.take() {
            Some(contents) => contents,
            None => load(disk, file)?,
        };
        // The kernel reads the next file while this one is replayed.
        ahead = files.get(index + 1).map(|file| load(disk, file)).transpose()?;
        replay.seen = Zxid::ZERO;
        let origin = match begin(file, &contents, &replay)? {
            Begin::Blank => {
                blank.push(file);
                continue;
            }
            Begin::Records(origin, first) => {
                if let Some(end) = &end
                    && !replay.continues(&first)
                {
                    return Err(end.broken_before(file, &first, &replay));
                }
                begun.push((file, first.zxid));
                origin
            }
        };
        if let Some(torn) = end.take() {
            torn.note_if_torn(&mut replay.notes);
            replay.notes.extend(blank.drain(..).map(|file| format!("{} holds no txn", file.path.display())));
        }
        let (offset_bytes, problem) = replay.file(file, &contents, origin)?;
        end = Some(End { file, contents, origin, offset_bytes, problem });
        if replay.passed {
            break;
        }
    }
    let log_end =
        end.as_ref().map(|end| LogEnd { segment: end.file.path.clone(), offset_bytes: end.offset_bytes });
    if replay.is_done() || replay.passed {
        return Ok(Recovered {
            last: replay.last,
            records: replay.records,
            bytes: replay.bytes,
            end: log_end,
            cut: None,
            removed: Vec::new(),
            renamed: Vec::new(),
            notes: replay.notes,
        });
    }
    let cut = match &end {
        Some(end) => end.judge(mark.as_ref(), &mut replay)?,
        None => None,
    };
    if let Some(mark) = &mark
        && mark.last > replay.last
        && let Some(zeroed) =
            blank.iter().find(|file| file.first == mark.segment && file.bytes >= mark.end_bytes)
    {
        return Err(RecoverError::Corrupt {
            segment: zeroed.path.clone(),
            offset_bytes: 0,
            last_good: replay.last,
            problem: Problem::Hole,
            proof: Proof::Mark { end_bytes: mark.end_bytes, last: mark.last },
        });
    }
    if let Some(mark) = mark
        && mark.last > replay.last
        && !files.iter().any(|file| file.first == mark.segment)
    {
        replay.notes.push(format!(
            "the log had been synced up to {} in {}, which is gone; txns behind {} are missing unless it was removed on \
             purpose",
            mark.last,
            mark.segment_name(),
            replay.last
        ));
    }
    let removed: Vec<PathBuf> = blank.iter().map(|file| file.path.clone()).collect();
    let others = earlier.iter().chain(begun.iter().map(|(file, _)| *file));
    let renamed = misnamed(dir, replay.last, &begun, &others.map(|file| &*file.path).collect::<Vec<_>>())?;
    let next = dir.join(log_name(Zxid(replay.last.0.saturating_add(1))));
    let is_known =
        |path: &Path| removed.iter().chain(renamed.iter().map(|(from, _)| from)).any(|it| it == path);
    if !is_known(&next) && disk.exists(&next).map_err(io_at(&next))? {
        return Err(RecoverError::InTheWay { segment: next, first: None });
    }
    // Unmaps the files: one of them may be cut.
    drop(end);
    drop(ahead);
    let mut recovered = Recovered {
        last: replay.last,
        records: replay.records,
        bytes: replay.bytes,
        end: log_end,
        cut,
        removed,
        renamed,
        notes: replay.notes,
    };
    recovered.say(settings.repair);
    Ok(recovered)
}

/// Where recovery from `base` begins: the file that may hold base + 1.
///
/// An Apache server logs a request that it cannot decode under the zxid before. Where it began a new file between the two,
/// that file's name promises a txn that stands at the end of the one before it. Apache loses that txn, if the snapshot at
/// which it began the file was taken before the txn was applied.
fn first_file(disk: &dyn Disk, files: &[LogFile], base: Zxid) -> Result<usize, RecoverError> {
    let next = Zxid(base.0.saturating_add(1));
    let first = files.iter().rposition(|file| file.first <= next).unwrap_or(0);
    if first == 0 || files[first].first != next {
        return Ok(first);
    }
    let contents = load(disk, &files[first])?;
    let Ok(Origin::Apache) = origin(&contents) else { return Ok(first) };
    match record_at(&contents, FILE_HEADER_BYTES as u64, Origin::Apache) {
        At::Record(record) if is_undecodable_request(record.entry) => Ok(first - 1),
        _ => Ok(first),
    }
}

/// Log files whose name promises a txn behind `last`, with the path that they are to have. The log will come to want such a
/// name: Apache cuts the file that has it to nothing, and loses what no snapshot holds.
fn misnamed(
    dir: &Path,
    last: Zxid,
    begun: &[(&LogFile, Zxid)],
    others: &[&Path],
) -> Result<Vec<(PathBuf, PathBuf)>, RecoverError> {
    let mut renamed: Vec<(PathBuf, PathBuf)> = Vec::new();
    for (file, first) in begun.iter().filter(|(file, _)| file.first > last) {
        let to = dir.join(log_name(*first));
        if others.contains(&&*to) || renamed.iter().any(|(_, taken)| *taken == to) {
            return Err(RecoverError::InTheWay { segment: file.path.clone(), first: Some(*first) });
        }
        renamed.push((file.path.clone(), to));
    }
    Ok(renamed)
}

fn load(disk: &dyn Disk, file: &LogFile) -> Result<Contents, RecoverError> {
    let opened = disk.open(&file.path, Open::Read).and_then(|opened| opened.contents());
    opened.map_err(|source| RecoverError::Io { segment: file.path.clone(), source })
}

/// Whether any log file holds a record: with no snapshot beside it, starting from nothing would lose it.
pub fn has_records(disk: &dyn Disk, dir: &Path) -> io::Result<bool> {
    for file in log_files(disk, dir)? {
        let contents = disk.open(&file.path, Open::Read)?.contents()?;
        let found = match origin(&contents) {
            Ok(origin) => find_record(&contents, FILE_HEADER_BYTES as u64, origin, |_| true).is_some(),
            // Unreadable is not empty.
            Err(_) => !is_zero(&contents),
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

enum Begin<'a> {
    /// Nothing was ever acknowledged in this file.
    Blank,
    Records(Origin, Record<'a>),
}

/// Looks at a file's header and first record.
fn begin<'a>(
    file: &LogFile,
    contents: &'a Contents,
    replay: &Replay<'_, '_>,
) -> Result<Begin<'a>, RecoverError> {
    let corrupt = |offset_bytes, problem, proof| RecoverError::Corrupt {
        segment: file.path.clone(),
        offset_bytes,
        last_good: replay.last,
        problem,
        proof,
    };
    let origin = match origin(contents) {
        Ok(origin) => origin,
        // An Apache server that lost power before its first sync of a file leaves no header, or zeros.
        Err(Problem::HeaderShort) => return Ok(Begin::Blank),
        Err(_) if is_zero(contents) => return Ok(Begin::Blank),
        Err(problem) => return Err(corrupt(0, problem, Proof::Named)),
    };
    let start = FILE_HEADER_BYTES as u64;
    let problem = match record_at(contents, start, origin) {
        At::Record(record) => return Ok(Begin::Records(origin, record)),
        At::End => Problem::Hole,
        At::Bad(problem) => problem,
    };
    if let Some(resumes) = replay.behind_old_damage(contents, start, origin)
        && let At::Record(record) = record_at(contents, resumes, origin)
    {
        return Ok(Begin::Records(origin, record));
    }
    let later = find_record(contents, start, origin, |record| plausible(replay.last, record, contents));
    match (origin, later) {
        (Origin::Ostler(_), _) => Err(corrupt(start, problem, Proof::Named)),
        (Origin::Apache, None) => Ok(Begin::Blank),
        (Origin::Apache, Some(later)) => {
            let proof = Proof::LaterRecord { offset_bytes: later.offset_bytes, zxid: later.zxid };
            Err(corrupt(start, problem, proof))
        }
    }
}

struct Replay<'a, 'b> {
    base: Zxid,
    until: Option<Zxid>,
    /// A record behind `until` was met.
    passed: bool,
    alone: bool,
    /// Last zxid known to be whole, at least the base.
    last: Zxid,
    /// Last zxid read in this file, the base or not.
    seen: Zxid,
    records: u64,
    bytes: u64,
    notes: Vec<String>,
    take: &'a mut Take<'b>,
}

impl Replay<'_, '_> {
    fn continues(&self, record: &Record<'_>) -> bool {
        record.zxid <= self.base || self.follows(record)
    }

    /// Whether the record may stand behind the last one. The same zxid twice is an Apache leader's way with requests that it
    /// cannot decode.
    fn follows(&self, record: &Record<'_>) -> bool {
        let (last, zxid) = (self.last, record.zxid);
        if zxid == last {
            return is_undecodable_request(record.entry);
        }
        let is_whole = !opens_epoch(last, zxid)
            || match record.behind {
                Some(behind) => behind.is(last),
                None => !self.alone || (last.counter() == u32::MAX && zxid.epoch().0 == last.epoch().0 + 1),
            };
        follows(last, zxid, record.entry) && is_whole
    }

    /// Replays one file; where and why its records end (`None`: zeros, or the end of the file).
    fn file(
        &mut self,
        file: &LogFile,
        contents: &[u8],
        origin: Origin,
    ) -> Result<(u64, Option<Problem>), RecoverError> {
        let mut offset_bytes = FILE_HEADER_BYTES as u64;
        loop {
            let problem = match record_at(contents, offset_bytes, origin) {
                At::Record(record) => {
                    self.record(file, &record)?;
                    if self.passed {
                        return Ok((offset_bytes, None));
                    }
                    offset_bytes = record.next_bytes;
                    continue;
                }
                At::End => None,
                At::Bad(problem) => Some(problem),
            };
            // Damage among txns that the snapshot holds does not keep us from starting.
            match self.behind_old_damage(contents, offset_bytes, origin) {
                Some(resumes) => {
                    self.notes.push(format!(
                        "log {} is unreadable from offset {offset_bytes} to {resumes}; the snapshot at {} holds those txns",
                        file.path.display(),
                        self.base
                    ));
                    offset_bytes = resumes;
                }
                None => return Ok((offset_bytes, problem)),
            }
        }
    }

    fn record(&mut self, file: &LogFile, record: &Record<'_>) -> Result<(), RecoverError> {
        self.seen = record.zxid;
        if record.zxid <= self.base && self.last == self.base {
            return Ok(());
        }
        if self.is_done() && record.zxid > self.last {
            self.passed = true;
            return Ok(());
        }
        if !self.follows(record) {
            return Err(RecoverError::Gap {
                segment: file.path.clone(),
                offset_bytes: record.offset_bytes,
                last_good: self.last,
                found: record.zxid,
            });
        }
        if Some(record.zxid) > self.until && self.until.is_some() {
            self.passed = true;
            return Ok(());
        }
        (self.take)(&file.path, record)?;
        self.last = record.zxid;
        self.records += 1;
        self.bytes += record.entry.len() as u64;
        Ok(())
    }

    /// Everything that was asked for has been read.
    fn is_done(&self) -> bool {
        Some(self.last) == self.until
    }

    fn behind_old_damage(&self, contents: &[u8], offset_bytes: u64, origin: Origin) -> Option<u64> {
        if self.seen >= self.base || self.last != self.base {
            return None;
        }
        // Up to base + 1 only: of a later one nobody can say what stood before it.
        let wanted = |record: &Record<'_>| {
            plausible(self.seen, record, contents) && record.zxid.0 <= self.base.0.saturating_add(1)
        };
        find_record(contents, offset_bytes, origin, wanted).map(|record| record.offset_bytes)
    }
}

/// Where the records of the last readable file end.
struct End<'a> {
    file: &'a LogFile,
    contents: Contents,
    origin: Origin,
    offset_bytes: u64,
    problem: Option<Problem>,
}

impl End<'_> {
    /// The first record of a later file does not continue here.
    fn broken_before(&self, later: &LogFile, first: &Record<'_>, replay: &Replay<'_, '_>) -> RecoverError {
        match self.problem {
            Some(problem) => RecoverError::Corrupt {
                segment: self.file.path.clone(),
                offset_bytes: self.offset_bytes,
                last_good: replay.last,
                problem,
                proof: Proof::LaterFile { segment: later.path.clone(), zxid: first.zxid },
            },
            None => RecoverError::Gap {
                segment: later.path.clone(),
                offset_bytes: first.offset_bytes,
                last_good: replay.last,
                found: first.zxid,
            },
        }
    }

    fn note_if_torn(&self, notes: &mut Vec<String>) {
        if let Some(problem) = self.problem {
            notes.push(format!(
                "log {} ends torn at offset {} ({problem}); the next file goes on without a gap",
                self.file.path.display(),
                self.offset_bytes
            ));
        }
    }

    /// Nothing follows this file: its end is clean, torn or damaged.
    fn judge(&self, mark: Option<&Mark>, replay: &mut Replay<'_, '_>) -> Result<Option<Cut>, RecoverError> {
        let rest = &self.contents[self.offset_bytes as usize..];
        let proof = self.later_record(replay).or_else(|| self.marked(mark));
        let problem = self.problem.unwrap_or(Problem::Hole);
        if let Some(proof) = proof {
            return Err(RecoverError::Corrupt {
                segment: self.file.path.clone(),
                offset_bytes: self.offset_bytes,
                last_good: replay.last.max(replay.seen),
                problem,
                proof,
            });
        }
        if is_zero(rest) {
            return Ok(None);
        }
        Ok(Some(Cut { segment: self.file.path.clone(), offset_bytes: self.offset_bytes, problem }))
    }

    fn later_record(&self, replay: &Replay<'_, '_>) -> Option<Proof> {
        let wanted = |record: &Record<'_>| match self.origin {
            Origin::Ostler(_) => record.begins_batch,
            Origin::Apache => plausible(replay.last.max(replay.seen), record, &self.contents),
        };
        let later = find_record(&self.contents, self.offset_bytes, self.origin, wanted)?;
        Some(Proof::LaterRecord { offset_bytes: later.offset_bytes, zxid: later.zxid })
    }

    fn marked(&self, mark: Option<&Mark>) -> Option<Proof> {
        let mark = mark?;
        let ours = self.origin == Origin::Ostler(mark.id) && self.file.first == mark.segment;
        // A file shorter than its mark was cut on purpose: a torn write never shortens a segment.
        let whole = self.contents.len() as u64 >= mark.end_bytes;
        let behind = self.offset_bytes < mark.end_bytes;
        (ours && whole && behind).then_some(Proof::Mark { end_bytes: mark.end_bytes, last: mark.last })
    }
}

impl Recovered {
    fn say(&mut self, repaired: bool) {
        let tense = |done: &'static str, open: &'static str| if repaired { done } else { open };
        if let Some(Cut { segment, offset_bytes, problem }) = &self.cut {
            self.notes.push(format!(
                "log {} ends in a torn write at offset {offset_bytes} ({problem}), never acknowledged; {}. Last txn: {}",
                segment.display(),
                tense("cut there", "it would be cut there"),
                self.last
            ));
        }
        for path in &self.removed {
            let done = tense("removed", "it would be removed");
            self.notes.push(format!("log {} holds no txn; {done}", path.display()));
        }
        for (from, to) in &self.renamed {
            let done = tense("renamed", "it would be renamed");
            let (from, to) = (from.display(), to.display());
            self.notes.push(format!("log {from} does not begin with the txn in its name; {done} to {to}"));
        }
    }
}

/// Makes what lies there durable before it is read and built upon.
///
/// A killed process may have left a batch, or a name, in the page cache only: a power cut later would take it from under
/// what follows. And a sync that failed leaves pages that are clean, readable and not on disk; only its last file can have
/// such, so that one is read from the disk itself.
fn settle(disk: &dyn Disk, dir: &Path, files: &[LogFile]) -> Result<(), RecoverError> {
    if files.is_empty() {
        return Ok(());
    }
    let failed = |segment: &Path, source| RecoverError::Io { segment: segment.to_path_buf(), source };
    disk.sync_dir(dir).map_err(|source| failed(dir, source))?;
    for (index, file) in files.iter().enumerate() {
        let opened = disk.open(&file.path, Open::Write).map_err(|source| failed(&file.path, source))?;
        opened.sync_data().map_err(|source| failed(&file.path, source))?;
        if index + LAST_FILES >= files.len() {
            opened.forget_cached();
        }
    }
    Ok(())
}

/// The last file with records, and one behind it that an Apache server began.
const LAST_FILES: usize = 2;

/// Every crash point leaves what a repeated recovery judges the same.
pub(super) fn repair(disk: &dyn Disk, dir: &Path, recovered: &Recovered) -> Result<(), RecoverError> {
    let failed = |segment: &Path, source| RecoverError::Io { segment: segment.to_path_buf(), source };
    for path in recovered.removed.iter().rev() {
        disk.unlink(path).and_then(|()| disk.sync_dir(dir)).map_err(|source| failed(path, source))?;
    }
    if let Some(Cut { segment, offset_bytes, .. }) = &recovered.cut {
        let cut = || {
            let file = disk.open(segment, Open::Write)?;
            file.set_len(*offset_bytes)?;
            file.sync_data()
        };
        cut().map_err(|source| failed(segment, source))?;
    }
    for (from, to) in &recovered.renamed {
        disk.rename(from, to).and_then(|()| disk.sync_dir(dir)).map_err(|source| failed(from, source))?;
    }
    Ok(())
}
