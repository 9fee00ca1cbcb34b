//! Hard quotas that refuse writes, when the operator switched that on. Usage is kept by `world`.
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
        if !settings.enforce_quota {
            return Charge(None);
        }
        // Asked of the few paths that have a quota: a path can have half a million ancestors.
        let Some(at) = head.quota_path(path) else { return Charge(None) };
        let Some(limits) = head.get(&limits_path(at)) else { return Charge(None) };
        let limits = QuotaText::parse_limits(limits.data().unwrap_or_default());
        // Without the znode that counts there is nothing to hold against the limits.
        let usage = head.get(&stats_path(at));
        let usage = usage.map(|node| QuotaText::parse_usage(node.data().unwrap_or_default()));
        Charge(usage.map(|usage| (limits, usage)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::world;

    #[test]
    fn half_a_million_ancestors_are_no_work() {
        let head = Head::new(world::Settings { hash_seed: [1, 2], digests: false });
        let settings = Settings { enforce_quota: true, ..Settings::of(&Config::embedded("/nowhere"), 1) };
        // Took minutes when each ancestor's limits were looked up by a path of their own.
        let path = "/a".repeat(500_000);
        assert!(Charge::of(&head, &settings, &path).permits(1, 1).is_ok());
    }
}
