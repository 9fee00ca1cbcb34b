//! One record of a log file, and the file's header: bytes ↔ values (FORMAT.md).
//! Not here: files, order of writing, what a bad record means (`recover` decides).

use ostler_replication::Zxid;
use std::fmt;

pub const FILE_HEADER_BYTES: usize = 16;
/// Checksum and length.
pub const RECORD_HEADER_BYTES: usize = 12;
pub use crate::limits::TRAILER_BYTES;
/// What a record costs beyond its entry: header, trailer, end byte.
pub const RECORD_EXTRA_BYTES: usize = RECORD_HEADER_BYTES + TRAILER_BYTES + 1;

const FILE_MAGIC: [u8; 4] = *b"ZKLG";
const FILE_VERSION: [u8; 4] = [0, 0, 0, 2];
/// In a file header's dbid: this file is ours. As a trailer's magic: a record inside a batch.
pub const MARKER: [u8; 4] = [0xd6, b'O', b'S', b'T'];
/// A trailer's magic on the first record of a batch.
pub const MARKER_BATCH: [u8; 4] = [0xd6, b'O', b'S', b'B'];
/// A trailer's magic on the first record of an epoch, which is the first of a file, too: its CRC covers what it stands
/// behind as well.
pub const MARKER_EPOCH: [u8; 4] = [0xd6, b'O', b'S', b'E'];
const END_BYTE: u8 = b'B';
/// Session, cxid, zxid, time, type: what every entry begins with.
const TXN_HEADER_BYTES: usize = 32;

/// Random, never all zero; makes records of an earlier life of the same blocks fail their check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileId(pub [u8; 4]);

/// Who wrote a log file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// No trailers; damage is told by Adler-32, framing and contiguity only.
    Apache,
    /// Every record carries a trailer made with this id.
    Ostler(FileId),
}

/// What is wrong at some offset of a log file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    HeaderShort,
    HeaderMagic,
    HeaderVersion,
    /// Neither Apache's zero nor ours.
    HeaderDbid,
    /// The file ends inside the record.
    CutShort,
    Length(i32),
    /// Adler-32 over the entry.
    Checksum,
    EndByte,
    NoTrailer,
    /// CRC32C of the trailer.
    TrailerChecksum,
    /// Zeros where a record should be, yet records follow.
    Hole,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Problem::HeaderShort => "the file is shorter than its header",
            Problem::HeaderMagic => "the file does not begin with ZKLG",
            Problem::HeaderVersion => "unknown file version",
            Problem::HeaderDbid => "the file header is neither Apache's nor Ostler's",
            Problem::CutShort => "the file ends inside a record",
            Problem::Length(length) => return write!(f, "impossible record length {length}"),
            Problem::Checksum => "the record's Adler-32 does not match",
            Problem::EndByte => "the record's end byte is missing",
            Problem::NoTrailer => "the record lacks the integrity trailer of this file",
            Problem::TrailerChecksum => "the record's CRC32C does not match",
            Problem::Hole => "zeros in place of a record, with records behind them",
        })
    }
}

/// A record that passed every check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    pub offset_bytes: u64,
    pub zxid: Zxid,
    /// Txn header, body, optional digest; no trailer.
    pub entry: &'a [u8],
    /// First record of what was stored after one sync; always false in Apache's files.
    pub begins_batch: bool,
    /// For the first record of an epoch in a file of ours: what it was written behind.
    pub behind: Option<Behind>,
    /// Offset behind the end byte.
    pub next_bytes: u64,
}

/// What a record was written behind, as far as its checksum tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Behind {
    /// Over all but the zxid of the record before.
    crc: u32,
    stored: u32,
}

impl Behind {
    /// Whether it was this one.
    pub fn is(self, last: Zxid) -> bool {
        crc32c::crc32c_append(self.crc, &last.0.to_be_bytes()) == self.stored
    }
}

/// The error txn -5 that an Apache leader logs under the previous record's zxid.
pub fn is_undecodable_request(entry: &[u8]) -> bool {
    entry.get(28..36) == Some(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfb])
}

/// What is found where a record may begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At<'a> {
    Record(Record<'a>),
    /// Zeros, or nothing: where a reader stops.
    End,
    Bad(Problem),
}

pub fn file_header(id: FileId) -> [u8; FILE_HEADER_BYTES] {
    let mut header = [0; FILE_HEADER_BYTES];
    header[..4].copy_from_slice(&FILE_MAGIC);
    header[4..8].copy_from_slice(&FILE_VERSION);
    header[8..12].copy_from_slice(&MARKER);
    header[12..].copy_from_slice(&id.0);
    header
}

/// Who wrote the file that begins with these bytes.
pub fn origin(file: &[u8]) -> Result<Origin, Problem> {
    let header = file.first_chunk::<FILE_HEADER_BYTES>().ok_or(Problem::HeaderShort)?;
    let (magic, rest) = header.split_at(4);
    let (version, dbid) = rest.split_at(4);
    if magic != FILE_MAGIC {
        return Err(Problem::HeaderMagic);
    }
    if version != FILE_VERSION {
        return Err(Problem::HeaderVersion);
    }
    match (&dbid[..4], &dbid[4..]) {
        ([0, 0, 0, 0], [0, 0, 0, 0]) => Ok(Origin::Apache),
        (marker, id) if marker == MARKER && id != [0; 4] => {
            Ok(Origin::Ostler(FileId([id[0], id[1], id[2], id[3]])))
        }
        _ => Err(Problem::HeaderDbid),
    }
}

/// Zxid of an entry; `None` when it is too short to be one.
pub fn entry_zxid(entry: &[u8]) -> Option<Zxid> {
    if entry.len() < TXN_HEADER_BYTES {
        return None;
    }
    let raw = entry.get(12..)?.first_chunk::<8>()?;
    Some(Zxid(u64::from_be_bytes(*raw)))
}

/// Whether the entry `zxid` can stand behind `last` in a log: it is the next one, or the first of a later epoch. That also
/// covers the wrap of a counter without an ensemble, ours to (e+1, 1) and Apache's to (e+1, 0).
pub fn follows(last: Zxid, zxid: Zxid, entry: &[u8]) -> bool {
    last.0.checked_add(1) == Some(zxid.0)
        || (opens_epoch(last, zxid) && {
            // What an Apache leader cannot decode has the previous zxid, which is (e, 0) at first.
            zxid.counter() == 1 || (zxid.counter() == 0 && is_undecodable_request(entry))
        })
}

/// Whether `zxid` leaves out what might still have come behind `last` in its epoch.
pub fn opens_epoch(last: Zxid, zxid: Zxid) -> bool {
    zxid.epoch() > last.epoch() && last.0.checked_add(1) != Some(zxid.0)
}

/// Appends to `out` the record that will stand at `offset` of the file `id`.
pub fn put_record(out: &mut Vec<u8>, id: FileId, offset: u64, begins_batch: bool, entry: &[u8]) {
    let magic = if begins_batch { MARKER_BATCH } else { MARKER };
    put(out, id, offset, magic, &[], entry);
}

/// The same for the first record of an epoch, which will be the first of its file: `behind` is the last zxid before.
pub fn put_epoch_record(out: &mut Vec<u8>, id: FileId, offset: u64, behind: Zxid, entry: &[u8]) {
    put(out, id, offset, MARKER_EPOCH, &behind.0.to_be_bytes(), entry);
}

fn put(out: &mut Vec<u8>, id: FileId, offset: u64, magic: [u8; 4], covered_too: &[u8], entry: &[u8]) {
    let length = (entry.len() + TRAILER_BYTES) as u32;
    let start = out.len();
    out.reserve(entry.len() + RECORD_EXTRA_BYTES);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(entry);
    out.extend_from_slice(&magic);
    let covered = &out[start + RECORD_HEADER_BYTES..];
    let mut crc = trailer_crc(id, offset, length, covered);
    if !covered_too.is_empty() {
        crc = crc32c::crc32c_append(crc, covered_too);
    }
    out.extend_from_slice(&crc.to_be_bytes());
    let adler = simd_adler32::adler32(&&out[start + RECORD_HEADER_BYTES..]);
    out[start..start + 8].copy_from_slice(&u64::from(adler).to_be_bytes());
    out.push(END_BYTE);
}

/// What stands at `offset` of `file`. Never panics, whatever the bytes.
pub fn record_at(file: &[u8], offset: u64, origin: Origin) -> At<'_> {
    match usize::try_from(offset).ok().and_then(|offset| file.get(offset..)) {
        Some(rest) => record_in(rest, offset, origin),
        None => At::End,
    }
}

/// What stands at the beginning of `rest`, which is what a file holds from `offset` on.
pub fn record_in(rest: &[u8], offset: u64, origin: Origin) -> At<'_> {
    let Some(header) = rest.first_chunk::<RECORD_HEADER_BYTES>() else {
        return if rest.iter().all(|byte| *byte == 0) { At::End } else { At::Bad(Problem::CutShort) };
    };
    if *header == [0; RECORD_HEADER_BYTES] {
        return At::End;
    }
    match parse(rest, header, offset, origin) {
        Ok(record) => At::Record(record),
        Err(problem) => At::Bad(problem),
    }
}

fn parse<'a>(
    rest: &'a [u8],
    header: &[u8; RECORD_HEADER_BYTES],
    offset: u64,
    origin: Origin,
) -> Result<Record<'a>, Problem> {
    let [c0, c1, c2, c3, c4, c5, c6, c7, l0, l1, l2, l3] = *header;
    let checksum = u64::from_be_bytes([c0, c1, c2, c3, c4, c5, c6, c7]);
    let length = i32::from_be_bytes([l0, l1, l2, l3]);
    let least = match origin {
        Origin::Apache => TXN_HEADER_BYTES,
        Origin::Ostler(_) => TXN_HEADER_BYTES + TRAILER_BYTES,
    };
    let bytes =
        usize::try_from(length).ok().filter(|bytes| *bytes >= least).ok_or(Problem::Length(length))?;
    let body = &rest[RECORD_HEADER_BYTES..];
    // No sum can overflow: `bytes` fits 31 bits.
    let (whole, end) = match (body.get(..bytes), body.get(bytes)) {
        (Some(whole), Some(end)) => (whole, *end),
        _ => return Err(Problem::CutShort),
    };
    if end != END_BYTE {
        return Err(Problem::EndByte);
    }
    let (entry, begins_batch, behind) = match origin {
        Origin::Apache => (whole, false, None),
        Origin::Ostler(id) => check_trailer(whole, id, offset, length as u32)?,
    };
    if u64::from(simd_adler32::adler32(&whole)) != checksum {
        return Err(Problem::Checksum);
    }
    let zxid = entry_zxid(entry).ok_or(Problem::Length(length))?;
    let next_bytes = offset + (RECORD_HEADER_BYTES + bytes + 1) as u64;
    Ok(Record { offset_bytes: offset, zxid, entry, begins_batch, behind, next_bytes })
}

/// The entry without it, whether it begins a batch, and what its first record of an epoch was written behind.
type Trailed<'a> = (&'a [u8], bool, Option<Behind>);

fn check_trailer(whole: &[u8], id: FileId, offset: u64, length: u32) -> Result<Trailed<'_>, Problem> {
    let (covered, crc) = whole.split_last_chunk::<4>().ok_or(Problem::NoTrailer)?;
    let (entry, magic) = covered.split_last_chunk::<4>().ok_or(Problem::NoTrailer)?;
    let (stored, crc) = (u32::from_be_bytes(*crc), trailer_crc(id, offset, length, covered));
    match *magic {
        // Adler-32 covers all of it but the file's id and the offset, and only at the first one of the file.
        MARKER_EPOCH if offset == FILE_HEADER_BYTES as u64 => Ok((entry, true, Some(Behind { crc, stored }))),
        MARKER | MARKER_BATCH if crc != stored => Err(Problem::TrailerChecksum),
        MARKER => Ok((entry, false, None)),
        MARKER_BATCH => Ok((entry, true, None)),
        _ => Err(Problem::NoTrailer),
    }
}

/// Over file id, offset, length and the entry up to and including the trailer's magic.
fn trailer_crc(id: FileId, offset: u64, length: u32, covered: &[u8]) -> u32 {
    let mut place = [0; 16];
    place[..4].copy_from_slice(&id.0);
    place[4..12].copy_from_slice(&offset.to_be_bytes());
    place[12..].copy_from_slice(&length.to_be_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&place), covered)
}
