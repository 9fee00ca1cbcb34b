//! The clients: each keeps a session, sends what its dice say, pipelined, and hands every frame it gets to the checker.
//! Not here: whether what it gets is right (`checker`), what breaks (`faults`).

use crate::checker::{Checked, Checker, Heard};
use crate::history::History;
use crate::model::{Keep, ReadKind, Request, WatchLists, Write, error};
use crate::net::{HostId, Net};
use crate::plant::Plant;
use ostler_tests::client::{ConnectRequest, PING_XID, framed, request};
use ostler_tests::random::Random;
use std::collections::BTreeSet;

/// Requests that a client has under way at most.
const PENDING_MAX: usize = 40;
/// Between two looks at a connection that does not stand.
const UNSERVED_NANOS_MAX: u64 = 60_000_000;
/// How long a handshake may take before the client tries again.
const OPENING_NANOS_MAX: u64 = 3_000_000_000;

/// One client's end of a connection.
struct Line {
    number: u64,
    buffer: Vec<u8>,
    established: bool,
    since: u64,
    pending: usize,
}

/// What it would ask setWatches for.
#[derive(Default)]
struct Watching {
    data: BTreeSet<String>,
    exist: BTreeSet<String>,
    child: BTreeSet<String>,
    persistent: BTreeSet<String>,
    recursive: BTreeSet<String>,
}

/// TTLs are no longer, milliseconds.
pub const TTL_MS_MOST: u64 = 2_000;

pub struct Client {
    index: usize,
    /// Where it may connect.
    servers: Vec<HostId>,
    random: Random,
    line: Option<Line>,
    /// Connections it has left open while it moved its session to another.
    left: Vec<Line>,
    session: Option<(i64, Vec<u8>)>,
    timeout_ms: u64,
    xid: i32,
    act_at: u64,
    read_at: u64,
    sent_at: u64,
    silent_until: u64,
    slow: bool,
    think_nanos: u64,
    watching: Watching,
    /// Says nothing new any more.
    finishing: bool,
    finished: bool,
    /// How the server misreads what it sends.
    plant: Option<Plant>,
}

impl Client {
    pub fn new(
        index: usize,
        servers: Vec<HostId>,
        plant: Option<Plant>,
        mut random: Random,
        tick_ms: u32,
    ) -> Client {
        let tick_ms = u64::from(tick_ms);
        let timeout_ms = random.between(2 * tick_ms, 6 * tick_ms);
        let think_nanos = *random.pick(&[300_000, 3_000_000, 40_000_000]);
        let slow = random.one_in(5);
        Client {
            index,
            servers,
            line: None,
            left: Vec::new(),
            session: None,
            timeout_ms,
            xid: 0,
            act_at: random.below(20_000_000),
            read_at: 0,
            sent_at: 0,
            silent_until: 0,
            slow,
            think_nanos,
            watching: Watching::default(),
            finishing: false,
            finished: false,
            plant,
            random,
        }
    }

    /// When it wants to act next; and whether it has something to read.
    pub fn due(&self, net: &Net) -> u64 {
        let lines = self.line.iter().chain(&self.left);
        let news = lines.into_iter().any(|line| net.has_news(line.number));
        if news { self.act_at.min(self.read_at) } else { self.act_at }
    }

    /// No new requests; one last read brings all events that are owed.
    pub fn finish(&mut self, now: u64) {
        self.finishing = true;
        self.silent_until = 0;
        self.slow = false;
        self.read_at = now;
        self.act_at = now;
    }

    pub fn is_finished(&self) -> bool {
        self.finished && self.line.as_ref().is_none_or(|line| line.established && line.pending == 0)
    }

    /// Leaves without a word.
    pub fn vanish(&mut self, net: &mut Net, checker: &mut Checker) {
        for line in self.line.take().into_iter().chain(self.left.drain(..)) {
            let all_read = net.reset(line.number);
            checker.gone(line.number, all_read);
        }
        self.act_at = u64::MAX;
    }

    pub fn turn(&mut self, now: u64, net: &mut Net, checker: &mut Checker, history: &mut History) -> Checked {
        if self.read_at <= now {
            self.read(now, net, checker, history)?;
        }
        if self.act_at <= now {
            self.act(now, net, checker, history);
            let pause = match self.random.below(10) {
                0 => self.random.below(self.think_nanos * 10),
                _ => self.random.below(self.think_nanos),
            };
            let is_served = self.line.as_ref().is_some_and(|line| line.established);
            // Where nobody answers there is no hurry.
            let pause = if is_served { pause } else { pause.max(self.random.below(UNSERVED_NANOS_MAX)) };
            self.act_at = (now + pause).max(self.silent_until);
        }
        Ok(())
    }

    // --- reading ----------------------------------------------------------------------------------------------------

    fn read(&mut self, now: u64, net: &mut Net, checker: &mut Checker, history: &mut History) -> Checked {
        let most = if self.slow { self.random.between(1, 200) as usize } else { usize::MAX };
        self.read_at =
            now + if self.slow { self.random.below(20_000_000) } else { self.random.below(100_000) };
        for mut line in std::mem::take(&mut self.left) {
            if self.read_line(&mut line, now, most, net, checker, history)? {
                self.left.push(line);
            }
        }
        if let Some(mut line) = self.line.take() {
            match self.read_line(&mut line, now, most, net, checker, history)? {
                true => self.line = Some(line),
                false => self.act_at = self.act_at.max(now + self.random.below(5_000_000)),
            }
        }
        Ok(())
    }

    /// False: the connection is over.
    fn read_line(
        &mut self,
        line: &mut Line,
        now: u64,
        most: usize,
        net: &mut Net,
        checker: &mut Checker,
        history: &mut History,
    ) -> Checked<bool> {
        line.buffer.extend(net.receive(line.number, most));
        while let Some(frame) = take_frame(&mut line.buffer) {
            let heard = checker.frame(line.number, &frame);
            let brief = match &heard {
                Ok(Heard::Reply { request, err, zxid }) => format!("zxid {zxid:x} err {err} to {request:?}"),
                other => format!("{other:?}"),
            };
            history.note(now, format!("client {} on {} hears {brief}", self.index, line.number));
            self.heard(line, heard?);
        }
        if net.is_over(line.number) {
            history.note(now, format!("client {} loses {}", self.index, line.number));
            net.collect(line.number);
            checker.gone(line.number, true);
            return Ok(false);
        }
        Ok(true)
    }

    fn heard(&mut self, line: &mut Line, heard: Heard) {
        match heard {
            Heard::Established { session, password } => {
                line.established = true;
                self.session = Some((session, password));
            }
            Heard::Refused => self.forget_session(),
            Heard::Event => {}
            Heard::Reply { request, err, .. } => {
                line.pending = line.pending.saturating_sub(1);
                match request {
                    Request::Close => self.forget_session(),
                    Request::Read { path, kind, watch: true } => self.remember(path, kind, err),
                    Request::AddWatch { path, recursive: true } => {
                        self.watching.recursive.insert(path);
                    }
                    Request::AddWatch { path, recursive: false } => {
                        self.watching.persistent.insert(path);
                    }
                    _ => {}
                }
            }
        }
    }

    fn forget_session(&mut self) {
        self.session = None;
        self.watching = Watching::default();
    }

    fn remember(&mut self, path: String, kind: ReadKind, err: i32) {
        match (kind, err) {
            (ReadKind::Exists, error::NO_NODE) => self.watching.exist.insert(path),
            (ReadKind::Exists | ReadKind::Data, error::OK) => self.watching.data.insert(path),
            (_, error::OK) => self.watching.child.insert(path),
            _ => false,
        };
    }

    // --- acting -----------------------------------------------------------------------------------------------------

    fn act(&mut self, now: u64, net: &mut Net, checker: &mut Checker, history: &mut History) {
        let Some(line) = &self.line else { return self.connect(now, net, checker, history) };
        if !line.established {
            if now - line.since > OPENING_NANOS_MAX {
                self.drop_line(net, checker);
            }
            return;
        }
        if self.finishing {
            if !self.finished {
                self.finished = true;
                self.send(
                    Request::Read { path: "/".into(), kind: ReadKind::Exists, watch: false },
                    now,
                    net,
                    checker,
                    history,
                );
            } else if now - self.sent_at > self.timeout_ms * 1_000_000 / 4 {
                self.send(Request::Ping, now, net, checker, history);
            }
            return;
        }
        match self.random.below(100) {
            0 => self.drop_line(net, checker),
            1 => {
                // FIN behind what was sent; the answers are not waited for.
                if let Some(line) = self.line.take() {
                    net.end(line.number, now);
                    checker.gone(line.number, true);
                }
            }
            2 => {
                if let Some(line) = self.line.take() {
                    self.left.push(line);
                }
                self.connect(now, net, checker, history);
            }
            5 if !self.left.is_empty() => {
                // From a connection whose session has moved: it must not count.
                let current = std::mem::replace(&mut self.line, self.left.pop());
                let request = Request::Write(self.write());
                self.send(request, now, net, checker, history);
                self.left.extend(std::mem::replace(&mut self.line, current));
            }
            3 => self.send(Request::Close, now, net, checker, history),
            4 => {
                let most = 3 * self.timeout_ms * 1_000_000;
                self.silent_until = now + self.random.below(most);
            }
            5..=14 => self.send(Request::Ping, now, net, checker, history),
            _ => {
                let count = if self.random.one_in(3) { self.random.between(1, 12) } else { 1 };
                for _ in 0..count {
                    let request = self.request(checker);
                    self.send(request, now, net, checker, history);
                }
            }
        }
    }

    fn drop_line(&mut self, net: &mut Net, checker: &mut Checker) {
        if let Some(line) = self.line.take() {
            let all_read = net.reset(line.number);
            checker.gone(line.number, all_read);
        }
    }

    fn connect(&mut self, now: u64, net: &mut Net, checker: &mut Checker, history: &mut History) {
        let server = *self.random.pick(&self.servers);
        let Some(number) = net.connect(server) else { return };
        let (session, password) = self.session.clone().unwrap_or((0, vec![0; 16]));
        let ask = ConnectRequest {
            last_zxid: checker.seen(session),
            session,
            password: Some(password),
            ..ConnectRequest::new(self.timeout_ms as i32)
        };
        let text = format!("client {} connects to {server} on {number} for 0x{session:x}", self.index);
        history.note(now, text);
        let frame = framed(&ask.encode());
        checker.connecting(number, server, session, frame.len());
        net.send(number, now, &frame);
        self.sent_at = now;
        let again = session != 0;
        self.line = Some(Line { number, buffer: Vec::new(), established: false, since: now, pending: 0 });
        if !again {
            self.watching = Watching::default();
        }
    }

    fn send(
        &mut self,
        asked: Request,
        now: u64,
        net: &mut Net,
        checker: &mut Checker,
        history: &mut History,
    ) {
        let Some(line) = self.line.as_mut().filter(|line| line.pending < PENDING_MAX) else { return };
        self.xid += 1;
        let xid = match asked {
            Request::Ping => PING_XID,
            Request::SetWatches { .. } => -8,
            _ => self.xid,
        };
        history.note(now, format!("client {} on {} sends {xid} {asked:?}", self.index, line.number));
        let read = self.plant.map(|plant| plant.misread(&asked));
        let (op, record) = read.as_ref().unwrap_or(&asked).encode();
        line.pending += 1;
        checker.sent(line.number, xid, &asked);
        net.send(line.number, now, &request(xid, op, &record));
        self.sent_at = now;
    }

    fn request(&mut self, checker: &Checker) -> Request {
        if self.servers.len() > 1 && self.random.one_in(12) {
            return Request::Sync { path: self.path() };
        }
        match self.random.below(100) {
            0..=39 => Request::Write(self.write()),
            40..=49 => {
                let count = self.random.below(5);
                let writes = (0..count).map(|_| match self.random.one_in(4) {
                    true => Write::Check { path: self.path(), version: self.version() },
                    false => self.write(),
                });
                Request::Multi(writes.collect())
            }
            50..=85 => {
                let kinds = [ReadKind::Exists, ReadKind::Data, ReadKind::Children, ReadKind::ChildrenStat];
                let kind = *self.random.pick(&kinds);
                let path = self.any_path();
                Request::Read { path, kind, watch: self.random.one_in(2) }
            }
            86..=87 => {
                let count = self.random.below(4);
                Request::MultiRead((0..count).map(|_| (self.any_path(), self.random.one_in(2))).collect())
            }
            88..=89 => {
                let (kind, remove) = (self.random.between(1, 5) as i32, self.random.one_in(2));
                Request::FindWatches { path: self.any_path(), kind, remove }
            }
            90..=92 => Request::AddWatch { path: self.directory(), recursive: self.random.one_in(2) },
            93..=94 => {
                let Watching { data, exist, child, persistent, recursive } =
                    std::mem::take(&mut self.watching);
                let relative = self.session.as_ref().map_or(0, |(session, _)| checker.seen(*session));
                let list = |set: BTreeSet<String>| set.into_iter().collect();
                let lists = WatchLists {
                    data: list(data),
                    exist: list(exist),
                    child: list(child),
                    persistent: list(persistent),
                    recursive: list(recursive),
                };
                Request::SetWatches { relative, lists }
            }
            95..=97 => Request::Sync { path: self.path() },
            _ => Request::Ephemerals,
        }
    }

    fn write(&mut self) -> Write {
        match self.random.below(10) {
            0..=4 => {
                let path = if self.random.one_in(3) { self.directory() } else { self.path() };
                let path = if path == "/" { "/d0".into() } else { path };
                let keep = match self.random.below(8) {
                    0..=2 if path.matches('/').count() > 1 => Keep::Ephemeral,
                    3 => Keep::Container,
                    4 => Keep::Ttl(self.random.between(1, TTL_MS_MOST) as i64),
                    _ => Keep::Always,
                };
                Write::Create {
                    path,
                    data: self.data(),
                    keep,
                    sequential: keep != Keep::Container && self.random.one_in(6),
                    with_stat: self.random.one_in(2),
                }
            }
            5..=6 => Write::Delete { path: self.path(), version: self.version() },
            _ => {
                let path = if self.random.one_in(4) { self.directory() } else { self.path() };
                Write::SetData { path, data: self.data(), version: self.version() }
            }
        }
    }

    fn version(&mut self) -> i32 {
        if self.random.one_in(3) { self.random.below(3) as i32 } else { -1 }
    }

    fn data(&mut self) -> Vec<u8> {
        // Sometimes beyond what a record holds inline, sometimes beyond a page.
        let bytes = match self.random.below(20) {
            0 => self.random.below(6000),
            1 => self.random.between(250, 262),
            _ => self.random.below(40),
        };
        (0..bytes).map(|at| (at as u8).wrapping_mul(31) ^ self.random.below(4) as u8).collect()
    }

    fn directory(&mut self) -> String {
        (*self.random.pick(&["/", "/d0", "/d1", "/d0/e"])).to_owned()
    }

    fn any_path(&mut self) -> String {
        if self.random.one_in(3) { self.directory() } else { self.path() }
    }

    fn path(&mut self) -> String {
        let directory = *self.random.pick(&["", "/d0", "/d1", "/d0/e"]);
        format!("{directory}/n{}", self.random.below(4))
    }
}

fn take_frame(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = u32::from_be_bytes(buffer.get(..4)?.try_into().ok()?) as usize;
    let frame = buffer.get(4..4 + length)?.to_vec();
    buffer.drain(..4 + length);
    Some(frame)
}
