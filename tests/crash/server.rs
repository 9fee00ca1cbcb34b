//! A server without clients and threads: the engine's own recovery, world, log writer, segments, snapshots and purge,
//! driven by a script from a seed; a ledger keeps what it was asked and what it acknowledged.
//! Not here: crashes, judging.

use crate::ledger::{Ledger, State, Znode};
use ostler_engine::admin::Registry;
use ostler_engine::config::Config;
use ostler_engine::io::disk::Disk;
use ostler_engine::io::disk_sim::SimDisk;
use ostler_engine::log::{LogSettings, LogWriter, Method, Spares};
use ostler_engine::model::{SessionId, WallMillis, Xid};
use ostler_engine::server::recovery::{self, Paths};
use ostler_engine::snapshot::purge::superfluous;
use ostler_engine::snapshot::{self, Compression, Pinned};
use ostler_engine::wire::txn::{
    AclBytes, Create, CreateKind, SubTxn, TxnBody, TxnDigest, TxnEntry, TxnHeader,
};
use ostler_engine::world::{Changes, Head};
use ostler_replication::{Proposal, Zxid};
use ostler_tests::random::Random;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What varies from script to script.
#[derive(Clone, Debug)]
pub struct Shape {
    pub method: Method,
    pub roll_bytes: Option<u64>,
    pub data_bytes_most: u64,
    pub batch_txns_most: u64,
    /// Snapshots come once in so many batches.
    pub snapshot_one_in: u64,
    pub compression: Compression,
    /// One directory for logs and snapshots, or two.
    pub one_dir: bool,
}

/// The log's segments: the least there is, so that a short script fills several.
const SEGMENT_BYTES: u64 = 64 << 10;

impl Shape {
    pub fn chosen(random: &mut Random) -> Shape {
        Shape {
            method: *random.pick(&[Method::Direct, Method::Mapped, Method::Pwrite]),
            roll_bytes: *random.pick(&[None, Some(600), Some(4000)]),
            data_bytes_most: *random.pick(&[60, 900, 9000]),
            batch_txns_most: *random.pick(&[1, 3, 8]),
            snapshot_one_in: *random.pick(&[4, 8, 1000]),
            compression: *random.pick(&[Compression::Plain, Compression::Gzip]),
            one_dir: random.one_in(2),
        }
    }

    pub fn config(&self) -> Config {
        let logs = if self.one_dir { "/data" } else { "/log" };
        Config { data_dir: "/data".into(), data_log_dir: logs.into(), ..Config::default() }
    }

    pub fn paths(&self) -> Paths {
        Paths::of(&self.config())
    }

    fn log_settings(&self) -> LogSettings {
        LogSettings {
            segment_bytes: SEGMENT_BYTES,
            roll_bytes: self.roll_bytes,
            method: self.method,
            ..LogSettings::new(self.paths().logs)
        }
    }
}

/// From files to state, or why not.
pub type Start = fn(&dyn Disk, &Shape) -> Result<Head, String>;

/// What is put to the test. The tests of this runner plant defects here, to see them found.
#[derive(Clone, Copy)]
pub struct Subject {
    pub start: Start,
    /// The disk that the server is given over the simulated one.
    pub lay: fn(SimDisk) -> Arc<dyn Disk>,
    /// Acknowledges a batch before the log has taken it.
    pub acknowledges_early: bool,
}

impl Subject {
    /// The engine as it is.
    pub const ENGINE: Subject =
        Subject { start: engine_start, lay: |disk| Arc::new(disk), acknowledges_early: false };
}

/// The start of a real server up to where it would serve.
pub fn engine_start(disk: &dyn Disk, shape: &Shape) -> Result<Head, String> {
    let (config, paths) = (shape.config(), shape.paths());
    for dir in [&paths.snapshots, &paths.logs] {
        disk.create_dir(dir).map_err(|error| error.to_string())?;
    }
    let recovery = recovery::recover(disk, &paths, &config, [1, 2], true, &Registry::default().thread());
    recovery.map(|recovery| recovery.head).map_err(|error| error.to_string())
}

/// Shared with whoever judges while the server runs.
pub type SharedLedger = Arc<Mutex<Ledger>>;

pub fn lock(ledger: &SharedLedger) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

pub struct Server {
    disk: Arc<dyn Disk>,
    shape: Shape,
    acknowledges_early: bool,
    ledger: SharedLedger,
    head: Head,
    log: LogWriter,
    spares: Arc<Spares>,
    changes: Changes,
    random: Random,
}

/// One txn of the script.
enum Txn {
    Open(i64),
    Close(i64),
    Reject,
    Change(i64, Change),
    Multi(i64, Vec<Change>),
}

enum Change {
    Create { path: String, data: Arc<[u8]>, ephemeral: bool },
    Set { path: String, data: Arc<[u8]> },
    Delete { path: String },
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Server {
    /// Recovers and judges by the ledger what it has come to; the first start of all makes the ledger's first page.
    pub fn start(
        disk: Arc<dyn Disk>,
        shape: &Shape,
        subject: &Subject,
        ledger: &SharedLedger,
        random: Random,
    ) -> Result<Server, String> {
        let mut head = (subject.start)(&*disk, shape)?;
        let zxid = lock(ledger).judge(&mut head)?;
        lock(ledger).started(zxid);
        Server::over(disk, shape, subject, ledger, head, random)
    }

    fn over(
        disk: Arc<dyn Disk>,
        shape: &Shape,
        subject: &Subject,
        ledger: &SharedLedger,
        head: Head,
        random: Random,
    ) -> Result<Server, String> {
        let settings = shape.log_settings();
        let spares = Spares::open(disk.clone(), &settings, false, Box::new(|_| {})).map_err(text)?;
        let log = LogWriter::new(disk.clone(), settings, spares.clone(), head.zxid());
        Ok(Server {
            disk,
            shape: shape.clone(),
            acknowledges_early: subject.acknowledges_early,
            ledger: ledger.clone(),
            head,
            log,
            spares,
            changes: Changes::default(),
            random,
        })
    }

    /// So many batches, with everything that happens around them; then an end of some kind.
    pub fn live(mut self, batches: u64) -> Result<(), String> {
        for _ in 0..batches {
            let txns = self.random.between(1, self.shape.batch_txns_most);
            self.batch(txns)?;
            if self.random.one_in(self.shape.snapshot_one_in) {
                self.snapshot()?;
            }
            match self.random.below(24) {
                0 => self.mark()?,
                1 => self.spares.prepare(),
                2 => self.roll()?,
                _ => {}
            }
        }
        match self.random.below(3) {
            0 => self.close(),
            1 => self.mark(),
            _ => Ok(()),
        }
    }

    /// One group: one or two proposals, acknowledged when the log has them.
    pub fn batch(&mut self, txns: u64) -> Result<(), String> {
        let split = self.random.below(txns + 1);
        let proposals: Vec<Proposal> =
            [split, txns - split].into_iter().filter_map(|txns| self.propose(txns)).collect();
        let last = lock(&self.ledger).submitted();
        if self.acknowledges_early {
            lock(&self.ledger).acknowledge(last);
        }
        self.log.append(proposals.iter()).map_err(|error| format!("{error:?}"))?;
        lock(&self.ledger).acknowledge(last);
        self.head.committed(Zxid(last));
        self.head.reclaim(usize::MAX);
        Ok(())
    }

    fn propose(&mut self, txns: u64) -> Option<Proposal> {
        let first = Zxid(self.head.zxid().0 + 1);
        let mut records = Vec::new();
        for _ in 0..txns {
            let entry = self.execute();
            records.extend_from_slice(&(entry.len() as u32).to_be_bytes());
            records.extend_from_slice(&entry);
        }
        self.head.seal();
        (txns > 0).then(|| Proposal { first, last: self.head.zxid(), records: records.into() })
    }

    /// As the thread of the log does before a snapshot.
    pub fn roll(&mut self) -> Result<(), String> {
        self.mark()?;
        self.log.roll().map_err(text)
    }

    pub fn mark(&mut self) -> Result<(), String> {
        self.log.write_mark().map_err(text)
    }

    pub fn close(&mut self) -> Result<(), String> {
        self.log.close().map_err(text)
    }

    /// A snapshot, while whose last portion another batch is logged, and what it makes superfluous removed.
    pub fn snapshot(&mut self) -> Result<(), String> {
        let source = Pinned { view: self.head.seal(), digest: true };
        self.roll()?;
        let (disk, dir) = (self.disk.clone(), self.shape.paths().snapshots);
        let compression = self.shape.compression;
        let mut meanwhile = Ok(());
        let mut go_on = |_| {
            meanwhile = meanwhile.clone().and_then(|()| self.batch(1));
            ControlFlow::Continue(())
        };
        snapshot::writer::write(&*disk, &dir, &source, compression, &mut go_on).map_err(text)?;
        drop(source);
        meanwhile?;
        let logs = self.shape.paths().logs;
        if self.random.one_in(2) {
            return snapshot::purge(&*disk, &logs, &dir, 3).map(drop).map_err(text);
        }
        // The same, but the logs are given back to be used again.
        let (snapshots, old) = superfluous(&*disk, &logs, &dir, 3).map_err(text)?;
        snapshots.iter().try_for_each(|path| disk.unlink(path)).map_err(text)?;
        disk.sync_dir(&dir).map_err(text)?;
        for path in old {
            let bytes = disk.list(&logs).map_err(text)?;
            let bytes = bytes.iter().find(|file| path.ends_with(&file.name)).map_or(0, |file| file.bytes);
            self.spares.retire(&path, bytes).map_err(text)?;
        }
        Ok(())
    }

    // --- the script -------------------------------------------------------------------------------------------------

    /// The next txn: applied, in the ledger, and as an entry of the log.
    fn execute(&mut self) -> Vec<u8> {
        let before = lock(&self.ledger).newest();
        let txn = choose(&mut self.random, &before, self.shape.data_bytes_most);
        let zxid = Zxid(self.head.zxid().0 + 1);
        let mut state = State::clone(&before);
        state.apply(&txn);
        let (session, body) = self.body(&txn, &before);
        let header = TxnHeader {
            session: SessionId(session),
            cxid: Xid(zxid.0 as i32),
            zxid,
            time: WallMillis(1_700_000_000_000 + zxid.0 as i64),
            kind: body.kind(),
        };
        self.head.apply(&header, &body, &mut self.changes);
        self.changes.list.clear();
        self.changes.text.clear();
        state.digest = self.head.digest();
        let digest = (!matches!(txn, Txn::Reject)).then(|| TxnDigest::of(state.digest));
        lock(&self.ledger).submit(state);
        let mut entry = Vec::new();
        TxnEntry { header, body, digest }.encode(&mut entry);
        entry
    }

    fn body(&self, txn: &Txn, before: &State) -> (i64, TxnBody<'static>) {
        let cversion = self.head.get("/").map_or(0, |root| root.persisted().cversion);
        let create = |path: &String, data: &Arc<[u8]>, ephemeral: bool, earlier: i32| Create {
            path: path.clone().into(),
            data: Some(data.to_vec().into()),
            acl: AclBytes::OPEN,
            kind: CreateKind::Plain { create2: true, ephemeral },
            parent_cversion: cversion + earlier + 1,
        };
        match txn {
            Txn::Open(session) => (*session, TxnBody::CreateSession { timeout_ms: 4000 }),
            Txn::Close(session) => {
                let owned = before.znodes.iter().filter(|(_, znode)| znode.owner == *session);
                let paths = owned.map(|(path, _)| path.clone().into()).collect();
                (*session, TxnBody::CloseSession { paths: Some(paths) })
            }
            Txn::Reject => (0, TxnBody::Error { code: -101 }),
            Txn::Change(session, change) => (
                *session,
                match change {
                    Change::Create { path, data, ephemeral } => {
                        TxnBody::Create(create(path, data, *ephemeral, 0))
                    }
                    Change::Set { path, data } => TxnBody::SetData {
                        path: path.clone().into(),
                        data: Some(data.to_vec().into()),
                        version: self.version(path) + 1,
                    },
                    Change::Delete { path } => TxnBody::Delete { path: path.clone().into() },
                },
            ),
            Txn::Multi(session, changes) => {
                let mut creates = 0;
                let parts = changes.iter().map(|change| match change {
                    Change::Create { path, data, ephemeral } => {
                        creates += 1;
                        SubTxn::Create(create(path, data, *ephemeral, creates - 1))
                    }
                    Change::Set { path, data } => SubTxn::SetData {
                        path: path.clone().into(),
                        data: Some(data.to_vec().into()),
                        version: self.version(path) + 1,
                    },
                    Change::Delete { path } => SubTxn::Delete { path: path.clone().into() },
                });
                (*session, TxnBody::Multi(parts.collect()))
            }
        }
    }

    fn version(&self, path: &str) -> i32 {
        self.head.get(path).map_or(0, |node| node.persisted().version)
    }
}

fn choose(random: &mut Random, state: &State, data_bytes_most: u64) -> Txn {
    let fresh = 0x0100_0000_0000_0000 + random.below(1 << 40) as i64;
    let sessions: Vec<i64> = state.sessions.iter().copied().collect();
    if sessions.is_empty() {
        return Txn::Open(fresh);
    }
    let session = *random.pick(&sessions);
    match random.below(20) {
        0 if sessions.len() < 5 => Txn::Open(fresh),
        1 if sessions.len() > 1 => Txn::Close(session),
        2 => Txn::Reject,
        3..=5 => {
            let mut changes: Vec<Change> = Vec::new();
            for _ in 0..random.between(2, 3) {
                let next = change(random, state, data_bytes_most);
                // Each znode once: what a part finds is what stood there before the multi.
                if changes.iter().all(|other| other.path() != next.path()) {
                    changes.push(next);
                }
            }
            Txn::Multi(session, changes)
        }
        _ => Txn::Change(session, change(random, state, data_bytes_most)),
    }
}

fn change(random: &mut Random, state: &State, data_bytes_most: u64) -> Change {
    let path = format!("/n{}", random.below(20));
    let bytes = random.below(data_bytes_most);
    let salt = random.word() as u8;
    let data = (0..bytes).map(|at| (at as u8).wrapping_mul(7) ^ salt).collect();
    match state.znodes.contains_key(&path) {
        false => Change::Create { path, data, ephemeral: random.one_in(3) },
        true if random.one_in(3) => Change::Delete { path },
        true => Change::Set { path, data },
    }
}

impl Change {
    fn path(&self) -> &str {
        match self {
            Change::Create { path, .. } | Change::Set { path, .. } | Change::Delete { path } => path,
        }
    }
}

impl State {
    fn apply(&mut self, txn: &Txn) {
        match txn {
            Txn::Open(session) => drop(self.sessions.insert(*session)),
            Txn::Close(session) => {
                self.sessions.remove(session);
                self.znodes.retain(|_, znode| znode.owner != *session);
            }
            Txn::Reject => {}
            Txn::Change(session, change) => self.change(*session, change),
            Txn::Multi(session, changes) => changes.iter().for_each(|change| self.change(*session, change)),
        }
    }

    fn change(&mut self, session: i64, change: &Change) {
        match change {
            Change::Create { path, data, ephemeral } => {
                let owner = if *ephemeral { session } else { 0 };
                self.znodes.insert(path.clone(), Znode { data: data.clone(), owner });
            }
            Change::Set { path, data } => {
                if let Some(znode) = self.znodes.get_mut(path) {
                    znode.data = data.clone();
                }
            }
            Change::Delete { path } => drop(self.znodes.remove(path)),
        }
    }
}
