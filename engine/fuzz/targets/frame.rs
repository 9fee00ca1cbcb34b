//! Frames off the front of a stream. Feeding it in two pieces finds the same frames.
#![no_main]
use libfuzzer_sys::fuzz_target;
use ostler_engine::wire::frame::{Foreign, Front, front};

const MAX: u32 = 1 << 16;

fn frames(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let Front::Frame { body, bytes: taken } = front(bytes, MAX) {
        found.push(body);
        bytes = &bytes[taken..];
    }
    found
}

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    let whole = frames(bytes);
    let early = frames(&bytes[..bytes.len().min(cut as usize)]);
    assert_eq!(early, whole[..early.len()]);
    let _ = bytes.first_chunk().copied().map(Foreign::recognise);
});
