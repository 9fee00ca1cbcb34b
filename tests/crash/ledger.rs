//! What a scripted server has written, txn by txn, with the tree and the sessions after each; and what it has promised of
//! it. Judges what a start brings back.
//! Not here: files, crashes; the tree is a map, nothing of the engine's own.

use ostler_engine::model::Owner;
use ostler_engine::world::Head;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Znode {
    pub data: Arc<[u8]>,
    /// 0: persistent.
    pub owner: i64,
}

/// All replicated state at one zxid, without the znodes that every tree has.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct State {
    pub znodes: BTreeMap<String, Znode>,
    pub sessions: BTreeSet<i64>,
    /// The tree digest as the server had it when it wrote the txn.
    pub digest: u64,
}

/// See the module's header. `states[z]` is the state at zxid z.
#[derive(Clone)]
pub struct Ledger {
    states: Vec<Arc<State>>,
    acknowledged: u64,
    starts: u64,
}

impl Ledger {
    /// Of a server never used, whose tree has this digest.
    pub fn new(digest: u64) -> Ledger {
        Ledger { states: vec![Arc::new(State { digest, ..State::default() })], acknowledged: 0, starts: 0 }
    }

    /// Last zxid handed to the log.
    pub fn submitted(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    pub fn newest(&self) -> Arc<State> {
        self.states.last().cloned().unwrap_or_default()
    }

    pub fn submit(&mut self, state: State) {
        self.states.push(Arc::new(state));
    }

    /// Somebody has heard of it: it must never be lost.
    pub fn acknowledge(&mut self, zxid: u64) {
        self.acknowledged = self.acknowledged.max(zxid);
    }

    /// Forgets the acknowledgements behind `zxid`: damage took their proof.
    pub fn promise_only(&mut self, zxid: u64) {
        self.acknowledged = self.acknowledged.min(zxid);
    }

    /// A start has come to `zxid` and serves it: what was behind it is undone, what is up to it is promised.
    pub fn started(&mut self, zxid: u64) {
        self.states.truncate(zxid as usize + 1);
        self.acknowledged = zxid;
        self.starts += 1;
    }

    /// Starts so far.
    pub fn starts(&self) -> u64 {
        self.starts
    }

    /// Whether `head` is what a start may come to: nothing acknowledged lost, nothing there that was never written, the
    /// state exactly that of its zxid. That zxid.
    pub fn judge(&self, head: &mut Head) -> Result<u64, String> {
        let zxid = head.zxid().0;
        if zxid < self.acknowledged {
            return Err(format!("acknowledged txns are lost: {zxid:#x} of {:#x}", self.acknowledged));
        }
        let Some(expected) = self.states.get(zxid as usize) else {
            return Err(format!("txns appear that were never written: {zxid:#x} of {:#x}", self.submitted()));
        };
        let mut found = State { digest: head.digest(), ..State::default() };
        found.sessions = head.sessions().map(|(session, _)| session.0).collect();
        let view = head.seal();
        let mut walk = view.walk();
        while let Some((path, node)) = walk.next() {
            if path == "/" || path.is_empty() || path.starts_with("/zookeeper") {
                continue;
            }
            let owner = match node.owner() {
                Owner::Ephemeral(session) => session.0,
                _ => 0,
            };
            found
                .znodes
                .insert(path.to_owned(), Znode { data: node.data().unwrap_or_default().into(), owner });
        }
        if found != **expected {
            return Err(format!("another state at {zxid:#x}: {}", expected.difference(&found)));
        }
        Ok(zxid)
    }
}

impl State {
    /// In words, the first of them.
    fn difference(&self, found: &State) -> String {
        let paths: BTreeSet<&String> = self.znodes.keys().chain(found.znodes.keys()).collect();
        let differs = |path: &&&String| self.znodes.get(**path) != found.znodes.get(**path);
        if let Some(path) = paths.iter().find(differs) {
            let brief = |znode: Option<&Znode>| match znode {
                Some(znode) => format!("{} bytes of 0x{:x}", znode.data.len(), znode.owner),
                None => "nothing".into(),
            };
            let (there, here) = (self.znodes.get(*path), found.znodes.get(*path));
            return format!("{path} is {} instead of {}", brief(here), brief(there));
        }
        if self.sessions != found.sessions {
            return format!("sessions are {:x?} instead of {:x?}", found.sessions, self.sessions);
        }
        format!("the digest is {:x} instead of {:x}", found.digest, self.digest)
    }
}
