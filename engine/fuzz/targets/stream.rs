//! Snapshots as they come from another server: in two pieces they say the same as in one, what was read too far comes
//! back, and what decodes, encodes to something that decodes the same.
#![no_main]
use libfuzzer_sys::fuzz_target;
use ostler_engine::snapshot::Image;
use ostler_engine::snapshot::wire::{self, Ended};

const FIELD_BYTES_MAX: usize = 1 << 16;

fn read(pieces: [&[u8]; 2]) -> Option<(Image, Vec<u8>)> {
    let mut image = Image::default();
    let mut pieces = pieces.into_iter();
    let mut next = |held: &mut Vec<u8>| {
        held.extend_from_slice(pieces.next().ok_or(Ended)?);
        Ok(())
    };
    let (_, mut rest) = wire::restore(FIELD_BYTES_MAX, &mut next, &mut image).ok()?;
    pieces.for_each(|piece| rest.extend_from_slice(piece));
    Some((image, rest))
}

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    let ended = [bytes, b"\0\0\0\x01/\0\0\0\x0aBenWasHere"].concat();
    for bytes in [bytes, &ended] {
        let (early, late) = bytes.split_at(bytes.len().min(cut as usize));
        let found = read([bytes, b""]);
        assert!(found == read([early, late]));
        let Some((image, rest)) = found else { continue };
        assert!(bytes.ends_with(&rest));
        if image.acls.iter().any(|(key, _)| *key == -1) {
            continue;
        }
        let mut again = Vec::new();
        let sent = wire::send(&image, &mut |piece| {
            again.extend_from_slice(piece);
            Ok::<(), ()>(())
        });
        assert!(sent.is_ok());
        assert!(read([&again, b""]).expect("what we write we read") == (image, Vec::new()));
    }
});
