//! Work for peers that must not hold up the core's thread: names looked up, snapshots made and received. [`Threads`] does it
//! on threads of their own, bounded by what the other side takes; [`Inline`] at once, for simulations.
//! Not here: sockets, the snapshot's bytes (snapshot::wire).

use crate::io::disk::Disk;
use crate::ring::Wake;
use crate::snapshot::wire::{self, Ended, Receive, Stage};
use crate::snapshot::{SnapshotSource, Staged, StreamError};
use crate::world::{Restorer, Settings};
use ostler_replication::Zxid;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, TryRecvError};
use std::thread;

/// Pieces of a snapshot, of a quarter of a mebibyte each as a rule, made ahead of the connection that takes them.
const PIECES_AHEAD: usize = 4;
/// Bytes of a snapshot that were received and not decoded, above which its connection is not read.
const RECEIVED_BYTES_MAX: usize = 4 << 20;
/// Look-ups under way, above which further ones fail at once: each holds a thread for as long as a name server is silent.
const LOOK_UPS_MAX: usize = 64;

/// A snapshot on its way out, made as it is taken. Dropping it gives it up.
pub trait Outgoing: Send {
    fn next(&mut self) -> Piece;
}

pub enum Piece {
    Bytes(Arc<[u8]>),
    /// It is being made; the waker tells when.
    NotYet,
    End,
    Failed,
}

/// A snapshot on its way in. Dropping it gives it up.
pub trait Incoming: Send {
    /// False: the connection is to wait; the waker tells how long.
    fn has_room(&self) -> bool;
    fn put(&mut self, bytes: Vec<u8>);
    /// What came of it, once; with it the bytes that were put in behind the snapshot's end. No more may be put in then.
    fn outcome(&mut self) -> Option<Result<(Staged, Vec<u8>), StreamError>>;
}

/// The addresses of a name, or why there are none.
pub type LookedUp = (u64, io::Result<Vec<IpAddr>>);

pub trait Background: Send {
    /// Answered by `looked_up` with this number.
    fn look_up(&mut self, number: u64, host: &str);
    fn looked_up(&mut self) -> Option<LookedUp>;
    fn send(&mut self, source: Box<dyn SnapshotSource + Send>) -> io::Result<Box<dyn Outgoing>>;
    /// `number` tells apart what one process receives.
    fn receive(&mut self, zxid: Zxid, number: u64) -> io::Result<Box<dyn Incoming>>;
    /// Nobody wants what was received.
    fn discard(&mut self, staged: Staged);
}

/// What received snapshots become.
#[derive(Clone)]
pub struct Staging {
    pub disk: Arc<dyn Disk>,
    /// The `version-2` of snapshots.
    pub dir: PathBuf,
    pub world: Settings,
    /// `ostler.treeMemory`.
    pub tree_bytes_max: usize,
    pub field_bytes_max: usize,
}

impl Staging {
    fn run(&self, zxid: Zxid, number: u64, from: &mut Receive<'_>) -> Result<(Staged, Vec<u8>), StreamError> {
        let mut restorer = Restorer::new(self.world, zxid);
        restorer.limit_memory(self.tree_bytes_max);
        let Staging { disk, dir, field_bytes_max, world, .. } = self;
        let (field_bytes_max, digests) = (*field_bytes_max, world.digests);
        wire::receive(&Stage { disk: &**disk, dir, zxid, number, field_bytes_max, digests }, restorer, from)
    }
}

/// Threads of their own.
pub struct Threads {
    staging: Staging,
    waker: Arc<dyn Wake>,
    found: (Sender<LookedUp>, Receiver<LookedUp>),
    looking_up: Arc<AtomicUsize>,
}

impl Threads {
    /// `waker` wakes whoever owns the peers.
    pub fn new(staging: Staging, waker: Arc<dyn Wake>) -> Threads {
        Threads { staging, waker, found: mpsc::channel(), looking_up: Arc::default() }
    }
}

impl Background for Threads {
    fn look_up(&mut self, number: u64, host: &str) {
        let (found, waker, host) = (self.found.0.clone(), self.waker.clone(), host.to_owned());
        let looking_up = self.looking_up.clone();
        let answer = move |answer: io::Result<Vec<IpAddr>>| {
            looking_up.fetch_sub(1, Ordering::Relaxed);
            // Nobody listens any more when the server ends.
            let _ = found.send((number, answer));
            waker.wake();
        };
        if self.looking_up.fetch_add(1, Ordering::Relaxed) >= LOOK_UPS_MAX {
            return answer(Err(io::Error::other("too many names are being looked up already")));
        }
        let refused = answer.clone();
        let thread = thread::Builder::new().name("ostler-lookup".into()).spawn(move || {
            answer((host.as_str(), 0).to_socket_addrs().map(|found| {
                // IPv4 first, as Java has it: a server binds the first address of its name.
                let (v4, v6): (Vec<_>, Vec<_>) = found.map(|found| found.ip()).partition(IpAddr::is_ipv4);
                v4.into_iter().chain(v6).collect()
            }));
        });
        if let Err(error) = thread {
            refused(Err(error));
        }
    }

    fn looked_up(&mut self) -> Option<LookedUp> {
        self.found.1.try_recv().ok()
    }

    fn send(&mut self, source: Box<dyn SnapshotSource + Send>) -> io::Result<Box<dyn Outgoing>> {
        let (send, pieces) = mpsc::sync_channel::<Arc<[u8]>>(PIECES_AHEAD);
        let whole = Arc::new(AtomicBool::new(false));
        let outgoing = FromThread { pieces, whole: whole.clone() };
        let waker = self.waker.clone();
        thread::Builder::new().name("ostler-snap-out".into()).spawn(move || {
            let sent = wire::send(&*source, &mut |piece| put(&send, &*waker, piece));
            whole.store(sent.is_ok(), Ordering::Release);
            // What it pins is let go before anybody learns that it is over.
            drop(source);
            drop(send);
            waker.wake();
        })?;
        Ok(Box::new(outgoing))
    }

    fn receive(&mut self, zxid: Zxid, number: u64) -> io::Result<Box<dyn Incoming>> {
        let (send, pieces) = mpsc::channel::<Vec<u8>>();
        let (done, outcome) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let incoming = ToThread { pieces: send, waiting: waiting.clone(), outcome };
        let (staging, waker) = (self.staging.clone(), self.waker.clone());
        thread::Builder::new().name("ostler-snap-in".into()).spawn(move || {
            let received = staging.run(zxid, number, &mut |held| {
                let piece = pieces.recv().map_err(|_| Ended)?;
                held.extend_from_slice(&piece);
                let before = waiting.fetch_sub(piece.len(), Ordering::AcqRel);
                if before >= RECEIVED_BYTES_MAX && before - piece.len() < RECEIVED_BYTES_MAX {
                    waker.wake();
                }
                Ok(())
            });
            if let Err(mpsc::SendError((Ok((staged, _)), _))) = done.send((received, pieces)) {
                // The connection was given up in the last moment.
                staged.discard(&*staging.disk);
            }
            waker.wake();
        })?;
        Ok(Box::new(incoming))
    }

    fn discard(&mut self, staged: Staged) {
        staged.discard(&*self.staging.disk);
    }
}

/// An error: nobody wants the rest.
fn put(pieces: &SyncSender<Arc<[u8]>>, waker: &dyn Wake, piece: &[u8]) -> Result<(), Ended> {
    pieces.send(Arc::from(piece)).map_err(|_| Ended)?;
    waker.wake();
    Ok(())
}

struct FromThread {
    pieces: Receiver<Arc<[u8]>>,
    /// Set before the channel closes.
    whole: Arc<AtomicBool>,
}

impl Outgoing for FromThread {
    fn next(&mut self) -> Piece {
        match self.pieces.try_recv() {
            Ok(bytes) => Piece::Bytes(bytes),
            Err(TryRecvError::Empty) => Piece::NotYet,
            Err(TryRecvError::Disconnected) if self.whole.load(Ordering::Acquire) => Piece::End,
            Err(TryRecvError::Disconnected) => Piece::Failed,
        }
    }
}

/// The thread hands its end of `pieces` back with the outcome, so that nothing put in meanwhile is lost.
type Outcome = (Result<(Staged, Vec<u8>), StreamError>, Receiver<Vec<u8>>);

struct ToThread {
    pieces: Sender<Vec<u8>>,
    /// Bytes put in and not taken.
    waiting: Arc<AtomicUsize>,
    outcome: Receiver<Outcome>,
}

impl Incoming for ToThread {
    fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Acquire) < RECEIVED_BYTES_MAX
    }

    fn put(&mut self, bytes: Vec<u8>) {
        self.waiting.fetch_add(bytes.len(), Ordering::AcqRel);
        // Closed only if the thread has panicked, which `outcome` tells.
        let _ = self.pieces.send(bytes);
    }

    fn outcome(&mut self) -> Option<Result<(Staged, Vec<u8>), StreamError>> {
        match self.outcome.try_recv() {
            Ok((received, behind)) => Some(received.map(|(staged, mut rest)| {
                behind.try_iter().for_each(|piece| rest.extend_from_slice(&piece));
                (staged, rest)
            })),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(StreamError::Ended { received_bytes: 0 })),
        }
    }
}

/// Everything at once and on the caller's thread: for simulations, whose trees are small.
pub struct Inline {
    staging: Staging,
    /// The names that there are.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    found: VecDeque<LookedUp>,
}

impl Inline {
    pub fn new(staging: Staging) -> Inline {
        Inline { staging, names: BTreeMap::new(), found: VecDeque::new() }
    }
}

impl Background for Inline {
    fn look_up(&mut self, number: u64, host: &str) {
        let found = self.names.get(host).cloned().ok_or_else(|| io::ErrorKind::NotFound.into());
        self.found.push_back((number, found));
    }

    fn looked_up(&mut self) -> Option<LookedUp> {
        self.found.pop_front()
    }

    fn send(&mut self, source: Box<dyn SnapshotSource + Send>) -> io::Result<Box<dyn Outgoing>> {
        let mut pieces = VecDeque::new();
        let _: Result<u64, Ended> = wire::send(&*source, &mut |piece| {
            pieces.push_back(Arc::from(piece));
            Ok(())
        });
        Ok(Box::new(Made(pieces)))
    }

    fn receive(&mut self, zxid: Zxid, number: u64) -> io::Result<Box<dyn Incoming>> {
        Ok(Box::new(Gathered { staging: self.staging.clone(), zxid, number, bytes: Vec::new(), news: false }))
    }

    fn discard(&mut self, staged: Staged) {
        staged.discard(&*self.staging.disk);
    }
}

struct Made(VecDeque<Arc<[u8]>>);

impl Outgoing for Made {
    fn next(&mut self) -> Piece {
        self.0.pop_front().map_or(Piece::End, Piece::Bytes)
    }
}

/// Tries again from the start with all bytes whenever more have come.
struct Gathered {
    staging: Staging,
    zxid: Zxid,
    number: u64,
    bytes: Vec<u8>,
    news: bool,
}

impl Incoming for Gathered {
    fn has_room(&self) -> bool {
        true
    }

    fn put(&mut self, bytes: Vec<u8>) {
        self.bytes.extend_from_slice(&bytes);
        self.news = true;
    }

    fn outcome(&mut self) -> Option<Result<(Staged, Vec<u8>), StreamError>> {
        if !std::mem::take(&mut self.news) {
            return None;
        }
        let mut all = Some(&self.bytes);
        let received = self.staging.run(self.zxid, self.number, &mut |held| {
            held.extend_from_slice(all.take().ok_or(Ended)?);
            Ok(())
        });
        match received {
            Err(StreamError::Ended { .. }) => None,
            outcome => Some(outcome),
        }
    }
}
