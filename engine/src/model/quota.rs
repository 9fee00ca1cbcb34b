//! Quotas as text in znodes under `/zookeeper/quota`: limits and usage of a path.
//! Not here: counting (`world`) and refusing (`core`).

use super::path::QUOTA;
use std::fmt;

/// The two kinds of znodes that define a quota.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QuotaNode {
    Limits,
    Stats,
}

pub const LIMITS_NAME: &str = "zookeeper_limits";
pub const STATS_NAME: &str = "zookeeper_stats";

/// Which quota znode `path` is, and of which path. `None` for others, and for a quota on the root, which
/// cannot have one.
pub fn quota_node(path: &str) -> Option<(QuotaNode, &str)> {
    let (of, name) = path.strip_prefix(QUOTA)?.rsplit_once('/')?;
    let node = match name {
        LIMITS_NAME => QuotaNode::Limits,
        STATS_NAME => QuotaNode::Stats,
        _ => return None,
    };
    (of.len() > 1 && of.starts_with('/')).then_some((node, of))
}

/// Where the limits of `path` are.
pub fn limits_path(path: &str) -> String {
    format!("{QUOTA}{path}/{LIMITS_NAME}")
}

/// Where the usage of `path` is.
pub fn stats_path(path: &str) -> String {
    format!("{QUOTA}{path}/{STATS_NAME}")
}

/// What either kind of znode says; -1 is unset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuotaText {
    pub count: i64,
    pub bytes: i64,
    pub count_hard: i64,
    pub bytes_hard: i64,
    /// Every key but the first two, sorted, known or not: usage is rewritten by servers, and what else clients wrote
    /// there stays.
    more: Vec<(Box<str>, i64)>,
}

const COUNT_HARD: &str = "countHardLimit";
const BYTES_HARD: &str = "byteHardLimit";

impl QuotaText {
    /// Usage as a server starts it.
    pub fn usage(count: i64, bytes: i64) -> QuotaText {
        QuotaText { count, bytes, ..QuotaText::unset() }
    }

    fn unset() -> QuotaText {
        QuotaText { count: -1, bytes: -1, count_hard: -1, bytes_hard: -1, more: Vec::new() }
    }

    /// Limits: what cannot be read is not set.
    pub fn parse_limits(text: &[u8]) -> QuotaText {
        QuotaText::parse(text).0
    }

    /// Usage: if anything cannot be read, it is 0 (Apache stops, again on each start).
    pub fn parse_usage(text: &[u8]) -> QuotaText {
        match QuotaText::parse(text) {
            (usage, true) => usage,
            (_, false) => QuotaText::usage(0, 0),
        }
    }

    /// What can be read, and whether that was all. Pairs are separated by runs of `,` or `;`.
    fn parse(text: &[u8]) -> (QuotaText, bool) {
        let text = String::from_utf8_lossy(text);
        let mut found = QuotaText::unset();
        let mut whole = !text.starts_with([',', ';']);
        for pair in text.split([',', ';']).filter(|pair| !pair.is_empty()) {
            match parse_pair(pair) {
                Some((key, value)) => found.set(key, value),
                None => whole = false,
            }
        }
        // Sorting stably and keeping the last of equal keys is what repeated setting would have done.
        found.more.sort_by(|a, b| a.0.cmp(&b.0));
        found.more.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1 = later.1;
            }
            same
        });
        (found, whole)
    }

    fn set(&mut self, key: &str, value: i64) {
        match key {
            "count" => self.count = value,
            "bytes" => self.bytes = value,
            _ => {
                match key {
                    COUNT_HARD => self.count_hard = value,
                    BYTES_HARD => self.bytes_hard = value,
                    _ => {}
                }
                self.more.push((key.into(), value));
            }
        }
    }

    /// Usage after a change. Wraps where Java does.
    pub fn charge(&mut self, count: i64, bytes: i64) {
        self.count = self.count.wrapping_add(count);
        self.bytes = self.bytes.wrapping_add(bytes);
    }

    /// Whether these limits forbid a change of `usage` (hard limits only; soft ones only make a server log). A change
    /// of 0 bytes is always allowed, a negative one is not while the limit is exceeded: as Apache has it.
    pub fn forbids(&self, usage: &QuotaText, count_change: i64, bytes_change: i64) -> bool {
        let over = |limit: i64, used: i64, change: i64| limit > -1 && used.saturating_add(change) > limit;
        let count_over = count_change != 0 && over(self.count_hard, usage.count, count_change);
        let bytes_over = bytes_change != 0 && over(self.bytes_hard, usage.bytes, bytes_change);
        count_over || bytes_over
    }
}

/// Java splits a pair on `=` and drops empty pieces at the end; an empty value means unset.
fn parse_pair(pair: &str) -> Option<(&str, i64)> {
    let (key, rest) = pair.trim_end_matches('=').split_once('=')?;
    let value = rest.split('=').next().unwrap_or_default();
    Some((key, if value.is_empty() { -1 } else { value.parse().ok()? }))
}

/// `count=N,bytes=M`, and if more is set `=;key=value` for each, sorted by key.
impl fmt::Display for QuotaText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "count={},bytes={}", self.count, self.bytes)?;
        for (at, (key, value)) in self.more.iter().enumerate() {
            write!(f, "{}{key}={value}", if at == 0 { "=;" } else { ";" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, [count, bytes, count_hard, bytes_hard]: [i64; 4], again: &str) {
        let parsed = QuotaText::parse_limits(text.as_bytes());
        let found = [parsed.count, parsed.bytes, parsed.count_hard, parsed.bytes_hard];
        assert_eq!(found, [count, bytes, count_hard, bytes_hard], "{text}");
        assert_eq!(parsed.to_string(), again, "{text}");
    }

    #[test]
    fn text_both_ways() {
        check("count=5,bytes=-1", [5, -1, -1, -1], "count=5,bytes=-1");
        let hard = "count=5,bytes=6=;byteHardLimit=7;countHardLimit=8";
        check(hard, [5, 6, 8, 7], hard);
        check("bytes=6;;,count=+5,", [5, 6, -1, -1], "count=5,bytes=6");
        check("z=1,a=2,z=3", [-1; 4], "count=-1,bytes=-1=;a=2;z=3");
        check("count==7", [-1; 4], "count=-1,bytes=-1");
        check("x=1,count=2", [2, -1, -1, -1], "count=2,bytes=-1=;x=1");
        check("", [-1; 4], "count=-1,bytes=-1");
    }

    #[test]
    fn garbage_is_unset_or_no_usage() {
        for garbage in
            ["garbage", "count=x,bytes=3", "=;", ",count=1", "count=", "count=99999999999999999999"]
        {
            assert_eq!(QuotaText::parse_limits(garbage.as_bytes()).count_hard, -1, "{garbage}");
            assert_eq!(QuotaText::parse_usage(garbage.as_bytes()), QuotaText::usage(0, 0), "{garbage}");
        }
        assert_eq!(QuotaText::parse_limits(b"count=x,bytes=3").bytes, 3);
        assert_eq!(QuotaText::parse_usage(b"\xff\xfe"), QuotaText::usage(0, 0));
        assert_eq!(QuotaText::parse_usage(b"count=4,bytes=9"), QuotaText::usage(4, 9));
        assert_eq!(QuotaText::parse_usage(b"count==5,bytes=9=="), QuotaText::usage(-1, 9));
    }

    #[test]
    fn znodes_of_a_quota() {
        assert_eq!(quota_node("/zookeeper/quota/a/b/zookeeper_limits"), Some((QuotaNode::Limits, "/a/b")));
        assert_eq!(quota_node(&stats_path("/a")), Some((QuotaNode::Stats, "/a")));
        assert_eq!(quota_node(&limits_path("/a")), Some((QuotaNode::Limits, "/a")));
        for other in [
            "/zookeeper/quota/zookeeper_limits",
            "/zookeeper/quota/a/limits",
            "/zookeeper/quotax/zookeeper_stats",
            "/a",
        ] {
            assert_eq!(quota_node(other), None, "{other}");
        }
    }

    #[test]
    fn hard_limits_forbid() {
        let limits = QuotaText::parse_limits(b"count=1,bytes=1=;byteHardLimit=10;countHardLimit=3");
        let usage = QuotaText::usage(3, 12);
        assert!(limits.forbids(&usage, 1, 0));
        assert!(!limits.forbids(&usage, 0, 0));
        assert!(limits.forbids(&usage, 0, -1));
        assert!(!limits.forbids(&usage, 0, -2));
        assert!(!QuotaText::parse_limits(b"count=1,bytes=1").forbids(&usage, 1, 1));
    }
}
