//! Which paths have a quota.
//! Not here: the text of limits and usage (model), enforcing them (core), rewriting usage as part of a txn (apply).

use std::collections::BTreeSet;

/// Parent of all definitions.
pub(super) use crate::model::path::QUOTA as QUOTA_ROOT;
pub(super) use crate::model::quota::{LIMITS_NAME as LIMITS, STATS_NAME as STATS};

/// The paths with a quota.
#[derive(Default)]
pub(super) struct Quotas {
    paths: BTreeSet<Box<str>>,
}

impl Quotas {
    /// True if it was not there.
    pub(super) fn activate(&mut self, path: &str) -> bool {
        self.paths.insert(path.into())
    }

    /// True if it was there.
    pub(super) fn deactivate(&mut self, path: &str) -> bool {
        self.paths.remove(path)
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(|path| &**path)
    }

    /// The path itself or its deepest ancestor with a quota.
    pub(super) fn deepest<'p>(&self, path: &'p str) -> Option<&'p str> {
        if self.paths.is_empty() {
            return None;
        }
        let mut path = path;
        while !path.is_empty() {
            if self.paths.contains(path) {
                return Some(path);
            }
            path = &path[..path.rfind('/')?];
        }
        None
    }
}

/// The path whose quota a node of this parent defines. The root cannot have one.
pub(super) fn subject(parent: &str) -> Option<&str> {
    let subject = parent.strip_prefix(QUOTA_ROOT)?;
    (subject.len() > 1 && subject.starts_with('/')).then_some(subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_quota_counts() {
        let mut quotas = Quotas::default();
        assert_eq!(quotas.deepest("/a/b"), None);
        quotas.activate("/a");
        quotas.activate("/a/b/c");
        let cases = [
            ("/a", Some("/a")),
            ("/a/b", Some("/a")),
            ("/a/b/c/d", Some("/a/b/c")),
            ("/ab", None),
            ("/", None),
        ];
        for (path, deepest) in cases {
            assert_eq!(quotas.deepest(path), deepest, "{path}");
        }
    }

    #[test]
    fn the_root_has_no_quota() {
        assert_eq!(subject("/zookeeper/quota/a/b"), Some("/a/b"));
        assert_eq!(subject("/zookeeper/quota"), None);
        assert_eq!(subject("/zookeeper/quotax"), None);
        assert_eq!(subject("/other"), None);
    }
}
