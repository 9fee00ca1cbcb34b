//! Frames: a length word and so many bytes (client-protocol.md §2), and what else may open a connection on the client
//! port: four-letter words, and protocols that are in the wrong place.
//! Not here: buffers and sockets. The caller keeps the bytes; nothing is allocated for an announced length.

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

/// Appends a frame whose body `body` writes. A body of 2 GiB or more cannot be framed: it is a bug of the caller, who
/// bounds what it answers, and the process must not send half a frame.
#[inline]
pub fn put_frame(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    body(out);
    let length = i32::try_from(out.len() - start - LENGTH_BYTES).expect("a frame is less than 2 GiB");
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}
