//! A small blocking client that shows every byte: frames, handshake, replies and events in the order they came.
//! Written from the protocol's description, without the engine's codecs.
//! Not here: retries, reconnection, callbacks; a test wants to see what happened, not to be spared it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::jute::{Body, Reader};

/// How long an answer may take before it counts as missing.
pub const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Longer announced replies are taken for garbage.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// Request types by their names in the protocol.
pub mod op {
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_ACL: i32 = 6;
    pub const SET_ACL: i32 = 7;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const GET_CHILDREN2: i32 = 12;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const RECONFIG: i32 = 16;
    pub const CHECK_WATCHES: i32 = 17;
    pub const REMOVE_WATCHES: i32 = 18;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const DELETE_CONTAINER: i32 = 20;
    pub const CREATE_TTL: i32 = 21;
    pub const MULTI_READ: i32 = 22;
    pub const AUTH: i32 = 100;
    pub const SET_WATCHES: i32 = 101;
    pub const SASL: i32 = 102;
    pub const GET_EPHEMERALS: i32 = 103;
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub const SET_WATCHES2: i32 = 105;
    pub const ADD_WATCH: i32 = 106;
    pub const WHO_AM_I: i32 = 107;
    pub const CLOSE_SESSION: i32 = -11;
}

/// `vector<ACL>` of `world:anyone:cdrwa`.
pub const OPEN_ACL: &[u8] = b"\0\0\0\x01\0\0\0\x1f\0\0\0\x05world\0\0\0\x06anyone";

/// What a client sends first.
#[derive(Clone, Debug)]
pub struct ConnectRequest {
    pub protocol: i32,
    pub last_zxid: i64,
    pub timeout_ms: i32,
    /// 0 asks for a new session.
    pub session: i64,
    pub password: Option<Vec<u8>>,
    /// `None` leaves the field out, as clients before 3.4 did.
    pub read_only: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectResponse {
    pub protocol: i32,
    /// 0 says that there is no such session.
    pub timeout_ms: i32,
    pub session: i64,
    pub password: Option<Vec<u8>>,
    pub read_only: Option<bool>,
}

/// A reply or, with xid -1, an event: header and the body's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub xid: i32,
    pub zxid: i64,
    pub err: i32,
    pub body: Vec<u8>,
}

pub const EVENT_XID: i32 = -1;
pub const PING_XID: i32 = -2;

/// What a read of the socket brought.
#[derive(Debug)]
pub enum Received {
    Frame(Vec<u8>),
    /// The server closed the connection.
    End,
    /// Nothing within the time given.
    Silence,
}

/// One TCP connection, framed.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    pending: Vec<u8>,
}

impl ConnectRequest {
    /// A new session as today's clients ask for it.
    pub fn new(timeout_ms: i32) -> ConnectRequest {
        let password = Some(vec![0; 16]);
        ConnectRequest { protocol: 0, last_zxid: 0, timeout_ms, session: 0, password, read_only: Some(false) }
    }

    /// The session of an earlier answer once more.
    pub fn again(of: &ConnectResponse) -> ConnectRequest {
        let password = of.password.clone();
        ConnectRequest { session: of.session, password, ..ConnectRequest::new(of.timeout_ms) }
    }

    pub fn encode(&self) -> Vec<u8> {
        let body =
            Body::new().int(self.protocol).long(self.last_zxid).int(self.timeout_ms).long(self.session);
        let body = body.buffer(self.password.as_deref());
        self.read_only.into_iter().fold(body, Body::bool).0
    }
}

impl ConnectResponse {
    /// `None` when the bytes are not exactly one response.
    pub fn decode(frame: &[u8]) -> Option<ConnectResponse> {
        let mut reader = Reader(frame);
        let (protocol, timeout_ms, session) = (reader.int()?, reader.int()?, reader.long()?);
        let password = reader.buffer()?.map(<[u8]>::to_vec);
        let read_only = reader.byte().map(|byte| byte != 0);
        reader.0.is_empty().then_some(ConnectResponse { protocol, timeout_ms, session, password, read_only })
    }
}

impl Reply {
    pub fn decode(frame: &[u8]) -> Option<Reply> {
        let mut reader = Reader(frame);
        let (xid, zxid, err) = (reader.int()?, reader.long()?, reader.int()?);
        Some(Reply { xid, zxid, err, body: reader.0.to_vec() })
    }
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        Ok(Connection { stream, pending: Vec::new() })
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn send_frame(&mut self, body: &[u8]) -> io::Result<()> {
        self.send(&framed(body))
    }

    /// The next frame. Errors of the socket count as its end: the other side reset it.
    pub fn receive(&mut self, patience: Duration) -> Received {
        if self.stream.set_read_timeout(Some(patience)).is_err() {
            return Received::End;
        }
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(frame) = self.whole_frame() {
                return Received::Frame(frame);
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Received::End,
                Ok(count) => self.pending.extend_from_slice(&chunk[..count]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Received::Silence;
                }
                Err(_) => return Received::End,
            }
        }
    }

    /// All bytes until the server closes, and whether it did.
    pub fn receive_all(&mut self, patience: Duration) -> (Vec<u8>, bool) {
        let mut bytes = std::mem::take(&mut self.pending);
        let closed = self.stream.set_read_timeout(Some(patience)).is_ok()
            && match self.stream.read_to_end(&mut bytes) {
                Ok(_) => true,
                Err(e) => !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            };
        (bytes, closed)
    }

    /// Sends the request and reads the answer; `None` when the server closed instead.
    pub fn handshake(&mut self, request: &ConnectRequest) -> io::Result<Option<ConnectResponse>> {
        self.send_frame(&request.encode())?;
        match self.receive(ANSWER_MAX) {
            Received::Frame(frame) => ConnectResponse::decode(&frame).map(Some).ok_or_else(|| {
                io::Error::new(ErrorKind::InvalidData, format!("no ConnectResponse: {frame:02x?}"))
            }),
            Received::End => Ok(None),
            Received::Silence => Err(io::Error::new(ErrorKind::TimedOut, "no ConnectResponse")),
        }
    }

    fn whole_frame(&mut self) -> Option<Vec<u8>> {
        let announced = i32::from_be_bytes(self.pending.get(..4)?.try_into().expect("four bytes"));
        let length = usize::try_from(announced).ok().filter(|length| *length <= FRAME_BYTES_MAX);
        let length = length.unwrap_or_else(|| panic!("the server sent a frame of {announced} bytes"));
        let frame = self.pending.get(4..4 + length)?.to_vec();
        self.pending.drain(..4 + length);
        Some(frame)
    }
}

/// `body` behind its length.
pub fn framed(body: &[u8]) -> Vec<u8> {
    Body::new().buffer(Some(body)).0
}

/// A request's frame, length word included.
pub fn request(xid: i32, op: i32, body: &[u8]) -> Vec<u8> {
    framed(&Body::new().int(xid).int(op).raw(body).0)
}

/// The password that belongs to a session id: the first sixteen bytes of Java's generator seeded with it.
pub fn password_of(session: i64) -> [u8; 16] {
    const MASK: u64 = (1 << 48) - 1;
    let mut state = ((session as u64 ^ 0xB341_5C00) ^ 0x5_DEEC_E66D) & MASK;
    let mut password = [0; 16];
    for word in password.chunks_exact_mut(4) {
        state = state.wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB) & MASK;
        word.copy_from_slice(&((state >> 16) as u32).to_le_bytes());
    }
    password
}

/// A session on one connection, one request at a time; events gather in `events`.
#[derive(Debug)]
pub struct Client {
    pub connection: Connection,
    pub session: ConnectResponse,
    pub events: VecDeque<Reply>,
    xid: i32,
}

impl Client {
    pub fn connect(address: SocketAddr, timeout_ms: i32) -> io::Result<Client> {
        Client::attach(address, &ConnectRequest::new(timeout_ms))
    }

    /// Errors when the server closes without an answer or knows no such session.
    pub fn attach(address: SocketAddr, request: &ConnectRequest) -> io::Result<Client> {
        let mut connection = Connection::open(address)?;
        let refused = || io::Error::new(ErrorKind::ConnectionRefused, "no session");
        let session =
            connection.handshake(request)?.filter(|answer| answer.timeout_ms > 0).ok_or_else(refused)?;
        Ok(Client { connection, session, events: VecDeque::new(), xid: 0 })
    }

    /// Sends one request and waits for its reply.
    pub fn call(&mut self, op: i32, body: &[u8]) -> io::Result<Reply> {
        self.xid += 1;
        self.connection.send(&request(self.xid, op, body))?;
        loop {
            let reply = match self.connection.receive(ANSWER_MAX) {
                Received::Frame(frame) => Reply::decode(&frame),
                Received::End => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed")),
                Received::Silence => return Err(io::Error::new(ErrorKind::TimedOut, "no reply")),
            };
            let reply =
                reply.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "a frame without a header"))?;
            if reply.xid != EVENT_XID {
                return Ok(reply);
            }
            self.events.push_back(reply);
        }
    }

    /// Creates a persistent znode open to all; the reply's error code.
    pub fn create(&mut self, path: &str, data: &[u8]) -> io::Result<i32> {
        let body = Body::new().string(path).buffer(Some(data)).raw(OPEN_ACL).int(0);
        self.call(op::CREATE, &body.0).map(|reply| reply.err)
    }

    /// A znode's data; `None` when there is none.
    pub fn get(&mut self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let reply = self.call(op::GET_DATA, &Body::new().string(path).bool(false).0)?;
        Ok((reply.err == 0).then(|| Reader(&reply.body).buffer().flatten().unwrap_or_default().to_vec()))
    }

    /// Ends the session; the reply's error code.
    pub fn close(mut self) -> io::Result<i32> {
        self.call(op::CLOSE_SESSION, &[]).map(|reply| reply.err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_of_a_known_session() {
        let hex: String =
            password_of(0x0100_0016_0993_0000).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "af6cf1e710b25969a5fceb1fd9183530");
    }
}
