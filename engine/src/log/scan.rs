//! Walking over a log file's bytes: every record in order, every problem with its offset, and the next valid record
//! behind a problem. For recovery, and for the offline tools.
//! Not here: what a problem means, several files, files on disk.

use super::record::{At, FILE_HEADER_BYTES, Origin, Problem, Record, origin, record_at};
use ostler_replication::Zxid;

/// Least record: header, txn header, end byte.
const RECORD_BYTES_LEAST: usize = 45;
/// Zeros are skipped in steps of this size.
const ZERO_STEP: usize = 4096;
/// More than the zeros a record can begin with.
const ZERO_OVERLAP: usize = 16;

/// One thing found in a log file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found<'a> {
    Record(Record<'a>),
    /// Something unreadable. When `resumes_bytes` is `Some`, a valid record follows there, so what lies between is
    /// damage or a torn batch with later ones behind it; otherwise nothing readable follows in this file.
    Problem {
        offset_bytes: u64,
        problem: Problem,
        resumes_bytes: Option<u64>,
    },
}

/// All that is in a log file, in order. After the last item the rest of the file is zeros, or unreadable as reported.
pub struct Scan<'a> {
    file: &'a [u8],
    origin: Option<Origin>,
    next_bytes: u64,
    last: Zxid,
    done: bool,
}

/// Iterates over a whole log file, its header included.
pub fn scan(file: &[u8]) -> Scan<'_> {
    Scan {
        file,
        origin: origin(file).ok(),
        next_bytes: FILE_HEADER_BYTES as u64,
        last: Zxid::ZERO,
        done: false,
    }
}

impl Scan<'_> {
    /// Who wrote the file; `None` when the header does not tell (the only item is then that problem).
    pub fn origin(&self) -> Option<Origin> {
        self.origin
    }

    /// Where the next record is looked for: behind the last item.
    pub fn offset_bytes(&self) -> u64 {
        self.next_bytes
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        if self.done {
            return None;
        }
        let Some(origin) = self.origin else {
            self.done = true;
            let problem = origin(self.file).err()?;
            return Some(Found::Problem { offset_bytes: 0, problem, resumes_bytes: None });
        };
        let offset_bytes = self.next_bytes;
        let problem = match record_at(self.file, offset_bytes, origin) {
            At::Record(record) => {
                self.next_bytes = record.next_bytes;
                self.last = record.zxid;
                return Some(Found::Record(record));
            }
            At::End => Problem::Hole,
            At::Bad(problem) => problem,
        };
        let resumes =
            find_record(self.file, offset_bytes, origin, |record| plausible(self.last, record, self.file));
        match resumes {
            Some(record) => self.next_bytes = record.offset_bytes,
            None => self.done = true,
        }
        // Zeros up to the end are no problem.
        if resumes.is_none() && problem == Problem::Hole {
            return None;
        }
        let resumes_bytes = resumes.map(|record| record.offset_bytes);
        Some(Found::Problem { offset_bytes, problem, resumes_bytes })
    }
}

/// The first valid record at or behind `from` that `wanted` accepts.
///
/// Where records begin is not known behind a bad one, so each offset is tried: its length must lead to a trailer and an
/// end byte, and all checks must hold.
pub fn find_record(
    file: &[u8],
    from: u64,
    origin: Origin,
    wanted: impl Fn(&Record<'_>) -> bool,
) -> Option<Record<'_>> {
    let mut at = usize::try_from(from).ok()?;
    while at + RECORD_BYTES_LEAST <= file.len() {
        if at.is_multiple_of(ZERO_STEP) && is_zero(&file[at..file.len().min(at + ZERO_STEP)]) {
            // A record may begin in the last bytes of the zeros: its checksum's upper half is zero.
            at += ZERO_STEP - ZERO_OVERLAP;
            for near in at..at + ZERO_OVERLAP {
                if let Some(record) = accepted(file, near, origin, &wanted) {
                    return Some(record);
                }
            }
            at += ZERO_OVERLAP;
            continue;
        }
        if let Some(record) = accepted(file, at, origin, &wanted) {
            return Some(record);
        }
        at += 1;
    }
    None
}

fn accepted<'a>(
    file: &'a [u8],
    at: usize,
    origin: Origin,
    wanted: &impl Fn(&Record<'_>) -> bool,
) -> Option<Record<'a>> {
    // The upper half of the checksum is zero in every record and the length is not; cheap to ask first.
    let header = file.get(at..at + 12)?;
    if header[..4] != [0; 4] || header[8..12] == [0; 4] {
        return None;
    }
    match record_at(file, at as u64, origin) {
        At::Record(record) if wanted(&record) => Some(record),
        _ => None,
    }
}

/// Whether `record` can be a later record of the same history: keeps values that happen to look like a record of an
/// Apache file, where no id tells, from being taken for one.
pub(super) fn plausible(last: Zxid, record: &Record<'_>, file: &[u8]) -> bool {
    let records_most = (file.len() / RECORD_BYTES_LEAST) as u64;
    let zxid = record.zxid;
    if last == Zxid::ZERO {
        return true;
    }
    if zxid.epoch() == last.epoch() {
        return zxid > last && zxid.0 - last.0 <= records_most;
    }
    zxid.epoch() > last.epoch() && u64::from(zxid.counter()) <= records_most
}

/// Whether all bytes are zero.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    chunks.iter().all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
        && rest.iter().all(|byte| *byte == 0)
}
