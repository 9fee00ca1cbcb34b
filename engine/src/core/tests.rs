//! Transcripts: requests go in as text, decisions come out as text. `OSTLER_REWRITE=1 cargo test -p ostler-engine core`
//! writes what comes out into the files; the diff is for reviewing.
//!
//! Commands stand at the left margin, what they bring is indented, `#` explains.
//!
//! ```text
//! set KEY VALUE             changes a setting; only before the first request
//! connect A [timeout]       connection A asks for a new session
//! attach B A [wrong]        connection B asks for A's session
//! A create /p [data=x|*length] [flags=n] [acl=perms:scheme:id,..|none|null] [op=n] [ttl=n]
//! A delete /p [v]  A set /p data|*length [v]  A setacl /p acl [v]  A reap /p  A sync  A ephemerals [prefix]  A reconfig
//! A multi create /a data=x; set /b y 3; check /c 1; delete /d
//! A raw OP HEX              any record
//! A auth scheme id          from here on A's requests carry this identity
//! A fill /p COUNT LENGTH    that many ephemerals with names of that length, without a word
//! A .. & B delete /p        two requests with a turn in between
//! A close  A gone  A silent TOKEN  touch A
//! snapshots slow            from here on they are under way until the next line
//! snapshot BYTES            the one under way is written, with this size
//! door                      from here on requests wait while the core wants none, as they do in the intake
//! hold | durable            stop making every batch durable at once; make what waits durable and go on
//! at MS                     time passes, in turns of 50 ms
//! frozen MS                 time passes without a turn
//! space ok|reserve|floor|full
//! memory KIB                how much znodes may take from now on
//! ls /p                     what the newest state has
//! restart [MS]              a new core on the same state; its first turn comes so much later
//! ```
//! More of them, for servers of an ensemble, in `script`.

mod script;

mod bounds;

use super::*;
use crate::config::Config;
use crate::model::Identity;
use crate::ring::Outcome;
use crate::wire::{OpCode, Reader};
use crate::world;
use ostler_replication::Solo;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::num::NonZeroU32;
use std::sync::Arc;

const WALL: i64 = 1_700_000_000_000;

struct Bench {
    settings: Settings,
    core: Option<Core>,
    head: Option<Head>,
    now_ms: u64,
    conns: BTreeMap<String, Conn>,
    sessions: HashMap<String, SessionId>,
    proposals: VecDeque<Proposal>,
    hold: bool,
    /// Requests that wait to be taken, if they may.
    door: Option<VecDeque<CoreRequest>>,
    /// All that came before then were taken.
    heard: Moment,
    slow_snapshots: bool,
    out: String,
    /// The broadcast, unless the server is alone.
    script: Option<script::Script>,
    /// The leader of this server.
    far: Option<Box<Bench>>,
    /// All that is asked of it is answered at once.
    is_learner: bool,
    /// Of what learners asked.
    cxid: i32,
}

struct Conn {
    at: ConnRef,
    name: String,
    ids: Vec<Identity>,
    xid: i32,
    /// What was asked, by xid: replies do not say.
    asked: HashMap<i32, OpCode>,
    answered: i32,
}

fn settings() -> Settings {
    let mut settings = Settings::of(&Config::embedded("/nowhere"), 1);
    settings.tick_ms = 1000;
    settings.session_timeout_ms_least = 2000;
    settings.session_timeout_ms_most = 20_000;
    settings
}

#[track_caller]
fn check(name: &str) {
    let path = format!("{}/src/core/transcripts/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let script = std::fs::read_to_string(&path).unwrap();
    let got = run(&script);
    if std::env::var_os("OSTLER_REWRITE").is_some() {
        std::fs::write(&path, &got).unwrap();
        return;
    }
    for (line, (got, expected)) in got.lines().zip(script.lines()).enumerate() {
        assert_eq!(got, expected, "{name}.txt:{}", line + 1);
    }
    assert_eq!(got.lines().count(), script.lines().count(), "{name}.txt");
}

fn run(script: &str) -> String {
    let mut bench = Bench::new();
    for line in script.lines().filter(|line| !line.starts_with("    ")) {
        bench.out.push_str(line);
        bench.out.push('\n');
        if !line.is_empty() && !line.starts_with('#') {
            bench.command(line);
        }
    }
    bench.out
}

impl Bench {
    fn new() -> Bench {
        Bench {
            settings: settings(),
            core: None,
            head: Some(Head::new(world::Settings { hash_seed: [1, 2], digests: true })),
            now_ms: 10_000,
            conns: BTreeMap::new(),
            sessions: HashMap::new(),
            proposals: VecDeque::new(),
            hold: false,
            door: None,
            heard: Moment::default(),
            slow_snapshots: false,
            out: String::new(),
            script: None,
            far: None,
            is_learner: false,
            cxid: 0,
        }
    }

    fn now(&self) -> Now {
        Now { mono: Moment::from_millis(self.now_ms), wall: WallMillis(WALL + self.now_ms as i64) }
    }

    fn core(&mut self) -> &mut Core {
        let now = self.now();
        if let Some(head) = self.head.take() {
            let mut begun = Outputs::new();
            let broadcast: Box<dyn Broadcast> = match &self.script {
                Some(script) => Box::new(script.clone()),
                None => Box::new(Solo::new(head.zxid(), &mut begun)),
            };
            self.core = Some(Core::new(self.settings.clone(), head, broadcast, begun, 0, now));
        }
        self.core.as_mut().unwrap()
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if self.command_of_script(&words, line) {
            return self.turn();
        }
        match *words.as_slice() {
            ["set", key, value] => self.set(key, value),
            ["connect", conn] => self.connect(conn, None, 6000, false),
            ["connect", conn, timeout] => self.connect(conn, None, timeout.parse().unwrap(), false),
            ["attach", conn, of] => self.connect(conn, Some(of), 6000, false),
            ["attach", conn, of, "wrong"] => self.connect(conn, Some(of), 6000, true),
            ["snapshots", "slow"] => self.slow_snapshots = true,
            ["snapshot", bytes] => self.step(CoreInput::SnapshotEnded(bytes.parse().ok())),
            ["door"] => self.door = Some(VecDeque::new()),
            ["hold"] => self.hold = true,
            ["durable"] => self.hold = false,
            ["at", ms] => {
                let until: u64 = ms.parse().unwrap();
                while self.now_ms < until {
                    self.now_ms += 50;
                    self.turn();
                }
                return;
            }
            ["frozen", ms] => self.now_ms = ms.parse().unwrap(),
            ["space", level] => {
                let space = match level {
                    "ok" => Space::Ok,
                    "reserve" => Space::Reserve,
                    "floor" => Space::Floor,
                    _ => Space::Full,
                };
                self.step(CoreInput::Space(space));
            }
            ["memory", kib] => {
                let bytes = kib.parse::<usize>().unwrap() << 10;
                self.core().head.limit_memory(bytes);
            }
            ["ls", path] => return self.list(path),
            ["touch", conn] => {
                let session = self.sessions[conn];
                self.step(CoreInput::Request(CoreRequest::Touch(vec![session])));
            }
            ["restart"] => {
                let core = self.core.take().unwrap();
                assert!(core.is_quiet());
                self.head = Some(core.head);
            }
            ["restart", ms] => {
                let core = self.core.take().unwrap();
                assert!(core.is_quiet());
                self.head = Some(core.head);
                self.core();
                self.now_ms += ms.parse::<u64>().unwrap();
            }
            [conn, "fill", path, count, length] => {
                let before = self.out.len();
                for number in 0..count.parse::<usize>().unwrap() {
                    let length: usize = length.parse().unwrap();
                    let name = format!("{number:0length$}");
                    self.request(conn, &format!("create {path}/{name} flags=1"));
                    self.turn();
                }
                self.out.truncate(before);
            }
            [.., "&", _, _, _] => {
                for part in line.split('&') {
                    let (conn, request) = part.trim().split_once(' ').unwrap();
                    self.request(conn, request);
                    self.turn_once();
                }
            }
            [conn, ..] => self.request(conn, line[conn.len()..].trim()),
            [] => {}
        }
        self.turn();
    }

    fn set(&mut self, key: &str, value: &str) {
        let number = value.parse::<u64>().unwrap_or(0);
        match key {
            "extended_types" => self.settings.extended_types = value == "yes",
            "enforce_quota" => self.settings.enforce_quota = value == "yes",
            "reconfig_enabled" => self.settings.reconfig_enabled = value == "yes",
            "skip_acl" => self.settings.schemes.skip_acl = value == "yes",
            "batch_txns_max" => self.settings.batch_txns_max = number as usize,
            "entry_bytes_max" => self.settings.entry_bytes_max = number as usize,
            "check_ms" => self.settings.containers.check_ms = number,
            "deletes_per_minute" => self.settings.containers.deletes_per_minute = number as u32,
            "never_used_ms" => self.settings.containers.never_used_ms = Some(number),
            "snap_txns" => self.settings.snap_txns = number as u32,
            "flush_delay_ms" => self.settings.flush_delay_ms = number,
            "flush_idle_ms" => self.settings.flush_idle_ms = number,
            // As if the server had run until just before this counter.
            "zxid" => {
                let header = TxnHeader {
                    session: SessionId::NONE,
                    cxid: Xid(0),
                    zxid: Zxid(u64::from_str_radix(value, 16).unwrap()),
                    time: WallMillis(0),
                    kind: -1,
                };
                let head = self.head.as_mut().unwrap();
                head.apply(&header, &TxnBody::Error { code: -1 }, &mut crate::world::Changes::default());
                head.seal();
            }
            other => panic!("no such setting: {other}"),
        }
    }

    fn connect(&mut self, conn: &str, of: Option<&str>, timeout_ms: i32, wrong: bool) {
        let slot = self.conns.len() as u32;
        let from = ConnRef { worker: 0, slot, generation: NonZeroU32::MIN };
        let new =
            Conn { at: from, name: conn.into(), ids: Vec::new(), xid: 0, asked: HashMap::new(), answered: 0 };
        self.conns.insert(conn.into(), new);
        let session =
            of.map_or(SessionId::NONE, |of| self.sessions.get(of).copied().unwrap_or(SessionId(77)));
        let password = if wrong { [7; 16] } else { session::password(session) };
        let ask = ConnectRequest {
            protocol: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms,
            session,
            password: Some(password),
            read_only: Some(false),
        };
        if of.is_some() {
            self.sessions.insert(conn.into(), session);
        }
        self.step(CoreInput::Request(CoreRequest::Connect { from, ask }));
    }

    fn request(&mut self, conn: &str, text: &str) {
        let session = self.sessions.get(conn).copied().unwrap_or(SessionId(77));
        let words: Vec<&str> = text.split_whitespace().collect();
        let state = self.conns.get_mut(conn).unwrap_or_else(|| panic!("no connection {conn}"));
        let from = state.at;
        match *words.as_slice() {
            ["auth", scheme] => return state.ids.push(Identity::new(scheme, "")),
            ["auth", scheme, id] => return state.ids.push(Identity::new(scheme, id)),
            ["gone"] => return self.step(CoreInput::Request(CoreRequest::Gone { from, session })),
            ["silent", token] => {
                let token = token.parse().unwrap();
                return self.step(CoreInput::Request(CoreRequest::Silent { from, session, token }));
            }
            _ => {}
        }
        let (apart, text) = match text.strip_prefix("apart ") {
            Some(text) => (true, text),
            None => (false, text),
        };
        state.xid += 1;
        let xid = Xid(state.xid);
        let ids: Arc<[Identity]> = state.ids.clone().into();
        let (op, body) = record(text);
        let op_number = op.map_or(-10, |op| op.to_i32());
        state.asked.insert(xid.0, op.unwrap_or(OpCode::Ping));
        let input = match words[0] {
            "sync" => CoreRequest::Sync { from, session, xid, path: Some(b"/s".as_slice().into()) },
            "ephemerals" => {
                let prefix = words.get(1).map(|prefix| (*prefix).into());
                CoreRequest::Query { from, xid, query: Query::Ephemerals { session, prefix } }
            }
            _ => CoreRequest::Write { from, session, xid, op: op_number, body: body.into(), ids, apart },
        };
        self.step(CoreInput::Request(input));
    }

    fn step(&mut self, input: CoreInput) {
        let now = self.now();
        match input {
            CoreInput::Request(request) if self.door.is_some() => {
                self.door.as_mut().unwrap().push_back(request);
            }
            input => self.core().step(input, now),
        }
    }

    /// Takes what waits at the door, as far as the core wants it, and turns the core once.
    fn turn_once(&mut self) {
        let now = self.now();
        while self.core().wants_requests()
            && let Some(request) = self.door.as_mut().and_then(VecDeque::pop_front)
        {
            self.core().step(CoreInput::Request(request), now);
        }
        if self.door.as_ref().is_none_or(VecDeque::is_empty) {
            self.heard = now.mono;
        }
        let heard = self.heard;
        self.core().turn(now, heard);
    }

    /// Turns until nothing more happens; makes batches durable unless they are held.
    fn turn(&mut self) {
        if self.core.is_none() && self.conns.is_empty() && self.script.is_none() {
            return;
        }
        loop {
            self.play_both();
            self.turn_once();
            self.show_told();
            let mut quiet = true;
            while let Some(output) = self.core().next_output() {
                quiet = false;
                self.show(output);
            }
            if !self.hold
                && let Some(proposal) = self.proposals.pop_front()
            {
                quiet = false;
                self.step(CoreInput::Durable { number: Number::default(), zxid: proposal.last });
            }
            if quiet && (self.hold || !self.core().has_work()) {
                return;
            }
        }
    }

    fn show(&mut self, output: CoreOutput) {
        match output {
            CoreOutput::Append { proposal, .. } => {
                let kinds: Vec<String> = proposal.entries().map(entry_text).collect();
                let _ = writeln!(self.out, "    append {}", kinds.join(", "));
                self.proposals.push_back(proposal);
            }
            CoreOutput::Publish(event) => {
                let batch = match event.news {
                    News::Batch(batch) => batch,
                    News::Role(role) => {
                        if !self.is_learner {
                            let _ = writeln!(self.out, "    role {role:?} @{:?}", event.view.zxid());
                        }
                        return;
                    }
                };
                let outcomes: Vec<String> = batch.outcomes.iter().map(|o| self.outcome(o, &batch)).collect();
                for line in outcomes {
                    let _ = writeln!(self.out, "    {line}");
                }
                let changes = &batch.changes.list;
                if changes.len() > 8 {
                    let _ = writeln!(self.out, "    {} changes", changes.len());
                }
                for change in changes.iter().filter(|_| changes.len() <= 8) {
                    let path = batch.changes.path(change);
                    let _ = writeln!(self.out, "    {:?} {path} {:?}", change.kind, change.zxid);
                }
                assert!(batch.outcomes.is_sorted_by_key(|outcome| outcome.zxid));
                assert!(batch.outcomes.iter().all(|outcome| outcome.zxid <= event.view.zxid()));
            }
            CoreOutput::RollLog => self.out.push_str("    roll the log\n"),
            CoreOutput::TakeSnapshot(view) => {
                let _ = writeln!(self.out, "    snapshot at {:?}", view.zxid());
                if !self.slow_snapshots {
                    self.step(CoreInput::SnapshotEnded(Some(1)));
                }
            }
            CoreOutput::Stop(reason) => {
                let _ = writeln!(self.out, "    stop: {reason}");
            }
            _ => panic!("a server without an ensemble has no peers"),
        }
    }

    fn outcome(&mut self, outcome: &Outcome, batch: &Batch) -> String {
        let conn = self.conns.values_mut().find(|conn| conn.at == outcome.to).expect("a known connection");
        let name = conn.name.clone();
        let frame = &batch.frames[outcome.frame.start as usize..outcome.frame.end as usize];
        let then = match outcome.then {
            After::Keep => String::new(),
            After::Close => " close".into(),
            After::Drop => " drop".into(),
            After::Probe { token, .. } => format!(" probe {token}"),
            After::Established { session, timeout_ms } => {
                self.sessions.insert(name.clone(), session);
                return format!("{name} < session, {timeout_ms} ms @{:?}", outcome.zxid);
            }
        };
        if frame.is_empty() {
            return format!("{name} <{then} @{:?}", outcome.zxid);
        }
        if outcome.xid == Xid(0) {
            let response = ConnectResponse::decode(&frame[4..]).unwrap();
            assert_eq!(response.session, SessionId::NONE);
            return format!("{name} < no session{then} @{:?}", outcome.zxid);
        }
        assert_eq!(conn.answered + 1, outcome.xid.0, "replies in the order of requests");
        conn.answered += 1;
        let op = conn.asked[&outcome.xid.0];
        format!("{name} < {}{then}", reply_text(op, frame))
    }

    fn list(&mut self, path: &str) {
        let head = &self.core().head;
        let line = match head.get(path) {
            None => "    none\n".to_owned(),
            Some(node) => {
                let stat = node.stat();
                let mut children: Vec<&str> = node.children().collect();
                children.sort_unstable();
                let data =
                    node.data().map_or("null".into(), |data| String::from_utf8_lossy(data).into_owned());
                format!(
                    "    data={data} version={} cversion={} aversion={} pzxid={:?} children=[{}]\n",
                    stat.version,
                    stat.cversion,
                    stat.aversion,
                    stat.pzxid,
                    children.join(" ")
                )
            }
        };
        self.out.push_str(&line);
    }
}

fn entry_text(entry: &[u8]) -> String {
    let (entry, used) = crate::wire::TxnEntry::decode(entry).unwrap();
    assert!(used > 32);
    let digest = if entry.digest.is_some() { "" } else { " (no digest)" };
    let zxid = entry.header.zxid;
    let body = match &entry.body {
        TxnBody::CreateSession { timeout_ms } => format!("session {timeout_ms}"),
        TxnBody::CloseSession { paths: Some(paths) } if paths.len() > 8 => {
            format!("close of {}", paths.len())
        }
        TxnBody::CloseSession { paths } => format!("close {}", paths.as_ref().unwrap().join(" ")),
        TxnBody::Error { code } => format!("error {code}"),
        TxnBody::Create(create) => {
            format!("create {} {:?} pcv={}", create.path, create.kind, create.parent_cversion)
        }
        TxnBody::Delete { path } => format!("delete {path}"),
        TxnBody::DeleteContainer { path } => format!("deleteContainer {path}"),
        TxnBody::SetData { path, version, .. } => format!("set {path} v{version}"),
        TxnBody::SetAcl { path, version, .. } => format!("setacl {path} v{version}"),
        TxnBody::Multi(subs) if subs.len() > 8 => format!("multi of {}", subs.len()),
        TxnBody::Multi(subs) => {
            let kinds: Vec<String> = subs
                .iter()
                .map(|sub| match sub {
                    crate::wire::SubTxn::Error { code, .. } => format!("error {code}"),
                    other => other.kind().to_string(),
                })
                .collect();
            format!("multi[{}]", kinds.join(" "))
        }
        TxnBody::Reconfig { .. } => "reconfig".into(),
    };
    format!("{zxid:?} {}{digest}", body.trim_end())
}

fn reply_text(op: OpCode, frame: &[u8]) -> String {
    let mut reader = Reader::new(&frame[4..]);
    let (xid, zxid, error) = (reader.i32().unwrap(), reader.zxid().unwrap(), reader.i32().unwrap());
    let mut text = format!("{xid} @{zxid:?} {error}");
    if error != 0 {
        assert!(reader.rest().is_empty());
        return text;
    }
    let stat = |reader: &mut Reader<'_>| {
        let bytes = reader.take(68).unwrap();
        let version = i32::from_be_bytes(bytes[32..36].try_into().unwrap());
        let aversion = i32::from_be_bytes(bytes[40..44].try_into().unwrap());
        format!(" stat(v{version} a{aversion})")
    };
    match op {
        OpCode::Create | OpCode::Sync => write!(text, " {}", reader.text().unwrap()).unwrap(),
        OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
            let path = reader.text().unwrap();
            write!(text, " {path}{}", stat(&mut reader)).unwrap();
        }
        OpCode::SetData | OpCode::SetAcl => text.push_str(&stat(&mut reader)),
        OpCode::GetEphemerals => {
            let paths = reader.vector(|reader| reader.text()).unwrap().unwrap();
            match paths.len() {
                ..=8 => write!(text, " [{}]", paths.join(" ")).unwrap(),
                count => write!(text, " [{count} paths]").unwrap(),
            }
        }
        OpCode::Multi => loop {
            let (kind, done, error) = (reader.i32().unwrap(), reader.bool().unwrap(), reader.i32().unwrap());
            if done {
                assert_eq!((kind, error), (-1, -1));
                break;
            }
            write!(text, " | {kind} {error}").unwrap();
            match kind {
                -1 => assert_eq!(reader.i32().unwrap(), error),
                1 => write!(text, " {}", reader.text().unwrap()).unwrap(),
                15 => {
                    let path = reader.text().unwrap();
                    write!(text, " {path}{}", stat(&mut reader)).unwrap();
                }
                5 => text.push_str(&stat(&mut reader)),
                _ => {}
            }
        },
        _ => {}
    }
    assert!(reader.rest().is_empty(), "{op:?}: {} bytes left", reader.rest().len());
    text
}

/// The op and the record of a request in words.
fn record(text: &str) -> (Option<OpCode>, Vec<u8>) {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut out = Vec::new();
    let field = |key: &str| words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let number = |at: usize| words.get(at).map_or(-1, |word| word.parse().unwrap());
    let op = match words[0] {
        "create" => {
            let op = field("op").map_or(1, |op| op.parse().unwrap());
            out.put_string(words[1]);
            out.put_buffer(field("data").map(data).as_deref());
            put_acl(&mut out, field("acl").unwrap_or("31:world:anyone"));
            out.put_i32(field("flags").map_or(0, |flags| flags.parse().unwrap()));
            if op == 21 {
                out.put_i64(field("ttl").map_or(-1, |ttl| ttl.parse().unwrap()));
            }
            OpCode::from_i32(op)
        }
        "delete" => {
            out.put_string(words[1]);
            out.put_i32(number(2));
            Some(OpCode::Delete)
        }
        "set" => {
            out.put_string(words[1]);
            out.put_buffer(Some(&data(words[2])));
            out.put_i32(number(3));
            Some(OpCode::SetData)
        }
        "setacl" => {
            out.put_string(words[1]);
            put_acl(&mut out, words[2]);
            out.put_i32(number(3));
            Some(OpCode::SetAcl)
        }
        "check" => {
            out.put_string(words[1]);
            out.put_i32(number(2));
            Some(OpCode::Check)
        }
        "reap" => {
            out.put_string(words[1]);
            Some(OpCode::DeleteContainer)
        }
        "reconfig" => {
            out.extend([0xff; 12]);
            out.put_i64(-1);
            Some(OpCode::Reconfig)
        }
        "multi" => {
            for part in text["multi".len()..].split(';').map(str::trim).filter(|part| !part.is_empty()) {
                let (op, body) = record(part);
                reply::put_multi_header(&mut out, op.unwrap().to_i32(), false, -1);
                out.extend(body);
            }
            reply::put_multi_end(&mut out);
            Some(OpCode::Multi)
        }
        "raw" => {
            let digits = words.get(2).copied().unwrap_or_default();
            out.extend(
                (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()),
            );
            OpCode::from_i32(words[1].parse().unwrap())
        }
        "close" => Some(OpCode::CloseSession),
        "sync" => Some(OpCode::Sync),
        "ephemerals" => Some(OpCode::GetEphemerals),
        "createsession" => Some(OpCode::CreateSession),
        other => panic!("no such request: {other}"),
    };
    (op, out)
}

fn data(text: &str) -> Vec<u8> {
    match text.strip_prefix('*') {
        Some(length) => vec![b'x'; length.parse().unwrap()],
        None => text.into(),
    }
}

fn put_acl(out: &mut Vec<u8>, text: &str) {
    match text {
        "null" => out.put_i32(-1),
        "none" => out.put_i32(0),
        list => {
            let entries: Vec<&str> = list.split(',').collect();
            out.put_count(entries.len());
            for entry in entries {
                let mut parts = entry.splitn(3, ':');
                out.put_i32(parts.next().unwrap().parse().unwrap());
                out.put_string(parts.next().unwrap());
                match parts.next().unwrap() {
                    "null" => out.put_buffer(None),
                    id => out.put_string(id),
                }
            }
        }
    }
}

macro_rules! transcripts {
    ($($name:ident)*) => { $(#[test] fn $name() { check(stringify!($name)); })* };
}

transcripts! {
    auth_acls
    reaping_late
    create_checks
    write_checks
    acl_checks
    multis
    zxids
    sessions
    expiry
    moved_sessions
    large_closes
    containers
    quotas
    full_disk
    full_memory
    full_batch
    stuck
    long_listings
    stalls
    untaken
    ordering
    apart
    snapshots_due
    snapshots_rest
    epoch_end
    ttl_off
    flush_delay
    leading
    deposing
    learners_asks
    barriers
    learning
    learners_sessions
    learners_batches
    learners_order
    roles
}
