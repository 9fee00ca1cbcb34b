//! A server that does not run for longer than its sessions' timeouts, with thousands of clients that behave as real ones
//! do: they ping, give a silent connection up after two thirds of the timeout, and ask for their session again.

use crate::{Outcome, Size, ensure};
use ostler_bench::frames;
use ostler_bench::swarm::{Happening, Swarm};
use ostler_tests::client::password_of;
use ostler_tests::peers::{Apache, Ostler, Server};
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// All addresses of loopback, so that the clients' ports do not run out while earlier connections are still known.
const CONFIG: &[&str] = &["clientPortAddress=0.0.0.0", "tickTime=1000"];
const ADDRESSES: u8 = 8;
const OPEN_MAX: Duration = Duration::from_secs(180);
/// Handshakes under way at a time while the crowd gathers.
const BURST: usize = 256;
/// Java's client waits up to this long before it connects again.
const RECONNECT_MAX: Duration = Duration::from_secs(1);
const TURN: Duration = Duration::from_millis(20);

/// Sessions that their clients keep alive.
pub struct Herd {
    swarm: Swarm,
    members: Vec<Member>,
    pub tally: Tally,
}

#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    /// Sessions the server no longer knew when their clients came back.
    pub lost: usize,
    pub reconnects: usize,
    /// Connections that did not come about in time, or that the server closed at once.
    pub failures: usize,
}

struct Member {
    timeout: Duration,
    /// 0: the server has not answered yet.
    session: i64,
    sent: Instant,
    heard: Instant,
    link: Link,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    Up,
    Dialling(Instant),
    Waiting(Instant),
    Lost,
}

impl Herd {
    /// Opens `count` sessions with timeouts spread evenly over the range.
    pub fn gather(targets: Vec<SocketAddr>, count: usize, timeouts_ms: (u64, u64)) -> io::Result<Herd> {
        let mut herd = Herd {
            swarm: Swarm::new(targets, timeouts_ms.1 as i32)?,
            members: Vec::with_capacity(count),
            tally: Tally::default(),
        };
        let deadline = Instant::now() + OPEN_MAX;
        let mut up = 0;
        while up < count {
            while herd.members.len() < count && herd.members.len() - up < BURST {
                let now = Instant::now();
                let share = (timeouts_ms.1 - timeouts_ms.0) * herd.members.len() as u64 / count as u64;
                let timeout = Duration::from_millis(timeouts_ms.0 + share);
                let link = Link::Waiting(now);
                herd.members.push(Member { timeout, session: 0, sent: now, heard: now, link });
                herd.dial(herd.members.len() - 1, now);
            }
            herd.turn()?;
            up = herd.up();
            ensure(Instant::now() < deadline, || {
                format!("only {up} of {count} sessions stand: {:?}", herd.tally)
            })?;
        }
        Ok(herd)
    }

    pub fn up(&self) -> usize {
        self.members.iter().filter(|member| member.link == Link::Up).count()
    }

    /// Plays on for so long.
    pub fn live(&mut self, time: Duration) -> io::Result<()> {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            self.turn()?;
        }
        Ok(())
    }

    /// What is due by the clock, then what the server sent.
    pub fn turn(&mut self) -> io::Result<()> {
        let now = Instant::now();
        for index in 0..self.members.len() {
            self.tend(index, now);
        }
        let mut happened = VecDeque::new();
        let turned = self.swarm.turn(now + TURN, &mut |happening| {
            happened.push_back(match happening {
                Happening::Established(index, _) => (index, Some(Link::Up)),
                Happening::Frame(index, _) => (index, None),
                Happening::Refused(index) => (index, Some(Link::Lost)),
                Happening::Closed(index) => (index, Some(Link::Waiting(now))),
            });
        });
        match turned {
            // Tending took longer than a turn.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
            other => other?,
        }
        let now = Instant::now();
        for (index, link) in happened {
            self.note(index, link, now);
        }
        Ok(())
    }

    fn tend(&mut self, index: usize, now: Instant) {
        let member = &mut self.members[index];
        match member.link {
            Link::Up if now - member.heard > member.timeout * 2 / 3 => self.lose_connection(index, now),
            Link::Up if now - member.sent > member.ping_after() => {
                member.sent = now;
                if self.swarm.send(index, frames::ping).is_err() {
                    self.lose_connection(index, now);
                }
            }
            Link::Dialling(since) if now - since > member.timeout => {
                self.tally.failures += 1;
                self.lose_connection(index, now);
            }
            Link::Waiting(until) if now >= until => self.dial(index, now),
            _ => {}
        }
    }

    fn note(&mut self, index: usize, link: Option<Link>, now: Instant) {
        let member = &mut self.members[index];
        member.heard = now;
        match link {
            None => {}
            Some(Link::Up) => {
                self.tally.reconnects += usize::from(member.session != 0);
                member.session = self.swarm.session(index).unwrap_or(member.session);
                member.sent = now;
                member.link = Link::Up;
            }
            // The refused answer is the server's word that the session is over.
            Some(Link::Lost) if member.session != 0 => {
                member.link = Link::Lost;
                self.tally.lost += 1;
            }
            Some(_) => {
                self.tally.failures += usize::from(matches!(member.link, Link::Dialling(_)));
                self.lose_connection(index, now);
            }
        }
    }

    fn lose_connection(&mut self, index: usize, now: Instant) {
        self.swarm.hang_up(index);
        // Spread as if drawn: golden-ratio steps of the index.
        let spread = (index as u32).wrapping_mul(0x9e37_79b9);
        self.members[index].link =
            Link::Waiting(now + RECONNECT_MAX.mul_f64(f64::from(spread) / f64::from(u32::MAX)));
    }

    fn dial(&mut self, index: usize, now: Instant) {
        let Member { session, timeout, .. } = self.members[index];
        let password = if session == 0 { [0; 16] } else { password_of(session) };
        let request = |out: &mut Vec<u8>| frames::attach(out, timeout.as_millis() as i32, session, &password);
        match self.swarm.dial_at(index, request) {
            Ok(()) => self.members[index].link = Link::Dialling(now),
            Err(_) => {
                self.tally.failures += 1;
                self.lose_connection(index, now);
            }
        }
    }
}

impl Member {
    /// Java's client: half of two thirds of the timeout, a second earlier if that is longer.
    fn ping_after(&self) -> Duration {
        let half = self.timeout / 3;
        half.checked_sub(Duration::from_secs(1))
            .filter(|early| *early >= Duration::from_secs(1))
            .unwrap_or(half)
    }
}

pub fn loses_nobody(size: &Size) -> Outcome {
    let dir = tempfile::tempdir()?;
    let server = Ostler::start(dir.path(), CONFIG);
    let (words, herd) = freeze(&server, size)?;
    ensure(herd.tally.lost == 0, || format!("sessions were lost: {words}"))?;
    ensure(herd.up() == size.clients, || format!("{} stand at the end: {words}", herd.up()))?;
    drop(herd);
    server.stop();
    Ok(words)
}

pub fn apache_for_comparison(size: &Size) -> Outcome {
    if !size.with_apache {
        return Ok("not asked for; OSTLER_LONG plays it".into());
    }
    let dir = tempfile::tempdir()?;
    let server = Apache::start(dir.path(), CONFIG);
    let (words, herd) = freeze(&server, size)?;
    drop(herd);
    server.stop();
    Ok(words)
}

fn freeze(server: &Server, size: &Size) -> io::Result<(String, Herd)> {
    let targets =
        (1..=ADDRESSES).map(|last| SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), server.port())));
    let began = Instant::now();
    let mut herd = Herd::gather(targets.collect(), size.clients, size.timeouts_ms)?;
    let opening = began.elapsed();
    // Until every client has pinged in its own time at least once.
    herd.live(Duration::from_millis(size.timeouts_ms.1 / 3))?;
    let before = herd.tally;
    ensure(before.lost == 0, || format!("lost before anything happened: {before:?}"))?;
    signal(server, "-STOP")?;
    let thawed = Thaw(server);
    herd.live(size.frozen)?;
    drop(thawed);
    let began = Instant::now();
    let limit = began + Duration::from_millis(size.timeouts_ms.1) * 3;
    // Whoever was lost has learned it after two timeouts.
    while began.elapsed() < Duration::from_millis(size.timeouts_ms.1) * 2 || !herd.is_settled() {
        herd.turn()?;
        ensure(Instant::now() < limit, || format!("{} stand, {:?} is how it went", herd.up(), herd.tally))?;
    }
    let Tally { lost, reconnects, failures } = herd.tally;
    let words = format!(
        "{} clients, timeouts {} to {} ms, opened in {:.1} s, frozen {:.0} s: {lost} lost, {} came back by a new \
         connection, {} connections failed",
        size.clients,
        size.timeouts_ms.0,
        size.timeouts_ms.1,
        opening.as_secs_f64(),
        size.frozen.as_secs_f64(),
        reconnects - before.reconnects,
        failures - before.failures,
    );
    Ok((words, herd))
}

/// A herd that lives on a thread of its own.
pub struct Kept {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Herd>>,
}

impl Kept {
    pub fn end(self) -> io::Result<Herd> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| io::Error::other("the herd's thread panicked"))?
    }
}

impl Herd {
    /// Lives on while the caller does other things.
    pub fn keep(mut self) -> Kept {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        let thread = std::thread::spawn(move || {
            while !asked.load(Ordering::Relaxed) {
                self.turn()?;
            }
            Ok(self)
        });
        Kept { stop, thread }
    }

    fn is_settled(&self) -> bool {
        self.members.iter().all(|member| matches!(member.link, Link::Up | Link::Lost))
    }
}

/// A frozen process is not to stay so, whatever happens to us.
struct Thaw<'a>(&'a Server);

impl Drop for Thaw<'_> {
    fn drop(&mut self) {
        let _ = signal(self.0, "-CONT");
    }
}

fn signal(server: &Server, which: &str) -> io::Result<()> {
    let status = Command::new("kill").args([which, &server.pid().to_string()]).status()?;
    ensure(status.success(), || format!("kill {which}: {status}"))
}
