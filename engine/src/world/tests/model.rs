//! The model: what each txn does to the tree, in maps, without a thought for speed.

use super::super::view::View;
use super::digest_of;
use crate::model::quota::QuotaText;
use crate::model::{Owner, SessionId, StatPersisted, path};
use crate::wire::{Create, CreateKind, SubTxn, TxnBody, TxnHeader};
use ostler_replication::Zxid;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, PartialEq, Debug)]
pub struct ModelNode {
    pub data: Option<Vec<u8>>,
    pub acl: Vec<u8>,
    pub stat: StatPersisted,
    pub children: BTreeSet<String>,
}

#[derive(Clone, Default)]
pub struct Model {
    pub nodes: BTreeMap<String, ModelNode>,
    pub sessions: BTreeMap<SessionId, i32>,
    pub zxid: Zxid,
}

impl Model {
    /// A model of what a View shows.
    pub fn of(view: &View) -> Model {
        let mut model = Model { zxid: view.zxid(), ..Model::default() };
        let mut walk = view.walk();
        while let Some((path, node)) = walk.next() {
            let path = if path.is_empty() { "/" } else { path };
            let acl = view.acl(node.acl_id()).expect("an ACL that a znode names").bytes.to_vec();
            let children = node.children().map(str::to_owned).collect();
            let data = node.data().map(<[u8]>::to_vec);
            model.nodes.insert(path.to_owned(), ModelNode { data, acl, stat: node.persisted(), children });
        }
        model.sessions = view.sessions().collect();
        model
    }

    pub fn digest(&self) -> u64 {
        self.nodes
            .iter()
            .fold(0, |sum, (path, node)| sum.wrapping_add(digest_of(path, node.data.as_deref(), &node.stat)))
    }

    pub fn check(&self, view: &View, what: &str) {
        let shown = Model::of(view);
        for (path, node) in &self.nodes {
            assert_eq!(shown.nodes.get(path), Some(node), "{what}: {path} at {}", self.zxid);
            assert!(view.get(path).is_some(), "{what}: {path} is not found");
            let stat = view.get(path).expect("just seen").stat();
            assert_eq!(stat.num_children as usize, node.children.len());
            assert_eq!(stat.data_length as usize, node.data.as_ref().map_or(0, Vec::len));
        }
        assert_eq!(shown.nodes.len(), self.nodes.len(), "{what}: more than there should be");
        assert_eq!(shown.sessions, self.sessions, "{what}");
        assert_eq!((view.zxid(), view.totals().digest), (self.zxid, self.digest()), "{what}");
    }

    /// Applies a txn; its changes are pushed as (D)eleted, (C)reated, (S)et and the path.
    pub fn apply(&mut self, header: &TxnHeader, body: &TxnBody<'_>, changes: &mut Vec<String>) -> i32 {
        let error = match body {
            TxnBody::CreateSession { timeout_ms } => {
                self.sessions.insert(header.session, *timeout_ms);
                0
            }
            TxnBody::CloseSession { paths } => {
                self.sessions.remove(&header.session);
                for path in paths.iter().flatten() {
                    self.delete(header, path, changes);
                }
                let is_own = |node: &ModelNode| node.stat.owner == Owner::Ephemeral(header.session);
                let rest: Vec<String> = self
                    .nodes
                    .iter()
                    .filter(|(_, node)| is_own(node))
                    .map(|(path, _)| path.clone())
                    .collect();
                for path in rest.into_iter().rev() {
                    self.delete(header, &path, changes);
                }
                0
            }
            TxnBody::Error { code } => *code,
            TxnBody::Create(create) => self.create(header, create, changes),
            TxnBody::Delete { path } | TxnBody::DeleteContainer { path } => {
                self.delete(header, path, changes)
            }
            TxnBody::SetData { path, data, version } | TxnBody::Reconfig { path, data, version } => {
                self.set_data(header, path, data.as_deref(), *version, changes)
            }
            TxnBody::SetAcl { path, acl, version } => match self.nodes.get_mut(&**path) {
                None => -101,
                Some(node) => {
                    node.acl = acl.bytes().to_vec();
                    node.stat.aversion = *version;
                    0
                }
            },
            TxnBody::Multi(parts) => {
                if !parts.iter().any(|part| matches!(part, SubTxn::Error { .. })) {
                    for part in parts {
                        self.part(header, part, changes);
                    }
                }
                0
            }
        };
        self.zxid = self.zxid.max(header.zxid);
        error
    }

    pub fn part(&mut self, header: &TxnHeader, part: &SubTxn<'_>, changes: &mut Vec<String>) -> i32 {
        match part {
            SubTxn::Create(create) => self.create(header, create, changes),
            SubTxn::Delete { path } | SubTxn::DeleteContainer { path } => self.delete(header, path, changes),
            SubTxn::SetData { path, data, version } => {
                self.set_data(header, path, data.as_deref(), *version, changes)
            }
            SubTxn::Check { .. } => 0,
            SubTxn::Error { code, .. } => *code,
        }
    }

    fn create(&mut self, header: &TxnHeader, create: &Create<'_>, changes: &mut Vec<String>) -> i32 {
        let path = &*create.path;
        let (parent_path, name) = path::split(path).expect("the generator makes paths");
        let Some(parent) = self.nodes.get_mut(parent_path) else { return -101 };
        let cversion =
            if create.parent_cversion == -1 { parent.stat.cversion + 1 } else { create.parent_cversion };
        if cversion > parent.stat.cversion {
            parent.stat.cversion = cversion;
            parent.stat.pzxid = header.zxid;
        }
        parent.children.insert(name.to_owned());
        if let Some(node) = self.nodes.get_mut(path) {
            node.acl = create.acl.bytes().to_vec();
            return -110;
        }
        let owner = match create.kind {
            CreateKind::Plain { ephemeral: true, .. } => Owner::Ephemeral(header.session),
            CreateKind::Plain { .. } => Owner::Persistent,
            CreateKind::Container => Owner::Container,
            CreateKind::Ttl(ms) => Owner::Ttl(ms as u64),
        };
        let stat = StatPersisted::created(header.zxid, header.time, owner);
        let data = create.data.as_ref().map(|data| data.to_vec());
        let length = data.as_ref().map_or(0, Vec::len) as i64;
        let acl = create.acl.bytes().to_vec();
        self.nodes.insert(path.to_owned(), ModelNode { data, acl, stat, children: BTreeSet::new() });
        changes.push(format!("C{path}"));
        if let Some(subject) =
            path.strip_prefix("/zookeeper/quota").and_then(|p| p.strip_suffix("/zookeeper_stats"))
        {
            self.recount(subject);
        }
        self.charge(path, 1, length);
        0
    }

    fn delete(&mut self, header: &TxnHeader, path: &str, changes: &mut Vec<String>) -> i32 {
        let (parent_path, name) = path::split(path).expect("the generator makes paths");
        let Some(parent) = self.nodes.get(parent_path) else { return -101 };
        let pzxid = parent.stat.pzxid.max(header.zxid);
        let node = self.nodes.get(path);
        if node.is_some_and(|node| !node.children.is_empty()) {
            return -111;
        }
        let is_there = node.is_some();
        let length = node.and_then(|node| node.data.as_ref()).map_or(0, Vec::len) as i64;
        let parent = self.nodes.get_mut(parent_path).expect("just seen");
        parent.stat.pzxid = pzxid;
        parent.children.remove(name);
        if !is_there {
            return -101;
        }
        self.nodes.remove(path);
        changes.push(format!("D{path}"));
        self.charge(path, -1, -length);
        0
    }

    fn set_data(
        &mut self,
        header: &TxnHeader,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
        changes: &mut Vec<String>,
    ) -> i32 {
        let Some(node) = self.nodes.get_mut(path) else { return -101 };
        let length = |data: Option<&[u8]>| data.map_or(0, |data| data.len() as i64);
        let more = length(data) - length(node.data.as_deref());
        node.data = data.map(<[u8]>::to_vec);
        node.stat.mzxid = header.zxid;
        node.stat.mtime = header.time;
        node.stat.version = version;
        changes.push(format!("S{path}"));
        self.charge(path, 0, more);
        0
    }

    /// The deepest path at or above `path` that has limits.
    fn charge(&mut self, path: &str, count: i64, bytes: i64) {
        let mut subject = path;
        while !subject.is_empty() && subject != "/" {
            if self.nodes.contains_key(&format!("/zookeeper/quota{subject}/zookeeper_limits")) {
                let Some(stats) = self.nodes.get_mut(&format!("/zookeeper/quota{subject}/zookeeper_stats"))
                else {
                    return;
                };
                let mut usage = QuotaText::parse_usage(stats.data.as_deref().unwrap_or_default());
                usage.count += count;
                usage.bytes += bytes;
                stats.data = Some(usage.to_string().into_bytes());
                return;
            }
            subject = &subject[..subject.rfind('/').expect("absolute")];
        }
    }

    fn recount(&mut self, subject: &str) {
        let below = format!("{subject}/");
        let part = self.nodes.iter().filter(|(path, _)| *path == subject || path.starts_with(&below));
        let (count, bytes) = part.fold((0, 0), |(count, bytes), (_, node)| {
            (count + 1, bytes + node.data.as_ref().map_or(0, Vec::len))
        });
        let stats =
            self.nodes.get_mut(&format!("/zookeeper/quota{subject}/zookeeper_stats")).expect("just created");
        stats.data = Some(format!("count={count},bytes={bytes}").into_bytes());
    }
}
