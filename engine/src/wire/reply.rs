//! Replies and notifications as frames (client-protocol.md §4, §6, §7, §8).
//! Not here: what is answered, and when.

use super::frame::{LENGTH_BYTES, put_frame};
use super::jute::{JutePut, STAT_BYTES, stat_bytes};
use super::request::OpCode;
use crate::model::{ErrorCode, Stat, Xid};
use ostler_replication::Zxid;

/// Bytes of a reply header.
pub const HEADER_BYTES: usize = 16;
/// Header zxid of -6 for an unknown op, and of events made while setWatches is handled.
pub const ZXID_NONE: Zxid = Zxid(u64::MAX);

/// Appends a whole reply frame: length word, header, and what `body` writes. On an error the body is empty by
/// convention: clients do not parse it.
#[inline]
pub fn frame_reply(
    out: &mut Vec<u8>,
    xid: Xid,
    zxid: Zxid,
    error: ErrorCode,
    body: impl FnOnce(&mut Vec<u8>),
) {
    put_frame(out, |out| {
        put_header(out, xid, zxid, error.to_wire());
        body(out);
    });
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

/// Length word and header in one block. The length word lets portions of a large body follow by themselves:
/// `body_bytes` counts the header.
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

fn put_header(out: &mut Vec<u8>, xid: Xid, zxid: Zxid, error: i32) {
    out.put_i32(xid.0);
    out.put_zxid(zxid);
    out.put_i32(error);
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

/// One result of a multi or multiRead.
#[derive(Clone, PartialEq, Debug)]
pub enum MultiResult<'a> {
    Create {
        path: &'a str,
    },
    /// create2, createContainer and createTTL alike.
    Create2 {
        path: &'a str,
        stat: Stat,
    },
    Delete,
    SetData(Stat),
    Check,
    GetData {
        data: Option<&'a [u8]>,
        stat: Stat,
    },
    GetChildren(&'a [&'a str]),
    /// In a failed multi: 0 before the failing operation, its code, -2 after it.
    Error(i32),
}

impl MultiResult<'_> {
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            MultiResult::Create { path } => {
                put_multi_header(out, OpCode::Create.to_i32(), false, 0);
                out.put_string(path);
            }
            MultiResult::Create2 { path, stat } => {
                put_multi_header(out, OpCode::Create2.to_i32(), false, 0);
                out.put_string(path);
                out.put_stat(stat);
            }
            MultiResult::Delete => put_multi_header(out, OpCode::Delete.to_i32(), false, 0),
            MultiResult::SetData(stat) => {
                put_multi_header(out, OpCode::SetData.to_i32(), false, 0);
                out.put_stat(stat);
            }
            MultiResult::Check => put_multi_header(out, OpCode::Check.to_i32(), false, 0),
            MultiResult::GetData { data, stat } => {
                put_multi_header(out, OpCode::GetData.to_i32(), false, 0);
                out.put_buffer(*data);
                out.put_stat(stat);
            }
            MultiResult::GetChildren(names) => {
                put_multi_header(out, OpCode::GetChildren.to_i32(), false, 0);
                out.put_count(names.len());
                for name in *names {
                    out.put_string(name);
                }
            }
            MultiResult::Error(code) => {
                put_multi_header(out, -1, false, *code);
                out.put_i32(*code);
            }
        }
    }
}

/// Precedes each result; also each operation of a request, with err -1.
pub fn put_multi_header(out: &mut Vec<u8>, kind: i32, done: bool, error: i32) {
    out.put_i32(kind);
    out.put_bool(done);
    out.put_i32(error);
}

/// Ends the list of results, and that of operations.
pub fn put_multi_end(out: &mut Vec<u8>) {
    put_multi_header(out, -1, true, -1);
}
