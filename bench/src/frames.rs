//! Requests as bytes and replies as little as the generator needs of them.
//! No allocation per request: everything is appended to a connection's output buffer.

use std::io;

/// What one request does; also the index of its histogram.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Op {
    Read = 0,
    Exists = 1,
    Children = 2,
    Write = 3,
    Create = 4,
    Delete = 5,
    Multi = 6,
    Ping = 7,
    Connect = 8,
    Close = 9,
    Watch = 10,
}

impl Op {
    pub const COUNT: usize = 11;
    pub const ALL: [Op; Op::COUNT] = [
        Op::Read,
        Op::Exists,
        Op::Children,
        Op::Write,
        Op::Create,
        Op::Delete,
        Op::Multi,
        Op::Ping,
        Op::Connect,
        Op::Close,
        Op::Watch,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Op::Read => "read",
            Op::Exists => "exists",
            Op::Children => "children",
            Op::Write => "write",
            Op::Create => "create",
            Op::Delete => "delete",
            Op::Multi => "multi",
            Op::Ping => "ping",
            Op::Connect => "connect",
            Op::Close => "close",
            Op::Watch => "watch",
        }
    }
}

const OP_CREATE: i32 = 1;
const OP_DELETE: i32 = 2;
const OP_EXISTS: i32 = 3;
const OP_GET_DATA: i32 = 4;
const OP_SET_DATA: i32 = 5;
const OP_PING: i32 = 11;
const OP_GET_CHILDREN2: i32 = 12;
const OP_MULTI: i32 = 14;
const OP_CLOSE: i32 = -11;

/// vector<ACL> with the one entry world:anyone, all permissions.
const OPEN_ACL: &[u8] = b"\0\0\0\x01\0\0\0\x1f\0\0\0\x05world\0\0\0\x06anyone";

pub const EPHEMERAL_SEQUENTIAL: i32 = 3;

fn int(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    int(out, value.len() as i32);
    out.extend_from_slice(value);
}

/// One frame: reserves the length word, lets `body` append, fills the length in.
fn frame(out: &mut Vec<u8>, xid: i32, op: i32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    int(out, 0);
    int(out, xid);
    int(out, op);
    body(out);
    let length = (out.len() - start - 4) as i32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

pub fn connect(out: &mut Vec<u8>, timeout_ms: i32) {
    attach(out, timeout_ms, 0, &[0; 16]);
}

/// Asks for a session again; 0 asks for a new one.
pub fn attach(out: &mut Vec<u8>, timeout_ms: i32, session: i64, password: &[u8; 16]) {
    int(out, 45);
    int(out, 0);
    out.extend_from_slice(&0i64.to_be_bytes());
    int(out, timeout_ms);
    out.extend_from_slice(&session.to_be_bytes());
    bytes(out, password);
    out.push(0);
}

pub fn get_data(out: &mut Vec<u8>, xid: i32, path: &[u8], watch: bool) {
    frame(out, xid, OP_GET_DATA, |out| {
        bytes(out, path);
        out.push(watch.into());
    });
}

pub fn exists(out: &mut Vec<u8>, xid: i32, path: &[u8], watch: bool) {
    frame(out, xid, OP_EXISTS, |out| {
        bytes(out, path);
        out.push(watch.into());
    });
}

pub fn get_children(out: &mut Vec<u8>, xid: i32, path: &[u8]) {
    frame(out, xid, OP_GET_CHILDREN2, |out| {
        bytes(out, path);
        out.push(0);
    });
}

pub fn set_data(out: &mut Vec<u8>, xid: i32, path: &[u8], data: &[u8]) {
    frame(out, xid, OP_SET_DATA, |out| {
        bytes(out, path);
        bytes(out, data);
        int(out, -1);
    });
}

pub fn create(out: &mut Vec<u8>, xid: i32, path: &[u8], data: &[u8], flags: i32) {
    frame(out, xid, OP_CREATE, |out| {
        bytes(out, path);
        bytes(out, data);
        out.extend_from_slice(OPEN_ACL);
        int(out, flags);
    });
}

pub fn delete(out: &mut Vec<u8>, xid: i32, path: &[u8]) {
    frame(out, xid, OP_DELETE, |out| {
        bytes(out, path);
        int(out, -1);
    });
}

/// A multi that sets each of `paths` to `data`.
pub fn multi_set(out: &mut Vec<u8>, xid: i32, paths: &[Vec<u8>], data: &[u8]) {
    frame(out, xid, OP_MULTI, |out| {
        for path in paths {
            int(out, OP_SET_DATA);
            out.push(0);
            int(out, -1);
            bytes(out, path);
            bytes(out, data);
            int(out, -1);
        }
        int(out, -1);
        out.push(1);
        int(out, -1);
    });
}

pub fn ping(out: &mut Vec<u8>) {
    frame(out, -2, OP_PING, |_| {});
}

pub fn close(out: &mut Vec<u8>, xid: i32) {
    frame(out, xid, OP_CLOSE, |_| {});
}

/// Header of a reply frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHeader {
    pub xid: i32,
    pub zxid: i64,
    pub error: i32,
}

/// Reads what is there behind `input`; false at the end of the stream.
pub fn read_dry(stream: &mut impl io::Read, scratch: &mut [u8], input: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        match stream.read(scratch) {
            Ok(0) => return Ok(false),
            Ok(count) => {
                input.extend_from_slice(&scratch[..count]);
                if count < scratch.len() {
                    return Ok(true);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// The frame at the front of `input`: its whole length with the length word, or `None` when it is not all there.
pub fn whole_frame(input: &[u8]) -> Option<usize> {
    let length = i32::from_be_bytes(*input.first_chunk::<4>()?);
    let end = 4 + usize::try_from(length).ok()?;
    (input.len() >= end).then_some(end)
}

/// `frame` without its length word.
pub fn reply_header(frame: &[u8]) -> Option<ReplyHeader> {
    let (xid, rest) = frame.split_first_chunk::<4>()?;
    let (zxid, rest) = rest.split_first_chunk::<8>()?;
    let error = rest.first_chunk::<4>()?;
    Some(ReplyHeader {
        xid: i32::from_be_bytes(*xid),
        zxid: i64::from_be_bytes(*zxid),
        error: i32::from_be_bytes(*error),
    })
}

/// Negotiated timeout in ms (0 or less: refused) and session id of a ConnectResponse without its length word.
pub fn connect_response(frame: &[u8]) -> Option<(i32, i64)> {
    let timeout = frame.get(4..8)?.first_chunk::<4>()?;
    let session = frame.get(8..16)?.first_chunk::<8>()?;
    Some((i32::from_be_bytes(*timeout), i64::from_be_bytes(*session)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_carry_their_length() {
        let mut out = Vec::new();
        get_data(&mut out, 5, b"/a", false);
        assert_eq!(out, b"\0\0\0\x0f\0\0\0\x05\0\0\0\x04\0\0\0\x02/a\0");
        assert_eq!(whole_frame(&out), Some(out.len()));
        assert_eq!(whole_frame(&out[..9]), None);
    }

    #[test]
    fn connect_is_45_bytes() {
        let mut out = Vec::new();
        connect(&mut out, 10_000);
        assert_eq!(out.len(), 49);
        assert_eq!(whole_frame(&out), Some(49));
    }
}
