//! Frames: a length word and so many bytes, and protocols that knock at the wrong port.
//! Not here: four-letter words (`admin::words`, looked for first), buffers and sockets. The caller keeps the bytes; nothing is allocated for an announced length.

/// Bytes of the length word.
pub const LENGTH_BYTES: usize = 4;

/// What the front of a byte buffer holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Front<'a> {
    /// A whole frame: its body, and the bytes it takes with the length word.
    Frame { body: &'a [u8], bytes: usize },
    /// Not yet a whole frame. `wanted` is its size with the length word once that is known, else `LENGTH_BYTES`:
    /// an announcement, not a reason to allocate.
    Partial { wanted: usize },
    /// The length is negative or above the bound: the connection cannot be read any further.
    Unreadable { length: i32 },
}

/// Looks at the front of `bytes`; `length_max` is `jute.maxbuffer`.
#[inline]
pub fn front(bytes: &[u8], length_max: u32) -> Front<'_> {
    let Some((word, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Front::Partial { wanted: LENGTH_BYTES };
    };
    let raw = u32::from_be_bytes(*word);
    // A negative length is above every bound as unsigned, because `length_max` fits an i32.
    if raw > length_max || raw > i32::MAX as u32 {
        return Front::Unreadable { length: raw as i32 };
    }
    let length = raw as usize;
    match rest.get(..length) {
        Some(body) => Front::Frame { body, bytes: LENGTH_BYTES + length },
        None => Front::Partial { wanted: LENGTH_BYTES + length },
    }
}

/// A protocol that is not ours, told by the first four bytes of a connection. Its length word would be far above what a
/// connect request may have, so the connection is closed in any case; this is for the line in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Foreign {
    Http,
    Tls,
}

impl Foreign {
    pub fn recognise(bytes: [u8; 4]) -> Option<Foreign> {
        match &bytes {
            b"GET " | b"HEAD" | b"POST" | b"PUT " | b"DELE" | b"OPTI" | b"PATC" | b"CONN" | b"TRAC"
            | b"PRI " => Some(Foreign::Http),
            // A handshake record of any version from SSL 3.0 to TLS 1.3.
            [0x16, 0x03, 0x00..=0x04, _] => Some(Foreign::Tls),
            _ => None,
        }
    }
}

/// Appends a frame whose body `body` writes, and which is small: handshakes, and requests of tools.
#[inline]
pub fn put_frame(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    body(out);
    let length = i32::try_from(out.len() - start - LENGTH_BYTES).expect("a frame is less than 2 GiB");
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: u32 = 1_048_575;

    fn check(bytes: &[u8], expected: Front<'_>) {
        assert_eq!(front(bytes, MAX), expected, "{bytes:02x?}");
    }

    #[test]
    fn fronts() {
        check(b"", Front::Partial { wanted: 4 });
        check(b"\0\0\0", Front::Partial { wanted: 4 });
        check(b"\0\0\0\0", Front::Frame { body: b"", bytes: 4 });
        check(b"\0\0\0\x02a", Front::Partial { wanted: 6 });
        check(b"\0\0\0\x02abc", Front::Frame { body: b"ab", bytes: 6 });
        check(b"\xff\xff\xff\xff", Front::Unreadable { length: -1 });
        check(b"\x80\0\0\0", Front::Unreadable { length: i32::MIN });
        check(&MAX.to_be_bytes(), Front::Partial { wanted: 1_048_579 });
        check(&(MAX + 1).to_be_bytes(), Front::Unreadable { length: 1_048_576 });
    }

    #[test]
    fn no_bound_admits_a_negative_length() {
        assert_eq!(front(b"\xff\xff\xff\xff", u32::MAX), Front::Unreadable { length: -1 });
    }

    #[test]
    fn foreign_protocols() {
        let check =
            |bytes: &[u8; 4], expected| assert_eq!(Foreign::recognise(*bytes), expected, "{bytes:02x?}");
        check(b"GET ", Some(Foreign::Http));
        check(b"PRI ", Some(Foreign::Http));
        check(b"\x16\x03\x01\x02", Some(Foreign::Tls));
        check(b"\0\0\0\x2d", None);
        check(b"ruok", None);
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(bodies: Vec<Vec<u8>>, cut: prop::sample::Index) {
            let mut stream = Vec::new();
            for body in &bodies {
                put_frame(&mut stream, |out| out.extend_from_slice(body));
            }
            let mut rest = &stream[..];
            for expected in &bodies {
                let Front::Frame { body, bytes } = front(rest, MAX) else { panic!("a frame was put") };
                prop_assert_eq!(body, &expected[..]);
                if bytes > 0 {
                    let short = &rest[..cut.index(bytes)];
                    let partial = matches!(front(short, MAX), Front::Partial { wanted } if wanted > short.len());
                    prop_assert!(partial);
                }
                rest = &rest[bytes..];
            }
            prop_assert!(rest.is_empty());
        }
    }
}
