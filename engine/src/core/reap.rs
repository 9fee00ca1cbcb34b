//! When container and TTL znodes are looked for, and how fast those found are deleted.
//! Not here: which znodes are containers (`world` keeps the list), the txns.

use crate::config::Containers;
use crate::limits;
use crate::model::{Owner, WallMillis};
use crate::world::{Head, Node, NodeId};
use ostler_replication::Moment;
use std::collections::VecDeque;

/// Znodes looked at in one turn.
const SCAN_PORTION: usize = crate::limits::REAP_SCAN_PORTION;

pub(super) struct Reaper {
    rules: Containers,
    next_scan: Option<Moment>,
    scan: Option<Scan>,
    next_delete: Moment,
    found: VecDeque<Box<str>>,
}

/// Where a scan is: behind this znode.
#[derive(Clone, Copy)]
enum Scan {
    Containers(Option<NodeId>),
    TtlNodes(Option<NodeId>),
}

impl Reaper {
    pub fn new(rules: Containers) -> Reaper {
        Reaper { rules, next_scan: None, scan: None, next_delete: Moment::default(), found: VecDeque::new() }
    }

    /// A scan waits for its next portion.
    pub fn is_scanning(&self) -> bool {
        self.scan.is_some()
    }

    /// Looks at one portion of the candidates, when it is time for them. The first scan is one interval after the start,
    /// the next ones wait until what was found is deleted.
    pub fn look(&mut self, head: &Head, now: Moment, wall: WallMillis) {
        let next_scan = *self.next_scan.get_or_insert(now.plus_millis(self.rules.check_ms));
        if self.scan.is_none() && now >= next_scan && self.found.is_empty() {
            self.next_scan = Some(now.plus_millis(self.rules.check_ms));
            self.scan = Some(Scan::Containers(None));
        }
        self.scan = match self.scan {
            None => None,
            Some(Scan::Containers(after)) => match self.portion(head, head.containers(after), wall) {
                Some(last) => Some(Scan::Containers(Some(last))),
                None => Some(Scan::TtlNodes(None)),
            },
            Some(Scan::TtlNodes(after)) => {
                self.portion(head, head.ttl_nodes(after), wall).map(|last| Scan::TtlNodes(Some(last)))
            }
        };
    }

    /// Where the next portion goes on; `None` at the end.
    fn portion<'h>(
        &mut self,
        head: &Head,
        nodes: impl Iterator<Item = Node<'h>>,
        wall: WallMillis,
    ) -> Option<NodeId> {
        let mut last = None;
        let mut seen = 0;
        for node in nodes.take(SCAN_PORTION) {
            seen += 1;
            last = Some(node.id());
            if is_due(&node, wall, self.rules.never_used_ms) {
                self.found.push_back(head.path_of(&node).into());
            }
        }
        last.filter(|_| seen == SCAN_PORTION)
    }

    /// The next znode to ask the deletion of, if one is due: it was when it was found.
    pub fn next(&mut self, now: Moment) -> Option<Box<str>> {
        if now < self.next_delete {
            return None;
        }
        let path = self.found.pop_front()?;
        let spacing = 60_000 * 1_000_000 / u64::from(self.rules.deletes_per_minute.max(1));
        // From when it was due, not from now: the rate holds even if turns are further apart than deletions. Not from
        // long ago, either: a pause is no credit for a burst.
        let from = self.next_delete.0.max(now.0.saturating_sub(limits::WAIT_MS_MAX * 1_000_000));
        self.next_delete = Moment(from + spacing);
        Some(path)
    }

    /// Between a scan and the deletion of what it found an hour may pass: the znode may have been written since, or be
    /// another one by now, younger or never used. What became of it otherwise is for whoever deletes to say.
    pub fn is_still_due(&self, head: &Head, path: &str, wall: WallMillis) -> bool {
        head.get(path).is_none_or(|node| has_served(&node, wall, self.rules.never_used_ms))
    }
}

fn is_due(node: &Node<'_>, wall: WallMillis, never_used_ms: Option<u64>) -> bool {
    node.child_count() == 0 && has_served(node, wall, never_used_ms)
}

/// Nothing but children keeps it.
fn has_served(node: &Node<'_>, wall: WallMillis, never_used_ms: Option<u64>) -> bool {
    let stat = node.persisted();
    let idle_ms = wall.0.saturating_sub(stat.mtime.0);
    let longer_than = |ms: u64| idle_ms > 0 && idle_ms as u64 > ms;
    match stat.owner {
        // One that never had a child is kept, unless the operator set a time.
        Owner::Container => stat.cversion > 0 || never_used_ms.is_some_and(longer_than),
        Owner::Ttl(ms) => longer_than(ms),
        Owner::Persistent | Owner::Ephemeral(_) => false,
    }
}
