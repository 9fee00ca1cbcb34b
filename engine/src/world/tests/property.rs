//! Random txns in random batches, with Views kept, dropped, batches undone, memory reclaimed.

use super::super::*;
use super::model::Model;
use super::{Random, SETTINGS, verify};
use crate::model::{Acl, Identity, SessionId, WallMillis, Xid};
use crate::wire::{AclBytes, Create, CreateKind, SubTxn, TxnBody, TxnHeader};
use ostler_replication::Zxid;

const NAMES: [&str; 6] = ["a", "b", "c", "dd", "node-0000000001", "ünïcode"];
const SPECIAL: [&str; 4] = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];
const LENGTHS: [usize; 9] = [0, 1, 46, 46, 100, 255, 256, 300, 5000];

struct Run {
    random: Random,
    head: Head,
    model: Model,
    changes: Changes,
    expected: Vec<String>,
    /// Every View kept, with what it showed when it was sealed.
    kept: Vec<(View, Model)>,
    /// Sealed and not committed, oldest first; before them what is committed.
    boundaries: Vec<(View, Model)>,
    next: u64,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut head = Head::new(SETTINGS);
        let view = head.seal();
        let model = Model::of(&view);
        let (random, changes, expected) = (Random::new(seed), Changes::default(), Vec::new());
        Run {
            random,
            head,
            model: model.clone(),
            changes,
            expected,
            kept: Vec::new(),
            boundaries: vec![(view, model)],
            next: 1,
        }
    }

    /// Most often below what exists, so that trees grow to some hundreds; else from anywhere.
    fn path(&mut self) -> String {
        if !self.random.one_in(3) {
            let parent = self.known();
            let parent = if parent == "/" { "" } else { &parent };
            return format!("{parent}/{}", self.random.below(20));
        }
        let depth = 1 + self.random.below(4);
        let mut path = String::new();
        if self.random.one_in(15) {
            path.push_str("/zookeeper/quota");
        }
        for _ in 0..depth {
            path.push('/');
            if self.random.one_in(40) {
                path.push_str(&"long".repeat(70));
            } else {
                path.push_str(self.random.pick::<&str>(&NAMES));
            }
        }
        if path.starts_with("/zookeeper") && self.random.one_in(2) {
            path.push_str(self.random.pick::<&str>(&["/zookeeper_limits", "/zookeeper_stats"]));
        }
        path
    }

    /// A path that exists, mostly.
    fn known_path(&mut self) -> String {
        if self.random.one_in(8) {
            return self.path();
        }
        self.known()
    }

    fn known(&mut self) -> String {
        let at = self.random.below(self.model.nodes.len());
        self.model.nodes.keys().nth(at).expect("not empty").clone()
    }

    fn data(&mut self) -> Option<Vec<u8>> {
        if self.random.one_in(10) {
            return None;
        }
        let length = *self.random.pick(&LENGTHS);
        let first = self.random.below(256);
        Some((first..first + length).map(|byte| byte as u8).collect())
    }

    fn acl(&mut self) -> AclBytes<'static> {
        if self.random.one_in(2) {
            return AclBytes::OPEN;
        }
        let id = format!("user{}:x", self.random.below(6));
        AclBytes::encode(&[Acl { perms: 31, id: Identity::new("digest", &id) }])
    }

    fn create(&mut self) -> Create<'static> {
        let path = self.path();
        let kind = match self.random.below(8) {
            0 => CreateKind::Container,
            1 => CreateKind::Ttl(1000),
            2 | 3 => CreateKind::Plain { create2: true, ephemeral: true },
            _ => CreateKind::Plain { create2: false, ephemeral: false },
        };
        let parent = crate::model::path::split(&path).expect("a path").0;
        let cversion = self.model.nodes.get(parent).map_or(0, |node| node.stat.cversion);
        let parent_cversion = match self.random.below(6) {
            0 => -1,
            1 => cversion,
            _ => cversion + 1,
        };
        Create {
            path: path.into(),
            data: self.data().map(Into::into),
            acl: self.acl(),
            kind,
            parent_cversion,
        }
    }

    fn part(&mut self) -> SubTxn<'static> {
        match self.random.below(10) {
            0..5 => SubTxn::Create(self.create()),
            5..7 => SubTxn::Delete { path: self.removable().into() },
            7..9 => {
                let path = self.known_path().into();
                SubTxn::SetData {
                    path,
                    data: self.data().map(Into::into),
                    version: self.random.below(9) as i32,
                }
            }
            _ => SubTxn::Check { path: self.path().into(), version: 1 },
        }
    }

    /// The root and three more cannot be deleted; nobody asks the world to.
    fn removable(&mut self) -> String {
        loop {
            let path = self.known_path();
            if !SPECIAL.contains(&&*path) {
                return path;
            }
        }
    }

    fn body(&mut self) -> TxnBody<'static> {
        match self.random.below(40) {
            0 => TxnBody::CreateSession { timeout_ms: self.random.below(1000) as i32 },
            1 => {
                let listed = self.random.one_in(2);
                let paths = listed.then(|| vec![self.removable().into(), self.path().into()]);
                TxnBody::CloseSession { paths }
            }
            2 => TxnBody::Error { code: -101 },
            3..18 => TxnBody::Create(self.create()),
            18..24 => TxnBody::Delete { path: self.removable().into() },
            24..32 => {
                let (path, data) = (self.known_path().into(), self.data().map(Into::into));
                TxnBody::SetData { path, data, version: self.random.below(9) as i32 }
            }
            32..35 => TxnBody::SetAcl { path: self.known_path().into(), acl: self.acl(), version: 3 },
            _ => {
                let mut parts: Vec<_> = (0..self.random.below(6)).map(|_| self.part()).collect();
                if self.random.one_in(3) {
                    parts.push(SubTxn::error(-103));
                }
                TxnBody::Multi(parts)
            }
        }
    }

    fn header(&mut self, kind: i32) -> TxnHeader {
        let session = SessionId(0x100 + self.random.below(4) as i64);
        let zxid = Zxid(self.next);
        self.next += 1;
        // Of 1970, and of our days: records keep the two in different forms.
        let begin = if self.next.is_multiple_of(3) { 0 } else { 1_700_000_000_000 };
        TxnHeader { session, cxid: Xid(1), zxid, time: WallMillis(begin + self.next as i64 * 10), kind }
    }

    fn txn(&mut self) {
        let body = self.body();
        let header = self.header(body.kind());
        if let TxnBody::Multi(parts) = &body
            && self.random.one_in(2)
        {
            return self.multi_in_parts(&header, parts);
        }
        self.apply(&header, &body);
    }

    fn apply(&mut self, header: &TxnHeader, body: &TxnBody<'_>) {
        let result = self.head.apply(header, body, &mut self.changes);
        let error = self.model.apply(header, body, &mut self.expected);
        assert_eq!(result.error, error, "{body:?}");
    }

    /// As the core does it: part by part, and back to the savepoint when one fails.
    fn multi_in_parts(&mut self, header: &TxnHeader, parts: &[SubTxn<'_>]) {
        let (saved, listed) = (self.model.clone(), self.expected.len());
        let (savepoint, mark) = (self.head.savepoint(), self.changes.mark());
        let fails = parts.iter().any(|part| matches!(part, SubTxn::Error { .. }));
        self.head.begin_parts(parts.iter().filter(|part| matches!(part, SubTxn::Create(_))).count());
        for part in parts {
            let result = self.head.apply_part(header, part, &mut self.changes);
            assert_eq!(result.error, self.model.part(header, part, &mut self.expected));
        }
        if fails {
            self.head.rollback(savepoint);
            self.changes.truncate(mark);
            self.expected.truncate(listed);
            self.model = saved;
        }
        self.head.finish_parts(header);
        self.model.zxid = self.model.zxid.max(header.zxid);
    }

    fn batch(&mut self) {
        self.changes = Changes::default();
        self.expected.clear();
        for _ in 0..self.random.below(8) {
            self.txn();
        }
        self.check_changes();
        let view = self.head.seal();
        if self.random.one_in(4) {
            self.kept.push((view.clone(), self.model.clone()));
        }
        self.boundaries.push((view, self.model.clone()));
    }

    fn check_changes(&self) {
        let letter = |kind| match kind {
            ChangeKind::Created => 'C',
            ChangeKind::Deleted => 'D',
            ChangeKind::DataChanged => 'S',
        };
        let list = &self.changes.list;
        let seen: Vec<String> = list
            .iter()
            .map(|change| format!("{}{}", letter(change.kind), self.changes.path(change)))
            .collect();
        assert_eq!(seen, self.expected);
        assert!(
            list.iter()
                .all(|change| self.head.acl(change.acl).is_some()
                    && self.head.acl(change.parent_acl).is_some())
        );
    }

    fn commit(&mut self) {
        let count = 1 + self.random.below(self.boundaries.len());
        let keep = self.boundaries.split_off(count - 1);
        self.boundaries = keep;
        self.head.committed(self.boundaries[0].0.zxid());
    }

    fn rewind(&mut self) {
        if self.random.one_in(2) {
            self.txn();
        }
        let count = 1 + self.random.below(self.boundaries.len());
        let (view, model) = self.boundaries[count - 1].clone();
        self.head.rewind(view.zxid()).expect("a boundary that is not committed");
        // Views of undone batches are given up; those at the same zxid are as good as this one.
        self.kept.retain(|(kept, _)| kept.zxid() <= view.zxid());
        self.boundaries.retain(|(kept, _)| kept.zxid() <= view.zxid());
        self.model = model;
        if self.random.one_in(2) {
            // The zxids of what was undone may come again with other txns.
            self.next = view.zxid().0 + 1;
        }
        let again = self.head.seal();
        self.model.check(&again, "after rewinding");
        self.boundaries.push((again, self.model.clone()));
    }

    fn check_indexes(&self) {
        let owned = |session| {
            let mut paths: Vec<String> = self.head.ephemerals(session).collect();
            paths.sort();
            paths
        };
        let of_owner = |wanted: crate::model::Owner| -> Vec<String> {
            let nodes = self.model.nodes.iter().filter(|(_, node)| node.stat.owner == wanted);
            nodes.map(|(path, _)| path.clone()).collect()
        };
        for session in (0x100..0x104).map(SessionId) {
            assert_eq!(owned(session), of_owner(crate::model::Owner::Ephemeral(session)));
        }
        let mut containers: Vec<String> =
            self.head.containers(None).map(|node| self.head.path_of(&node)).collect();
        containers.sort();
        assert_eq!(containers, of_owner(crate::model::Owner::Container));
        assert_eq!(self.head.ttl_nodes(None).count(), of_owner(crate::model::Owner::Ttl(1000)).len());
        assert!(self.head.sessions().eq(self.model.sessions.iter().map(|(id, timeout)| (*id, *timeout))));
    }

    fn check_all(&self) {
        for (view, model) in self.kept.iter().chain(&self.boundaries) {
            model.check(view, "a kept View");
        }
        if let Some((view, _)) = self.boundaries.last() {
            verify(view);
        }
        self.check_indexes();
    }

    /// Deletes everything, lets go of every View, and expects the memory back.
    fn clear(mut self) {
        let mut header = self.header(0);
        let (keep, paths): (Vec<_>, Vec<_>) =
            self.model.nodes.keys().rev().cloned().partition(|path| SPECIAL.contains(&&**path));
        for path in paths {
            header = self.header(2);
            let body = TxnBody::Delete { path: path.clone().into() };
            assert_eq!(self.head.apply(&header, &body, &mut self.changes).error, 0, "{path}");
        }
        for path in keep {
            let body = TxnBody::SetAcl { path: path.clone().into(), acl: AclBytes::OPEN, version: 1 };
            self.head.apply(&header, &body, &mut self.changes);
            let body = TxnBody::SetData { path: path.into(), data: None, version: 1 };
            self.head.apply(&header, &body, &mut self.changes);
        }
        let view = self.head.seal();
        verify(&view);
        drop((view, self.kept, self.boundaries));
        self.head.committed(header.zxid);
        while self.head.reclaim(100) == 100 {}
        let usage = self.head.usage();
        assert_eq!(usage.retained, 0);
        assert!(usage.blocks < 600, "{} bytes are left of four znodes", usage.blocks);
        assert_eq!(self.head.acl_count(), 1, "only the open ACL is in use");
        assert_eq!(self.head.ids_in_use(), 4);
        assert_eq!(self.head.session_slots_in_use(), self.head.sessions().len());
    }
}

/// As a log is replayed into a world that nobody has seen.
fn unread(seed: u64, txns: usize) -> Run {
    let mut run = Run::new(seed);
    (run.head, run.boundaries) = (Head::new(SETTINGS), Vec::new());
    run.head.close();
    for _ in 0..txns {
        run.changes = Changes::default();
        run.expected.clear();
        let body = run.body();
        let header = run.header(body.kind());
        run.apply(&header, &body);
        run.check_changes();
        if run.random.one_in(20) {
            run.head.reclaim(usize::MAX);
            assert_eq!((run.head.backlog(), run.head.usage().retained), (0, 0));
        }
    }
    run.head.open();
    let view = run.head.seal();
    run.head.committed(view.zxid());
    run.boundaries.push((view, run.model.clone()));
    run.check_all();
    run
}

fn check(mut run: Run, batches: usize) {
    for n in 0..batches {
        run.batch();
        match run.random.below(12) {
            0..4 => run.commit(),
            4 => run.rewind(),
            5 if !run.kept.is_empty() => {
                let at = run.random.below(run.kept.len());
                let (view, model) = run.kept.swap_remove(at);
                model.check(&view, "a View let go");
            }
            6..9 => {
                let budget = run.random.below(60);
                run.head.reclaim(budget);
            }
            9 => while run.head.reclaim(1000) == 1000 {},
            _ => {}
        }
        if run.kept.len() > 12 {
            // Any of them, so that some are kept for hundreds of batches.
            let at = run.random.below(run.kept.len());
            run.kept.swap_remove(at);
        }
        if n % 25 == 0 {
            run.check_all();
        }
    }
    run.check_all();
    println!("{} znodes, {} Views kept", run.model.nodes.len(), run.kept.len());
    run.clear();
}

#[test]
fn any_view_stays_as_it_was() {
    let (seeds, batches) = if cfg!(miri) { (2, 30) } else { (30, 300) };
    for seed in 1..=seeds {
        println!("seed={seed}");
        check(Run::new(seed), batches);
    }
}

#[test]
fn what_nobody_reads_comes_out_the_same_and_goes_on() {
    let (seeds, txns, batches) = if cfg!(miri) { (1, 60, 5) } else { (30, 1000, 30) };
    for seed in 1..=seeds {
        println!("seed={seed}");
        check(unread(seed, txns), batches);
    }
}
