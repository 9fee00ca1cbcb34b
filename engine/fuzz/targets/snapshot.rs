//! Snapshots: bytes as they come, by every codec; and bytes with right seals behind them, which get deeper. What decodes,
//! encodes to something that decodes the same.
#![no_main]
use libfuzzer_sys::fuzz_target;
use ostler_engine::snapshot::{Compression, Image, ReadOptions, codec, reader, writer};
use std::io::{Cursor, Read};
use std::path::Path;

const FIELD_BYTES_MAX: usize = 1 << 16;
const UNPACKED_BYTES_MAX: u64 = 1 << 20;

fn read(bytes: &[u8]) -> Option<Image> {
    let mut image = Image::default();
    let options = ReadOptions { field_bytes_max: FIELD_BYTES_MAX, ahead: false };
    reader::read_stream(Path::new("fuzz"), bytes, options, &mut image).ok().map(|_| image)
}

fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut out = [b"ZKSN\0\0\0\x02\xff\xff\xff\xff\xff\xff\xff\xff", bytes, b"\0\0\0\x01/"].concat();
    let seal = u64::from(simd_adler32::adler32(&&out[..]));
    out.extend(seal.to_be_bytes());
    out.extend(b"\0\0\0\x01/");
    out
}

fuzz_target!(|bytes: &[u8]| {
    for compression in [Compression::Gzip, Compression::Snappy] {
        let unpacked = codec::decompressor(compression, Box::new(Cursor::new(bytes.to_vec())));
        let mut out = Vec::new();
        let _ = unpacked.take(UNPACKED_BYTES_MAX).read_to_end(&mut out);
    }
    read(bytes);
    let Some(image) = read(&sealed(bytes)) else { return };
    if image.acls.iter().any(|(key, _)| *key == -1) {
        return;
    }
    let mut again = Vec::new();
    let written = writer::stream(&image, &mut |piece| {
        again.extend_from_slice(piece);
        Ok::<(), ()>(())
    });
    assert!(written.is_ok());
    assert!(read(&again).expect("what we write we read") == image);
});
