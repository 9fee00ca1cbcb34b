//! How long after a write's acknowledgement an observer shows it: one session writes, one at each observer watches, and
//! all of them are served by one loop, so that one clock times both ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::client::Client;
use crate::frames;
use crate::measure::new_histogram;
use crate::swarm::{Happening, Swarm};

const PATH: &str = "/bench-staleness";
/// From one write to the next.
const EVERY: Duration = Duration::from_millis(5);
/// How long an answer or an event may take; a minute is longer than the histogram counts.
const PATIENCE: Duration = Duration::from_secs(60);
const SESSION_TIMEOUT_MS: i32 = 30_000;

pub struct Staleness {
    /// One value for each write and observer, in nanoseconds.
    pub histogram: Histogram<u64>,
}

/// The look, under way.
pub struct Watch<'scope> {
    shared: Arc<Shared>,
    thread: ScopedJoinHandle<'scope, io::Result<Staleness>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    writes: AtomicU64,
}

impl Watch<'_> {
    /// Writes made so far.
    pub fn writes(&self) -> u64 {
        self.shared.writes.load(Relaxed)
    }

    pub fn finish(self) -> io::Result<Staleness> {
        self.shared.stop.store(true, Relaxed);
        self.thread.join().map_err(|_| io::Error::other("the look at staleness panicked"))?
    }
}

/// Starts to look. Without observers nothing is written either.
pub fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    writer: SocketAddr,
    observers: &[SocketAddr],
) -> io::Result<Watch<'scope>> {
    let shared = Arc::new(Shared::default());
    let (theirs, observers) = (shared.clone(), observers.to_vec());
    let thread = std::thread::Builder::new()
        .name("staleness".into())
        .spawn_scoped(scope, move || look(writer, &observers, &theirs))?;
    Ok(Watch { shared, thread })
}

fn look(writer: SocketAddr, observers: &[SocketAddr], shared: &Shared) -> io::Result<Staleness> {
    let mut histogram = new_histogram();
    if observers.is_empty() {
        return Ok(Staleness { histogram });
    }
    let mut client = Client::connect(writer, SESSION_TIMEOUT_MS)?;
    client.ensure(PATH)?;
    client.close()?;
    for observer in observers {
        // What is not there yet cannot be watched.
        let mut client = Client::connect(*observer, SESSION_TIMEOUT_MS)?;
        client.call(|out, xid| frames::sync(out, xid, PATH.as_bytes()))?;
        client.close()?;
    }
    let targets: Vec<SocketAddr> = std::iter::once(writer).chain(observers.iter().copied()).collect();
    let mut swarm = Swarm::new(targets.clone(), SESSION_TIMEOUT_MS)?;
    swarm.open(targets.len(), targets.len(), PATIENCE)?;
    let mut xid = 0;
    while !shared.stop.load(Relaxed) {
        let begin = Instant::now();
        xid += 1;
        for lane in 1..targets.len() {
            swarm.send(lane, |out| frames::get_data(out, xid, PATH.as_bytes(), true))?;
        }
        let mut armed = 0;
        while armed < observers.len() {
            turn(&mut swarm, PATIENCE, |_, is_event| armed += usize::from(!is_event))?;
        }
        swarm.send(0, |out| frames::set_data(out, xid, PATH.as_bytes(), b"x"))?;
        let (mut acknowledged, mut seen) = (None, Vec::new());
        while acknowledged.is_none() || seen.len() < observers.len() {
            turn(&mut swarm, PATIENCE, |lane, is_event| match (lane, is_event) {
                (0, false) => acknowledged = Some(Instant::now()),
                (_, true) => seen.push(Instant::now()),
                _ => {}
            })?;
        }
        shared.writes.fetch_add(1, Relaxed);
        for moment in seen {
            let late = acknowledged.map_or(Duration::ZERO, |at| moment.saturating_duration_since(at));
            histogram.saturating_record((late.as_nanos() as u64).max(1));
        }
        while begin.elapsed() < EVERY {
            turn(&mut swarm, EVERY.saturating_sub(begin.elapsed()), |_, _| {})?;
        }
    }
    Ok(Staleness { histogram })
}

/// Waits at most `patience` for what comes; tells of each frame its member, and whether it is an event.
fn turn(swarm: &mut Swarm, patience: Duration, mut seen: impl FnMut(usize, bool)) -> io::Result<()> {
    let mut lost = false;
    swarm.turn_within(patience, Instant::now() + PATIENCE, &mut |happening| match happening {
        Happening::Frame(lane, frame) => match frames::reply_header(frame).map(|header| header.xid) {
            Some(-1) => seen(lane, true),
            Some(0..) => seen(lane, false),
            _ => {}
        },
        Happening::Closed(_) | Happening::Refused(_) => lost = true,
        Happening::Established(..) => {}
    })?;
    if lost {
        return Err(io::Error::new(io::ErrorKind::ConnectionReset, "a server closed a watching session"));
    }
    Ok(())
}
