//! The log's entries applied to the state that the snapshot gave.
//! Not here: reading and judging the log, threads (log); what a txn changes (world).

use crate::io::disk::Disk;
use crate::log::{self, Entry, Group, RecoverError, Recovered};
use crate::model::path;
use crate::wire::{TxnBody, TxnEntry};
use crate::world::{Ahead, Changes, ForeseenTxn, Head, Known, Marks, NodeId, PathHash};
use ostler_replication::Zxid;
use std::path::Path;
use std::sync::Arc;

/// Txns whose memory is fetched together.
const FETCHED: usize = 32;
/// Bytes of creates after which the memory for more is made ready.
const PAGES_STEP_BYTES: u64 = 64 << 10;

/// Applies all that the log in `dir` holds behind `base`; `ahead` as in [`log::replay`]. Nobody has seen this world yet.
pub(super) fn replay(
    disk: &dyn Disk,
    dir: &Path,
    base: Zxid,
    head: &mut Head,
    ahead: bool,
) -> Result<Recovered, RecoverError> {
    let marks = Arc::<Marks>::default();
    let foresight = head.foresight();
    let mut pages = ahead.then(|| head.pages_ahead(&marks));
    let (mut created, mut told) = (0, 0);
    let foresee = |entry: &[u8]| {
        let bytes = entry.len() as u64;
        // What does not decode is refused when it is its turn.
        let (entry, _) = TxnEntry::decode(entry).ok()?;
        if let (Some(pages), TxnBody::Create(_)) = (&mut pages, &entry.body) {
            created += bytes;
            if created - told >= PAGES_STEP_BYTES {
                told = created;
                pages.back(created);
            }
        }
        foresight.of_txn(&entry.header, &entry.body)
    };
    head.close();
    let mut replay = Replay {
        head,
        marks,
        changes: Changes::default(),
        hashes: Vec::new(),
        next_hashes: Vec::new(),
        ahead: Ahead::default(),
        parent: None,
        parent_path: String::new(),
    };
    let recovered = log::replay(disk, dir, base, ahead, foresee, &mut |group| replay.group(group));
    let Replay { head, marks, .. } = replay;
    head.give_back(&marks);
    head.open();
    recovered
}

struct Replay<'a> {
    head: &'a mut Head,
    marks: Arc<Marks>,
    changes: Changes,
    /// Of the txns that come next, and of those behind them.
    hashes: Vec<PathHash>,
    next_hashes: Vec<PathHash>,
    ahead: Ahead,
    /// Where the last txn created a znode, if that is all it did: the next one often does so, too.
    parent: Option<NodeId>,
    parent_path: String,
}

impl Replay<'_> {
    fn group(&mut self, group: &Group<Option<ForeseenTxn>>) -> Result<(), (usize, String)> {
        let mut next = group.entries();
        self.fetch_index(&mut next);
        for (index, entry) in group.entries().enumerate() {
            if index % FETCHED == 0 {
                std::mem::swap(&mut self.hashes, &mut self.next_hashes);
                self.fetch_index(&mut next);
                self.head.fetch_found(&self.hashes, &mut self.ahead);
            }
            self.entry(entry.bytes, *entry.foreseen).map_err(|reason| (index, reason))?;
        }
        self.head.reclaim(usize::MAX);
        self.head.mark(&self.marks);
        Ok(())
    }

    /// Has the index fetched for the txns behind those whose znodes are fetched now: it waits for memory most.
    fn fetch_index<'g>(&mut self, next: &mut impl Iterator<Item = Entry<'g, Option<ForeseenTxn>>>) {
        self.next_hashes.clear();
        let mut last = None;
        for txn in next.take(FETCHED).filter_map(|entry| *entry.foreseen) {
            self.next_hashes.push(txn.node());
            if let Some(parent) = txn.parent().filter(|parent| last.replace(*parent) != Some(*parent)) {
                self.next_hashes.push(parent);
            }
        }
        self.head.fetch_index(&self.next_hashes);
    }

    /// The parent under which a txn creates a znode, if it is all there.
    fn parent(&mut self, body: &TxnBody<'_>, foreseen: Option<ForeseenTxn>) -> Option<NodeId> {
        let known = self.parent.take();
        let TxnBody::Create(create) = body else { return None };
        let (path, _) = path::split(&create.path)?;
        if known.is_none() || self.parent_path != path {
            self.parent = self.head.get_hashed(foreseen?.parent()?, path).map(|parent| parent.id());
            self.parent_path.clear();
            self.parent_path.push_str(path);
        } else {
            self.parent = known;
        }
        self.parent
    }

    fn entry(&mut self, entry: &[u8], foreseen: Option<ForeseenTxn>) -> Result<(), String> {
        let bytes = entry.len();
        if !self.head.fits(bytes) {
            return Err("the tree is larger than this server holds: see ostler.treeMemory".into());
        }
        let (entry, taken) = TxnEntry::decode(entry).map_err(|error| error.to_string())?;
        if taken != bytes {
            return Err(format!("{} bytes stand behind the txn, which are no digest", bytes - taken));
        }
        let known = Known::parent(self.parent(&entry.body, foreseen));
        self.head.apply_foreseen(&entry.header, &entry.body, (known, foreseen), &mut self.changes);
        self.changes.list.clear();
        self.changes.text.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk::RealDisk;
    use crate::log::{FileId, file_header, put_record};
    use crate::model::{SessionId, WallMillis, Xid};
    use crate::wire::txn::{AclBytes, Create, CreateKind, SubTxn, TxnHeader};
    use crate::world::Settings;

    const SETTINGS: Settings = Settings { hash_seed: [1, 2], digests: true };

    fn create(path: String, data: usize, kind: CreateKind) -> Create<'static> {
        let acl = if data % 5 == 1 { AclBytes::READ_ONLY } else { AclBytes::OPEN };
        let data = (!data.is_multiple_of(17)).then(|| vec![7; data].into());
        Create { path: path.into(), data, acl, kind, parent_cversion: -1 }
    }

    /// All that clients can see.
    fn text(head: &mut Head) -> String {
        let view = head.seal();
        let mut text = format!("{:?} {:?}\n", view.totals(), head.sessions().collect::<Vec<_>>());
        let mut nodes = Vec::new();
        let mut walk = view.get("/").unwrap().walk("/");
        while let Some((path, node)) = walk.next() {
            let acl = view.acl(node.acl_id()).map(|acl| acl.bytes.clone());
            let mut children: Vec<&str> = node.children().collect();
            children.sort_unstable();
            nodes.push(format!("{path} {:?} {acl:?} {children:?} {:?}\n", node.stat(), node.data()));
        }
        nodes.sort();
        text.extend(nodes);
        text
    }

    /// All kinds of txns, among them some whose znodes are not there.
    fn txns() -> Vec<TxnBody<'static>> {
        let plain = CreateKind::Plain { create2: false, ephemeral: false };
        let kinds = [plain, CreateKind::Plain { create2: true, ephemeral: true }, CreateKind::Container];
        let mut txns = vec![TxnBody::CreateSession { timeout_ms: 9000 }];
        for at in 0..3000_usize {
            let path = |at: usize| format!("/p{}/n{at}", at % 7);
            let version = at as i32;
            txns.push(match at % 11 {
                0 => TxnBody::Create(create(format!("/p{}", at / 11 % 7), 3, plain)),
                1..6 => TxnBody::Create(create(path(at), at % 400, kinds[at % 3])),
                6 => TxnBody::SetData { path: path(at - 3).into(), data: None, version },
                7 => TxnBody::Delete { path: path(at - 5).into() },
                8 => TxnBody::SetAcl { path: path(at - 6).into(), acl: AclBytes::READ_ONLY, version },
                9 => TxnBody::Error { code: -101 },
                _ => TxnBody::Multi(vec![
                    SubTxn::Create(create(path(at), 9, plain)),
                    SubTxn::Delete { path: path(at - 6).into() },
                ]),
            });
        }
        // The parent goes, and comes again, between creates below it; the third finds none.
        let created = |path: &str| TxnBody::Create(create(path.into(), 5, plain));
        let deleted = |path: &str| TxnBody::Delete { path: path.to_owned().into() };
        txns.extend([created("/q"), created("/q/a"), deleted("/q/a"), created("/q/b"), deleted("/q/b")]);
        txns.extend([deleted("/q"), created("/q/c"), created("/q"), created("/q/d"), created("/q/e")]);
        txns.push(TxnBody::CloseSession { paths: None });
        txns
    }

    #[test]
    fn replay_gives_the_state_that_the_txns_gave_on_one_thread_and_on_two() {
        let (id, mut head) = (FileId([1, 2, 3, 4]), Head::new(SETTINGS));
        let mut file = file_header(id).to_vec();
        for (at, body) in txns().into_iter().enumerate() {
            let (zxid, time) = (Zxid(at as u64 + 1), WallMillis(at as i64));
            let header = TxnHeader { session: SessionId(1), cxid: Xid(0), zxid, time, kind: body.kind() };
            head.apply(&header, &body, &mut Changes::default());
            let mut entry = Vec::new();
            TxnEntry { header, body, digest: None }.encode(&mut entry);
            let at = file.len() as u64;
            put_record(&mut file, id, at, true, &entry);
        }
        assert!(head.totals().znodes > 500, "{:?}", head.totals());
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("log.1"), file).unwrap();
        for ahead in [false, true] {
            let mut replayed = Head::new(SETTINGS);
            replay(&RealDisk, temp.path(), Zxid::ZERO, &mut replayed, ahead).unwrap();
            assert_eq!(text(&mut replayed), text(&mut head));
        }
    }
}
