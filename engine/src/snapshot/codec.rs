//! Compression of snapshots: plain, gzip, and the stream format of snappy-java.
//! The name chooses the codec, the bytes never do. Checksums elsewhere are over uncompressed bytes.

use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use std::io::{self, BufRead, BufReader, Read, Write};

/// How a snapshot's bytes are stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Compression {
    #[default]
    Plain,
    Gzip,
    Snappy,
}

/// First bytes of a gzip member.
pub const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// First bytes of a snappy-java stream; two version words follow.
pub const SNAPPY_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Input bytes of one snappy chunk as snappy-java writes them.
const SNAPPY_CHUNK_BYTES: usize = 32 << 10;
/// Largest chunk read, compressed or not: far above any that Apache can have written, far below what hurts.
const SNAPPY_CHUNK_BYTES_MAX: usize = 8 << 20;
/// Snapshots are written beside live traffic: speed over size.
const GZIP_LEVEL: u32 = 1;

impl Compression {
    /// What the last dot-part of a name says, in any case; plain when it says nothing known.
    pub fn of_name(name: &str) -> Compression {
        match name.rsplit('.').next() {
            Some(suffix) if suffix.eq_ignore_ascii_case("gz") => Compression::Gzip,
            Some(suffix) if suffix.eq_ignore_ascii_case("snappy") => Compression::Snappy,
            _ => Compression::Plain,
        }
    }

    pub const fn suffix(self) -> &'static str {
        match self {
            Compression::Plain => "",
            Compression::Gzip => ".gz",
            Compression::Snappy => ".snappy",
        }
    }
}

/// The uncompressed bytes of `file`. Damage of the compressed form is an error of kind `InvalidData` or `UnexpectedEof`.
pub fn decompressor(compression: Compression, file: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
    match compression {
        Compression::Plain => file,
        Compression::Gzip => {
            Box::new(GzipReader { member: Some(GzDecoder::new(BufReader::with_capacity(256 << 10, file))) })
        }
        Compression::Snappy => Box::new(SnappyReader::new(BufReader::with_capacity(256 << 10, file))),
    }
}

/// Members one after another, as Java reads them; what follows the last member and is none is ignored, as there.
struct GzipReader<R> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for GzipReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            let n = member.read(out)?;
            if n > 0 {
                return Ok(n);
            }
            let Some(done) = self.member.take() else { break };
            let mut rest = done.into_inner();
            if rest.fill_buf()?.first() == Some(&GZIP_MAGIC[0]) {
                self.member = Some(GzDecoder::new(rest));
            }
        }
        Ok(0)
    }
}

struct SnappyReader<R> {
    file: R,
    header_seen: bool,
    decoder: snap::raw::Decoder,
    compressed: Vec<u8>,
    chunk: Vec<u8>,
    at: usize,
}

impl<R: BufRead> SnappyReader<R> {
    fn new(file: R) -> SnappyReader<R> {
        let decoder = snap::raw::Decoder::new();
        SnappyReader { file, header_seen: false, decoder, compressed: Vec::new(), chunk: Vec::new(), at: 0 }
    }

    /// The rest of a stream header whose first four bytes were `start`; versions are compatible from 1 on.
    fn header(&mut self, start: [u8; 4]) -> io::Result<()> {
        let mut rest = [0; 12];
        self.file.read_exact(&mut rest)?;
        if start != SNAPPY_MAGIC[..4] || rest[..4] != SNAPPY_MAGIC[4..] {
            return Err(invalid("no snappy-java stream header"));
        }
        Ok(())
    }

    /// `false` at the end of the file.
    fn next_chunk(&mut self) -> io::Result<bool> {
        let mut word = [0; 4];
        loop {
            if self.file.fill_buf()?.is_empty() {
                return match self.header_seen {
                    true => Ok(false),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
            self.file.read_exact(&mut word)?;
            // A header in place of a length starts a concatenated stream.
            if self.header_seen && word != SNAPPY_MAGIC[..4] {
                break;
            }
            self.header(word)?;
            self.header_seen = true;
        }
        let length = u32::from_be_bytes(word) as usize;
        if length > SNAPPY_CHUNK_BYTES_MAX {
            return Err(invalid("a snappy chunk of unreasonable length"));
        }
        self.compressed.clear();
        if (&mut self.file).take(length as u64).read_to_end(&mut self.compressed)? < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let plain = snap::raw::decompress_len(&self.compressed).map_err(|e| invalid(&e.to_string()))?;
        if plain > SNAPPY_CHUNK_BYTES_MAX {
            return Err(invalid("a snappy chunk that expands to an unreasonable length"));
        }
        self.chunk.resize(plain, 0);
        let n = self
            .decoder
            .decompress(&self.compressed, &mut self.chunk)
            .map_err(|e| invalid(&e.to_string()))?;
        self.chunk.truncate(n);
        self.at = 0;
        Ok(true)
    }
}

impl<R: BufRead> Read for SnappyReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        while self.at == self.chunk.len() {
            if !self.next_chunk()? {
                return Ok(0);
            }
        }
        let n = out.len().min(self.chunk.len() - self.at);
        out[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Turns uncompressed bytes into what the file holds; the caller drains [`Compressor::out`] in portions.
pub struct Compressor {
    form: Form,
}

enum Form {
    Plain(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
    Snappy { encoder: Box<snap::raw::Encoder>, input: Vec<u8>, out: Vec<u8> },
}

impl Compressor {
    pub fn new(compression: Compression) -> Compressor {
        let form = match compression {
            Compression::Plain => Form::Plain(Vec::new()),
            Compression::Gzip => Form::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL))),
            Compression::Snappy => {
                let mut out = SNAPPY_MAGIC.to_vec();
                out.extend_from_slice(&1u32.to_be_bytes()); // version
                out.extend_from_slice(&1u32.to_be_bytes()); // oldest compatible version
                Form::Snappy { encoder: Box::new(snap::raw::Encoder::new()), input: Vec::new(), out }
            }
        };
        Compressor { form }
    }

    /// Takes the bytes; some of them may appear in `out` only later.
    pub fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.form {
            Form::Plain(out) => out.extend_from_slice(bytes),
            Form::Gzip(encoder) => encoder.write_all(bytes)?,
            Form::Snappy { encoder, input, out } => {
                input.extend_from_slice(bytes);
                let whole = input.len() - input.len() % SNAPPY_CHUNK_BYTES;
                snappy_chunks(encoder, &input[..whole], out)?;
                input.drain(..whole);
            }
        }
        Ok(())
    }

    /// No more bytes come: all of them are in `out` afterwards.
    pub fn finish(&mut self) -> io::Result<()> {
        match &mut self.form {
            Form::Plain(_) => Ok(()),
            Form::Gzip(encoder) => encoder.try_finish(),
            Form::Snappy { encoder, input, out } => snappy_chunks(encoder, &std::mem::take(input), out),
        }
    }

    /// What is ready for the file. The caller empties it.
    pub fn out(&mut self) -> &mut Vec<u8> {
        match &mut self.form {
            Form::Plain(out) => out,
            Form::Gzip(encoder) => encoder.get_mut(),
            Form::Snappy { out, .. } => out,
        }
    }
}

fn snappy_chunks(encoder: &mut snap::raw::Encoder, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    for chunk in input.chunks(SNAPPY_CHUNK_BYTES) {
        let packed = encoder.compress_vec(chunk).map_err(|e| invalid(&e.to_string()))?;
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        out.extend_from_slice(&packed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compression; 3] = [Compression::Plain, Compression::Gzip, Compression::Snappy];

    fn pack(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        let mut packer = Compressor::new(compression);
        for piece in bytes.chunks(10_007) {
            packer.put(piece).unwrap();
        }
        packer.finish().unwrap();
        std::mem::take(packer.out())
    }

    fn unpack(compression: Compression, packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompressor(compression, Box::new(io::Cursor::new(packed.to_vec()))).read_to_end(&mut out)?;
        Ok(out)
    }

    fn check(compression: Compression, bytes: &[u8]) {
        assert_eq!(unpack(compression, &pack(compression, bytes)).unwrap(), bytes, "{compression:?}");
    }

    fn sample() -> Vec<u8> {
        (0..200_000u32).flat_map(|n| (n / 3).to_le_bytes()).collect()
    }

    #[test]
    fn every_codec_gives_back_what_it_took() {
        for compression in ALL {
            check(compression, b"");
            check(compression, b"/");
            check(compression, &sample());
        }
    }

    #[test]
    fn gzip_members_join_and_bytes_behind_them_are_ignored() {
        let mut two = pack(Compression::Gzip, b"first ");
        two.extend(pack(Compression::Gzip, b"second"));
        two.extend(b"\0\0 no member");
        assert_eq!(unpack(Compression::Gzip, &two).unwrap(), b"first second");
    }

    #[test]
    fn concatenated_snappy_streams_join() {
        let mut two = pack(Compression::Snappy, b"first ");
        two.extend(pack(Compression::Snappy, b"second"));
        assert_eq!(unpack(Compression::Snappy, &two).unwrap(), b"first second");
    }

    #[test]
    fn a_cut_stream_is_an_error_or_an_obvious_shortage() {
        let bytes = sample();
        for compression in [Compression::Gzip, Compression::Snappy] {
            let packed = pack(compression, &bytes);
            for cut in (0..packed.len()).step_by(packed.len() / 97) {
                match unpack(compression, &packed[..cut]) {
                    Err(_) => {}
                    // A cut between two snappy chunks cannot be seen here; the seals see it.
                    Ok(short) => {
                        assert!(compression == Compression::Snappy && short.len() < bytes.len(), "cut {cut}")
                    }
                }
            }
        }
    }

    #[test]
    fn an_announced_chunk_costs_nothing_before_it_comes() {
        let mut bytes = pack(Compression::Snappy, b"");
        bytes.extend(0x7fff_ffffu32.to_be_bytes());
        assert_eq!(unpack(Compression::Snappy, &bytes).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
