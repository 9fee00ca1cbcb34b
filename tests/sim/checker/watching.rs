//! The watches of one connection: what each txn must bring it, and what it has missed.
//! Not here: in which order events and replies come.

use super::Checked;
use super::ensure;
use crate::checker::Connection;
use crate::model::{ChangeKind, Model, WatchLists, parent_of};
use std::collections::{BTreeSet, VecDeque};

#[derive(Default)]
pub(super) struct Watches {
    pub data: BTreeSet<String>,
    pub child: BTreeSet<String>,
    pub persistent: BTreeSet<String>,
    pub recursive: BTreeSet<String>,
}

impl Connection {
    /// Holds all txns up to `zxid` against the watches. Only the events of the last one may still be outstanding.
    pub(super) fn tell(&mut self, model: &Model, zxid: i64) -> Checked {
        ensure!(zxid <= model.last, "news of 0x{zxid:x}, which is not committed");
        if self.told >= zxid {
            return Ok(());
        }
        for (at, changes) in model.changes(self.told, zxid) {
            ensure!(self.due.is_empty(), "events of 0x{:x} missing: {:?}", self.told, self.due);
            self.told = at;
            for change in changes {
                self.watches.fire(change.kind, &change.path, &mut self.due);
            }
        }
        ensure!(
            self.told == zxid || self.due.is_empty(),
            "events of 0x{:x} missing: {:?}",
            self.told,
            self.due
        );
        self.told = zxid;
        Ok(())
    }
}

const CREATED: i32 = 1;
const DELETED: i32 = 2;
pub(super) const DATA_CHANGED: i32 = 3;
const CHILDREN_CHANGED: i32 = 4;

impl Watches {
    /// Registers what setWatches lists and returns what has been missed since `relative`.
    pub(super) fn set(
        &mut self,
        model: &Model,
        zxid: i64,
        relative: i64,
        lists: &WatchLists,
    ) -> Vec<(i32, String)> {
        let WatchLists { data, exist, child, persistent, recursive } = lists;
        self.persistent.extend(persistent.iter().cloned());
        self.recursive.extend(recursive.iter().cloned());
        let mut missed = Vec::new();
        for path in data {
            match model.at(path, zxid) {
                None => missed.push((DELETED, path.clone())),
                Some(znode) if znode.mzxid > relative => missed.push((DATA_CHANGED, path.clone())),
                Some(_) => drop(self.data.insert(path.clone())),
            }
        }
        for path in exist {
            match model.at(path, zxid) {
                None => drop(self.data.insert(path.clone())),
                Some(_) => missed.push((CREATED, path.clone())),
            }
        }
        for path in child {
            match model.at(path, zxid) {
                None => missed.push((DELETED, path.clone())),
                Some(znode) if znode.pzxid > relative => missed.push((CHILDREN_CHANGED, path.clone())),
                Some(_) => drop(self.child.insert(path.clone())),
            }
        }
        missed
    }

    /// Whether there are any of that kind on the path, which are then removed if so wished.
    pub(super) fn find(&mut self, path: &str, kind: i32, remove: bool) -> bool {
        let tables = [
            (&mut self.child, [1, 3]),
            (&mut self.data, [2, 3]),
            (&mut self.persistent, [4, 3]),
            (&mut self.recursive, [5, 3]),
        ];
        let mut found = false;
        for (table, _) in tables.into_iter().filter(|(_, kinds)| kinds.contains(&kind)) {
            found |= if remove { table.remove(path) } else { table.contains(path) };
        }
        found
    }

    fn fire(&mut self, kind: ChangeKind, path: &str, due: &mut VecDeque<(i32, String)>) {
        let event = match kind {
            ChangeKind::Created => CREATED,
            ChangeKind::Deleted => DELETED,
            ChangeKind::DataChanged => DATA_CHANGED,
        };
        let above = |root: &String| {
            root == "/"
                || path == root
                || path.strip_prefix(root.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        let mut told = self.data.remove(path);
        told |= self.persistent.contains(path) || self.recursive.iter().any(above);
        if kind == ChangeKind::Deleted {
            told |= self.child.remove(path);
        }
        if told {
            due.push_back((event, path.to_owned()));
        }
        if kind != ChangeKind::DataChanged {
            let parent = parent_of(path);
            if self.child.remove(parent) | self.persistent.contains(parent) {
                due.push_back((CHILDREN_CHANGED, parent.to_owned()));
            }
        }
    }
}
