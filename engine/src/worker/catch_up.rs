//! setWatches: what a client missed while it was away, and its watches again. A request may name a
//! hundred thousand paths; long ones are done in portions (`stream`), each against the View of its turn, for what
//! happened before that has been delivered and what happens after will fire.
//! Not here: firing (`watch`), the order of replies.

use super::watch::{Mode, Watches};
use crate::limits::SET_WATCHES_PORTION;
use crate::wire::reply::{self, EventKind};
use crate::wire::request::SetWatches;
use crate::world::View;

/// One of the five lists of the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum List {
    Data,
    Exist,
    Child,
    Persistent,
    Recursive,
}

/// What a connection's watches are set against.
pub struct Present<'a> {
    pub view: &'a View,
    pub watches: &'a mut Watches,
    pub slot: u32,
}

/// What is left of a long request.
pub struct CatchUp {
    since: i64,
    waiting: std::vec::IntoIter<(List, Box<str>)>,
}

/// Every path with its list, in the order in which Apache takes them.
fn paths<'l>(lists: &'l SetWatches<'_>) -> impl Iterator<Item = (List, &'l str)> {
    let all = [
        (List::Data, &lists.data),
        (List::Exist, &lists.exist),
        (List::Child, &lists.child),
        (List::Persistent, &lists.persistent),
        (List::Recursive, &lists.recursive),
    ];
    all.into_iter().flat_map(|(list, paths)| paths.iter().map(move |path| (list, &**path)))
}

/// Sets a short request's watches and appends the events it missed; `Some` when it is too long for one turn.
pub fn begin(lists: &SetWatches<'_>, mut present: Present<'_>, out: &mut Vec<u8>) -> Option<CatchUp> {
    // Signed, as the client's number is.
    let since = lists.relative_zxid.to_wire();
    if paths(lists).nth(SET_WATCHES_PORTION).is_some() {
        let waiting: Vec<_> = paths(lists).map(|(list, path)| (list, path.into())).collect();
        return Some(CatchUp { since, waiting: waiting.into_iter() });
    }
    paths(lists).for_each(|(list, path)| present.set(list, path, since, out));
    None
}

impl CatchUp {
    /// True when that was all.
    pub fn portion(&mut self, present: &mut Present<'_>, out: &mut Vec<u8>) -> bool {
        for (list, path) in self.waiting.by_ref().take(SET_WATCHES_PORTION) {
            present.set(list, &path, self.since, out);
        }
        self.waiting.as_slice().is_empty()
    }
}

impl Present<'_> {
    /// An event for what was missed, or the watch: what fires is not registered. No ACL is asked, as in Apache.
    fn set(&mut self, list: List, path: &str, since: i64, out: &mut Vec<u8>) {
        let node = self.view.get(path).map(|node| (node.id().number(), node.persisted()));
        let id = node.as_ref().map(|(id, _)| *id);
        let missed = match (list, node) {
            (List::Data | List::Child, None) => Some(EventKind::NodeDeleted),
            (List::Data, Some((_, stat))) if stat.mzxid.to_wire() > since => Some(EventKind::NodeDataChanged),
            (List::Child, Some((_, stat))) if stat.pzxid.to_wire() > since => {
                Some(EventKind::NodeChildrenChanged)
            }
            (List::Exist, Some(_)) => Some(EventKind::NodeCreated),
            _ => None,
        };
        let mode = match list {
            List::Data | List::Exist => Mode::Data,
            List::Child => Mode::Child,
            List::Persistent => Mode::Persistent,
            List::Recursive => Mode::Recursive,
        };
        match missed {
            Some(kind) => reply::frame_event(out, reply::ZXID_NONE, kind, path),
            None => self.watches.add(path, id, self.slot, mode),
        }
    }
}
