//! What the server should be: a tree at every zxid, changed by requests one after the other, as simple as can be.
//! Written from the protocol's description, on maps and strings; replies come out as the bytes they must be.
//! Not here: what was sent or received (`history`), judging it (`checker`), anything of the engine.

use ostler_tests::client::{OPEN_ACL, op};
use ostler_tests::jute::Body;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

pub mod error {
    pub const OK: i32 = 0;
    pub const RUNTIME_INCONSISTENCY: i32 = -2;
    pub const NO_NODE: i32 = -101;
    pub const BAD_VERSION: i32 = -103;
    pub const NO_CHILDREN_FOR_EPHEMERALS: i32 = -108;
    pub const NODE_EXISTS: i32 = -110;
    pub const NOT_EMPTY: i32 = -111;
    pub const NOT_READ_ONLY: i32 = -119;
    pub const NO_WATCHER: i32 = -121;
}

/// What clients ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    Write(Write),
    Multi(Vec<Write>),
    Read {
        path: String,
        kind: ReadKind,
        watch: bool,
    },
    AddWatch {
        path: String,
        recursive: bool,
    },
    SetWatches {
        relative: i64,
        lists: WatchLists,
    },
    /// Each path's data, or its children.
    MultiRead(Vec<(String, bool)>),
    /// `kind` 1 to 5: children, data, any, persistent, recursive. Without `remove` they are only looked for.
    FindWatches {
        path: String,
        kind: i32,
        remove: bool,
    },
    Sync {
        path: String,
    },
    Ephemerals,
    Ping,
    Close,
}

/// What a client wants watched again.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct WatchLists {
    pub data: Vec<String>,
    pub exist: Vec<String>,
    pub child: Vec<String>,
    pub persistent: Vec<String>,
    pub recursive: Vec<String>,
}

impl WatchLists {
    /// What setWatches has no room for is sent as setWatches2.
    pub fn makes_set_watches2(&self) -> bool {
        !self.persistent.is_empty() || !self.recursive.is_empty()
    }
}

/// What ends a znode, beside its deletion by a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    Always,
    /// While its session lives.
    Ephemeral,
    /// Until it has no children any more.
    Container,
    /// Until nobody has written it for so many milliseconds, and it has no children.
    Ttl(i64),
}

#[derive(Clone, PartialEq, Eq)]
pub enum Write {
    Create {
        path: String,
        data: Vec<u8>,
        keep: Keep,
        sequential: bool,
        with_stat: bool,
    },
    Delete {
        path: String,
        version: i32,
    },
    SetData {
        path: String,
        data: Vec<u8>,
        version: i32,
    },
    /// Inside a multi only.
    Check {
        path: String,
        version: i32,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadKind {
    Exists,
    Data,
    Children,
    ChildrenStat,
}

impl Request {
    pub fn is_write(&self) -> bool {
        matches!(self, Request::Write(_) | Request::Multi(_) | Request::Close)
    }

    /// Op number and record, as sent.
    pub fn encode(&self) -> (i32, Vec<u8>) {
        match self {
            Request::Write(write) => write.encode(),
            Request::Multi(writes) => {
                let mut body = Body::new();
                for write in writes {
                    let (op, record) = write.encode();
                    body = body.int(op).bool(false).int(-1).raw(&record);
                }
                (op::MULTI, body.int(-1).bool(true).int(-1).0)
            }
            Request::Read { path, kind, watch } => {
                let op = match kind {
                    ReadKind::Exists => op::EXISTS,
                    ReadKind::Data => op::GET_DATA,
                    ReadKind::Children => op::GET_CHILDREN,
                    ReadKind::ChildrenStat => op::GET_CHILDREN2,
                };
                (op, Body::new().string(path).bool(*watch).0)
            }
            Request::AddWatch { path, recursive } => {
                (op::ADD_WATCH, Body::new().string(path).int(i32::from(*recursive)).0)
            }
            Request::SetWatches { relative, lists } => {
                let body = Body::new().long(*relative).strings(&lists.data).strings(&lists.exist);
                let body = body.strings(&lists.child);
                match lists.makes_set_watches2() {
                    false => (op::SET_WATCHES, body.0),
                    true => (op::SET_WATCHES2, body.strings(&lists.persistent).strings(&lists.recursive).0),
                }
            }
            Request::MultiRead(reads) => {
                let mut body = Body::new();
                for (path, children) in reads {
                    let op = if *children { op::GET_CHILDREN } else { op::GET_DATA };
                    body = body.int(op).bool(false).int(-1).string(path).bool(false);
                }
                (op::MULTI_READ, body.int(-1).bool(true).int(-1).0)
            }
            Request::FindWatches { path, kind, remove } => {
                let op = if *remove { op::REMOVE_WATCHES } else { op::CHECK_WATCHES };
                (op, Body::new().string(path).int(*kind).0)
            }
            Request::Sync { path } => (op::SYNC, Body::new().string(path).0),
            Request::Ephemerals => (op::GET_EPHEMERALS, Body::new().string("/").0),
            Request::Ping => (op::PING, Vec::new()),
            Request::Close => (op::CLOSE_SESSION, Vec::new()),
        }
    }
}

impl fmt::Debug for Write {
    /// In the words of the shell, of data the length only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Write::Create { path, data, keep, sequential, with_stat } => {
                let flag = |set: bool, text| if set { text } else { "" };
                let (s, c) = (flag(*sequential, " -s"), flag(*with_stat, "2"));
                write!(f, "create{c} {keep:?}{s} {path} +{}", data.len())
            }
            Write::Delete { path, version } => write!(f, "delete {path} v{version}"),
            Write::SetData { path, data, version } => write!(f, "set {path} +{} v{version}", data.len()),
            Write::Check { path, version } => write!(f, "check {path} v{version}"),
        }
    }
}

impl Write {
    fn encode(&self) -> (i32, Vec<u8>) {
        match self {
            Write::Create { path, data, keep, sequential, with_stat } => {
                let sequential = i32::from(*sequential);
                let body = Body::new().string(path).buffer(Some(data)).raw(OPEN_ACL);
                match keep {
                    Keep::Container => (op::CREATE_CONTAINER, body.int(4).0),
                    Keep::Ttl(ms) => (op::CREATE_TTL, body.int(5 + sequential).long(*ms).0),
                    Keep::Always | Keep::Ephemeral => {
                        let op = if *with_stat { op::CREATE2 } else { op::CREATE };
                        (op, body.int(i32::from(*keep == Keep::Ephemeral) + 2 * sequential).0)
                    }
                }
            }
            Write::Delete { path, version } => (op::DELETE, Body::new().string(path).int(*version).0),
            Write::SetData { path, data, version } => {
                (op::SET_DATA, Body::new().string(path).buffer(Some(data)).int(*version).0)
            }
            Write::Check { path, version } => (op::CHECK, Body::new().string(path).int(*version).0),
        }
    }
}

/// Header error and body that a reply must have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub err: i32,
    pub body: Vec<u8>,
}

impl Answer {
    fn error(err: i32) -> Answer {
        Answer { err, body: Vec::new() }
    }
}

/// One znode at one zxid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Znode {
    pub data: Option<Vec<u8>>,
    pub czxid: i64,
    pub mzxid: i64,
    pub pzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    /// Children ever created.
    pub creates: i32,
    pub aversion: i32,
    pub owner: i64,
    pub keep: Keep,
    pub children: BTreeSet<String>,
}

impl Znode {
    pub fn stat(&self) -> Vec<u8> {
        let children = self.children.len() as i32;
        let body = Body::new().long(self.czxid).long(self.mzxid).long(self.ctime).long(self.mtime);
        let body =
            body.int(self.version).int(self.creates * 2 - children).int(self.aversion).long(self.owner);
        body.int(self.data.as_ref().map_or(0, Vec::len) as i32).int(children).long(self.pzxid).0
    }
}

/// What a txn did to one znode, in the order watches hear of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub kind: ChangeKind,
    pub path: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeKind {
    Created,
    Deleted,
    DataChanged,
}

/// A session's life, in zxids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Life {
    pub timeout_ms: i32,
    pub opened: i64,
    pub closed: Option<i64>,
}

/// Whose request is executed, at which zxid and wall time.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    pub zxid: i64,
    pub time: i64,
    pub session: i64,
}

type Versions = Vec<(i64, Option<Rc<Znode>>)>;

/// The tree at every zxid since the beginning.
#[derive(Clone, Default)]
pub struct Model {
    nodes: BTreeMap<String, Versions>,
    changes: BTreeMap<i64, Vec<Change>>,
    pub sessions: BTreeMap<i64, Life>,
    pub last: i64,
}

pub fn parent_of(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}

fn name_of(path: &str) -> &str {
    &path[path.rfind('/').map_or(0, |at| at + 1)..]
}

/// Whether nothing holds it at this wall time: a container that has lost its last child, an old TTL znode.
pub fn is_reapable(znode: &Znode, wall_ms: i64) -> bool {
    znode.children.is_empty()
        && match znode.keep {
            Keep::Container => znode.creates > 0,
            Keep::Ttl(ms) => wall_ms - znode.mtime > ms,
            Keep::Always | Keep::Ephemeral => false,
        }
}

impl Model {
    /// A znode that the first start made.
    pub fn found(&mut self, path: &str, znode: Znode) {
        self.nodes.insert(path.to_owned(), vec![(0, Some(Rc::new(znode)))]);
    }

    pub fn at(&self, path: &str, zxid: i64) -> Option<&Rc<Znode>> {
        let versions = self.nodes.get(path)?;
        let behind = versions.partition_point(|(since, _)| *since <= zxid);
        versions[..behind].last()?.1.as_ref()
    }

    /// Every path that exists at `zxid`.
    pub fn tree(&self, zxid: i64) -> impl Iterator<Item = (&str, &Rc<Znode>)> {
        self.nodes.keys().filter_map(move |path| Some((path.as_str(), self.at(path, zxid)?)))
    }

    /// What each txn behind the first zxid, up to the second, has changed.
    pub fn changes(&self, after: i64, to: i64) -> impl Iterator<Item = (i64, &[Change])> {
        self.changes.range(after + 1..=to).map(|(zxid, changes)| (*zxid, changes.as_slice()))
    }

    pub fn open_session(&mut self, stamp: Stamp, timeout_ms: i32) {
        self.last = stamp.zxid;
        self.sessions.insert(stamp.session, Life { timeout_ms, opened: stamp.zxid, closed: None });
    }

    /// Ephemerals of the session at `zxid`.
    pub fn ephemerals(&self, session: i64, zxid: i64) -> BTreeSet<String> {
        let owned = self.tree(zxid).filter(|(_, znode)| znode.owner == session);
        owned.map(|(path, _)| path.to_owned()).collect()
    }

    /// The session's end. The order in which its ephemerals go is the server's own; `order` tells it, and must name
    /// exactly those there are.
    pub fn close_session(&mut self, stamp: Stamp, order: &[String]) -> Result<Answer, String> {
        let owned = self.ephemerals(stamp.session, stamp.zxid);
        let told: BTreeSet<String> = order.iter().cloned().collect();
        if told != owned || told.len() != order.len() {
            return Err(format!("closeSession deletes {order:?}, but its session owns {owned:?}"));
        }
        self.last = stamp.zxid;
        for path in order {
            self.delete(stamp, path);
        }
        match self.sessions.get_mut(&stamp.session) {
            Some(life) if life.closed.is_none() => life.closed = Some(stamp.zxid),
            other => return Err(format!("closeSession of a session that is {other:?}")),
        }
        Ok(Answer::error(error::OK))
    }

    /// Executes a write and says what its reply must be.
    pub fn execute(&mut self, stamp: Stamp, request: &Request) -> Answer {
        self.last = stamp.zxid;
        match request {
            Request::Write(write) => match self.write(stamp, write) {
                Ok(body) => Answer { err: error::OK, body },
                Err(err) => Answer::error(err),
            },
            Request::Multi(writes) => self.multi(stamp, writes),
            other => panic!("no write: {other:?}"),
        }
    }

    fn multi(&mut self, stamp: Stamp, writes: &[Write]) -> Answer {
        let mut results = Body::new();
        for (at, write) in writes.iter().enumerate() {
            match self.write(stamp, write) {
                Ok(body) => {
                    // What creates with a Stat is called create2.
                    let op = match write.encode().0 {
                        op::CREATE_CONTAINER | op::CREATE_TTL => op::CREATE2,
                        op => op,
                    };
                    results = results.int(op).bool(false).int(0).raw(&body);
                }
                Err(err) => {
                    self.undo(stamp.zxid);
                    results = Body::new();
                    for other in 0..writes.len() {
                        let code = match other.cmp(&at) {
                            std::cmp::Ordering::Less => error::OK,
                            std::cmp::Ordering::Equal => err,
                            std::cmp::Ordering::Greater => error::RUNTIME_INCONSISTENCY,
                        };
                        results = results.int(-1).bool(false).int(code).int(code);
                    }
                    break;
                }
            }
        }
        Answer { err: error::OK, body: results.int(-1).bool(true).int(-1).0 }
    }

    /// Takes back what the txn `zxid` did so far.
    fn undo(&mut self, zxid: i64) {
        for versions in self.nodes.values_mut() {
            while versions.last().is_some_and(|(since, _)| *since == zxid) {
                versions.pop();
            }
        }
        self.nodes.retain(|_, versions| !versions.is_empty());
        self.changes.remove(&zxid);
    }

    /// The result record, or the error.
    fn write(&mut self, stamp: Stamp, write: &Write) -> Result<Vec<u8>, i32> {
        let check = |znode: &Znode, version: i32| match version == -1 || version == znode.version {
            true => Ok(()),
            false => Err(error::BAD_VERSION),
        };
        match write {
            Write::Create { path, data, keep, sequential, with_stat } => {
                let parent = self.at(parent_of(path), stamp.zxid).ok_or(error::NO_NODE)?.clone();
                let path = match sequential {
                    true => format!("{path}{:010}", parent.creates),
                    false => path.clone(),
                };
                if self.at(&path, stamp.zxid).is_some() {
                    return Err(error::NODE_EXISTS);
                }
                if parent.owner != 0 {
                    return Err(error::NO_CHILDREN_FOR_EPHEMERALS);
                }
                let znode = self.create(stamp, &path, data, *keep);
                let body = Body::new().string(&path);
                let with_stat = *with_stat || matches!(keep, Keep::Container | Keep::Ttl(_));
                Ok(if with_stat { body.raw(&znode.stat()).0 } else { body.0 })
            }
            Write::Delete { path, version } => {
                self.at(parent_of(path), stamp.zxid).ok_or(error::NO_NODE)?;
                let znode = self.at(path, stamp.zxid).ok_or(error::NO_NODE)?;
                check(znode, *version)?;
                if !znode.children.is_empty() {
                    return Err(error::NOT_EMPTY);
                }
                self.delete(stamp, path);
                Ok(Vec::new())
            }
            Write::SetData { path, data, version } => {
                let mut znode = Znode::clone(self.at(path, stamp.zxid).ok_or(error::NO_NODE)?);
                check(&znode, *version)?;
                znode.data = Some(data.clone());
                znode.version += 1;
                (znode.mzxid, znode.mtime) = (stamp.zxid, stamp.time);
                let stat = znode.stat();
                self.put(stamp.zxid, path, Some(znode));
                self.note(stamp.zxid, ChangeKind::DataChanged, path);
                Ok(stat)
            }
            Write::Check { path, version } => {
                check(self.at(path, stamp.zxid).ok_or(error::NO_NODE)?, *version)?;
                Ok(Vec::new())
            }
        }
    }

    /// The server has taken away what nothing held any more; or it should not have.
    pub fn reap(&mut self, stamp: Stamp, path: &str) -> Result<(), String> {
        let znode = self.at(path, stamp.zxid).ok_or_else(|| format!("{path} is reaped, but not there"))?;
        if !is_reapable(znode, stamp.time) {
            return Err(format!("{path} is reaped at {}, but is {znode:?}", stamp.time));
        }
        self.last = stamp.zxid;
        self.delete(stamp, path);
        Ok(())
    }

    fn create(&mut self, stamp: Stamp, path: &str, data: &[u8], keep: Keep) -> Znode {
        let Stamp { zxid, time, .. } = stamp;
        let znode = Znode {
            data: Some(data.to_vec()),
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: time,
            mtime: time,
            version: 0,
            creates: 0,
            aversion: 0,
            owner: if keep == Keep::Ephemeral { stamp.session } else { 0 },
            keep,
            children: BTreeSet::new(),
        };
        self.put(zxid, path, Some(znode.clone()));
        self.change_parent(zxid, path, |parent| {
            parent.creates += 1;
            parent.children.insert(name_of(path).to_owned());
        });
        self.note(zxid, ChangeKind::Created, path);
        znode
    }

    fn delete(&mut self, stamp: Stamp, path: &str) {
        self.put(stamp.zxid, path, None);
        self.change_parent(stamp.zxid, path, |parent| {
            parent.children.remove(name_of(path));
        });
        self.note(stamp.zxid, ChangeKind::Deleted, path);
    }

    fn change_parent(&mut self, zxid: i64, path: &str, change: impl FnOnce(&mut Znode)) {
        let mut parent = Znode::clone(self.at(parent_of(path), zxid).expect("a znode has a parent"));
        change(&mut parent);
        parent.pzxid = zxid;
        self.put(zxid, parent_of(path), Some(parent));
    }

    fn put(&mut self, zxid: i64, path: &str, znode: Option<Znode>) {
        self.nodes.entry(path.to_owned()).or_default().push((zxid, znode.map(Rc::new)));
    }

    fn note(&mut self, zxid: i64, kind: ChangeKind, path: &str) {
        self.changes.entry(zxid).or_default().push(Change { kind, path: path.to_owned() });
    }

    /// What a read at `zxid` must answer, children in ascending order.
    pub fn read(&self, path: &str, kind: ReadKind, zxid: i64) -> Answer {
        let Some(znode) = self.at(path, zxid) else { return Answer::error(error::NO_NODE) };
        let children = || Body::new().strings(&znode.children.iter().collect::<Vec<_>>());
        let body = match kind {
            ReadKind::Exists => znode.stat(),
            ReadKind::Data => Body::new().buffer(znode.data.as_deref()).raw(&znode.stat()).0,
            ReadKind::Children => children().0,
            ReadKind::ChildrenStat => children().raw(&znode.stat()).0,
        };
        Answer { err: error::OK, body }
    }

    /// Each read by itself, children in ascending order.
    pub fn multi_read(&self, reads: &[(String, bool)], zxid: i64) -> Answer {
        let mut results = Body::new();
        for (path, children) in reads {
            let (kind, op) = match children {
                true => (ReadKind::Children, op::GET_CHILDREN),
                false => (ReadKind::Data, op::GET_DATA),
            };
            let answer = self.read(path, kind, zxid);
            results = match answer.err {
                error::OK => results.int(op).bool(false).int(0).raw(&answer.body),
                err => results.int(-1).bool(false).int(err).int(err),
            };
        }
        Answer { err: error::OK, body: results.int(-1).bool(true).int(-1).0 }
    }
}
