//! Plays steps to one server and writes down, in order, all it answers on every connection.
//! After each step every connection is pinged: what the step caused there has come once the ping is answered.
//! Not here: the other server; comparing is `main`'s.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::client::{
    ANSWER_MAX, Client, ConnectRequest, ConnectResponse, Connection, EVENT_XID, OPEN_ACL, PING_XID, Received,
    Reply, op, request,
};
use crate::jute::{Body, Reader};

use super::describe::Names;
use super::script::{Action, Attach, Call, Fresh, SLOTS, Step};

/// How long a connection that must close may take for it.
const CLOSE_MAX: Duration = Duration::from_secs(15);

const UNIMPLEMENTED: i32 = -6;
const AUTH_FAILED: i32 = -115;

/// One server while it plays one seed.
pub struct Side {
    address: SocketAddr,
    /// A session of the super user that looks on, and clears up at the end.
    control: Client,
    names: Names,
    slots: [Slot; SLOTS],
    newest: i64,
    /// The last reply was one that ends the connection.
    closing: bool,
    /// Clears watch flags on its way out: a difference planted to see that it is found.
    planted: bool,
}

#[derive(Default)]
struct Slot {
    session: Option<ConnectResponse>,
    connection: Option<Connection>,
    /// Sessions it had so far.
    sessions: u32,
}

/// One line of what was seen; events of one txn may have to be put in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Event { slot: usize, zxid: i64, text: String },
    Other(String),
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Seen::Event { slot, text, .. } => write!(f, "slot {slot}: {text}"),
            Seen::Other(text) => f.write_str(text),
        }
    }
}

impl Side {
    pub fn begin(address: SocketAddr, planted: bool) -> io::Result<Side> {
        let mut control = Client::connect(address, 120_000)?;
        let token = Body::new().int(0).string("digest").string("super:admin");
        control.call(op::AUTH, &token.0)?;
        let base = control.call(op::PING, &[])?.zxid;
        let names =
            Names { base, sessions: HashMap::from([(control.session.session, "control".to_owned())]) };
        Ok(Side { address, control, names, slots: Default::default(), newest: base, closing: false, planted })
    }

    /// Connects the slot if the step needs that and it is not connected.
    pub fn prepare(&mut self, step: &Step, fresh: &Fresh, seen: &mut Vec<Seen>) -> io::Result<()> {
        let slot = &mut self.slots[step.slot];
        let attaches = matches!(step.action, Action::Attach(_)) && slot.session.is_some();
        if !matches!(step.action, Action::Stranger(_)) && slot.connection.is_none() && !attaches {
            let asked = match slot.session.clone() {
                Some(session) => ConnectRequest::again(&session),
                None => ConnectRequest {
                    timeout_ms: fresh.timeout_ms,
                    read_only: fresh.read_only,
                    password: fresh.password.map(|length| vec![0; length]),
                    ..ConnectRequest::new(0)
                },
            };
            self.attach(step.slot, &asked, "connect", seen)?;
        }
        if let Action::Attach(Attach::WrongPassword { .. }) = step.action {
            // Only while nobody is connected.
            self.slots[step.slot].connection = None;
        }
        Ok(())
    }

    pub fn send(&mut self, step: &Step) {
        let newest = self.newest;
        let planted = self.planted;
        let Some(connection) = &mut self.slots[step.slot].connection else { return };
        // A failed write shows as the end of the connection when it is read.
        match &step.action {
            Action::Calls(calls) => {
                let bytes: Vec<u8> = calls.iter().flat_map(|call| encode(call, newest, planted)).collect();
                let _ = connection.send(&bytes);
            }
            Action::BadFrame(bytes) => {
                let _ = connection.send(bytes);
            }
            Action::Drop => self.slots[step.slot].connection = None,
            Action::Attach(_) | Action::Stranger(_) => {}
        }
    }

    /// Reads what the step itself is answered with.
    pub fn gather(&mut self, step: &Step, seen: &mut Vec<Seen>) -> io::Result<()> {
        match &step.action {
            Action::Calls(calls) => self.gather_replies(step.slot, calls, seen),
            Action::BadFrame(_) => self.read_to_the_end(step.slot, seen),
            Action::Attach(attach) => self.reattach(step.slot, attach, seen)?,
            Action::Stranger(bytes) => {
                let mut connection = Connection::open(self.address)?;
                connection.send(bytes)?;
                seen.push(Seen::Other(format!("stranger: {}", stranger_answer(&mut connection))));
            }
            Action::Drop => {}
        }
        Ok(())
    }

    pub fn send_pings(&mut self) {
        for slot in &mut self.slots {
            if let Some(connection) = &mut slot.connection {
                let _ = connection.send(&request(PING_XID, op::PING, &[]));
            }
        }
    }

    pub fn gather_pings(&mut self, seen: &mut Vec<Seen>) {
        let ping =
            Call { label: "ping".to_owned(), xid: PING_XID, op: op::PING, body: vec![], zxid_back: None };
        for slot in 0..SLOTS {
            if self.slots[slot].connection.is_some() {
                self.gather_replies(slot, std::slice::from_ref(&ping), seen);
            }
        }
    }

    /// Which slots still have a session to close.
    pub fn open_sessions(&self) -> Vec<usize> {
        (0..SLOTS).filter(|slot| self.slots[*slot].session.is_some()).collect()
    }

    /// The whole tree as its super user sees it, a line a znode, sorted.
    pub fn tree(&mut self) -> io::Result<Vec<Seen>> {
        let mut lines = Vec::new();
        let mut ahead = VecDeque::from([String::from("/")]);
        while let Some(path) = ahead.pop_front() {
            let mut line = format!("{path:?}");
            for (op, watch) in [(op::GET_DATA, true), (op::GET_ACL, false)] {
                let body = Body::new().string(&path);
                let body = if watch { body.bool(false) } else { body };
                let reply = self.control.call(op, &body.0)?;
                line.push_str(&format!("\n    {}", self.names.reply(op, "walk", &Reply { xid: 0, ..reply })));
            }
            lines.push(Seen::Other(line));
            ahead.extend(self.children(&path)?.into_iter().map(|name| join(&path, &name)));
        }
        Ok(lines)
    }

    /// Figures about the whole server that do not depend on time.
    pub fn counts(&self) -> io::Result<Vec<Seen>> {
        const WANTED: [&str; 3] = ["zk_znode_count", "zk_ephemerals_count", "zk_watch_count"];
        let answer = crate::peers::four_letter_word(self.address, "mntr")?;
        let lines = answer.lines().filter(|line| WANTED.iter().any(|name| line.starts_with(name)));
        let mut lines: Vec<Seen> = lines.map(|line| Seen::Other(line.replace('\t', " "))).collect();
        lines.sort_by_key(ToString::to_string);
        Ok(lines)
    }

    /// Removes all that a script may have left, and gives the root its ACL back.
    pub fn clear(mut self) -> io::Result<()> {
        for path in ["/", "/zookeeper", "/zookeeper/quota"] {
            self.control.call(op::SET_ACL, &Body::new().string(path).raw(OPEN_ACL).int(-1).0)?;
        }
        for name in self.children("/zookeeper/quota")? {
            self.remove(&format!("/zookeeper/quota/{name}"))?;
        }
        for name in
            self.children("/zookeeper")?.into_iter().filter(|name| name != "quota" && name != "config")
        {
            self.remove(&format!("/zookeeper/{name}"))?;
        }
        for name in self.children("/")?.into_iter().filter(|name| name != "zookeeper") {
            self.remove(&format!("/{name}"))?;
        }
        self.control.close().map(|_| ())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        for name in self.children(path)? {
            self.remove(&join(path, &name))?;
        }
        self.control.call(op::DELETE, &Body::new().string(path).int(-1).0).map(|_| ())
    }

    fn children(&mut self, path: &str) -> io::Result<Vec<String>> {
        let reply = self.control.call(op::GET_CHILDREN, &Body::new().string(path).bool(false).0)?;
        let mut names = Reader(&reply.body).strings().filter(|_| reply.err == 0).unwrap_or_default();
        names.sort();
        Ok(names)
    }

    // --- connections ---

    fn attach(
        &mut self,
        slot: usize,
        asked: &ConnectRequest,
        what: &str,
        seen: &mut Vec<Seen>,
    ) -> io::Result<()> {
        let mut connection = Connection::open(self.address)?;
        let Some(response) = connection.handshake(asked)? else {
            seen.push(Seen::Other(format!("slot {slot}: {what}: closed without an answer")));
            return Ok(());
        };
        if response.timeout_ms > 0 {
            if asked.session != response.session {
                self.slots[slot].sessions += 1;
                let name = format!("slot {slot} session {}", self.slots[slot].sessions);
                self.names.sessions.insert(response.session, name);
            }
            if self.slots[slot].connection.is_some() {
                // The session has moved: its old connection must go by itself.
                self.read_to_the_end(slot, seen);
            }
            self.slots[slot].session = Some(response.clone());
            self.slots[slot].connection = Some(connection);
        } else {
            let end = stranger_answer(&mut connection);
            seen.push(Seen::Other(format!("slot {slot}: {what} refused: {end}")));
        }
        seen.push(Seen::Other(format!("slot {slot}: {}", self.names.connected(&response, what))));
        Ok(())
    }

    fn reattach(&mut self, slot: usize, attach: &Attach, seen: &mut Vec<Seen>) -> io::Result<()> {
        let Some(session) = self.slots[slot].session.clone() else { return Ok(()) };
        let again = ConnectRequest::again(&session);
        let (asked, what) = match attach {
            Attach::Same { timeout_ms, read_only } => {
                (ConnectRequest { timeout_ms: *timeout_ms, read_only: *read_only, ..again }, "attach again")
            }
            Attach::Seen { ahead } => {
                let asked = ConnectRequest { last_zxid: self.newest + ahead, ..again };
                (asked, if *ahead > 0 { "attach from the future" } else { "attach from the past" })
            }
            Attach::Unknown => {
                let session = 0x7f00_1234_5678_0000 + slot as i64;
                let password = Some(crate::client::password_of(session).to_vec());
                (ConnectRequest { session, password, ..again }, "attach to a session that never was")
            }
            Attach::WrongPassword { length } => {
                let password = length.map(|length| vec![0x55; length]);
                (ConnectRequest { password, ..again }, "attach with a wrong password")
            }
        };
        // Sessions other than the slot's own never come to be, so its connection is safe.
        self.attach(slot, &asked, what, seen)
    }

    // --- reading ---

    fn gather_replies(&mut self, slot: usize, calls: &[Call], seen: &mut Vec<Seen>) {
        for call in calls {
            loop {
                let Some(connection) = &mut self.slots[slot].connection else { return };
                let received = connection.receive(ANSWER_MAX);
                if !self.note(slot, Some(call), received, seen) {
                    self.slots[slot].connection = None;
                    return;
                }
                if matches!(seen.last(), Some(Seen::Other(_))) {
                    break;
                }
            }
            if call.op == op::CLOSE_SESSION {
                self.slots[slot].session = None;
            }
            if call.op == op::CLOSE_SESSION || self.closing {
                self.read_to_the_end(slot, seen);
            }
        }
    }

    fn read_to_the_end(&mut self, slot: usize, seen: &mut Vec<Seen>) {
        while let Some(connection) = &mut self.slots[slot].connection {
            let received = connection.receive(CLOSE_MAX);
            if !self.note(slot, None, received, seen) {
                self.slots[slot].connection = None;
            }
        }
    }

    /// False when the connection is of no more use.
    fn note(&mut self, slot: usize, call: Option<&Call>, received: Received, seen: &mut Vec<Seen>) -> bool {
        let other = |text: String| Seen::Other(format!("slot {slot}: {text}"));
        let frame = match received {
            Received::Frame(frame) => frame,
            Received::End => {
                seen.push(other("closed".to_owned()));
                return false;
            }
            Received::Silence => {
                seen.push(other(format!("no answer to {:?}", call.map(|call| &call.label))));
                return false;
            }
        };
        let Some(reply) = Reply::decode(&frame) else {
            seen.push(other(format!("a frame without a header: {frame:02x?}")));
            return false;
        };
        match call {
            _ if reply.xid == EVENT_XID => {
                seen.push(Seen::Event { slot, zxid: reply.zxid, text: self.names.event(&reply) });
            }
            Some(call) => {
                self.newest = self.newest.max(reply.zxid);
                // After these two the server closes; a ping must not race with that.
                self.closing = matches!((reply.err, reply.zxid), (UNIMPLEMENTED, -1) | (AUTH_FAILED, _));
                seen.push(other(self.names.reply(call.op, &call.label, &reply)));
            }
            None => seen.push(other(format!("a reply to nothing: {reply:02x?}"))),
        }
        true
    }
}

/// Events of one zxid as a set where a session is closed: its ephemerals go in the order of a hash set that Apache copies,
/// and whether a create sent just before is in the copied one or joins the copy is a matter of its threads.
pub fn settle(step: &Step, seen: &mut [Seen]) {
    let closes = |call: &Call| call.op == op::CLOSE_SESSION;
    if matches!(&step.action, Action::Calls(calls) if calls.iter().any(closes)) {
        let same = |a: &Seen, b: &Seen| match (a, b) {
            (Seen::Event { slot: s, zxid: z, .. }, Seen::Event { slot, zxid, .. }) => (s, z) == (slot, zxid),
            _ => false,
        };
        for run in seen.chunk_by_mut(same) {
            run.sort_by_key(ToString::to_string);
        }
    }
}

fn encode(call: &Call, newest: i64, planted: bool) -> Vec<u8> {
    let mut body = call.body.clone();
    if let Some(back) = call.zxid_back {
        body[..8].copy_from_slice(&(newest - back).to_be_bytes());
    }
    if planted && matches!(call.op, op::EXISTS | op::GET_DATA) {
        body.pop();
        body.push(0);
    }
    request(call.xid, call.op, &body)
}

fn stranger_answer(connection: &mut Connection) -> String {
    match connection.receive_all(CLOSE_MAX) {
        (bytes, true) => format!("{:?}, closed", String::from_utf8_lossy(&bytes)),
        (bytes, false) => format!("{:?}, and left open", String::from_utf8_lossy(&bytes)),
    }
}

fn join(parent: &str, name: &str) -> String {
    if parent == "/" { format!("/{name}") } else { format!("{parent}/{name}") }
}
