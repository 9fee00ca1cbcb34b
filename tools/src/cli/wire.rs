//! The client's half of the protocol: requests to bytes, replies to values.
//! Not here: the server's half, which is `ostler_engine::wire`.

/// Operation numbers the shell sends.
pub mod op {
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_ACL: i32 = 6;
    pub const SET_ACL: i32 = 7;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const GET_CHILDREN2: i32 = 12;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const RECONFIG: i32 = 16;
    pub const REMOVE_WATCHES: i32 = 18;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const CREATE_TTL: i32 = 21;
    pub const CLOSE_SESSION: i32 = -11;
    pub const AUTH: i32 = 100;
    pub const GET_EPHEMERALS: i32 = 103;
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub const SET_WATCHES2: i32 = 105;
    pub const ADD_WATCH: i32 = 106;
    pub const WHO_AM_I: i32 = 107;
}

pub const NONE: i32 = -1;
pub const CREATED: i32 = 1;
pub const DELETED: i32 = 2;
pub const DATA_CHANGED: i32 = 3;
pub const CHILDREN_CHANGED: i32 = 4;
pub const DATA_WATCH_REMOVED: i32 = 5;
pub const CHILD_WATCH_REMOVED: i32 = 6;
pub const PERSISTENT_WATCH_REMOVED: i32 = 7;

pub const STATE_DISCONNECTED: i32 = 0;
pub const STATE_SYNC_CONNECTED: i32 = 3;
pub const STATE_AUTH_FAILED: i32 = 4;
pub const STATE_CONNECTED_READ_ONLY: i32 = 5;
pub const STATE_CLOSED: i32 = 7;
pub const STATE_EXPIRED: i32 = -112;

/// A watch or session event. `path` is empty for session events.
#[derive(Clone, Debug)]
pub struct Event {
    pub kind: i32,
    pub state: i32,
    pub path: String,
    /// Zxid of the txn that fired it, or -1.
    pub zxid: i64,
}

impl Event {
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            NONE => "None",
            CREATED => "NodeCreated",
            DELETED => "NodeDeleted",
            DATA_CHANGED => "NodeDataChanged",
            CHILDREN_CHANGED => "NodeChildrenChanged",
            DATA_WATCH_REMOVED => "DataWatchRemoved",
            CHILD_WATCH_REMOVED => "ChildWatchRemoved",
            PERSISTENT_WATCH_REMOVED => "PersistentWatchRemoved",
            _ => "Unknown",
        }
    }

    pub fn state_name(&self) -> &'static str {
        match self.state {
            STATE_DISCONNECTED => "Disconnected",
            STATE_SYNC_CONNECTED => "SyncConnected",
            STATE_AUTH_FAILED => "AuthFailed",
            STATE_CONNECTED_READ_ONLY => "ConnectedReadOnly",
            6 => "SaslAuthenticated",
            STATE_CLOSED => "Closed",
            STATE_EXPIRED => "Expired",
            _ => "Unknown",
        }
    }
}

/// A reply frame taken apart; `body` starts behind the header and means nothing when `error` is not 0.
#[derive(Clone, Debug)]
pub struct Reply {
    pub xid: i32,
    pub zxid: i64,
    pub error: i32,
    pub body: Vec<u8>,
}

pub struct Handshake {
    pub timeout_ms: i32,
    pub session: i64,
    pub password: Vec<u8>,
    pub read_only: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: i64,
    pub data_length: i32,
    pub num_children: i32,
    pub pzxid: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    pub perms: i32,
    pub scheme: String,
    pub id: String,
}

/// Building a request body field by field.
#[derive(Default)]
pub struct Body(Vec<u8>);

impl Body {
    pub fn new() -> Body {
        Body::default()
    }

    pub fn int(mut self, value: i32) -> Body {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn long(mut self, value: i64) -> Body {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn flag(mut self, value: bool) -> Body {
        self.0.push(value.into());
        self
    }

    /// `None` is the protocol's null, which is not the same as empty.
    pub fn buffer(self, value: Option<&[u8]>) -> Body {
        match value {
            Some(bytes) => {
                let mut body = self.int(bytes.len() as i32);
                body.0.extend_from_slice(bytes);
                body
            }
            None => self.int(-1),
        }
    }

    pub fn text(self, value: &str) -> Body {
        self.buffer(Some(value.as_bytes()))
    }

    pub fn acls(self, acls: &[Acl]) -> Body {
        acls.iter().fold(self.int(acls.len() as i32), |body, acl| {
            body.int(acl.perms).text(&acl.scheme).text(&acl.id)
        })
    }

    pub fn append(mut self, bytes: &[u8]) -> Body {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn done(self) -> Vec<u8> {
        self.0
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    Body::new().buffer(Some(payload)).done()
}

pub fn request(xid: i32, op: i32, body: &[u8]) -> Vec<u8> {
    frame(&Body::new().int(xid).int(op).append(body).done())
}

pub fn connect(seen: i64, timeout_ms: i32, session: i64, password: &[u8], read_only: bool) -> Vec<u8> {
    let body = Body::new().int(0).long(seen).int(timeout_ms).long(session);
    frame(&body.buffer(Some(password)).flag(read_only).done())
}

/// No `auth` at all is not the same as an empty one: the digest scheme refuses it.
pub fn auth(scheme: &str, auth: Option<&[u8]>) -> Vec<u8> {
    Body::new().int(0).text(scheme).buffer(auth).done()
}

/// Lists in the record's order: data, exist, child, persistent, persistentRecursive.
pub fn set_watches(seen: i64, lists: &[Vec<&str>; 5]) -> Vec<u8> {
    let body = lists.iter().fold(Body::new().long(seen), |body, list| {
        list.iter().fold(body.int(list.len() as i32), |body, path| body.text(path))
    });
    body.done()
}

/// Takes one whole frame off the front of `buffer`, without its length. A negative length is left in place: the
/// connection then makes no progress and the caller's bound on the buffer ends it.
pub fn take_frame(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = i32::from_be_bytes(*buffer.first_chunk::<4>()?);
    let end = usize::try_from(length).ok()? + 4;
    if buffer.len() < end {
        return None;
    }
    let frame = buffer[4..end].to_vec();
    buffer.drain(..end);
    Some(frame)
}

/// Reading a body field by field; `None` when the bytes end too early.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn int(&mut self) -> Option<i32> {
        let (head, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(i32::from_be_bytes(*head))
    }

    pub fn long(&mut self) -> Option<i64> {
        let (head, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(i64::from_be_bytes(*head))
    }

    /// The inner `None` is the protocol's null.
    pub fn buffer(&mut self) -> Option<Option<&'a [u8]>> {
        let length = self.int()?;
        let Ok(length) = usize::try_from(length) else { return Some(None) };
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Some(head))
    }

    pub fn text(&mut self) -> Option<String> {
        Some(String::from_utf8_lossy(self.buffer()?.unwrap_or_default()).into_owned())
    }

    pub fn texts(&mut self) -> Option<Vec<String>> {
        (0..self.int()?.max(0)).map(|_| self.text()).collect()
    }

    pub fn acls(&mut self) -> Option<Vec<Acl>> {
        (0..self.int()?.max(0))
            .map(|_| Some(Acl { perms: self.int()?, scheme: self.text()?, id: self.text()? }))
            .collect()
    }

    pub fn stat(&mut self) -> Option<Stat> {
        Some(Stat {
            czxid: self.long()?,
            mzxid: self.long()?,
            ctime: self.long()?,
            mtime: self.long()?,
            version: self.int()?,
            cversion: self.int()?,
            aversion: self.int()?,
            ephemeral_owner: self.long()?,
            data_length: self.int()?,
            num_children: self.int()?,
            pzxid: self.long()?,
        })
    }
}

pub fn reply(frame: &[u8]) -> Option<Reply> {
    let mut fields = Fields(frame);
    let (xid, zxid, error) = (fields.int()?, fields.long()?, fields.int()?);
    Some(Reply { xid, zxid, error, body: fields.0.to_vec() })
}

pub fn event(reply: &Reply) -> Option<Event> {
    let mut fields = Fields(&reply.body);
    Some(Event { kind: fields.int()?, state: fields.int()?, path: fields.text()?, zxid: reply.zxid })
}

pub fn handshake(frame: &[u8]) -> Option<Handshake> {
    let mut fields = Fields(frame);
    fields.int()?;
    let (timeout_ms, session) = (fields.int()?, fields.long()?);
    let password = fields.buffer()?.unwrap_or_default().to_vec();
    Some(Handshake { timeout_ms, session, password, read_only: fields.0.first().is_some_and(|b| *b != 0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole() {
        let mut buffer = request(7, op::SYNC, b"abc");
        let whole = buffer.clone();
        buffer.extend_from_slice(&[0, 0]);
        assert_eq!(take_frame(&mut buffer).as_deref(), Some(&whole[4..]));
        assert_eq!(take_frame(&mut buffer), None);
        assert_eq!(buffer, [0, 0]);
    }

    #[test]
    fn null_and_empty_differ() {
        let bytes = Body::new().buffer(None).buffer(Some(b"")).done();
        let mut fields = Fields(&bytes);
        assert_eq!(
            (fields.buffer(), fields.buffer(), fields.buffer()),
            (Some(None), Some(Some(&b""[..])), None)
        );
    }

    #[test]
    fn connect_request_is_45_bytes() {
        assert_eq!(connect(0, 30_000, 0, &[0; 16], false).len(), 4 + 45);
    }
}
