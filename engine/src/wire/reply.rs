//! Replies and notifications as frames.
//! Not here: what is answered, and when.

use super::frame::LENGTH_BYTES;
use super::jute::{JutePut, Malformed, Reader, STAT_BYTES, stat_bytes};
pub use super::multi::{MultiResult, put_multi_end, put_multi_header};
use crate::model::{ErrorCode, Stat, Xid};
use ostler_replication::Zxid;

/// Bytes of a reply header.
pub const HEADER_BYTES: usize = 16;
/// The longest frame a length word can announce.
pub const FRAME_BYTES_MOST: usize = i32::MAX as usize;
/// Header zxid of -6 for an unknown op, and of events made while setWatches is handled.
pub const ZXID_NONE: Zxid = Zxid(u64::MAX);

/// Appends a whole reply frame: length word, header, and what `body` writes. On an error the body is empty by
/// convention: clients do not parse it. A body that no frame can carry (2 GiB of children's names) becomes -5.
#[inline]
pub fn frame_reply(
    out: &mut Vec<u8>,
    xid: Xid,
    zxid: Zxid,
    error: ErrorCode,
    body: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES + HEADER_BYTES]);
    body(out);
    let frame_bytes = out.len() - start - LENGTH_BYTES;
    if frame_bytes > FRAME_BYTES_MOST {
        out.truncate(start);
        return frame_bare(out, xid, zxid, ErrorCode::MarshallingError);
    }
    out[start..start + LENGTH_BYTES + HEADER_BYTES].copy_from_slice(&head(
        frame_bytes,
        xid,
        zxid,
        error.to_wire(),
    ));
}

/// A reply that is only its header: errors, ping, delete, and the like.
#[inline]
pub fn frame_bare(out: &mut Vec<u8>, xid: Xid, zxid: Zxid, error: ErrorCode) {
    out.extend_from_slice(&head(HEADER_BYTES, xid, zxid, error.to_wire()));
}

/// A reply whose body is a Stat: exists, setData, setACL.
#[inline]
pub fn frame_stat(out: &mut Vec<u8>, xid: Xid, zxid: Zxid, stat: &Stat) {
    out.reserve(LENGTH_BYTES + HEADER_BYTES + STAT_BYTES);
    out.extend_from_slice(&head(HEADER_BYTES + STAT_BYTES, xid, zxid, 0));
    out.extend_from_slice(&stat_bytes(stat));
}

/// getData's reply.
#[inline]
pub fn frame_data(out: &mut Vec<u8>, xid: Xid, zxid: Zxid, data: Option<&[u8]>, stat: &Stat) {
    let bytes = data.unwrap_or_default();
    let body = 4 + bytes.len() + STAT_BYTES;
    out.reserve(LENGTH_BYTES + HEADER_BYTES + body);
    out.extend_from_slice(&head(HEADER_BYTES + body, xid, zxid, 0));
    out.put_buffer(data);
    out.extend_from_slice(&stat_bytes(stat));
}

/// Length word and header in one block, for bodies that follow by themselves, in portions or as one more block.
/// `frame_bytes` counts header and body, and is at most `FRAME_BYTES_MOST`: the caller has looked.
#[inline]
pub fn head(frame_bytes: usize, xid: Xid, zxid: Zxid, error: i32) -> [u8; LENGTH_BYTES + HEADER_BYTES] {
    let length = i32::try_from(frame_bytes).expect("a frame is less than 2 GiB");
    let mut out = [0; LENGTH_BYTES + HEADER_BYTES];
    out[0..4].copy_from_slice(&length.to_be_bytes());
    out[4..8].copy_from_slice(&xid.0.to_be_bytes());
    out[8..16].copy_from_slice(&zxid.to_wire().to_be_bytes());
    out[16..20].copy_from_slice(&error.to_be_bytes());
    out
}

/// A reply's header, as clients read it. For tests and tools.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplyHeader {
    pub xid: Xid,
    pub zxid: Zxid,
    /// Raw: other servers may send codes we do not know.
    pub error: i32,
}

impl ReplyHeader {
    /// Splits a frame's body.
    pub fn decode(body: &[u8]) -> Result<(ReplyHeader, &[u8]), Malformed> {
        let mut r = Reader::new(body);
        let header = ReplyHeader { xid: Xid(r.i32()?), zxid: r.zxid()?, error: r.i32()? };
        Ok((header, r.rest()))
    }
}

/// What a watch reports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(i32)]
pub enum EventKind {
    NodeCreated = 1,
    NodeDeleted = 2,
    NodeDataChanged = 3,
    NodeChildrenChanged = 4,
}

/// Keeper state in every event a server sends: SyncConnected.
const STATE_SYNC_CONNECTED: i32 = 3;

/// Appends a notification. `zxid` is that of the txn that fired it, `ZXID_NONE` for those that setWatches finds.
pub fn frame_event(out: &mut Vec<u8>, zxid: Zxid, kind: EventKind, path: &str) {
    let body = 4 + 4 + 4 + path.len();
    out.reserve(LENGTH_BYTES + HEADER_BYTES + body);
    out.extend_from_slice(&head(HEADER_BYTES + body, Xid::NOTIFICATION, zxid, 0));
    out.put_i32(kind as i32);
    out.put_i32(STATE_SYNC_CONNECTED);
    out.put_string(path);
}

/// Bytes of a notification for a path of that length: for bounds on what is queued.
pub const fn event_bytes(path_bytes: usize) -> usize {
    LENGTH_BYTES + HEADER_BYTES + 12 + path_bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::WallMillis;

    fn check(put: impl FnOnce(&mut Vec<u8>), hex: &str) {
        let mut out = b"before".to_vec();
        put(&mut out);
        let found: String = out[6..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, hex.replace(' ', ""));
    }

    const XID: Xid = Xid(7);
    const ZXID: Zxid = Zxid(0x57);

    /// getData of a `zookeeper_stats` znode, as Apache 3.9.5 answered it.
    fn stat() -> Stat {
        Stat {
            czxid: ZXID,
            mzxid: ZXID,
            ctime: WallMillis(0x1a1_fdff_b322),
            mtime: WallMillis(0x1a1_fdff_b322),
            version: 0,
            cversion: 0,
            aversion: 0,
            ephemeral_owner: 0,
            data_length: 0xf,
            num_children: 0,
            pzxid: ZXID,
        }
    }

    const STAT_HEX: &str = "0000000000000057 0000000000000057 000001a1fdffb322 000001a1fdffb322 00000000 00000000 \
                            00000000 0000000000000000 0000000f 00000000 0000000000000057";

    #[test]
    fn replies() {
        check(
            |out| frame_bare(out, XID, ZXID, ErrorCode::NoNode),
            "00000010 00000007 0000000000000057 ffffff9b",
        );
        check(
            |out| frame_bare(out, XID, ZXID_NONE, ErrorCode::Unimplemented),
            "00000010 00000007 ffffffffffffffff fffffffa",
        );
        check(
            |out| frame_stat(out, XID, ZXID, &stat()),
            &format!("00000054 00000007 0000000000000057 00000000 {STAT_HEX}"),
        );
        check(
            |out| frame_data(out, XID, ZXID, Some(b"count=2,bytes=2"), &stat()),
            &format!(
                "00000067 00000007 0000000000000057 00000000 0000000f 636f756e743d322c62797465733d32 {STAT_HEX}"
            ),
        );
        check(
            |out| frame_data(out, XID, ZXID, None, &stat()),
            &format!("00000058 00000007 0000000000000057 00000000 ffffffff {STAT_HEX}"),
        );
        check(
            |out| frame_reply(out, XID, ZXID, ErrorCode::Ok, |out| out.put_string("/p")),
            "00000016 00000007 0000000000000057 00000000 00000002 2f70",
        );
    }

    #[test]
    fn events() {
        let hex = "00000020 ffffffff 0000000000000057 00000000 00000002 00000003 00000004 2f612f62";
        check(|out| frame_event(out, ZXID, EventKind::NodeDeleted, "/a/b"), hex);
        let mut out = Vec::new();
        frame_event(&mut out, ZXID, EventKind::NodeDeleted, "/a/b");
        assert_eq!(out.len(), event_bytes(4));
    }

    #[test]
    fn headers_and_stats_come_back() {
        let mut out = Vec::new();
        frame_stat(&mut out, XID, ZXID, &stat());
        let (header, body) = ReplyHeader::decode(&out[LENGTH_BYTES..]).unwrap();
        assert_eq!(header, ReplyHeader { xid: XID, zxid: ZXID, error: 0 });
        assert_eq!(Reader::new(body).stat(), Ok(stat()));
        assert_eq!(ReplyHeader::decode(&out[..8]), Err(Malformed::Truncated));
    }
}
