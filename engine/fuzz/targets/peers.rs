//! What other servers send: the first words of both ports, notifications, packets of either side. In two pieces they are
//! what they are in one.
#![no_main]
use libfuzzer_sys::fuzz_target;
use ostler_replication::packet::{Side, handshake, notification, quorum};

const DATA_BYTES_MAX: usize = 1 << 16;

/// Decodes what is at the front until no more is there.
fn all<T: PartialEq + std::fmt::Debug, E>(
    mut bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<Option<(T, usize)>, E>,
) -> Vec<T> {
    let mut found = Vec::new();
    while let Ok(Some((value, taken))) = decode(bytes) {
        assert!(taken > 0);
        found.push(value);
        bytes = &bytes[taken..];
    }
    found
}

fn check<T: PartialEq + std::fmt::Debug, E>(
    early: &[u8],
    whole: &[u8],
    decode: impl Fn(&[u8]) -> Result<Option<(T, usize)>, E>,
) {
    let (early, whole) = (all(early, &decode), all(whole, &decode));
    assert_eq!(early, whole[..early.len()]);
}

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    let early = &bytes[..bytes.len().min(cut as usize)];
    check(early, bytes, handshake::decode);
    check(early, bytes, notification::decode);
    for side in [Side::Learner, Side::Leader] {
        check(early, bytes, |bytes| quorum::decode(bytes, side, DATA_BYTES_MAX));
    }
});
