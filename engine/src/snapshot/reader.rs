//! One snapshot file to state, on three threads, so that loading takes as long as the slowest of them: reading,
//! decompressing, and putting pages behind the state's memory; checking and decoding, with all that a znode's bytes say by themselves; and the state's owner.
//! Not here: which file to read (candidates).

use super::batches::{BATCHES_AHEAD, Batch, Sender};
use super::codec::{self, Compression};
use super::decode::{self, Failure, Pieces, Refused, Sink, Straight};
use super::{Restore, decode::Contents};
use crate::io::disk::{Disk, DiskFile, Open};
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

/// Bytes read at once, and the unit handed from the reading to the decoding thread.
const PIECE_BYTES: usize = 128 << 10;
/// Pieces read ahead of the decoding thread: enough to cover its pauses, and few enough to stay in a CPU's cache, which
/// makes copying them out of the kernel several times as fast.
const PIECES_AHEAD: usize = 8;
/// What Apache reads by default: `jute.maxbuffer` plus as much again.
pub const FIELD_BYTES_MAX_DEFAULT: usize = crate::limits::ENTRY_BYTES_MAX_DEFAULT as usize;

#[derive(Clone, Copy, Debug)]
pub struct ReadOptions {
    /// Largest path and largest znode data accepted, in bytes.
    pub field_bytes_max: usize,
    /// Read and decode ahead on threads of their own. Off where everything must happen on one thread in one order (simulation).
    pub ahead: bool,
}

impl Default for ReadOptions {
    fn default() -> ReadOptions {
        ReadOptions { field_bytes_max: FIELD_BYTES_MAX_DEFAULT, ahead: true }
    }
}

/// A snapshot that cannot be used.
#[derive(Debug)]
pub enum SnapshotError {
    Io {
        path: PathBuf,
        source: io::Error,
    },
    /// The bytes are not what a snapshot has there. The offset counts uncompressed bytes.
    Damaged {
        path: PathBuf,
        offset_bytes: u64,
        what: String,
    },
}

impl SnapshotError {
    fn new(path: &Path, failure: Failure) -> SnapshotError {
        let path = path.to_owned();
        match failure {
            Failure::Io(source) => SnapshotError::Io { path, source },
            Failure::GivenUp => unreachable!("whoever gives up has said why"),
            Failure::Damaged { offset_bytes, what } => SnapshotError::Damaged { path, offset_bytes, what },
        }
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Io { path, source } => write!(f, "{}: {source}", path.display()),
            SnapshotError::Damaged { path, offset_bytes, what } => {
                write!(f, "{}: at offset {offset_bytes}: {what}", path.display())
            }
        }
    }
}

impl std::error::Error for SnapshotError {}

/// Reads the snapshot at `path` to its end into `into`, all seals checked. On an error `into` holds a part of the state
/// and must be thrown away.
pub fn read(
    disk: &dyn Disk,
    path: &Path,
    options: ReadOptions,
    into: &mut dyn Restore,
) -> Result<Contents, SnapshotError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let bytes = || {
        let file =
            disk.open(path, Open::Read).map_err(|source| SnapshotError::new(path, Failure::Io(source)))?;
        Ok(codec::decompressor(Compression::of_name(name), Box::new(FromStart { file, at: 0 })))
    };
    if !options.ahead {
        return read_stream(path, bytes()?, options, into);
    }
    into.gather();
    let contents = read_ahead(bytes()?, options, into).map_err(|failure| SnapshotError::new(path, failure));
    match into.complete() {
        Ok(()) => contents,
        Err((before, why)) => decode_into(path, bytes()?, options, &mut Refused { before, why }),
    }
}

/// The same on this thread, from bytes already uncompressed; `path` only names them in errors.
pub fn read_stream(
    path: &Path,
    bytes: impl Read,
    options: ReadOptions,
    into: &mut dyn Restore,
) -> Result<Contents, SnapshotError> {
    decode_into(path, bytes, options, &mut Straight(into))
}

fn decode_into(
    path: &Path,
    bytes: impl Read,
    options: ReadOptions,
    into: &mut dyn Sink,
) -> Result<Contents, SnapshotError> {
    let mut pieces = Direct { bytes, piece: Piece::default() };
    decode::decode(&mut pieces, options.field_bytes_max, into)
        .map_err(|failure| SnapshotError::new(path, failure))
}

fn read_ahead(
    bytes: Box<dyn Read + Send>,
    options: ReadOptions,
    into: &mut dyn Restore,
) -> Result<Contents, Failure> {
    std::thread::scope(|scope| {
        let (send, receive) = mpsc::sync_channel(PIECES_AHEAD);
        let reading = std::thread::Builder::new().name("ostler-load".into());
        let (used, again) = mpsc::channel::<Piece>();
        let mut pages = into.pages_ahead();
        let mut bytes = bytes;
        let reading = reading.spawn_scoped(scope, move || {
            let mut received = 0;
            loop {
                let mut piece = again.try_recv().unwrap_or_default();
                let read = piece.read(&mut bytes);
                received += piece.length as u64;
                if let Some(pages) = &mut pages {
                    pages.back(received);
                }
                let last = !matches!(read, Ok(true));
                // A closed channel: decoding failed, nobody wants the rest.
                if send.send(read.map(|_| piece)).is_err() || last {
                    return;
                }
            }
        });
        reading.map_err(Failure::Io)?;
        let mut pieces = Ahead { pieces: receive, used };
        let (batches, decoded) = mpsc::sync_channel(BATCHES_AHEAD);
        let (emptied, empty) = mpsc::channel();
        let foresight = into.foresight();
        let decoding = std::thread::Builder::new().name("ostler-decode".into());
        let decoding = decoding.spawn_scoped(scope, move || {
            let mut sender = Sender { batches, empty, foresight, open: Batch::default() };
            let contents = decode::decode(&mut pieces, options.field_bytes_max, &mut sender);
            // What stands before the damage comes first: the state may refuse that.
            sender.pass_on().and(contents)
        });
        let decoding = decoding.map_err(Failure::Io)?;
        let unpacked = decoded.iter().try_for_each(|mut batch: Batch| {
            batch.unpack(into)?;
            // The decoding thread may be done.
            let _ = emptied.send(batch);
            Ok(())
        });
        drop(decoded);
        let contents = decoding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        unpacked.and(contents)
    })
}

/// A file read once, in order.
struct FromStart {
    file: Box<dyn DiskFile>,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(out, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Bytes received together; the memory is used again.
#[derive(Default)]
struct Piece {
    bytes: Vec<u8>,
    length: usize,
}

impl Piece {
    /// As many bytes as fit, or as there are; `false` when there are none.
    fn read(&mut self, from: &mut impl Read) -> io::Result<bool> {
        self.bytes.resize(PIECE_BYTES, 0);
        self.length = 0;
        while self.length < self.bytes.len() {
            match from.read(&mut self.bytes[self.length..]) {
                Ok(0) => break,
                Ok(n) => self.length += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.length > 0)
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

struct Direct<R> {
    bytes: R,
    piece: Piece,
}

impl<R: Read> Pieces for Direct<R> {
    fn append(&mut self, held: &mut Vec<u8>) -> io::Result<bool> {
        let more = self.piece.read(&mut self.bytes)?;
        held.extend_from_slice(self.piece.bytes());
        Ok(more)
    }
}

struct Ahead {
    pieces: mpsc::Receiver<io::Result<Piece>>,
    /// Back to the reading thread.
    used: mpsc::Sender<Piece>,
}

impl Pieces for Ahead {
    fn append(&mut self, held: &mut Vec<u8>) -> io::Result<bool> {
        let Ok(piece) = self.pieces.recv() else { return Ok(false) };
        let piece = piece?;
        let more = piece.length > 0;
        held.extend_from_slice(piece.bytes());
        // The reading thread may be done.
        let _ = self.used.send(piece);
        Ok(more)
    }
}
