//! Quotas: which paths have one, and the text of limits and usage (semantics.md §8).
//! Not here: enforcing them (core), rewriting usage as part of a txn (apply).

use std::collections::BTreeSet;

/// Parent of all definitions.
pub(super) const QUOTA_ROOT: &str = "/zookeeper/quota";
pub(super) const LIMITS: &str = "zookeeper_limits";
pub(super) const STATS: &str = "zookeeper_stats";

/// What a limits or stats node says. -1 is unset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuotaText {
    pub count: i64,
    pub bytes: i64,
    pub count_hard: Option<i64>,
    pub bytes_hard: Option<i64>,
    /// Other keys with their numbers, ascending: kept when usage is rewritten.
    pub(super) other: Vec<(Box<str>, i64)>,
}

impl QuotaText {
    pub const UNSET: QuotaText =
        QuotaText { count: -1, bytes: -1, count_hard: None, bytes_hard: None, other: Vec::new() };

    /// `None` for what is no quota text. No text at all is one, with nothing set.
    pub fn parse(data: Option<&[u8]>) -> Option<QuotaText> {
        let text = std::str::from_utf8(data.unwrap_or_default()).ok()?;
        let mut quota = QuotaText::UNSET;
        for item in text.split([',', ';']).filter(|item| !item.is_empty()) {
            let mut parts = item.split('=');
            let key = parts.next()?;
            let value: i64 = parts.next()?.parse().ok()?;
            match key {
                "count" => quota.count = value,
                "bytes" => quota.bytes = value,
                "countHardLimit" => quota.count_hard = Some(value),
                "byteHardLimit" => quota.bytes_hard = Some(value),
                _ => match quota.other.binary_search_by(|(known, _)| (**known).cmp(key)) {
                    Ok(at) => quota.other[at].1 = value,
                    Err(at) => quota.other.insert(at, (key.into(), value)),
                },
            }
        }
        Some(quota)
    }

    /// Usage for the rewriting of a stats node: garbage counts as none (hazard H3).
    pub(super) fn usage(data: Option<&[u8]>) -> QuotaText {
        QuotaText::parse(data).unwrap_or(QuotaText { count: 0, bytes: 0, ..QuotaText::UNSET })
    }
}

impl std::fmt::Display for QuotaText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "count={},bytes={}", self.count, self.bytes)?;
        let mut more: Vec<(&str, i64)> = self.other.iter().map(|(key, value)| (&**key, *value)).collect();
        more.extend(self.bytes_hard.map(|value| ("byteHardLimit", value)));
        more.extend(self.count_hard.map(|value| ("countHardLimit", value)));
        more.sort_unstable();
        if !more.is_empty() {
            // Old parsers stop at this sign.
            write!(f, "=")?;
        }
        more.iter().try_for_each(|(key, value)| write!(f, ";{key}={value}"))
    }
}

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

/// The path whose quota a node of this parent defines. The root cannot have one (hazard H3).
pub(super) fn subject(parent: &str) -> Option<&str> {
    let subject = parent.strip_prefix(QUOTA_ROOT)?;
    (subject.len() > 1 && subject.starts_with('/')).then_some(subject)
}

pub(super) fn stats_path(subject: &str) -> String {
    format!("{QUOTA_ROOT}{subject}/{STATS}")
}

pub(super) fn limits_path(subject: &str) -> String {
    format!("{QUOTA_ROOT}{subject}/{LIMITS}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_reads_and_writes_as_apache_does() {
        let check = |text: &str, count, bytes, back: &str| {
            let quota = QuotaText::parse(Some(text.as_bytes())).unwrap();
            assert_eq!((quota.count, quota.bytes), (count, bytes));
            assert_eq!(quota.to_string(), back);
        };
        check("", -1, -1, "count=-1,bytes=-1");
        check("count=5,bytes=7", 5, 7, "count=5,bytes=7");
        check("bytes=7,,;count=5", 5, 7, "count=5,bytes=7");
        let hard = "count=5,bytes=-1=;byteHardLimit=10;countHardLimit=6";
        check(hard, 5, -1, hard);
        assert_eq!(QuotaText::parse(Some(hard.as_bytes())).unwrap().bytes_hard, Some(10));
        check("x=1,count=2", 2, -1, "count=2,bytes=-1=;x=1");
        for garbage in ["nonsense", "count=", "count=x,bytes=1", "count=99999999999999999999"] {
            assert_eq!(QuotaText::parse(Some(garbage.as_bytes())), None, "{garbage}");
            assert_eq!(QuotaText::usage(Some(garbage.as_bytes())).count, 0);
        }
        assert_eq!(QuotaText::parse(Some(&[0xff])), None);
    }

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
