//! Idle sessions, a znode with very many children, a large tree and very many watches on it, all at one server at once.

use crate::frozen::Herd;
use crate::load::{cpu, memory_mib, metric, pipeline};
use crate::{Outcome, Size, ensure};
use ostler_bench::frames;
use ostler_bench::swarm::{Happening, Swarm};
use ostler_tests::client::{Client, op};
use ostler_tests::jute::{Body, Reader};
use ostler_tests::peers::Ostler;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Sessions that load and watch.
const LANES: usize = 16;
const CHILDREN_OF_ONE: usize = 1_000;
/// Of the watches, so many are fired.
const FIRED: usize = 1_000;
const EVENT_MAX: Duration = Duration::from_secs(30);
const CONFIG: &[&str] = &["maxSessionTimeout=60000", "snapCount=100000000", "globalOutstandingLimit=100000"];

pub fn all_are_served(size: &Size) -> Outcome {
    let dir = tempfile::tempdir()?;
    let server = Ostler::start(dir.path(), CONFIG);
    let address = server.address();
    let mut words = Words { server, last_mib: 0.0, text: Vec::new() };
    words.last_mib = memory_mib(&words.server)?;

    let herd = words.step("sessions", size.idle_sessions, || {
        Herd::gather(vec![address], size.idle_sessions, (size.idle_timeout_ms, size.idle_timeout_ms))
    })?;
    let kept = herd.keep();
    let mut swarm = Swarm::new(vec![address], 60_000)?;
    swarm.open(LANES, LANES, Duration::from_secs(30))?;
    make_parents(address, size.znodes)?;
    words.step("children of one znode", size.children, || {
        let name = |number: usize| format!("/wide/{number:010}");
        pipeline(&mut swarm, LANES, size.children, |out, xid, number| {
            frames::create(out, xid, name(number).as_bytes(), b"", 0);
        })
    })?;
    words.step("znodes in production shape", size.znodes, || {
        pipeline(&mut swarm, LANES, size.znodes, |out, xid, number| {
            frames::create(out, xid, path(number).as_bytes(), &[b'd'; 46], 0);
        })
    })?;
    let began = Instant::now();
    let listed = Client::connect(address, 30_000)?
        .call(op::GET_CHILDREN, &Body::new().string("/wide").bool(false).0)?;
    let names = Reader(&listed.body).int().unwrap_or(-1);
    ensure(names == size.children as i32, || format!("/wide lists {names} children, error {}", listed.err))?;
    words.say(format!(
        "all of them listed in {:.2} s, {} MiB",
        began.elapsed().as_secs_f64(),
        listed.body.len() >> 20
    ));
    words.step("watches on existing znodes", size.watches, || {
        pipeline(&mut swarm, LANES, size.watches, |out, xid, number| {
            frames::get_data(out, xid, path(number % size.znodes).as_bytes(), true);
        })
    })?;
    let watches = metric(&words.server, "zk_watch_count")?;
    ensure(watches == size.watches as u64, || format!("{watches} watches instead of {}", size.watches))?;
    words.say(fire(&mut swarm, address, size)?);
    let mut herd = kept.end()?;
    // A third of a timeout with nothing but pings.
    let before = cpu(&words.server);
    let quiet = Duration::from_millis(size.idle_timeout_ms / 3);
    herd.live(quiet)?;
    let share = (cpu(&words.server) - before).as_secs_f64() / quiet.as_secs_f64();
    words.say(format!("{:.1} % of a CPU while idle", share * 100.0));
    ensure(herd.up() == size.idle_sessions, || {
        format!("{} idle sessions are left: {:?}", herd.up(), herd.tally)
    })?;
    ensure(herd.tally.reconnects == 0, || format!("idle sessions lost their connections: {:?}", herd.tally))?;
    drop((herd, swarm));
    let Words { server, mut text, .. } = words;
    text.push(restart(server, dir.path(), size)?);
    Ok(text.join("; "))
}

struct Words {
    server: Ostler,
    last_mib: f64,
    text: Vec<String>,
}

impl Words {
    /// Does it, and says how long it took and what memory it cost.
    fn step<T>(&mut self, what: &str, count: usize, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let began = Instant::now();
        let made = work().map_err(|error| io::Error::other(format!("{what}: {error}")))?;
        let took = began.elapsed().as_secs_f64();
        let mib = memory_mib(&self.server)?;
        let each = (mib - self.last_mib) * f64::from(1 << 20) / count as f64;
        self.text.push(format!("{count} {what} in {took:.1} s, {each:.0} B each, {mib:.0} MiB in all"));
        self.last_mib = mib;
        Ok(made)
    }

    fn say(&mut self, text: String) {
        self.text.push(text);
    }
}

/// Paths of 115 characters with last components of 24.
fn path(number: usize) -> String {
    format!("{}/{:024}", parent(number / CHILDREN_OF_ONE), number)
}

fn parent(number: usize) -> String {
    format!("/production/{:a<29}/{number:048}", "")
}

fn make_parents(address: SocketAddr, znodes: usize) -> io::Result<()> {
    let mut client = Client::connect(address, 60_000)?;
    let parents = (0..znodes.div_ceil(CHILDREN_OF_ONE)).map(parent);
    let above = ["/wide".into(), "/production".into(), format!("/production/{:a<29}", "")];
    for path in above.into_iter().chain(parents) {
        let error = client.create(&path, b"")?;
        ensure(error == 0, || format!("create {path}: {error}"))?;
    }
    client.close().map(drop)
}

/// Changes some of the watched znodes; each watch there fires once, and no other.
fn fire(swarm: &mut Swarm, address: SocketAddr, size: &Size) -> io::Result<String> {
    let mut client = Client::connect(address, 30_000)?;
    let fired = FIRED.min(size.znodes);
    let step = size.znodes / fired;
    let began = Instant::now();
    for number in 0..fired {
        let body = Body::new().string(&path(number * step)).buffer(Some(b"changed")).int(-1).0;
        let error = client.call(op::SET_DATA, &body)?.err;
        ensure(error == 0, || format!("setData {number}: {error}"))?;
    }
    let due = (0..size.watches).filter(|watch| (watch % size.znodes).is_multiple_of(step)).count();
    let mut events = 0;
    // An event leaves no later than the reply to its write; one more round trip would bring any that are too many.
    let deadline = Instant::now() + EVENT_MAX;
    while events < due {
        swarm.turn(deadline, &mut |happening| {
            if let Happening::Frame(_, frame) = happening {
                events += usize::from(frames::reply_header(frame).is_some_and(|header| header.xid == -1));
            }
        })?;
    }
    swarm.each(LANES, EVENT_MAX, |_, out| frames::exists(out, 1, b"/wide", false))?;
    ensure(events == due, || format!("{events} events instead of {due}"))?;
    client.close()?;
    Ok(format!("{due} fired by {fired} writes one by one in {:.2} s", began.elapsed().as_secs_f64()))
}

/// From the log alone: no snapshot was due.
fn restart(server: Ostler, dir: &std::path::Path, size: &Size) -> Outcome {
    let znodes = metric(&server, "zk_znode_count")?;
    ensure(znodes as usize >= size.children + size.znodes, || format!("{znodes} znodes"))?;
    server.kill();
    let began = Instant::now();
    let server = Ostler::start(dir, CONFIG);
    let took = began.elapsed();
    let found = metric(&server, "zk_znode_count")?;
    ensure(found == znodes, || format!("{found} of {znodes} znodes are there after the restart"))?;
    let mib = memory_mib(&server)?;
    server.stop();
    Ok(format!(
        "killed and back with {found} znodes from the log in {:.2} s, {mib:.0} MiB",
        took.as_secs_f64()
    ))
}
