//! `crash`: the real server is killed before each system call of a scripted run that touches its files, started again,
//! and asked for everything it had acknowledged. `cargo run --release -p ostler-tests --bin crash -- --points 200`.
//!
//! Where the kill falls is chosen by strace: the Nth call of one kind of any thread. A dry run tells how many there are.
//! A second kind of kill falls between two stores rather than calls: right behind a request, without waiting.

mod script;

use ostler_tests::client::{
    ANSWER_MAX, Client, ConnectRequest, ConnectResponse, Connection, Received, Reply, op,
};
use ostler_tests::jute::{Body, Reader};
use ostler_tests::peers::Ostler;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

/// Calls that change files or their names, or lean on a change.
const CALLS: &str =
    "openat,pwrite64,fdatasync,fsync,rename,renameat,renameat2,unlink,unlinkat,ftruncate,fallocate,mkdir";
/// Small segments and frequent snapshots, so that a short run meets everything.
const CONFIG: &[&str] = &["preAllocSize=64", "snapCount=12", "autopurge.purgeInterval=1"];
const OPERATIONS: usize = 48;
/// Requests sent ahead of their answers.
const AHEAD: usize = 4;

/// Where a run is killed.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Point {
    /// Before the Nth call of this name, in the first life or in the start after it.
    Call { name: String, number: usize, life: usize },
    /// Behind sending so many operations.
    Sent(usize),
}

fn main() -> ExitCode {
    let mut wanted = 60;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match (word.as_str(), words.next().and_then(|value| value.parse().ok())) {
            ("--points", Some(count)) => wanted = count,
            ("--long", None) => wanted = usize::MAX,
            _ => {
                eprintln!(
                    "crash [--points N | --long]: kills at N points spread over all, or at all of them"
                );
                return ExitCode::from(2);
            }
        }
    }
    let mut failed = 0;
    let points = spread(points(), wanted);
    println!("{} points", points.len());
    for point in &points {
        if let Err(why) = run(point) {
            failed += 1;
            println!("FAIL {point:?}: {why}");
        }
    }
    println!("{} passed, {failed} failed", points.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every `n`th, so that at most `wanted` are left.
fn spread(points: Vec<Point>, wanted: usize) -> Vec<Point> {
    let step = points.len().div_ceil(wanted.clamp(1, points.len().max(1)));
    points.into_iter().step_by(step.max(1)).collect()
}

/// All there are, by a dry run of both lives.
fn points() -> Vec<Point> {
    let dir = tempfile::tempdir().expect("a directory");
    let mut points = Vec::new();
    for life in 0..2 {
        let trace = dir.path().join(format!("trace{life}"));
        let server = Ostler::try_start(
            dir.path(),
            CONFIG,
            &["strace", "-D", "-f", "-q", "-o", &trace.to_string_lossy(), "-e", &format!("trace={CALLS}")],
        );
        let server = server.unwrap_or_else(|why| panic!("the dry run: {why}"));
        if life == 0 {
            let mut client = Player::default();
            client.play(server.address(), OPERATIONS, None).expect("the dry run");
            assert_eq!(client.acknowledged, OPERATIONS);
        }
        server.kill();
        let text = std::fs::read_to_string(&trace).expect("a trace");
        for (name, count) in calls(&text) {
            points.extend((1..=count).map(|number| Point::Call { name: name.clone(), number, life }));
        }
    }
    points.extend((1..OPERATIONS).map(Point::Sent));
    points
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

/// Kills there, starts again, checks, goes on a little, kills and starts once more.
fn run(point: &Point) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut client = Player::default();
    let first = start(dir.path(), point, 0);
    if let Ok(server) = first {
        let kill_behind = if let Point::Sent(count) = point { Some((*count, server.pid())) } else { None };
        client.play(server.address(), OPERATIONS, kill_behind)?;
        server.kill();
    }
    if let Point::Call { life: 1, .. } = point {
        // The start itself is killed, or what it serves right behind.
        if let Ok(server) = start(dir.path(), point, 1) {
            server.kill();
        }
    }
    let server = Ostler::try_start(dir.path(), CONFIG, &[])?;
    let count = client.check(server.address())?;
    // It must not only read what there is but go on behind it.
    let mut more = Player { acknowledged: count, ..Player::default() };
    more.play(server.address(), count + 5, None)?;
    server.kill();
    if more.acknowledged != count + 5 {
        return Err(format!("after the start {} of 5 more operations worked", more.acknowledged - count));
    }
    let server = Ostler::try_start(dir.path(), CONFIG, &[])?;
    more.check(server.address())?;
    server.kill();
    Ok(())
}

/// A start that dies at the point is an error like any other.
fn start(dir: &Path, point: &Point, life: usize) -> Result<Ostler, String> {
    match point {
        Point::Call { name, number, life: at } if *at == life => {
            let inject = format!("inject={name}:signal=KILL:when={number}");
            let trace = format!("trace={name}");
            let wrapper = ["strace", "-D", "-f", "-q", "-o", "/dev/null", "-e", &trace, "-e", &inject];
            Ostler::try_start(dir, CONFIG, &wrapper)
        }
        _ => Ostler::try_start(dir, CONFIG, &[]),
    }
}

/// The client, and what it knows.
#[derive(Default)]
struct Player {
    session: Option<ConnectResponse>,
    /// The first operation of this session.
    began: usize,
    sent: usize,
    acknowledged: usize,
}

impl Player {
    /// Plays operations up to `until`; ends early when the server does. `kill` does that to it behind so many.
    fn play(&mut self, address: SocketAddr, until: usize, kill: Option<(usize, u32)>) -> Result<(), String> {
        self.sent = self.acknowledged;
        self.began = self.acknowledged;
        let Ok(mut connection) = Connection::open(address) else { return Ok(()) };
        match connection.handshake(&ConnectRequest::new(40_000)) {
            Ok(Some(session)) if session.timeout_ms > 0 => self.session = Some(session),
            Ok(Some(refused)) => return Err(format!("a new session was refused: {refused:?}")),
            Ok(None) | Err(_) => return Ok(()),
        }
        while self.acknowledged < until {
            while self.sent < until && self.sent < self.acknowledged + AHEAD {
                if connection.send(&script::frame(self.sent)).is_err() {
                    return Ok(());
                }
                self.sent += 1;
                if let Some((behind, pid)) = kill
                    && behind == self.sent
                {
                    let killed =
                        std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status();
                    killed.map_err(|error| error.to_string())?;
                }
            }
            match connection.receive(ANSWER_MAX) {
                Received::Frame(frame) => self.heard(&frame)?,
                Received::End => return Ok(()),
                Received::Silence => return Err("no answer".into()),
            }
        }
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

    /// All that was acknowledged is there, and a prefix of what was not; the session lives. Then it is closed, and its
    /// ephemerals go. Returns how many operations the server knows.
    fn check(&self, address: SocketAddr) -> Result<usize, String> {
        let failed = |error: std::io::Error| error.to_string();
        let mut reader = match &self.session {
            None => Client::connect(address, 40_000).map_err(failed)?,
            Some(session) => Client::attach(address, &ConnectRequest::again(session))
                .map_err(|error| format!("the session is lost: {error}"))?,
        };
        let count = match (reader.get("/seq").map_err(failed)?, reader.get("/c").map_err(failed)?) {
            (None, _) => 0,
            (Some(_), None) => 1,
            (Some(mark), Some(_)) if mark.is_empty() => 2,
            (Some(mark), Some(_)) => {
                let text = String::from_utf8_lossy(&mark).into_owned();
                text.parse::<usize>().map_err(|_| format!("/seq holds {text}"))? + 1
            }
        };
        if count < self.acknowledged || count > self.sent.max(self.acknowledged) {
            return Err(format!("{} acknowledged of {} sent, {count} found", self.acknowledged, self.sent));
        }
        let found = children(&mut reader).map_err(failed)?;
        let mut expected = script::children(count);
        expected.retain(|name, _| self.may_have(name));
        if count >= 2 && !found.keys().eq(expected.keys()) {
            return Err(format!("after {count} operations /c holds {:?}", found.keys()));
        }
        if let Some((name, _)) = found.iter().find(|(name, data)| expected.get(*name) != Some(data)) {
            return Err(format!("after {count} operations /c/{name} holds something else"));
        }
        reader.close().map_err(failed)?;
        Ok(count)
    }

    /// Ephemerals of an earlier session went when it was closed.
    fn may_have(&self, name: &str) -> bool {
        name.strip_prefix('e')
            .and_then(|index| index.parse().ok())
            .is_none_or(|index: usize| index >= self.began)
    }
}

fn children(reader: &mut Client) -> std::io::Result<script::Children> {
    let reply = reader.call(op::GET_CHILDREN, &Body::new().string("/c").bool(false).0)?;
    let names = Reader(&reply.body).strings().unwrap_or_default();
    let mut found = script::Children::new();
    for name in if reply.err == 0 { names } else { Vec::new() } {
        let data = reader.get(&format!("/c/{name}"))?.unwrap_or_default();
        found.insert(name, data);
    }
    Ok(found)
}
