//! The log's entries applied to the state that the snapshot gave.
//! Not here: reading and judging the log, threads (log); what a txn changes (world).

use crate::io::disk::Disk;
use crate::log::{self, Content, RecoverError, RecoverSettings, Recovered};
use crate::wire::txn::{AclBytes, TxnDigest, TxnHeader};
use crate::wire::{Create, CreateKind, TxnBody, TxnEntry};
use crate::world::{
    Ahead, Changes, DigestCheck, ForeseenTxn, Foresight, Head, Known, Marks, NodeId, PathHash,
};
use ostler_replication::Zxid;
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

/// Txns whose memory is fetched together.
const FETCHED: usize = 32;
/// Bytes of creates after which the memory for more is made ready.
const PAGES_STEP_BYTES: u64 = 64 << 10;

/// Applies all that the log in `dir` holds behind `base`, and compares the digests recorded there; `ahead` as in
/// [`log::replay`]. Nobody has seen this world yet.
pub(super) fn replay(
    disk: &dyn Disk,
    dir: &Path,
    base: Zxid,
    settings: RecoverSettings,
    head: &mut Head,
    ahead: bool,
    digests: &mut DigestCheck,
) -> Result<Recovered, RecoverError> {
    let marks = Arc::<Marks>::default();
    let foresight = head.foresight();
    let mut pages = ahead.then(|| head.pages_ahead(&marks));
    let (mut created, mut told) = (0, 0);
    let keep = |txns: &mut Txns, entry: &[u8]| {
        txns.keep(entry, foresight);
        if let (Some(pages), Some(Txn { what: What::Create(_), .. })) = (&mut pages, txns.list.last()) {
            created += entry.len() as u64;
            if created - told >= PAGES_STEP_BYTES {
                told = created;
                pages.back(created);
            }
        }
    };
    head.close();
    let mut replay = Replay {
        head,
        digests,
        marks,
        changes: Changes::default(),
        found: Vec::new(),
        next_found: Vec::new(),
        indexed: Vec::new(),
        ahead: Ahead::default(),
        parent: None,
    };
    let recovered = log::replay(disk, dir, base, settings, ahead, keep, &mut |txns| replay.txns(txns));
    let Replay { head, marks, .. } = replay;
    head.give_back(&marks);
    head.open();
    recovered
}

/// Txns on their way from where they are read to where they are applied.
#[derive(Default)]
struct Txns {
    list: Vec<Txn>,
    /// Of creates.
    paths: String,
    /// Of creates the ACL, unless it is the open one, and the data; of other txns the entry.
    bytes: Vec<u8>,
}

struct Txn {
    foreseen: Option<ForeseenTxn>,
    entry_bytes: usize,
    what: What,
}

enum What {
    /// Decoded already.
    Create(CreateAhead),
    /// To be decoded again when it is its turn, and refused if it cannot be.
    Entry,
}

struct CreateAhead {
    header: TxnHeader,
    digest: Option<TxnDigest>,
    kind: CreateKind,
    parent_cversion: i32,
    path_bytes: usize,
    /// `None` for the open one.
    acl_bytes: Option<usize>,
    data_bytes: Option<usize>,
    /// The txn before it creates a znode below the same parent.
    is_sibling: bool,
}

impl Content for Txns {
    fn clear(&mut self) {
        self.list.clear();
        self.paths.clear();
        self.bytes.clear();
    }
}

impl Txns {
    fn keep(&mut self, entry: &[u8], foresight: Foresight) {
        let entry_bytes = entry.len();
        let decoded = TxnEntry::decode(entry).ok().filter(|(_, taken)| *taken == entry_bytes);
        let foreseen = decoded.as_ref().and_then(|(entry, _)| foresight.of_txn(&entry.header, &entry.body));
        let what = match (decoded, foreseen) {
            (Some((TxnEntry { header, body: TxnBody::Create(create), digest }, _)), Some(foreseen)) => {
                What::Create(self.keep_create(header, &create, digest, foreseen))
            }
            _ => {
                self.bytes.extend_from_slice(entry);
                What::Entry
            }
        };
        self.list.push(Txn { foreseen, entry_bytes, what });
    }

    fn keep_create(
        &mut self,
        header: TxnHeader,
        create: &Create<'_>,
        digest: Option<TxnDigest>,
        foreseen: ForeseenTxn,
    ) -> CreateAhead {
        let parent = |foreseen: ForeseenTxn, path| foreseen.split(path).map(|(parent, _)| parent);
        let is_sibling = match self.list.last() {
            Some(Txn { foreseen: Some(before), what: What::Create(last), .. }) => {
                let path = &self.paths[self.paths.len() - last.path_bytes..];
                parent(*before, path) == parent(foreseen, &create.path)
            }
            _ => false,
        };
        self.paths.push_str(&create.path);
        let acl = (!create.acl.is_open()).then(|| create.acl.bytes());
        self.bytes.extend_from_slice(acl.unwrap_or_default());
        self.bytes.extend_from_slice(create.data.as_deref().unwrap_or_default());
        CreateAhead {
            header,
            digest,
            kind: create.kind,
            parent_cversion: create.parent_cversion,
            path_bytes: create.path.len(),
            acl_bytes: acl.map(<[u8]>::len),
            data_bytes: create.data.as_ref().map(|data| data.len()),
            is_sibling,
        }
    }
}

struct Replay<'a> {
    head: &'a mut Head,
    digests: &'a mut DigestCheck,
    marks: Arc<Marks>,
    changes: Changes,
    /// Paths that the txns which come next will find, and those behind them.
    found: Vec<PathHash>,
    next_found: Vec<PathHash>,
    /// All paths of the latter.
    indexed: Vec<PathHash>,
    ahead: Ahead,
    /// Where the last txn created a znode, if that is all it did: the next one often does so, too.
    parent: Option<NodeId>,
}

impl Replay<'_> {
    fn txns(&mut self, txns: &Txns) -> Result<(), (usize, String)> {
        let (mut paths, mut bytes) = (&*txns.paths, &*txns.bytes);
        self.fetch_index(&txns.list);
        for (index, txn) in txns.list.iter().enumerate() {
            if index % FETCHED == 0 {
                std::mem::swap(&mut self.found, &mut self.next_found);
                self.fetch_index(txns.list.get(index + FETCHED..).unwrap_or_default());
                self.head.fetch_found(&self.found, &mut self.ahead);
            }
            if !self.head.fits(txn.entry_bytes) {
                let reason = "the tree is larger than this server holds: see ostler.treeMemory";
                return Err((index, reason.into()));
            }
            let digest = match &txn.what {
                What::Create(create) => {
                    let path;
                    (path, paths) = paths.split_at(create.path_bytes);
                    self.create(create, path, &mut bytes, txn.foreseen);
                    create.digest
                }
                What::Entry => {
                    let entry;
                    (entry, bytes) = bytes.split_at(txn.entry_bytes);
                    self.entry(entry, txn.foreseen).map_err(|reason| (index, reason))?
                }
            };
            self.digests.applied(self.head, digest);
            self.changes.list.clear();
            self.changes.text.clear();
        }
        self.head.reclaim(usize::MAX);
        self.head.mark(&self.marks);
        Ok(())
    }

    /// Has the index fetched for the txns behind those whose znodes are fetched now: it waits for memory most.
    fn fetch_index(&mut self, next: &[Txn]) {
        self.next_found.clear();
        self.indexed.clear();
        for txn in &next[..next.len().min(FETCHED)] {
            let Some(foreseen) = txn.foreseen else { continue };
            self.indexed.push(foreseen.node());
            let parent = match &txn.what {
                What::Create(create) => foreseen.parent().filter(|_| !create.is_sibling),
                What::Entry => {
                    self.next_found.push(foreseen.node());
                    foreseen.parent()
                }
            };
            self.indexed.extend(parent);
            self.next_found.extend(parent);
        }
        self.head.fetch_index(&self.indexed);
    }

    fn create(&mut self, create: &CreateAhead, path: &str, bytes: &mut &[u8], foreseen: Option<ForeseenTxn>) {
        let mut take = |length: usize| {
            let taken;
            (taken, *bytes) = bytes.split_at(length);
            taken
        };
        let acl = create.acl_bytes.map(|length| {
            AclBytes::from_canonical(take(length)).expect("what an ACL gave as its bytes is one")
        });
        let data = create.data_bytes.map(|length| Cow::Borrowed(take(length)));
        let body = TxnBody::Create(Create {
            path: Cow::Borrowed(path),
            data,
            acl: acl.unwrap_or(AclBytes::OPEN),
            kind: create.kind,
            parent_cversion: create.parent_cversion,
        });
        self.parent = self.parent.filter(|_| create.is_sibling).or_else(|| {
            let (parent, _) = foreseen?.split(path)?;
            self.head.get_hashed(foreseen?.parent()?, parent).map(|parent| parent.id())
        });
        let known = Known::parent(self.parent);
        self.head.apply_foreseen(&create.header, &body, (known, foreseen), &mut self.changes);
    }

    /// The digest that the entry records.
    fn entry(&mut self, entry: &[u8], foreseen: Option<ForeseenTxn>) -> Result<Option<TxnDigest>, String> {
        self.parent = None;
        let bytes = entry.len();
        let (entry, taken) = TxnEntry::decode(entry).map_err(|error| error.to_string())?;
        if taken != bytes {
            return Err(format!("{} bytes stand behind the txn, which are no digest", bytes - taken));
        }
        self.head.apply_foreseen(&entry.header, &entry.body, (Known::default(), foreseen), &mut self.changes);
        Ok(entry.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk::RealDisk;
    use crate::log::{FileId, file_header, put_record};
    use crate::model::{SessionId, WallMillis, Xid};
    use crate::wire::SubTxn;
    use crate::world::{ChildOrder, Settings};

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
            let mut order = ChildOrder::default();
            let children: Vec<&str> = node.children_in_order(&mut order).map(|child| child.name()).collect();
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
        // Two names of one hash, the first of which takes no id that the delete gave back.
        txns.push(TxnBody::Multi(vec![
            SubTxn::Delete { path: "/q/d".into() },
            SubTxn::Create(create("/q/BB".into(), 1, plain)),
            SubTxn::Create(create("/q/Aa".into(), 1, plain)),
        ]));
        txns.push(TxnBody::CloseSession { paths: None });
        txns
    }

    /// A file of these entries; also where each record begins.
    fn file_of(entries: impl IntoIterator<Item = Vec<u8>>) -> (Vec<u8>, Vec<u64>) {
        let id = FileId([1, 2, 3, 4]);
        let (mut file, mut places) = (file_header(id).to_vec(), Vec::new());
        for entry in entries {
            let at = file.len() as u64;
            places.push(at);
            put_record(&mut file, id, at, true, &entry);
        }
        (file, places)
    }

    fn entry_of(at: usize, body: TxnBody<'_>) -> Vec<u8> {
        let (zxid, time) = (Zxid(at as u64 + 1), WallMillis(at as i64));
        let header = TxnHeader { session: SessionId(1), cxid: Xid(0), zxid, time, kind: body.kind() };
        let mut entry = Vec::new();
        TxnEntry { header, body, digest: None }.encode(&mut entry);
        entry
    }

    fn run(dir: &Path, head: &mut Head, ahead: bool) -> Result<Recovered, RecoverError> {
        let settings = RecoverSettings { repair: true, alone: true, until: None };
        replay(&RealDisk, dir, Zxid::ZERO, settings, head, ahead, &mut DigestCheck::default())
    }

    #[test]
    fn what_is_refused_among_decoded_creates_is_named_with_its_place() {
        for damaged in [9, 10, 11] {
            let entries = txns().into_iter().take(20).enumerate().map(|(at, body)| {
                let mut entry = entry_of(at, body);
                if at == damaged {
                    entry.extend_from_slice(b"behind");
                }
                entry
            });
            let (file, places) = file_of(entries);
            let temp = tempfile::tempdir().unwrap();
            std::fs::write(temp.path().join("log.1"), file).unwrap();
            for ahead in [false, true] {
                let mut head = Head::new(SETTINGS);
                let error = run(temp.path(), &mut head, ahead).unwrap_err();
                let text = error.to_string();
                let named = text.contains("log.1") && text.contains(&places[damaged].to_string());
                assert!(named && text.contains("6 bytes stand behind the txn"), "{text}");
                assert_eq!(head.totals().zxid, Zxid(damaged as u64));
            }
        }
    }

    #[test]
    fn replay_gives_the_state_that_the_txns_gave_on_one_thread_and_on_two() {
        let mut head = Head::new(SETTINGS);
        let (file, _) = file_of(txns().into_iter().enumerate().map(|(at, body)| {
            let entry = entry_of(at, body);
            let (txn, _) = TxnEntry::decode(&entry).unwrap();
            head.apply(&txn.header, &txn.body, &mut Changes::default());
            entry
        }));
        assert!(head.totals().znodes > 500, "{:?}", head.totals());
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("log.1"), file).unwrap();
        for ahead in [false, true] {
            let mut replayed = Head::new(SETTINGS);
            run(temp.path(), &mut replayed, ahead).unwrap();
            assert_eq!(text(&mut replayed), text(&mut head));
        }
    }
}
