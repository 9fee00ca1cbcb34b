//! Hard quotas that refuse writes (semantics.md §8), when the operator switched that on. Usage is kept by `world`.
//! Not here: updating usage, the texts (`model::quota`); soft quotas, which refuse nothing.

use super::Settings;
use crate::model::quota::{QuotaText, limits_path, stats_path};
use crate::model::{ErrorCode, path};
use crate::wire::request::CreateRequest;
use crate::world::Head;

/// The quota that a path is charged to, with what is used of it, as of the moment it was looked up: a multi is checked
/// against the usage at its start. `None`: no quota, or quotas are not enforced.
pub(super) struct Charge(Option<(QuotaText, QuotaText)>);

impl Charge {
    /// The deepest quota on `path` or an ancestor of it.
    pub fn of(head: &Head, settings: &Settings, path: &str) -> Charge {
        let mut at = path;
        // The root cannot carry a quota.
        while settings.enforce_quota && at.len() > 1 {
            if let Some(limits) = head.get(&limits_path(at)) {
                let limits = QuotaText::parse_limits(limits.data().unwrap_or_default());
                // Without the znode that counts there is nothing to hold against the limits.
                let usage = head.get(&stats_path(at));
                let usage = usage.map(|node| QuotaText::parse_usage(node.data().unwrap_or_default()));
                return Charge(usage.map(|usage| (limits, usage)));
            }
            match path::split(at) {
                Some((parent, _)) => at = parent,
                None => break,
            }
        }
        Charge(None)
    }

    /// A sequential znode is charged to its parent's quota: its own name is not the one asked for.
    pub fn of_create(head: &Head, settings: &Settings, create: &CreateRequest<'_>) -> Charge {
        let path = &create.path;
        let parent = path::split(path).map_or("", |(parent, _)| parent);
        Charge::of(head, settings, if create.is_sequential() { parent } else { path })
    }

    /// -125 if a write may not add this.
    pub fn permits(&self, count: i64, bytes: i64) -> Result<(), ErrorCode> {
        match &self.0 {
            Some((limits, usage)) if limits.forbids(usage, count, bytes) => Err(ErrorCode::QuotaExceeded),
            _ => Ok(()),
        }
    }
}
