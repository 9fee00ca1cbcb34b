//! The bounded queues from the workers to the core, and the bell that ends the core's sleep.
//! Not here: what the core does with a request, threads.
//!
//! One queue per worker, so that a busy worker cannot fill the others' share; the core takes from them in turn. A full
//! queue, in requests or in bytes, hands the request back: the worker stops reading that socket and is woken when the
//! core has made room. Nothing blocks, nothing is dropped.
//!
//! A session may expire only when all that reached the server within its timeout has been taken, however long requests
//! had to wait. [`Intake::heard`] says up to when that is so: all that was queued at that moment has been taken, and no
//! worker had been turned away before it with something that it has not got rid of since.

use crate::limits::{INTAKE_BYTES_MAX, INTAKE_REQUESTS_MAX};
use crate::model::{Identity, SessionId, Xid};
use crate::ring::{ConnRef, Wake};
use crate::wire::ConnectRequest;
use crossbeam::queue::ArrayQueue;
use ostler_replication::Moment;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

/// What workers ask of the core. Every request but `Touch`, `Silent` and `Gone` gets exactly one
/// [`Outcome`](crate::ring::Outcome) for `from`, in the order of that connection's requests.
#[derive(Debug)]
pub enum CoreRequest {
    /// A handshake that passed the worker's own checks (lastZxidSeen, limits).
    Connect { from: ConnRef, ask: ConnectRequest },
    /// Every write (`OpCode::is_write`), multi and closeSession included. `body` is what follows the request header;
    /// the core decodes it. `ids`: the connection's auth ids as of receipt. `apart`: reads of this connection wait before
    /// it, to be served from a View that has what came before them and not yet this: it goes into a later batch.
    Write {
        from: ConnRef,
        session: SessionId,
        xid: Xid,
        op: i32,
        body: Box<[u8]>,
        ids: Arc<[Identity]>,
        apart: bool,
    },
    /// sync: answered when all that the core has accepted up to now is committed. `path` is echoed, null included.
    Sync { from: ConnRef, session: SessionId, xid: Xid, path: Option<Box<[u8]>> },
    /// Reads of what only the core has; answered at the zxid that stands when it gets here.
    Query { from: ConnRef, xid: Xid, query: Query },
    /// Sessions heard from (any request, ping included) since the last report, or not being read by our own choice. In
    /// bulk, about every half tick; writes touch by themselves.
    Touch(Vec<SessionId>),
    /// The answer to `After::Probe`: a turn begun after it read the socket dry and found nothing.
    Silent { from: ConnRef, session: SessionId, token: u64 },
    /// The connection of this session is closed, by whomever.
    Gone { from: ConnRef, session: SessionId },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Query {
    /// getEphemerals: `None`, blank and `/` mean all.
    Ephemerals { session: SessionId, prefix: Option<Box<str>> },
}

impl CoreRequest {
    /// The connection and the session of a request within a session.
    pub(crate) fn asker(&self) -> Option<(ConnRef, SessionId)> {
        match *self {
            CoreRequest::Write { from, session, .. }
            | CoreRequest::Sync { from, session, .. }
            | CoreRequest::Query { from, query: Query::Ephemerals { session, .. }, .. }
            | CoreRequest::Silent { from, session, .. }
            | CoreRequest::Gone { from, session } => Some((from, session)),
            CoreRequest::Connect { .. } | CoreRequest::Touch(_) => None,
        }
    }

    /// What it counts for in `INTAKE_BYTES_MAX`.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            CoreRequest::Write { body, .. } => body.len(),
            CoreRequest::Sync { path: Some(path), .. } => path.len(),
            CoreRequest::Query { query: Query::Ephemerals { prefix: Some(prefix), .. }, .. } => prefix.len(),
            CoreRequest::Touch(sessions) => sessions.len() * size_of::<SessionId>(),
            _ => 0,
        }
    }
}

/// Ends one sleeper's sleep, once, if it sleeps. The same handshake as the ring's: the sleeper arms the bell, and
/// behind a SeqCst fence looks at its queues once more; whoever fills one looks, behind a SeqCst fence, at the bell.
pub struct Bell {
    armed: AtomicBool,
    waker: Box<dyn Wake>,
}

impl Bell {
    pub fn new(waker: Box<dyn Wake>) -> Bell {
        Bell { armed: AtomicBool::new(false), waker }
    }

    /// After having put something where the sleeper looks.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::Relaxed) && self.armed.swap(false, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// The sleeper, before it looks a last time and sleeps.
    pub fn arm(&self) {
        self.armed.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// The sleeper, when it runs again.
    pub fn disarm(&self) {
        self.armed.store(false, Ordering::Relaxed);
    }
}

struct Queue {
    requests: ArrayQueue<CoreRequest>,
    bytes: AtomicUsize,
    /// This queue's share of `INTAKE_BYTES_MAX`; a single larger request passes alone.
    bytes_max: usize,
    /// The worker was turned away and waits for room.
    refused: AtomicBool,
    /// Since when the worker has had something that was turned away, in nanoseconds; `NOTHING_TURNED_AWAY` if it has not.
    lags_since: AtomicU64,
    worker: Box<dyn Wake>,
}

const NOTHING_TURNED_AWAY: u64 = u64::MAX;

/// A worker's end.
pub struct Submitter {
    queue: Arc<Queue>,
    bell: Arc<Bell>,
    /// Something was submitted since the bell was last rung.
    unannounced: bool,
    /// As the queue has it.
    lags_since: u64,
}

/// The core's end.
pub struct Intake {
    queues: Vec<Arc<Queue>>,
    /// Whose turn it is.
    next: usize,
    /// How many of the requests that were queued at `marked` are still to be taken, of each queue and in all.
    left: Vec<usize>,
    left_in_all: usize,
    marked: Moment,
    heard: Moment,
}

/// One submitter per worker, in the order of `workers`, which wakes a worker when there is room again.
pub fn intake(bell: Arc<Bell>, workers: Vec<Box<dyn Wake>>) -> (Intake, Vec<Submitter>) {
    bounded_intake(bell, workers, INTAKE_REQUESTS_MAX, INTAKE_BYTES_MAX)
}

/// With other bounds than a server's: of all workers' queues together.
pub fn bounded_intake(
    bell: Arc<Bell>,
    workers: Vec<Box<dyn Wake>>,
    requests_max: usize,
    bytes_max: usize,
) -> (Intake, Vec<Submitter>) {
    let count = workers.len().max(1);
    let queues: Vec<Arc<Queue>> = workers
        .into_iter()
        .map(|worker| {
            Arc::new(Queue {
                requests: ArrayQueue::new((requests_max / count).max(1)),
                bytes: AtomicUsize::new(0),
                bytes_max: bytes_max / count,
                refused: AtomicBool::new(false),
                lags_since: AtomicU64::new(NOTHING_TURNED_AWAY),
                worker,
            })
        })
        .collect();
    let submitters = queues
        .iter()
        .map(|queue| Submitter {
            queue: queue.clone(),
            bell: bell.clone(),
            unannounced: false,
            lags_since: NOTHING_TURNED_AWAY,
        })
        .collect();
    let left = vec![0; queues.len()];
    let (marked, heard) = (Moment::default(), Moment::default());
    (Intake { queues, next: 0, left, left_in_all: 0, marked, heard }, submitters)
}

impl Submitter {
    /// Hands the request over, or back if the queue is full: then read no more, your waker is called when there is
    /// room. Call [`Submitter::announce`] once per turn, before sleeping.
    pub fn submit(&mut self, request: CoreRequest) -> Result<(), CoreRequest> {
        match self.push(request) {
            Ok(()) => Ok(()),
            Err(request) => {
                // Ask to be woken, then look again: the core may have emptied the queue in between.
                self.queue.refused.store(true, Ordering::Release);
                // Until the end of this turn, when the worker says since when.
                self.lag(0);
                fence(Ordering::SeqCst);
                self.push(request)
            }
        }
    }

    /// At the end of each turn: when the oldest of what was turned away, and is not submitted yet, reached the worker.
    pub fn lags_since(&mut self, oldest: Option<Moment>) {
        self.lag(oldest.map_or(NOTHING_TURNED_AWAY, |oldest| oldest.0));
    }

    fn lag(&mut self, since: u64) {
        if std::mem::replace(&mut self.lags_since, since) != since {
            // Release: who sees that nothing lags sees what was submitted before.
            self.queue.lags_since.store(since, Ordering::Release);
        }
    }

    /// Wakes the core if it sleeps and anything was submitted since the last call.
    pub fn announce(&mut self) {
        if std::mem::take(&mut self.unannounced) {
            self.bell.ring();
        }
    }

    fn push(&mut self, request: CoreRequest) -> Result<(), CoreRequest> {
        let bytes = request.bytes();
        let waiting = self.queue.bytes.load(Ordering::Relaxed);
        if bytes > 0 && waiting > 0 && waiting + bytes > self.queue.bytes_max {
            return Err(request);
        }
        // Counted first: the core may take it, and subtract, before `push` returns.
        self.queue.bytes.fetch_add(bytes, Ordering::Relaxed);
        let pushed = self.queue.requests.push(request);
        if pushed.is_err() {
            self.queue.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.unannounced = true;
        pushed
    }
}

impl Intake {
    /// Takes up to `most` requests, each worker's share in its order, beginning with the worker whose turn it is.
    pub fn take(&mut self, most: usize, taken: &mut VecDeque<CoreRequest>) {
        let mut left = most;
        for (visited, _) in self.queues.iter().enumerate() {
            let queue = &self.queues[self.next];
            let marked = &mut self.left[self.next];
            self.next = (self.next + 1) % self.queues.len();
            // What is left is shared among those that have not had their turn.
            let share = left.div_ceil(self.queues.len() - visited);
            let mut bytes = 0;
            let before = taken.len();
            taken.extend(
                std::iter::from_fn(|| queue.requests.pop()).take(share).inspect(|it| bytes += it.bytes()),
            );
            let count = taken.len() - before;
            left -= count;
            if count > 0 {
                queue.took(bytes);
                let of_marked = count.min(*marked);
                *marked -= of_marked;
                self.left_in_all -= of_marked;
            }
        }
    }

    /// Up to when all that reached the workers and is for the core has been taken. To be asked when what was taken has
    /// been stepped; once all that was queued at one moment is taken, the next such moment is `now`.
    pub fn heard(&mut self, now: Moment) -> Moment {
        if self.left_in_all > 0 {
            return self.heard;
        }
        self.heard = self.marked;
        // Before the queues are counted: what a worker has got rid of since is in them.
        let lags = |queue: &Arc<Queue>| queue.lags_since.load(Ordering::Acquire);
        let oldest = self.queues.iter().map(lags).min().unwrap_or(NOTHING_TURNED_AWAY);
        self.marked = self.marked.max(now.min(Moment(oldest)));
        for (left, queue) in self.left.iter_mut().zip(&self.queues) {
            *left = queue.requests.len();
            self.left_in_all += *left;
        }
        if self.left_in_all == 0 {
            self.heard = self.marked;
        }
        self.heard
    }

    /// All that wait.
    #[cfg(test)]
    pub fn take_all(&mut self) -> VecDeque<CoreRequest> {
        let mut taken = VecDeque::new();
        while !self.is_empty() {
            self.take(usize::MAX, &mut taken);
        }
        taken
    }

    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.requests.is_empty())
    }

    /// Requests waiting from all workers.
    pub fn len(&self) -> usize {
        self.queues.iter().map(|queue| queue.requests.len()).sum()
    }
}

impl Queue {
    fn took(&self, bytes: usize) {
        let left = self.bytes.fetch_sub(bytes, Ordering::Relaxed) - bytes;
        fence(Ordering::SeqCst);
        // Half empty: a worker is not woken for room for one request.
        if self.refused.load(Ordering::Relaxed)
            && self.requests.len() <= self.requests.capacity() / 2
            && left <= self.bytes_max / 2
            && self.refused.swap(false, Ordering::AcqRel)
        {
            self.worker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    struct Count(Arc<AtomicUsize>);
    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Bench {
        intake: Intake,
        submitters: Vec<Submitter>,
        bell: Arc<Bell>,
        core_wakes: Arc<AtomicUsize>,
        worker_wakes: Arc<AtomicUsize>,
    }

    fn bench(workers: usize) -> Bench {
        let (core_wakes, worker_wakes) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let bell = Arc::new(Bell::new(Box::new(Count(core_wakes.clone()))));
        let wakers = (0..workers).map(|_| Box::new(Count(worker_wakes.clone())) as Box<dyn Wake>).collect();
        let (intake, submitters) = intake(bell.clone(), wakers);
        Bench { intake, submitters, bell, core_wakes, worker_wakes }
    }

    fn write(worker: u16, xid: i32, bytes: usize) -> CoreRequest {
        let from = ConnRef { worker, slot: 0, generation: NonZeroU32::MIN };
        CoreRequest::Write {
            from,
            session: SessionId(1),
            xid: Xid(xid),
            op: 1,
            body: vec![0; bytes].into(),
            ids: [].into(),
            apart: false,
        }
    }

    #[test]
    fn workers_are_served_in_turn() {
        let mut bench = bench(2);
        for xid in 0..3 {
            bench.submitters[0].submit(write(0, xid, 1)).unwrap();
        }
        bench.submitters[1].submit(write(1, 9, 1)).unwrap();
        let mut check = |most: usize, xids: &[i32]| {
            let mut taken = VecDeque::new();
            bench.intake.take(most, &mut taken);
            let taken: Vec<i32> = taken
                .iter()
                .map(|request| match request {
                    CoreRequest::Write { xid, .. } => xid.0,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(taken, xids);
        };
        check(2, &[0, 9]);
        check(1, &[1]);
        check(64, &[2]);
        check(64, &[]);
    }

    #[test]
    fn a_full_queue_hands_back_and_wakes_the_worker_when_there_is_room() {
        let mut bench = bench(1);
        let large = INTAKE_BYTES_MAX / 2 + 1;
        bench.submitters[0].submit(write(0, 1, large)).unwrap();
        assert!(bench.submitters[0].submit(write(0, 2, large)).is_err());
        assert_eq!(bench.worker_wakes.load(Ordering::Relaxed), 0);
        assert_eq!(bench.intake.take_all().len(), 1);
        assert_eq!(bench.worker_wakes.load(Ordering::Relaxed), 1);
        bench.submitters[0].submit(write(0, 2, large)).unwrap();
    }

    #[test]
    fn the_bell_wakes_a_sleeper_once() {
        let mut bench = bench(1);
        bench.submitters[0].submit(write(0, 1, 1)).unwrap();
        bench.submitters[0].announce();
        assert_eq!(bench.core_wakes.load(Ordering::Relaxed), 0);
        bench.bell.arm();
        for xid in 0..3 {
            bench.submitters[0].submit(write(0, xid, 1)).unwrap();
            bench.submitters[0].announce();
        }
        assert_eq!(bench.core_wakes.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn heard_is_what_was_queued_at_a_moment_and_has_been_taken() {
        let mut bench = bench(2);
        let at = Moment::from_millis;
        let mut taken = VecDeque::new();
        assert_eq!(bench.intake.heard(at(1)), at(1), "nothing waits");
        for xid in 0..4 {
            bench.submitters[0].submit(write(0, xid, 1)).unwrap();
        }
        assert_eq!(bench.intake.heard(at(2)), at(1));
        bench.intake.take(3, &mut taken);
        // More of what came since does not stand for what waits since then.
        bench.submitters[1].submit(write(1, 9, 1)).unwrap();
        bench.intake.take(1, &mut taken);
        assert_eq!(bench.intake.heard(at(3)), at(1));
        bench.intake.take(2, &mut taken);
        assert_eq!((taken.len(), bench.intake.heard(at(4))), (5, at(4)));
    }

    #[test]
    fn what_a_worker_was_turned_away_with_is_not_heard() {
        let mut bench = bench(1);
        let at = Moment::from_millis;
        let mut xid = 0;
        while bench.submitters[0].submit(write(0, xid, 1)).is_ok() {
            xid += 1;
        }
        assert_eq!(bench.intake.take_all().len(), xid as usize);
        assert_eq!(bench.intake.heard(at(8)), at(0), "the worker is still at it");
        bench.submitters[0].lags_since(Some(at(5)));
        assert_eq!(bench.intake.heard(at(9)), at(5));
        bench.submitters[0].submit(write(0, xid, 1)).unwrap();
        bench.submitters[0].lags_since(None);
        assert_eq!(bench.intake.heard(at(10)), at(5), "it waits");
        bench.intake.take_all();
        assert_eq!(bench.intake.heard(at(11)), at(11));
    }
}
