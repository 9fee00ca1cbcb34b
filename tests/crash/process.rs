//! Real processes, killed: before one of their system calls that touch files, chosen by strace, or right behind a request,
//! without waiting, which falls between two stores as well. Several lives follow each other on one directory, each killed
//! somewhere, starts included; every start must come up and have everything that was acknowledged.
//! Not here: what the client does (`script`).

use crate::figures::Figures;
use crate::script::{Children, Script};
use ostler_tests::client::{
    ANSWER_MAX, Client, ConnectRequest, ConnectResponse, Connection, Received, Reply, op,
};
use ostler_tests::jute::{Body, Reader};
use ostler_tests::peers::Ostler;
use ostler_tests::random::Random;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Calls that change files or their names, or lean on a change.
const CALLS: &str =
    "openat,pwrite64,fdatasync,fsync,rename,renameat,renameat2,unlink,unlinkat,ftruncate,fallocate,mkdir";
/// Small segments, small files and frequent snapshots, so that a short run meets everything.
const CONFIGS: [&[&str]; 3] = [
    &["preAllocSize=64", "snapCount=12", "autopurge.purgeInterval=1"],
    &["preAllocSize=64", "snapCount=4", "autopurge.purgeInterval=1", "txnLogSizeLimitInKb=4"],
    &["preAllocSize=128", "snapCount=1000", "txnLogSizeLimitInKb=16"],
];
/// Operations of one life.
const OPERATIONS: usize = 24;
/// Requests sent ahead of their answers.
const AHEAD: usize = 4;
const LIVES: usize = 4;
/// A process that was killed is gone by then, also on a busy machine.
const END_MAX: Duration = Duration::from_secs(20);

/// Where a life is killed.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Point {
    /// Before the Nth call of this name of any thread.
    Call { name: String, number: usize },
    /// Behind sending so many operations.
    Sent(usize),
}

/// The lives of one directory.
#[derive(Debug)]
struct Chain {
    script: Script,
    config: &'static [&'static str],
    points: Vec<Point>,
}

/// Kills `wanted` lives. Every point of a chain is another one; those of all chains go through all points there are before
/// one comes again, with another past.
pub fn processes(seed: u64, wanted: u64) -> Result<Figures, String> {
    let mut figures = Figures::default();
    let mut random = Random::new(seed);
    let mut failures = Vec::new();
    let mut decks: Vec<Vec<Point>> = vec![Vec::new(); CONFIGS.len()];
    let mut chain = 0;
    while figures.points.sum() < wanted {
        let which = chain as usize % CONFIGS.len();
        let script = Script { seed: seed.wrapping_mul(1000) + chain };
        let mut points = Vec::new();
        while points.len() < LIVES {
            if decks[which].is_empty() {
                decks[which] = shuffled(points_of(script, CONFIGS[which])?, &mut random);
            }
            points.extend(decks[which].pop());
        }
        let chain_now = Chain { script, config: CONFIGS[which], points };
        if let Err(why) = chain_now.run(&mut figures) {
            println!("FAIL {chain_now:?}: {why}");
            failures.push(why);
        }
        chain += 1;
    }
    match failures.is_empty() {
        true => Ok(figures),
        false => Err(format!("{} of {chain} chains of real processes failed", failures.len())),
    }
}

fn shuffled(mut points: Vec<Point>, random: &mut Random) -> Vec<Point> {
    for at in (1..points.len()).rev() {
        points.swap(at, random.below(at as u64 + 1) as usize);
    }
    points
}

/// All there are, by a dry run: of a first life, and of one that begins with a recovery.
fn points_of(script: Script, config: &[&str]) -> Result<Vec<Point>, String> {
    let dir = tempfile::tempdir().map_err(text)?;
    let mut most: BTreeMap<String, usize> = BTreeMap::new();
    let mut player = Player::new(script);
    for life in 0..2 {
        let trace = dir.path().join(format!("trace{life}"));
        let trace_calls = format!("trace={CALLS}");
        let wrapper = ["strace", "-D", "-f", "-q", "-o", &trace.to_string_lossy(), "-e", &trace_calls];
        let server = Ostler::try_start(dir.path(), config, &wrapper)?;
        player.resume(server.address())?.ok_or("the dry run: no answer")?;
        player.play(server.address(), OPERATIONS, None)?;
        server.kill();
        for (name, count) in calls(&std::fs::read_to_string(&trace).map_err(text)?) {
            let kept = most.entry(name).or_default();
            *kept = count.max(*kept);
        }
    }
    let calls = most
        .into_iter()
        .flat_map(|(name, count)| (1..=count).map(move |number| Point::Call { name: name.clone(), number }));
    Ok(calls.chain((1..OPERATIONS).map(Point::Sent)).collect())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Of each call the most that one thread made.
fn calls(trace: &str) -> BTreeMap<String, usize> {
    let mut by_thread: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        if let Some((name, _)) = rest.trim_start().split_once('(')
            && !name.is_empty()
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        {
            *by_thread.entry((thread, name)).or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((_, name), count) in by_thread {
        let kept: &mut usize = most.entry(name.to_owned()).or_default();
        *kept = count.max(*kept);
    }
    most
}

impl Chain {
    fn run(&self, figures: &mut Figures) -> Result<(), String> {
        let dir = tempfile::tempdir().map_err(text)?;
        let mut player = Player::new(self.script);
        for point in &self.points {
            let reached =
                self.life(dir.path(), point, &mut player).map_err(|why| format!("{point:?}: {why}"))?;
            let name = match (point, reached) {
                (_, Reached::Never) => {
                    figures.idle.add("a real process, killed at rest: its point did not come", 1);
                    continue;
                }
                (Point::Sent(_), _) => "a real process, right behind a request",
                (Point::Call { .. }, Reached::Starting) => "a real process, at a system call of its start",
                (Point::Call { .. }, Reached::Serving) => "a real process, at a system call while it serves",
            };
            figures.points.add(name, 1);
        }
        // At last nobody kills it: everything is there, it goes on, and what it then does is there once more.
        for _ in 0..2 {
            let server = Ostler::try_start(dir.path(), self.config, &[])?;
            figures.disks.add("after the kill of a real process", 1);
            let count = player.resume(server.address())?.ok_or("the last start ended by itself")?;
            player.play(server.address(), 5, None)?;
            server.kill();
            if player.acknowledged != count + 5 {
                return Err(format!(
                    "after the last start {} of 5 operations worked",
                    player.acknowledged - count
                ));
            }
        }
        Ok(())
    }

    fn life(&self, dir: &Path, point: &Point, player: &mut Player) -> Result<Reached, String> {
        let started = match point {
            Point::Call { name, number } => {
                let inject = format!("inject={name}:signal=KILL:when={number}");
                let trace = format!("trace={name}");
                let wrapper = ["strace", "-D", "-f", "-q", "-o", "/dev/null", "-e", &trace, "-e", &inject];
                Ostler::try_start(dir, self.config, &wrapper)
            }
            Point::Sent(_) => Ostler::try_start(dir, self.config, &[]),
        };
        let mut server = match started {
            Ok(server) => server,
            // Killed while it started; anything else is a start that failed.
            Err(why) if why.contains("signal: 9") => return Ok(Reached::Starting),
            Err(why) => return Err(why),
        };
        let kill = if let Point::Sent(count) = point { Some((*count, server.pid())) } else { None };
        let known = player.resume(server.address());
        let played = match &known {
            Ok(Some(_)) => player.play(server.address(), OPERATIONS, kill),
            Ok(None) => Ok(()),
            Err(why) => Err(why.clone()),
        };
        played?;
        let cut_off = matches!(known, Ok(None)) || player.cut_off;
        match server.ended(if cut_off { END_MAX } else { Duration::ZERO }) {
            Some(status) if status.contains("signal: 9") => Ok(Reached::Serving),
            Some(status) => Err(format!("the server ended with {status}")),
            None if cut_off => Err("the server lives, but has cut its client off".into()),
            None => {
                server.kill();
                Ok(Reached::Never)
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reached {
    Starting,
    Serving,
    Never,
}

/// The client, and what it knows.
struct Player {
    script: Script,
    session: Option<ConnectResponse>,
    /// The end of the session was asked for, and no answer came.
    closing: bool,
    /// The first operation of this session.
    began: usize,
    sent: usize,
    acknowledged: usize,
    /// The connection ended before everything was answered.
    cut_off: bool,
}

impl Player {
    fn new(script: Script) -> Player {
        Player { script, session: None, closing: false, began: 0, sent: 0, acknowledged: 0, cut_off: false }
    }

    /// Plays so many more operations in a session of its own; ends early when the server does. `kill` does that to it
    /// behind so many.
    fn play(&mut self, address: SocketAddr, more: usize, kill: Option<(usize, u32)>) -> Result<(), String> {
        let (from, until) = (self.acknowledged, self.acknowledged + more);
        self.sent = from;
        self.began = from;
        self.cut_off = true;
        let Ok(mut connection) = Connection::open(address) else { return Ok(()) };
        match connection.handshake(&ConnectRequest::new(40_000)) {
            Ok(Some(session)) if session.timeout_ms > 0 => self.session = Some(session),
            Ok(Some(refused)) => return Err(format!("a new session was refused: {refused:?}")),
            Ok(None) | Err(_) => return Ok(()),
        }
        while self.acknowledged < until {
            while self.sent < until && self.sent < self.acknowledged + AHEAD {
                if connection.send(&self.script.frame(self.sent)).is_err() {
                    return Ok(());
                }
                self.sent += 1;
                if let Some((behind, pid)) = kill
                    && behind == self.sent - from
                {
                    std::process::Command::new("kill")
                        .args(["-KILL", &pid.to_string()])
                        .status()
                        .map_err(text)?;
                }
            }
            match connection.receive(ANSWER_MAX) {
                Received::Frame(frame) => self.heard(&frame)?,
                Received::End => return Ok(()),
                Received::Silence => return Err("no answer".into()),
            }
        }
        self.cut_off = false;
        Ok(())
    }

    fn heard(&mut self, frame: &[u8]) -> Result<(), String> {
        let reply = Reply::decode(frame).ok_or("no reply")?;
        let index = self.acknowledged;
        if reply.xid != index as i32 + 1 || reply.err != 0 || reply.body.starts_with(&[0xff; 4]) {
            return Err(format!("operation {index}: {reply:02x?}"));
        }
        self.acknowledged += 1;
        Ok(())
    }

    /// After a start: all that was acknowledged is there, and a prefix of what was not; the session lives. Then it is
    /// closed, and its ephemerals go. How many operations the server knows; `None` when it ended meanwhile.
    fn resume(&mut self, address: SocketAddr) -> Result<Option<usize>, String> {
        match self.look(address) {
            Ok(count) => Ok(Some(count)),
            Err(Looked::Wrong(why)) => Err(why),
            Err(Looked::CutOff) => Ok(None),
        }
    }

    fn look(&mut self, address: SocketAddr) -> Result<usize, Looked> {
        let mut reader = self.reader(address)?;
        let count = match (reader.get("/seq")?, reader.get("/c")?) {
            (None, _) => 0,
            (Some(_), None) => 1,
            (Some(mark), Some(_)) if mark.is_empty() => 2,
            (Some(mark), Some(_)) => {
                let text = String::from_utf8_lossy(&mark).into_owned();
                text.parse::<usize>().map_err(|_| Looked::Wrong(format!("/seq holds {text}")))? + 1
            }
        };
        if count < self.acknowledged || count > self.sent.max(self.acknowledged) {
            let why = format!("{} acknowledged of {} sent, {count} found", self.acknowledged, self.sent);
            return Err(Looked::Wrong(why));
        }
        // Heard of it is as good as acknowledged.
        self.acknowledged = count;
        let found = children(&mut reader)?;
        let mut expected = self.script.children(count);
        expected.retain(|name, _| self.may_have(name));
        if count >= 2 && found != expected {
            let differs = |name: &&String| found.get(*name) != expected.get(*name);
            let names: Vec<_> = found.keys().chain(expected.keys()).filter(differs).collect();
            return Err(Looked::Wrong(format!("after {count} operations these differ below /c: {names:?}")));
        }
        self.closing = true;
        reader.close()?;
        (self.session, self.closing, self.began) = (None, false, count);
        Ok(count)
    }

    /// On its session, if it has one that lives.
    fn reader(&mut self, address: SocketAddr) -> Result<Client, Looked> {
        let Some(session) = &self.session else { return Ok(Client::connect(address, 40_000)?) };
        match Client::attach(address, &ConnectRequest::again(session)) {
            Ok(client) => Ok(client),
            Err(error) if error.to_string() != "no session" => Err(error.into()),
            // A server that was killed meanwhile looks like one that refuses.
            Err(_) if Client::connect(address, 40_000).is_err() => Err(Looked::CutOff),
            Err(_) if self.closing => {
                // It was closed after all, and what it owned is gone.
                (self.session, self.began) = (None, usize::MAX);
                Ok(Client::connect(address, 40_000)?)
            }
            Err(_) => Err(Looked::Wrong("the session is lost".into())),
        }
    }

    /// Ephemerals of an earlier session went when it was closed.
    fn may_have(&self, name: &str) -> bool {
        name.strip_prefix('e')
            .and_then(|index| index.parse().ok())
            .is_none_or(|index: usize| index >= self.began)
    }
}

enum Looked {
    CutOff,
    Wrong(String),
}

impl From<io::Error> for Looked {
    fn from(error: io::Error) -> Looked {
        match error.kind() {
            io::ErrorKind::TimedOut => Looked::Wrong(format!("no answer: {error}")),
            _ => Looked::CutOff,
        }
    }
}

fn children(reader: &mut Client) -> io::Result<Children> {
    let reply = reader.call(op::GET_CHILDREN, &Body::new().string("/c").bool(false).0)?;
    let names = Reader(&reply.body).strings().unwrap_or_default();
    let mut found = Children::new();
    for name in if reply.err == 0 { names } else { Vec::new() } {
        let data = reader.get(&format!("/c/{name}"))?.unwrap_or_default();
        found.insert(name, data);
    }
    Ok(found)
}
