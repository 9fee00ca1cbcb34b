//! The load engine: many connections in one epoll loop, open or closed, latency from the intended start.
//! Not here: what to run when (scenario), what it means (report).

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::frames::{self, Op};
use crate::instructions::Instructions;
use crate::keys::{Choice, Keys, Random};
use crate::measure::{Recording, Usage};

/// Bytes read per call; large enough for a full pipeline of small replies.
const READ_BYTES: usize = 256 * 1024;
/// An open loop may queue this many requests on one connection before it counts as drowning.
const OPEN_QUEUE_MAX: usize = 100_000;
/// Waiting for the handshakes of all connections.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);
/// How long a server whose instructions are counted is given for what was asked of it at the end.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Relative weights of the operations.
#[derive(Clone, Debug)]
pub struct Mix {
    cumulative: Vec<(u64, Op)>,
    total: u64,
}

impl Mix {
    /// `None` when all weights are 0.
    pub fn new(weights: &[(Op, u64)]) -> Option<Mix> {
        let mut total = 0;
        let mut cumulative = Vec::new();
        for (op, weight) in weights.iter().filter(|(_, weight)| *weight > 0) {
            total += weight;
            cumulative.push((total, *op));
        }
        (total > 0).then_some(Mix { cumulative, total })
    }

    fn pick(&self, random: &mut Random) -> Op {
        if let [(_, only)] = self.cumulative[..] {
            return only;
        }
        let at = random.below(self.total);
        self.cumulative.iter().find(|(end, _)| at < *end).map_or(Op::Read, |(_, op)| *op)
    }
}

/// When requests start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Each connection keeps its depth outstanding.
    Closed,
    /// So many requests a second over all connections, evenly spaced.
    Fixed(f64),
    /// The same rate with exponential gaps.
    Poisson(f64),
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub targets: Vec<SocketAddr>,
    pub connections: usize,
    /// Requests outstanding per connection in a closed loop.
    pub depth: usize,
    pub mix: Mix,
    pub keys: Keys,
    pub choice: Choice,
    pub value_bytes: usize,
    /// Parent of what `create` makes.
    pub created_parent: String,
    /// Paths in one multi.
    pub multi_size: usize,
    pub pace: Pace,
    pub warmup: Duration,
    pub duration: Duration,
    pub session_timeout_ms: i32,
    pub seed: u64,
    /// Processes whose CPU is counted: the servers, when they are local.
    pub server_pids: Vec<u32>,
}

/// What a run gave.
pub struct Outcome {
    pub recording: Recording,
    /// Length of the measured window.
    pub window: Duration,
    pub own: Usage,
    /// Sum over the server processes; `None` when none is local.
    pub server: Option<Usage>,
    /// The same by process, in the order of the plan; none for one that has ended.
    pub servers: Vec<(u32, Usage)>,
    /// User-space instructions of the servers per operation, where the machine counts them.
    pub instructions: Option<f64>,
    /// Replies per target, in the order of the plan.
    pub per_target: Vec<u64>,
}

impl Outcome {
    pub fn ops_per_second(&self) -> f64 {
        self.recording.completed() as f64 / self.window.as_secs_f64()
    }

    /// Server CPU per operation in microseconds.
    pub fn server_cpu_us(&self) -> Option<f64> {
        let cpu = self.server?.cpu().as_secs_f64() * 1e6;
        Some(cpu / self.recording.completed().max(1) as f64)
    }

    /// Share of one CPU that the generator itself used.
    pub fn own_cpu_share(&self) -> f64 {
        self.own.cpu().as_secs_f64() / self.window.as_secs_f64()
    }
}

struct Pending {
    op: Op,
    intended_ns: u64,
}

struct Connection {
    stream: TcpStream,
    target: usize,
    output: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    pending: VecDeque<Pending>,
    next_xid: i32,
    /// Znodes this connection created and may delete.
    created: VecDeque<u64>,
    established: bool,
    writable_wanted: bool,
}

/// Shown while a run goes on.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub elapsed: Duration,
    pub completed: u64,
    pub warming: bool,
}

/// Runs `plan`; `progress` is called about four times a second.
pub fn run(plan: &Plan, progress: &mut dyn FnMut(Progress)) -> io::Result<Outcome> {
    let mut engine = Engine::connect(plan)?;
    engine.drive(progress)
}

/// Waits for readiness; a signal that interrupts the wait is none of a measurement's business.
pub fn wait(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
    match poll.poll(events, timeout) {
        Err(e) if e.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        other => other,
    }
}

struct Engine<'a> {
    plan: &'a Plan,
    poll: Poll,
    connections: Vec<Connection>,
    random: Random,
    clock: Instant,
    value: Vec<u8>,
    path: Vec<u8>,
    created: u64,
    recording: Recording,
    /// Nanoseconds on `clock` at which the window opens.
    opens_ns: u64,
    closes_ns: u64,
    next_due_ns: f64,
    next_connection: usize,
    per_target: Vec<u64>,
    /// Replies since the start, in the window or not.
    answered: u64,
    /// Nothing more is asked.
    draining: bool,
}

impl<'a> Engine<'a> {
    fn connect(plan: &'a Plan) -> io::Result<Engine<'a>> {
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(plan.connections);
        for index in 0..plan.connections {
            let target = index % plan.targets.len();
            connections.push(open(&poll, Token(index), plan, target)?);
        }
        let mut engine = Engine {
            plan,
            poll,
            connections,
            random: Random::new(plan.seed),
            clock: Instant::now(),
            value: vec![b'x'; plan.value_bytes],
            path: Vec::new(),
            created: 0,
            recording: Recording::default(),
            opens_ns: u64::MAX,
            closes_ns: u64::MAX,
            next_due_ns: 0.0,
            next_connection: 0,
            per_target: vec![0; plan.targets.len()],
            answered: 0,
            draining: false,
        };
        engine.shake_hands()?;
        Ok(engine)
    }

    fn now_ns(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    fn shake_hands(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut scratch = vec![0; READ_BYTES];
        while self.connections.iter().any(|c| !c.established) {
            if self.clock.elapsed() > CONNECT_LIMIT {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "not every session was established"));
            }
            wait(&mut self.poll, &mut events, Some(Duration::from_millis(100)))?;
            for event in &events {
                let index = event.token().0;
                if event.is_writable() {
                    self.flush(index)?;
                }
                if event.is_readable() {
                    let connection = &mut self.connections[index];
                    let open = frames::read_dry(&mut connection.stream, &mut scratch, &mut connection.input)?;
                    self.take_handshake(index)?;
                    if !open {
                        let text = format!(
                            "the server closed connection {index} of {}: is there a limit per address?",
                            self.plan.connections
                        );
                        return Err(io::Error::new(io::ErrorKind::ConnectionReset, text));
                    }
                }
            }
        }
        Ok(())
    }

    fn take_handshake(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        let Some(end) = frames::whole_frame(&connection.input) else { return Ok(()) };
        match frames::connect_response(&connection.input[4..end]) {
            Some((timeout, _)) if timeout > 0 => connection.established = true,
            _ => {
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the server refused a session"));
            }
        }
        connection.input.drain(..end);
        Ok(())
    }

    fn drive(&mut self, progress: &mut dyn FnMut(Progress)) -> io::Result<Outcome> {
        // Counted from rest to rest: what is on its way when a counter is read would belong to neither side.
        let instructions = Instructions::of(&self.plan.server_pids);
        let counted = instructions.as_ref().and_then(|i| i.count().ok());
        let start = self.now_ns();
        self.opens_ns = start + self.plan.warmup.as_nanos() as u64;
        self.closes_ns = self.opens_ns + self.plan.duration.as_nanos() as u64;
        self.next_due_ns = start as f64;
        let mut usage = None;
        let mut scratch = vec![0; READ_BYTES];
        let mut events = Events::with_capacity(1024);
        let mut shown_ns = start;
        if self.plan.pace == Pace::Closed {
            for index in 0..self.connections.len() {
                self.top_up(index, start);
                self.flush(index)?;
            }
        }
        loop {
            let now = self.now_ns();
            if now >= self.closes_ns {
                break;
            }
            if usage.is_none() && now >= self.opens_ns {
                usage = Some(self.usages());
            }
            if now - shown_ns > 250_000_000 {
                shown_ns = now;
                let warming = now < self.opens_ns;
                let elapsed = Duration::from_nanos(now - start);
                progress(Progress { elapsed, completed: self.recording.completed(), warming });
            }
            self.start_due(now)?;
            let patience = self.patience(now);
            wait(&mut self.poll, &mut events, Some(patience))?;
            for event in &events {
                self.handle(event.token().0, event.is_writable(), &mut scratch)?;
            }
        }
        let (own, servers) = usage.unwrap_or_else(|| self.usages());
        let (own_end, servers_end) = self.usages();
        let servers: Vec<(u32, Usage)> = servers_end
            .iter()
            .filter_map(|(pid, end)| {
                let (_, begin) = servers.iter().find(|(earlier, _)| earlier == pid)?;
                Some((*pid, end.since(begin)))
            })
            .collect();
        let counted_end = match &instructions {
            // The window is over: what fails now takes nothing away from it.
            Some(counter) if self.drain(&mut events, &mut scratch).is_ok_and(|rests| rests) => {
                counter.count().ok()
            }
            _ => None,
        };
        let spent = counted_end.zip(counted).and_then(|(end, begin)| end.checked_sub(begin));
        let answered = self.answered.max(1) as f64;
        Ok(Outcome {
            recording: std::mem::take(&mut self.recording),
            window: self.plan.duration,
            own: own_end.since(&own),
            server: servers.iter().map(|(_, usage)| *usage).reduce(|a, b| Usage {
                user: a.user + b.user,
                system: a.system + b.system,
                rss_bytes: a.rss_bytes + b.rss_bytes,
            }),
            servers,
            instructions: spent.map(|spent| spent as f64 / answered),
            per_target: self.per_target.clone(),
        })
    }

    /// Waits for what was asked, and asks nothing more; false when the answers do not come.
    fn drain(&mut self, events: &mut Events, scratch: &mut [u8]) -> io::Result<bool> {
        self.draining = true;
        let begin = Instant::now();
        while self.connections.iter().any(|connection| !connection.pending.is_empty()) {
            if begin.elapsed() > DRAIN_LIMIT {
                return Ok(false);
            }
            wait(&mut self.poll, events, Some(Duration::from_millis(100)))?;
            for event in &*events {
                self.handle(event.token().0, event.is_writable(), scratch)?;
            }
        }
        Ok(true)
    }

    fn usages(&self) -> (Usage, Vec<(u32, Usage)>) {
        let own = Usage::of(std::process::id()).unwrap_or_default();
        let servers = self.plan.server_pids.iter().filter_map(|pid| Some((*pid, Usage::of(*pid)?)));
        (own, servers.collect())
    }

    /// How long the loop may wait. An open loop whose next request is near does not sleep: epoll counts in
    /// milliseconds, and the lateness would be the generator's.
    fn patience(&self, now: u64) -> Duration {
        let end = self.closes_ns.saturating_sub(now);
        let due = match self.plan.pace {
            Pace::Closed => end,
            _ => (self.next_due_ns as u64).saturating_sub(now),
        };
        let wait = end.min(due).min(100_000_000);
        if wait < 1_500_000 { Duration::ZERO } else { Duration::from_nanos(wait - 1_000_000) }
    }

    /// Open loop: starts what is due.
    fn start_due(&mut self, now: u64) -> io::Result<()> {
        let rate = match self.plan.pace {
            Pace::Closed => return Ok(()),
            Pace::Fixed(rate) | Pace::Poisson(rate) => rate,
        };
        let mut touched = Vec::new();
        while self.next_due_ns <= now as f64 {
            let intended = self.next_due_ns as u64;
            let gap = match self.plan.pace {
                Pace::Poisson(_) => -(1.0 - self.random.unit()).ln(),
                _ => 1.0,
            };
            self.next_due_ns += gap * 1e9 / rate;
            let index = self.next_connection;
            self.next_connection = (index + 1) % self.connections.len();
            if self.connections[index].pending.len() >= OPEN_QUEUE_MAX {
                return Err(io::Error::other(format!(
                    "{OPEN_QUEUE_MAX} requests wait on one connection: the server does not keep up with the rate"
                )));
            }
            if intended >= self.opens_ns {
                self.recording.send_lag.saturating_record((now - intended).max(1));
            }
            self.request(index, intended);
            touched.push(index);
        }
        touched.sort_unstable();
        touched.dedup();
        touched.into_iter().try_for_each(|index| self.flush(index))
    }

    /// Closed loop: fills connection `index` up to its depth.
    fn top_up(&mut self, index: usize, now: u64) {
        while self.connections[index].pending.len() < self.plan.depth {
            self.request(index, now);
        }
    }

    fn request(&mut self, index: usize, intended_ns: u64) {
        let plan = self.plan;
        let mut op = plan.mix.pick(&mut self.random);
        let connection = &mut self.connections[index];
        if op == Op::Delete && connection.created.is_empty() {
            op = Op::Create;
        }
        let xid = connection.next_xid;
        connection.next_xid = if xid == i32::MAX { 1 } else { xid + 1 };
        let out = &mut connection.output;
        self.path.clear();
        match op {
            Op::Create => {
                self.created += 1;
                created_path(&mut self.path, plan, self.created);
                connection.created.push_back(self.created);
                frames::create(out, xid, &self.path, &self.value, 0);
            }
            Op::Delete => {
                let number = connection.created.pop_front().unwrap_or(0);
                created_path(&mut self.path, plan, number);
                frames::delete(out, xid, &self.path);
            }
            Op::Multi => {
                let paths: Vec<Vec<u8>> = (0..plan.multi_size)
                    .map(|_| {
                        let mut path = Vec::new();
                        plan.keys.path(&mut path, plan.choice.pick(&mut self.random, plan.keys.count));
                        path
                    })
                    .collect();
                frames::multi_set(out, xid, &paths, &self.value);
            }
            _ => {
                plan.keys.path(&mut self.path, plan.choice.pick(&mut self.random, plan.keys.count));
                match op {
                    Op::Exists => frames::exists(out, xid, &self.path, false),
                    Op::Children => frames::get_children(out, xid, &self.path),
                    Op::Write => frames::set_data(out, xid, &self.path, &self.value),
                    _ => frames::get_data(out, xid, &self.path, false),
                }
            }
        }
        connection.pending.push_back(Pending { op, intended_ns });
    }

    fn handle(&mut self, index: usize, writable: bool, scratch: &mut [u8]) -> io::Result<()> {
        let connection = &mut self.connections[index];
        let open = frames::read_dry(&mut connection.stream, scratch, &mut connection.input)?;
        self.take_replies(index)?;
        if !open {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                format!("the server closed connection {index} in the middle of the run"),
            ));
        }
        if self.plan.pace == Pace::Closed && !self.draining {
            let now = self.now_ns();
            self.top_up(index, now);
        }
        if writable || !self.connections[index].writable_wanted {
            self.flush(index)?;
        }
        Ok(())
    }

    fn take_replies(&mut self, index: usize) -> io::Result<()> {
        let now = self.now_ns();
        let counted = now >= self.opens_ns && now < self.closes_ns;
        let connection = &mut self.connections[index];
        let mut at = 0;
        while let Some(length) = frames::whole_frame(&connection.input[at..]) {
            let header = frames::reply_header(&connection.input[at + 4..at + length]).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "a reply shorter than its header")
            })?;
            at += length;
            if header.xid == -1 {
                self.recording.events += u64::from(counted);
                continue;
            }
            if header.xid == -2 {
                continue;
            }
            let pending = connection
                .pending
                .pop_front()
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a reply nobody asked for"))?;
            self.answered += 1;
            if counted {
                self.recording.reply(
                    pending.op,
                    now - self.opens_ns,
                    now.saturating_sub(pending.intended_ns),
                );
                self.per_target[connection.target] += 1;
                if header.error != 0 {
                    self.recording.error(header.error);
                }
            }
        }
        connection.input.drain(..at);
        Ok(())
    }

    fn flush(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        while connection.written < connection.output.len() {
            match connection.stream.write(&connection.output[connection.written..]) {
                Ok(count) => connection.written += count,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                    connection.writable_wanted = true;
                    return Ok(());
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        connection.writable_wanted = false;
        connection.output.clear();
        connection.written = 0;
        Ok(())
    }
}

fn open(poll: &Poll, token: Token, plan: &Plan, target: usize) -> io::Result<Connection> {
    let mut stream = TcpStream::connect(plan.targets[target])?;
    poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
    // Before the connection stands this may fail; it is only a matter of speed.
    let _ = stream.set_nodelay(true);
    let mut output = Vec::new();
    frames::connect(&mut output, plan.session_timeout_ms);
    Ok(Connection {
        stream,
        target,
        output,
        written: 0,
        input: Vec::new(),
        pending: VecDeque::new(),
        next_xid: 1,
        created: VecDeque::new(),
        established: false,
        writable_wanted: true,
    })
}

/// Parent of what `create` makes unless told otherwise.
pub const CREATED_PARENT: &str = "/bench-created";

/// The seed is in it: runs of one process that differ in it do not meet each other's znodes.
fn created_path(out: &mut Vec<u8>, plan: &Plan, number: u64) {
    out.extend_from_slice(plan.created_parent.as_bytes());
    out.push(b'/');
    out.extend_from_slice(format!("{}-{}-{number}", std::process::id(), plan.seed).as_bytes());
}
