//! Sessions with very many ephemerals: closed, expired, found in the log at a restart, and a close that a kill cut
//! short. Nobody else waits meanwhile, and nothing stays behind.

use crate::beside::{Beside, Longest};
use crate::load::{memory_mib, metric, pipeline};
use crate::{Outcome, Size, ensure, until};
use ostler_bench::frames;
use ostler_bench::swarm::Swarm;
use ostler_tests::client::Client;
use ostler_tests::peers::Ostler;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// Short ticks, so that an expiry is not long in coming; no snapshot falls into a measured stretch.
const CONFIG: &[&str] =
    &["tickTime=200", "minSessionTimeout=1000", "maxSessionTimeout=60000", "snapCount=100000000"];
const OWNER_TIMEOUT_MS: i32 = 2_000;
/// What a session beside may wait at most: a portion of a close and a batch, on a machine that does other things, too.
const STALL_MAX: Duration = Duration::from_millis(250);
/// All ephemerals of the largest session are gone in this time, its timeout not counted.
const CLOSE_MAX: Duration = Duration::from_secs(60);
const EPHEMERAL: i32 = 1;
const PARENTS: usize = 16;
/// Rounds of the same: what the first one needed must do for all.
const ROUNDS: usize = 4;
/// Memory may differ by so much between the first and the last round: buffers that grow to the largest they have met.
const MEMORY_MIB_SLACK: f64 = 12.0;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Close,
    Expiry,
}

pub fn closed_by_the_client(size: &Size) -> Outcome {
    rounds(size, Ending::Close)
}

pub fn closed_by_expiry(size: &Size) -> Outcome {
    rounds(size, Ending::Expiry)
}

fn rounds(size: &Size, ending: Ending) -> Outcome {
    let dir = tempfile::tempdir()?;
    let server = Ostler::start(dir.path(), CONFIG);
    let mut longest = Longest::default();
    let mut memory = Vec::new();
    let mut words = Vec::new();
    for round in 0..ROUNDS {
        let spread = round % 2 == 1;
        let mut owner = owner_of(server.address(), size.ephemerals, spread)?;
        ensure(metric(&server, "zk_ephemerals_count")? == size.ephemerals as u64, || {
            "not all were created".into()
        })?;
        let beside = Beside::begin(server.address())?;
        let began = Instant::now();
        match ending {
            Ending::Close => owner.send(0, |out| frames::close(out, 1))?,
            Ending::Expiry => owner.hang_up(0),
        }
        let gone = until(CLOSE_MAX, "all ephemerals are gone", || {
            Ok((metric(&server, "zk_ephemerals_count")? == 0).then(|| began.elapsed()))
        })?;
        longest = longest.or(beside.end()?);
        ensure(children(server.address())? == 0, || "mntr counts no ephemerals, but there are some".into())?;
        memory.push(memory_mib(&server)?);
        words.push(format!("{} {:.2} s", if spread { "spread" } else { "together" }, gone.as_secs_f64()));
    }
    ensure(longest.most() <= STALL_MAX, || format!("somebody waited more than {STALL_MAX:?}: {longest}"))?;
    let (first, last) = (memory[0], memory[ROUNDS - 1]);
    ensure(last <= first + MEMORY_MIB_SLACK, || format!("memory grows: {memory:.0?} MiB after each round"))?;
    server.stop();
    Ok(format!(
        "{} ephemerals, gone after {}; {longest}; {first:.0} MiB after the first round, {last:.0} after the last",
        size.ephemerals,
        words.join(", ")
    ))
}

/// The log holds a session with all its ephemerals; the server that finds them takes them on, and lets them expire.
pub fn restart_with_ephemerals(size: &Size) -> Outcome {
    let dir = tempfile::tempdir()?;
    let server = Ostler::start(dir.path(), CONFIG);
    drop(owner_of(server.address(), size.ephemerals, true)?);
    server.kill();
    let (server, took) = start(dir.path());
    ensure(metric(&server, "zk_ephemerals_count")? == size.ephemerals as u64, || {
        "the restarted server has not all of them".into()
    })?;
    let gone = vanish(&server)?;
    server.stop();
    Ok(format!(
        "{} ephemerals in the log: serves after {:.2} s, all expired after {:.2} s",
        size.ephemerals,
        took.as_secs_f64(),
        gone.as_secs_f64()
    ))
}

/// SIGKILL while the portions are being deleted: the session is still there afterwards, and its end is made up for.
pub fn cut_short_by_a_kill(size: &Size) -> Outcome {
    let dir = tempfile::tempdir()?;
    let server = Ostler::start(dir.path(), CONFIG);
    let mut owner = owner_of(server.address(), size.ephemerals, false)?;
    let mut watcher = Client::connect(server.address(), 30_000)?;
    owner.send(0, |out| frames::close(out, 1))?;
    let all = size.ephemerals as i64;
    let left = until(CLOSE_MAX, "the close has begun", || {
        let left = children_seen_by(&mut watcher)?;
        Ok((left < all).then_some(left))
    })?;
    server.kill();
    ensure(left > 0, || "the close was over before the kill".into())?;
    let (server, _) = start(dir.path());
    let found = metric(&server, "zk_ephemerals_count")?;
    ensure(found > 0 && found <= left as u64, || {
        format!("{left} were left at the kill, {found} are there after it")
    })?;
    let gone = vanish(&server)?;
    server.stop();
    // And the server after that one finds nothing of it.
    let (server, _) = start(dir.path());
    ensure(metric(&server, "zk_ephemerals_count")? == 0, || {
        "ephemerals are back after another restart".into()
    })?;
    server.stop();
    Ok(format!(
        "killed with {left} of {all} left, found {found}, gone {:.2} s after the restart",
        gone.as_secs_f64()
    ))
}

fn start(dir: &Path) -> (Ostler, Duration) {
    let began = Instant::now();
    (Ostler::start(dir, CONFIG), began.elapsed())
}

fn vanish(server: &Ostler) -> io::Result<Duration> {
    let began = Instant::now();
    let limit = CLOSE_MAX + Duration::from_millis(OWNER_TIMEOUT_MS as u64);
    until(limit, "all ephemerals are gone", || {
        Ok((metric(server, "zk_ephemerals_count")? == 0).then(|| began.elapsed()))
    })
}

/// A swarm of one session with so many ephemerals: all under one znode, or spread over `PARENTS` below it.
fn owner_of(address: SocketAddr, ephemerals: usize, spread: bool) -> io::Result<Swarm> {
    let mut client = Client::connect(address, 30_000)?;
    let parents = (0..PARENTS).map(parent).filter(|_| spread);
    for path in [String::from("/owned")].into_iter().chain(parents) {
        let error = client.create(&path, b"")?;
        ensure(error == 0 || error == -110, || format!("create {path}: {error}"))?;
    }
    client.close()?;
    let mut swarm = Swarm::new(vec![address], OWNER_TIMEOUT_MS)?;
    swarm.open(1, 1, Duration::from_secs(30))?;
    pipeline(&mut swarm, 1, ephemerals, |out, xid, number| {
        let parent = if spread { parent(number % PARENTS) } else { "/owned".into() };
        // As long as names of real ephemerals are: with a UUID in front.
        let path = format!("{parent}/_c_0f8fad5b-d9cb-469f-a165-70867728950e-member-{number:010}");
        frames::create(out, xid, path.as_bytes(), b"10.0.0.1:2181", EPHEMERAL);
    })?;
    Ok(swarm)
}

fn parent(number: usize) -> String {
    format!("/owned/parent-{number:02}")
}

/// Znodes below /owned other than the parents.
fn children(address: SocketAddr) -> io::Result<i64> {
    let mut client = Client::connect(address, 30_000)?;
    let count = children_seen_by(&mut client);
    client.close()?;
    count
}

fn children_seen_by(client: &mut Client) -> io::Result<i64> {
    use ostler_tests::client::op;
    use ostler_tests::jute::{Body, Reader};
    let reply = client.call(op::GET_ALL_CHILDREN_NUMBER, &Body::new().string("/owned").0)?;
    let all = Reader(&reply.body).int().ok_or_else(|| io::Error::other(format!("no number: {reply:?}")))?;
    let reply = client.call(op::GET_ALL_CHILDREN_NUMBER, &Body::new().string(&parent(0)).0)?;
    let parents = if reply.err == 0 { PARENTS as i64 } else { 0 };
    Ok(i64::from(all) - parents)
}
