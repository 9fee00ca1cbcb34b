//! `ostler log dump`, and walking over the records of a log as Apache's TxnLogToolkit does: by their framing, whether or
//! not their checksums hold.

use super::{EXIT_DAMAGED, EXIT_OK, Failure, at, file_name, open, txn_text};
use ostler_engine::log::{At, FILE_HEADER_BYTES, Origin, Problem, TRAILER_BYTES, origin, record_at};
use std::io::Write;
use std::path::Path;

/// Checksum and length before an entry, and the end byte behind it.
const FRAME_BYTES: usize = 12 + 1;
const TRAILER_MAGIC: [u8; 3] = [0xd6, b'O', b'S'];

/// One record whose framing is whole.
pub struct Framed<'a> {
    pub offset_bytes: u64,
    /// All of it: checksum, length, entry, trailer, end byte.
    pub bytes: &'a [u8],
    /// Without our trailer.
    pub entry: &'a [u8],
    pub begins_batch: bool,
    /// A checksum that does not hold.
    pub problem: Option<Problem>,
}

/// Where the walk ended, and why if that is not zeros or the file's end.
pub struct Ended {
    pub offset_bytes: u64,
    pub problem: Option<Problem>,
}

/// Calls `each` for every framed record, in order, until it breaks off or the framing ends.
pub fn walk<'a>(
    file: &'a [u8],
    origin: Origin,
    mut each: impl FnMut(Framed<'a>) -> Result<bool, Failure>,
) -> Result<Ended, Failure> {
    let mut offset_bytes = FILE_HEADER_BYTES as u64;
    loop {
        let framed = match record_at(file, offset_bytes, origin) {
            At::Record(record) => Framed {
                offset_bytes,
                bytes: &file[offset_bytes as usize..record.next_bytes as usize],
                entry: record.entry,
                begins_batch: record.begins_batch,
                problem: None,
            },
            At::End => return Ok(Ended { offset_bytes, problem: None }),
            At::Bad(problem) => match framed_all_the_same(file, offset_bytes, problem) {
                Some(framed) => framed,
                None => return Ok(Ended { offset_bytes, problem: Some(problem) }),
            },
        };
        offset_bytes += framed.bytes.len() as u64;
        if !each(framed)? {
            return Ok(Ended { offset_bytes, problem: None });
        }
    }
}

/// A record that fails only its checksums, whose length still leads to an end byte.
fn framed_all_the_same(file: &[u8], offset_bytes: u64, problem: Problem) -> Option<Framed<'_>> {
    if !matches!(problem, Problem::Checksum | Problem::NoTrailer | Problem::TrailerChecksum) {
        return None;
    }
    let rest = file.get(usize::try_from(offset_bytes).ok()?..)?;
    let length = u32::from_be_bytes(*rest.get(8..12)?.first_chunk()?) as usize;
    let bytes = rest.get(..FRAME_BYTES + length)?;
    let whole = &bytes[12..12 + length];
    let (entry, trailer) = whole.split_at(length.saturating_sub(TRAILER_BYTES));
    let (entry, begins_batch) = match trailer.starts_with(&TRAILER_MAGIC) {
        true => (entry, trailer[3] == b'B'),
        false => (whole, false),
    };
    Some(Framed { offset_bytes, bytes, entry, begins_batch, problem: Some(problem) })
}

/// The header's line of Apache's tool, and who wrote the file. A dbid of neither Apache's nor ours is taken for Apache's.
pub fn header(path: &Path, file: &[u8], out: &mut dyn Write) -> Result<Origin, Failure> {
    let origin = match origin(file) {
        Ok(origin) => origin,
        Err(Problem::HeaderMagic) => {
            return Err(Failure::Other(format!("Invalid magic number for {}", file_name(path))));
        }
        Err(Problem::HeaderDbid | Problem::HeaderVersion) => Origin::Apache,
        Err(problem) => return Err(Failure::File(path.to_owned(), problem.to_string())),
    };
    let word =
        |at: usize| file.get(at..at + 4).map_or([0; 4], |bytes| [bytes[0], bytes[1], bytes[2], bytes[3]]);
    let version = i32::from_be_bytes(word(4));
    let dbid = i64::from(i32::from_be_bytes(word(8))) << 32 | i64::from(u32::from_be_bytes(word(12)));
    writeln!(out, "ZooKeeper Transactional Log File with dbid {dbid} txnlog format version {version}")?;
    Ok(origin)
}

/// A record's line, or why there is none.
pub fn line(path: &Path, framed: &Framed<'_>) -> Result<String, Failure> {
    txn_text::line(framed.entry).map_err(|error| {
        let offset = framed.offset_bytes;
        Failure::Damaged(format!("{}: at offset {offset}: the txn does not decode: {error}", path.display()))
    })
}

pub fn dump(path: &Path, out: &mut dyn Write) -> Result<i32, Failure> {
    let file = open(path)?.contents().map_err(at(path))?;
    let origin = header(path, &file, out)?;
    let (mut count, mut wrong) = (0u64, 0u64);
    let ended = walk(&file, origin, |framed| {
        let line = line(path, &framed)?;
        if framed.problem.is_some() {
            writeln!(out, "CRC ERROR - {line}")?;
        }
        writeln!(out, "{line}")?;
        count += 1;
        wrong += u64::from(framed.problem.is_some());
        Ok(true)
    })?;
    writeln!(out, "EOF reached after {count} txns.")?;
    if let Some(problem) = ended.problem {
        out.flush()?;
        let offset = ended.offset_bytes;
        eprintln!("{}: at offset {offset}: {problem}", path.display());
        eprintln!("What it means and what to do: ostler log verify {}", path.display());
        return Ok(EXIT_DAMAGED);
    }
    Ok(if wrong == 0 { EXIT_OK } else { EXIT_DAMAGED })
}
