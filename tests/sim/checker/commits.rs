//! The one history: what servers log, what they show, what is committed by that, and what each committed txn does to the
//! model. Not here: replies (`answers`), whether a session may expire (`hearing`).
//!
//! An entry is known by its zxid as soon as the first server logs it, with the one behind which it stands. It is committed
//! when the first server shows it, and with it all that it stands behind. Only then the model executes it, so that what
//! is lost with a deposed leader was never there.

use super::{Checked, Checker, Executed, REAP_MS, ensure};
use crate::log::LogNote;
use crate::model::{Answer, Keep, Life, Request, Stamp, Znode, error, is_reapable};
use crate::net::HostId;
use ostler_engine::model::Owner;
use ostler_engine::wire::{TxnBody, TxnEntry};
use ostler_engine::world::View;
use ostler_replication::{Role, Zxid};
use std::collections::BTreeMap;

/// Of a session, whose connection is another by now.
const SESSION_MOVED: i32 = -118;
const SESSION_EXPIRED: i32 = -112;

/// One txn that was logged somewhere.
pub(super) struct Entry {
    /// The one before it.
    behind: i64,
    bytes: Vec<u8>,
    /// Why it must not be committed.
    wrong: Option<String>,
}

/// What is known of one server.
pub(super) struct Server {
    /// The last entry it has logged, or is to log.
    tail: i64,
    shown: i64,
    pub role: Role,
}

/// Each server writes it by itself, and no txn tells.
const MEMBERS_PATH: &str = "/zookeeper/config";

fn signed(zxid: Zxid) -> i64 {
    zxid.0 as i64
}

impl Checker {
    // --- what servers log -------------------------------------------------------------------------------------------

    pub fn logs(&mut self, host: HostId, note: &LogNote) -> Checked {
        let tail = self.servers.get(&host).map_or(0, |server| server.tail);
        let tail = match note {
            LogNote::Append(proposal) => {
                let mut tail = tail;
                for bytes in proposal.entries() {
                    tail = self.logs_entry(bytes, tail).map_err(|why| format!("server {host}: {why}"))?;
                }
                tail
            }
            LogNote::Truncate(to) => {
                self.figures.truncated += 1;
                let mut tail = tail;
                while tail > signed(*to)
                    && let Some(entry) = self.entries.get(&tail)
                {
                    tail = entry.behind;
                }
                tail
            }
            LogNote::Install(zxid) => {
                self.figures.installed += 1;
                signed(*zxid)
            }
            LogNote::Ends(zxid) => signed(*zxid),
        };
        if let Some(server) = self.servers.get_mut(&host) {
            server.tail = tail;
        }
        Ok(())
    }

    fn logs_entry(&mut self, bytes: &[u8], behind: i64) -> Checked<i64> {
        let (entry, _) =
            TxnEntry::decode(bytes).map_err(|error| format!("a proposal of nonsense: {error:?}"))?;
        let (zxid, session) = (signed(entry.header.zxid), entry.header.session.0);
        ensure!(zxid > behind, "logs 0x{zxid:x} behind 0x{behind:x}");
        if let Some(known) = self.entries.get(&zxid) {
            ensure!(known.bytes == bytes, "logs another 0x{zxid:x} than was logged before");
            ensure!(
                known.behind == behind,
                "logs 0x{zxid:x} behind 0x{behind:x}, where it stands behind 0x{:x}",
                known.behind
            );
            return Ok(zxid);
        }
        let is_expiry = entry.header.cxid.0 == 0 && matches!(entry.body, TxnBody::CloseSession { .. });
        if matches!(entry.body, TxnBody::CloseSession { .. }) {
            self.closing.insert(session);
        }
        let wrong = if is_expiry { self.expires(session).err() } else { None };
        self.entries.insert(zxid, Entry { behind, bytes: bytes.to_vec(), wrong });
        Ok(zxid)
    }

    // --- what servers show ------------------------------------------------------------------------------------------

    /// A server has recovered to this View, which in an ensemble it may have to take back.
    pub fn recovered(&mut self, host: HostId, view: &View) -> Checked {
        self.figures.recoveries += 1;
        let zxid = signed(view.zxid());
        let shown = self.servers.get(&host).map_or(0, |server| server.shown);
        self.servers.insert(host, Server { tail: zxid, shown, role: Role::Looking });
        if self.is_ensemble {
            return Ok(());
        }
        ensure!(zxid >= self.known, "lost: 0x{:x} was known, recovery ends at 0x{zxid:x}", self.known);
        // Who stands alone gives the zxids of what is lost out again.
        self.figures.undone += self.entries.split_off(&(zxid + 1)).len() as u64;
        ensure!(
            zxid == 0 || self.entries.contains_key(&zxid),
            "recovered 0x{zxid:x}, which was never logged"
        );
        self.commit_to(zxid)?;
        self.closing.clear();
        self.writes.clear();
        for session in self.sessions.values_mut() {
            // It gets its whole timeout again.
            session.heard_ms = vec![self.running_ms];
        }
        self.compare(view)
    }

    /// What a server shows behind a turn of its core; what is worth a line of the history.
    pub fn shows(&mut self, host: HostId, role: Role, view: &View) -> Checked<Option<String>> {
        let Some(server) = self.servers.get_mut(&host) else { return Ok(None) };
        let (zxid, before) = (signed(view.zxid()), std::mem::replace(&mut server.role, role));
        let has_changed = before != role;
        if has_changed && self.is_ensemble {
            match role {
                Role::Leading => self.figures.leaders += 1,
                Role::Following(_) | Role::Observing(_) => self.figures.learners += 1,
                Role::Looking | Role::Standalone => self.figures.ends += 1,
            }
            self.hearing_changes(host, role);
        }
        let told = has_changed.then(|| format!("is {role:?} at {zxid:x}"));
        let Some(server) = self.servers.get_mut(&host) else { return Ok(told) };
        if role == Role::Looking {
            return Ok(told);
        }
        ensure!(
            zxid >= server.shown,
            "server {host} shows 0x{zxid:x}, and has shown 0x{:x} before",
            server.shown
        );
        let is_news = zxid != server.shown;
        server.shown = zxid;
        if zxid > self.model.last {
            self.commit_to(zxid).map_err(|why| format!("server {host} shows 0x{zxid:x}: {why}"))?;
        }
        if is_news || has_changed {
            let digest = view.totals().digest;
            let known = *self.digests.entry(zxid).or_insert(digest);
            ensure!(
                known == digest,
                "at 0x{zxid:x} the digest of server {host} is {digest:x}, not {known:x}"
            );
        }
        if has_changed {
            self.compare(view).map_err(|why| format!("server {host}: {why}"))?;
        }
        Ok(told)
    }

    /// The newest zxid known to be committed.
    pub fn committed(&self) -> i64 {
        self.model.last
    }

    /// Everything up to here of the history that ends there is committed.
    pub(super) fn commit_to(&mut self, zxid: i64) -> Checked {
        let mut line = Vec::new();
        let mut at = zxid;
        while at > self.model.last {
            let entry = self.entries.get(&at).ok_or_else(|| format!("nobody has logged 0x{at:x}"))?;
            line.push(at);
            at = entry.behind;
        }
        ensure!(
            at == self.model.last,
            "lost: 0x{:x} was committed, and 0x{zxid:x} stands behind 0x{at:x}",
            self.model.last
        );
        for zxid in line.into_iter().rev() {
            let entry = self.entries.get_mut(&zxid).ok_or("seen a moment ago")?;
            if let Some(wrong) = entry.wrong.take() {
                return Err(wrong);
            }
            // Kept, for others log it later.
            let bytes = entry.bytes.clone();
            self.commit(&bytes)?;
        }
        Ok(())
    }

    // --- what is committed ------------------------------------------------------------------------------------------

    pub(super) fn commit(&mut self, bytes: &[u8]) -> Checked {
        let (entry, _) =
            TxnEntry::decode(bytes).map_err(|error| format!("a proposal of nonsense: {error:?}"))?;
        let (header, xid) = (entry.header, entry.header.cxid.0);
        let stamp = Stamp { zxid: signed(header.zxid), time: header.time.0, session: header.session.0 };
        let begins_epoch = stamp.zxid & 0xffff_ffff == 1 && stamp.zxid > self.model.last;
        ensure!(
            stamp.zxid == self.model.last + 1 || begins_epoch && self.is_ensemble,
            "0x{:x} stands behind 0x{:x}",
            stamp.zxid,
            self.model.last
        );
        self.figures.txns += 1;
        match &entry.body {
            TxnBody::CreateSession { timeout_ms } => {
                self.model.open_session(stamp, *timeout_ms);
                Ok(())
            }
            TxnBody::CloseSession { paths } => {
                let paths: Vec<String> = paths.iter().flatten().map(|path| path.to_string()).collect();
                if xid != 0 {
                    self.executes(stamp, xid)?;
                }
                let answer = self.model.close_session(stamp, &paths)?;
                if xid == 0 {
                    self.figures.expiries += 1;
                } else {
                    self.note_executed(stamp, xid, answer);
                }
                Ok(())
            }
            TxnBody::DeleteContainer { path } => {
                self.figures.reaped += 1;
                self.model.reap(stamp, path)
            }
            // A znode that was to be reaped is gone, or has children by now; a session of a learner's was refused.
            TxnBody::Error { .. } if stamp.session == 0 || xid == 0 => {
                self.model.last = stamp.zxid;
                Ok(())
            }
            TxnBody::Error { code } if self.is_rejection(*code, stamp.session) => {
                self.model.last = stamp.zxid;
                if let Some((connection, ..)) = self.writes.remove(&(stamp.session, xid))
                    && let Some(made) = self.connections.get_mut(&connection)
                {
                    made.unproposed.retain(|waiting| *waiting != xid);
                }
                let answer = Answer { err: *code, body: Vec::new() };
                let session = self.sessions.entry(stamp.session).or_default();
                session.rejected.insert(xid, Executed { zxid: stamp.zxid, answer });
                Ok(())
            }
            _ => {
                let request = self.executes(stamp, xid)?;
                let answer = self.model.execute(stamp, &request);
                self.note_executed(stamp, xid, answer);
                Ok(())
            }
        }
    }

    /// Whether a learner's request may have come to nothing by this error.
    fn is_rejection(&self, code: i32, session: i64) -> bool {
        let is_over = || self.model.sessions.get(&session).is_none_or(|life| life.closed.is_some());
        self.is_ensemble
            && match code {
                SESSION_MOVED => true,
                SESSION_EXPIRED => is_over() || self.closing.contains(&session),
                error::NOT_READ_ONLY => self.may_refuse,
                _ => false,
            }
    }

    /// The request behind a txn, which must be the next of its connection.
    fn executes(&mut self, stamp: Stamp, xid: i32) -> Checked<Request> {
        let Stamp { zxid, session, .. } = stamp;
        let life = self.model.sessions.get(&session);
        ensure!(
            life.is_some_and(|life| life.closed.is_none()),
            "0x{zxid:x} is a txn of session 0x{session:x}, which is not open"
        );
        let (connection, request, known) = self.writes.remove(&(session, xid)).ok_or_else(|| {
            format!("0x{zxid:x} is a txn that nobody sent: session 0x{session:x} xid {xid}")
        })?;
        ensure!(zxid > known, "0x{zxid:x} was decided before 0x{known:x}, which was known when it was sent");
        let executed = &self.sessions.entry(session).or_default().executed;
        let last = executed.last_key_value().map_or(0, |(xid, _)| *xid);
        ensure!(last < xid, "xid {xid} of session 0x{session:x} executed after xid {last}");
        if let Some(made) = self.connections.get_mut(&connection) {
            while let Some(next) = made.unproposed.pop_front() {
                if next == xid {
                    break;
                }
                ensure!(self.may_refuse, "xid {next} of session 0x{session:x} was passed over by xid {xid}");
                self.writes.remove(&(session, next));
                made.refused.insert(next);
            }
        }
        Ok(request)
    }

    fn note_executed(&mut self, stamp: Stamp, xid: i32, answer: Answer) {
        let session = self.sessions.entry(stamp.session).or_default();
        session.executed.insert(xid, Executed { zxid: stamp.zxid, answer });
    }

    // --- whole trees ------------------------------------------------------------------------------------------------

    /// The whole tree and the sessions of a View, against the model.
    pub fn compare(&self, view: &View) -> Checked {
        let zxid = signed(view.zxid());
        let mut found = 0;
        for (path, znode) in tree_of(view) {
            found += 1;
            let expected = self.model.at(&path, zxid);
            ensure!(
                expected.is_some_and(|expected| **expected == znode),
                "at 0x{zxid:x} {path} is {znode:?}, not {expected:?}"
            );
        }
        let expected = self.model.tree(zxid).count();
        ensure!(found == expected, "at 0x{zxid:x} there are {found} znodes, not {expected}");
        let sessions: BTreeMap<i64, i32> =
            view.sessions().map(|(session, timeout_ms)| (session.0, timeout_ms)).collect();
        let open = |life: &Life| life.opened <= zxid && life.closed.is_none_or(|closed| closed > zxid);
        let lives = self.model.sessions.iter().filter(|(_, life)| open(life));
        let expected: BTreeMap<i64, i32> = lives.map(|(id, life)| (*id, life.timeout_ms)).collect();
        ensure!(sessions == expected, "at 0x{zxid:x} sessions are {sessions:x?}, not {expected:x?}");
        Ok(())
    }

    /// Nothing may be owed to anybody: called when the server has had time to answer all.
    pub fn settled(&self) -> Checked {
        for (number, connection) in &self.connections {
            ensure!(
                connection.sent.is_empty(),
                "connection {number} waits for {:?}",
                connection.sent.front()
            );
            ensure!(connection.due.is_empty(), "connection {number} waits for events {:?}", connection.due);
        }
        Ok(())
    }

    /// Nothing is left that nothing holds.
    pub fn reaped_all(&self, wall_ms: i64) -> Checked {
        for (path, znode) in self.model.tree(self.model.last) {
            ensure!(
                !is_reapable(znode, wall_ms - REAP_MS),
                "{path} should have been reaped by {wall_ms}: {znode:?}"
            );
        }
        Ok(())
    }
}

/// A View as the model would hold it.
pub(super) fn tree_of(view: &View) -> Vec<(String, Znode)> {
    let mut found = Vec::new();
    let mut walk = view.walk();
    while let Some((path, node)) = walk.next() {
        let path = if path.is_empty() { "/" } else { path };
        if path == MEMBERS_PATH {
            continue;
        }
        let (stat, wire) = (node.persisted(), node.stat());
        let znode = Znode {
            data: node.data().map(<[u8]>::to_vec),
            czxid: stat.czxid.0 as i64,
            mzxid: stat.mzxid.0 as i64,
            pzxid: stat.pzxid.0 as i64,
            ctime: stat.ctime.0,
            mtime: stat.mtime.0,
            version: stat.version,
            creates: stat.cversion,
            aversion: stat.aversion,
            owner: wire.ephemeral_owner,
            keep: match node.owner() {
                Owner::Persistent => Keep::Always,
                Owner::Ephemeral(_) => Keep::Ephemeral,
                Owner::Container => Keep::Container,
                Owner::Ttl(ms) => Keep::Ttl(ms as i64),
            },
            children: node.children().map(str::to_owned).collect(),
        };
        found.push((path.to_owned(), znode));
    }
    found
}
