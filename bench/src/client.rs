//! One blocking session: set-up, clean-up and recipes. Nothing here is measured for its own speed.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::frames::{self, ReplyHeader};

pub struct Client {
    stream: TcpStream,
    next_xid: i32,
    /// Path of each watch event that came while waiting for replies.
    pub events: Vec<Vec<u8>>,
}

impl Client {
    pub fn connect(target: SocketAddr, timeout_ms: i32) -> io::Result<Client> {
        Client::connect_within(target, timeout_ms, Duration::from_secs(60))
    }

    /// `patience`: how long each answer may take. A server that is still starting may swallow a handshake for good, so
    /// that who waits for one had better give up soon and dial again.
    pub fn connect_within(target: SocketAddr, timeout_ms: i32, patience: Duration) -> io::Result<Client> {
        let mut stream = TcpStream::connect_timeout(&target, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        let mut out = Vec::new();
        frames::connect(&mut out, timeout_ms);
        stream.write_all(&out)?;
        let mut client = Client { stream, next_xid: 1, events: Vec::new() };
        let answer = client.frame()?;
        match frames::connect_response(&answer) {
            Some((timeout, _)) if timeout > 0 => Ok(client),
            _ => Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the server refused a session")),
        }
    }

    fn frame(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = Vec::new();
        let length = u64::from(u32::from_be_bytes(length));
        (&mut self.stream).take(length).read_to_end(&mut frame)?;
        if frame.len() as u64 == length { Ok(frame) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Sends what `write` appends under the given xid and waits for its reply: header and body.
    pub fn call(&mut self, write: impl FnOnce(&mut Vec<u8>, i32)) -> io::Result<(ReplyHeader, Vec<u8>)> {
        let mut out = Vec::new();
        write(&mut out, self.next_xid);
        self.next_xid += 1;
        self.stream.write_all(&out)?;
        loop {
            if let Some(reply) = self.receive()? {
                return Ok(reply);
            }
        }
    }

    /// Takes one frame; `None` when it was an event, which is kept.
    fn receive(&mut self) -> io::Result<Option<(ReplyHeader, Vec<u8>)>> {
        let frame = self.frame()?;
        let header = frames::reply_header(&frame).ok_or(io::ErrorKind::InvalidData)?;
        match header.xid {
            -1 => self.events.push(frame.get(28..).unwrap_or_default().to_vec()),
            -2 => {}
            _ => return Ok(Some((header, frame[16..].to_vec()))),
        }
        Ok(None)
    }

    /// Waits until an event has come.
    pub fn await_event(&mut self) -> io::Result<()> {
        while self.events.is_empty() {
            self.receive()?;
        }
        self.events.clear();
        Ok(())
    }

    /// Creates a persistent znode; one that exists is fine.
    pub fn ensure(&mut self, path: &str) -> io::Result<()> {
        let (header, _) = self.call(|out, xid| frames::create(out, xid, path.as_bytes(), b"", 0))?;
        match header.error {
            0 | -110 => Ok(()),
            code => Err(io::Error::other(format!("create {path}: error {code}"))),
        }
    }

    /// Names of the children.
    pub fn children(&mut self, path: &str) -> io::Result<Vec<String>> {
        let (header, body) = self.call(|out, xid| frames::get_children(out, xid, path.as_bytes()))?;
        if header.error != 0 {
            return Err(io::Error::other(format!("getChildren {path}: error {}", header.error)));
        }
        strings(&body).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    pub fn close(mut self) -> io::Result<()> {
        self.call(frames::close).map(|_| ())
    }
}

/// The vector of strings at the front of a body.
fn strings(body: &[u8]) -> Option<Vec<String>> {
    let (count, mut rest) = body.split_first_chunk::<4>()?;
    let mut names = Vec::new();
    for _ in 0..i32::from_be_bytes(*count) {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let (name, tail) = tail.split_at_checked(usize::try_from(i32::from_be_bytes(*length)).ok()?)?;
        names.push(String::from_utf8_lossy(name).into_owned());
        rest = tail;
    }
    Some(names)
}
