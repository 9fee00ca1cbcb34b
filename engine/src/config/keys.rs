//! Every key an operator of Apache ZooKeeper 3.9.5 may have in `zoo.cfg` or in `-D` flags, and what becomes of it here:
//! name, system property, accepted values, default, meaning, fate. A table, read by `load` and by `ostler check`.
//! Not here: reading files, precedence, checks that span several keys.

use super::ensemble::{COMMITTED_TXNS_KEPT_LEAST, HISTORY_SHARE_DEFAULT};
use super::load::Draft;
use super::{Compression, DigestAlgorithm};
use crate::limits;

/// One key.
pub struct Key {
    /// As the manual names it.
    pub name: &'static str,
    pub property: Property,
    pub take: Take,
    /// What holds without it, in words.
    pub default: &'static str,
    /// What it decides, in words.
    pub meaning: &'static str,
    pub fate: Fate,
}

/// The Java system property behind a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Property {
    /// None: only the file sets it.
    FileOnly,
    /// `zookeeper.` and the key's name.
    Named,
    /// `zookeeper.` and this, because manual and code disagree.
    Prefixed(&'static str),
    /// The key's name without any prefix, so that Apache's `zoo.cfg` cannot set it.
    Bare,
    /// A key the file parser knows by name, with this property beside it.
    Beside(&'static str),
}

/// What becomes of a key here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Honoured,
    /// Of an ensemble: honoured there; a standalone server checks it and does nothing with it, as Apache's does.
    Ensemble,
    /// Of an ensemble, and not served yet; the text says what holds instead.
    EnsembleLater(&'static str),
    /// Of an ensemble, which is not joined with it switched on, for this reason.
    EnsembleRefused(&'static str),
    /// Known, and not served yet; the text says what that means for who set it.
    Later(&'static str),
    /// Accepted and without effect, for this reason.
    Ignored(&'static str),
}

/// Accepted values, and where the value goes.
pub enum Take {
    /// A whole number from .0 to .1.
    Number(i64, i64, fn(&mut Draft, i64)),
    /// A decimal number from .0 to .1.
    Ratio(f64, f64, fn(&mut Draft, f64)),
    /// `true` or `false` in any case, nothing else.
    Strict(fn(&mut Draft, bool)),
    /// `true` in any case is true, all else false.
    Loose(fn(&mut Draft, bool)),
    /// Everything but exactly this word is true.
    Unless(&'static str, fn(&mut Draft, bool)),
    /// Exactly this word is true.
    Exactly(&'static str, fn(&mut Draft, bool)),
    /// One of these words.
    OneOf(&'static [&'static str], fn(&mut Draft, &str)),
    /// One of these lower-case words, in any case.
    AnyCaseOf(&'static [&'static str], fn(&mut Draft, &str)),
    Text(fn(&mut Draft, &str)),
}

impl Take {
    /// Puts `raw` into the draft, or says what would be right.
    fn apply(&self, draft: &mut Draft, raw: &str) -> Result<(), String> {
        match *self {
            Take::Number(least, most, put) => {
                let number = number(raw).filter(|n| (least..=most).contains(n));
                put(draft, number.ok_or_else(|| self.wanted())?);
            }
            Take::Ratio(least, most, put) => {
                let ratio = raw.parse().ok().filter(|r| (least..=most).contains(r));
                put(draft, ratio.ok_or_else(|| self.wanted())?);
            }
            Take::Strict(put) => match raw.to_ascii_lowercase().as_str() {
                "true" => put(draft, true),
                "false" => put(draft, false),
                _ => return Err(self.wanted()),
            },
            Take::Loose(put) => put(draft, raw.eq_ignore_ascii_case("true")),
            Take::Unless(word, put) => put(draft, raw != word),
            Take::Exactly(word, put) => put(draft, raw == word),
            Take::OneOf(words, put) => {
                if !words.contains(&raw) {
                    return Err(self.wanted());
                }
                put(draft, raw);
            }
            Take::AnyCaseOf(words, put) => {
                let word = raw.to_ascii_lowercase();
                if !words.contains(&word.as_str()) {
                    return Err(self.wanted());
                }
                put(draft, &word);
            }
            Take::Text(put) => put(draft, raw),
        }
        Ok(())
    }

    /// Accepted values in words, to end the sentence "this should be ...".
    pub fn wanted(&self) -> String {
        match *self {
            Take::Number(i64::MIN, i64::MAX, _) => "a whole number".to_owned(),
            Take::Number(least, most, _) => format!("a whole number from {least} to {most}"),
            Take::Ratio(least, most, _) if most == f64::MAX => format!("a number of at least {least}"),
            Take::Ratio(least, most, _) => format!("a number from {least} to {most}"),
            Take::Strict(_) => "true or false".to_owned(),
            Take::Loose(_) => "true; anything else means false".to_owned(),
            Take::Unless(word, _) => format!("exactly `{word}` to turn it off; anything else leaves it on"),
            Take::Exactly(word, _) => format!("exactly `{word}` to turn it on; anything else leaves it off"),
            Take::OneOf(words, _) => {
                let words: Vec<_> = words.iter().map(|w| if w.is_empty() { "empty" } else { w }).collect();
                format!("one of: {}", words.join(", "))
            }
            Take::AnyCaseOf(words, _) => format!("one of: {}", words.join(", ")),
            Take::Text(_) => "any text".to_owned(),
        }
    }
}

const HEX: [&str; 3] = ["0x", "0X", "#"];

fn is_hex(raw: &str) -> bool {
    let digits = raw.trim_start_matches(['-', '+']);
    HEX.iter().any(|prefix| digits.starts_with(prefix))
}

/// As Java's `Integer.decode` and `parseInt`, but a leading zero is read as decimal by both and not as octal by one.
fn number(raw: &str) -> Option<i64> {
    let (sign, digits) = match raw.as_bytes().first()? {
        b'-' => (-1, &raw[1..]),
        b'+' => (1, &raw[1..]),
        _ => (1, raw),
    };
    let hex = HEX.iter().find_map(|prefix| digits.strip_prefix(prefix));
    let (digits, radix) = hex.map_or((digits, 10), |hex| (hex, 16));
    // A second sign is no number, though `from_str_radix` takes one.
    if !digits.chars().next()?.is_digit(radix) {
        return None;
    }
    i64::from_str_radix(digits, radix).ok().map(|n| sign * n)
}

impl Key {
    /// Puts `raw` into the draft, or says what would be right. Apache reads the keys that its file parser knows by name
    /// with `parseInt`, which refuses the `0x` and `#` that `Integer.getInteger` takes for properties.
    pub(super) fn apply(&self, draft: &mut Draft, raw: &str) -> Result<(), String> {
        let by_name = matches!(self.property, Property::FileOnly | Property::Beside(_));
        if by_name && matches!(self.take, Take::Number(..)) && is_hex(raw) {
            return Err(format!("{}, in decimal", self.take.wanted()));
        }
        self.take.apply(draft, raw)
    }

    /// The full name of the property, if there is one.
    pub fn property_name(&self) -> Option<String> {
        match self.property {
            Property::FileOnly => None,
            Property::Named => Some(format!("zookeeper.{}", self.name)),
            Property::Prefixed(tail) => Some(format!("zookeeper.{tail}")),
            Property::Bare => Some(self.name.to_owned()),
            Property::Beside(property) => Some(property.to_owned()),
        }
    }

    /// True when `spelling` in a `zoo.cfg` means this key to us.
    pub fn is_spelled(&self, spelling: &str) -> bool {
        spelling == self.name
            || match self.property {
                Property::FileOnly => false,
                Property::Prefixed(tail) => spelling.strip_prefix("zookeeper.").unwrap_or(spelling) == tail,
                Property::Named | Property::Bare => spelling.strip_prefix("zookeeper.") == Some(self.name),
                Property::Beside(property) => spelling == property,
            }
    }

    /// True when it decides what may stand on the disk, or how safe that is. Then it is taken only where Apache's server
    /// takes it: else the same file would mean another thing to Apache on the way back, which may not even start on what
    /// was written meanwhile.
    pub fn binds_the_data(&self) -> bool {
        matches!(
            self.name,
            "jute.maxbuffer"
                | "jute.maxbuffer.extrasize"
                | "extendedTypesEnabled"
                | "emulate353TTLNodes"
                | "snapshot.trust.empty"
                | "snapshot.compression.method"
                | "digest.enabled"
                | "DigestAuthenticationProvider.digestAlg"
                | "forceSync"
                | "skipACL"
                | "ostler.ignoreOwner"
        )
    }

    /// True when `spelling` in a `zoo.cfg` means it to Apache's server too.
    pub fn is_spelled_upstream(&self, spelling: &str) -> bool {
        match self.property {
            Property::FileOnly | Property::Named | Property::Beside(_) => spelling == self.name,
            Property::Prefixed(tail) => spelling == tail,
            Property::Bare => false,
        }
    }
}

/// The key that `spelling` in a `zoo.cfg` names.
pub fn by_spelling(spelling: &str) -> Option<&'static Key> {
    KEYS.iter()
        .find(|key| key.is_spelled(spelling))
        .or_else(|| family(spelling.trim_start_matches("zookeeper.")))
}

/// The key that a `-D` flag of this name sets.
pub fn by_property(property: &str) -> Option<&'static Key> {
    KEYS.iter()
        .find(|key| key.property_name().as_deref() == Some(property))
        .or_else(|| KEYS.iter().find(|key| key.name == "fsync.warningthresholdms" && property == key.name))
        // Ours mean themselves with and without the prefix that the others need.
        .or_else(|| KEYS.iter().find(|key| key.name.starts_with("ostler.") && property == key.name))
        .or_else(|| property.strip_prefix("zookeeper.").and_then(family))
        .or_else(|| FAMILIES.iter().find(|(prefix, _)| property.starts_with(prefix)).map(|(_, key)| key))
}

/// Keys with a free part in their name.
fn family(spelling: &str) -> Option<&'static Key> {
    FAMILIES.iter().find(|(prefix, _)| spelling.starts_with(prefix)).map(|(_, key)| key)
}

const INT_MAX: i64 = i32::MAX as i64;

const fn honoured(
    name: &'static str,
    property: Property,
    default: &'static str,
    meaning: &'static str,
    take: Take,
) -> Key {
    Key { name, property, take, default, meaning, fate: Fate::Honoured }
}

const fn ensemble(
    name: &'static str,
    property: Property,
    default: &'static str,
    meaning: &'static str,
    take: Take,
) -> Key {
    Key { name, property, take, default, meaning, fate: Fate::Ensemble }
}

const fn ensemble_later(
    name: &'static str,
    property: Property,
    default: &'static str,
    meaning: &'static str,
    take: Take,
    instead: &'static str,
) -> Key {
    Key { name, property, take, default, meaning, fate: Fate::EnsembleLater(instead) }
}

const fn ensemble_refused(
    name: &'static str,
    property: Property,
    meaning: &'static str,
    take: Take,
    reason: &'static str,
) -> Key {
    Key { name, property, take, default: "false", meaning, fate: Fate::EnsembleRefused(reason) }
}

const fn later(
    name: &'static str,
    property: Property,
    meaning: &'static str,
    consequence: &'static str,
) -> Key {
    Key {
        name,
        property,
        take: Take::Text(none),
        default: "not set",
        meaning,
        fate: Fate::Later(consequence),
    }
}

const fn ignored(name: &'static str, property: Property, reason: &'static str) -> Key {
    Key { name, property, take: Take::Text(none), default: "", meaning: "", fate: Fate::Ignored(reason) }
}

/// Set to nothing is not set.
fn set(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn none(_: &mut Draft, _: &str) {}
fn no_number(_: &mut Draft, _: i64) {}
fn no_flag(_: &mut Draft, _: bool) {}

/// A limit given as a number where 0 and less mean none.
fn positive(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|&n| n > 0)
}

/// As Apache has it: a factor below 0 switches this off, one above 1 is taken for the default.
fn history_share(factor: f64) -> Option<f64> {
    match factor {
        ..0.0 => None,
        0.0..=1.0 => Some(factor),
        _ => Some(HISTORY_SHARE_DEFAULT),
    }
}

use Property::{Bare, Beside, FileOnly, Named, Prefixed};
use Take::{AnyCaseOf, Exactly, Loose, Number, OneOf, Ratio, Strict, Text, Unless};

const NO_TLS: &str = "TLS is not served yet: this server listens in plain text only";
const NO_PEER_TLS: &str =
    "TLS between servers is not served yet, and without it what they send each other can be read and forged";
const NO_PEER_SASL: &str =
    "SASL between servers is not served yet, so whoever reaches the peer ports could join";
const PLAIN_PEERS: &str = "the peer ports take plain text only";
const NO_LOCAL: &str = "every session is known to the whole ensemble";
const NO_OBSERVER_MASTER: &str = "observers are served by the leader alone";
const NO_PROBE: &str = "the addresses of a server are tried in turn and never probed";
const NO_DELAY: &str = "connections between servers never wait to fill a packet";
const NO_SASL: &str = "SASL is not served yet: clients that insist on it cannot authenticate";
const NO_HTTP: &str = "the admin HTTP server is not served yet: use the four-letter words";
const NO_METRICS: &str = "the metrics endpoint is not served yet: use the four-letter word mntr";
const JVM: &str = "a matter of the Java runtime, and there is none";
const PIPELINE: &str = "a matter of Apache's internal pipeline; ours has no such stage";

/// Families: the prefix that names them.
#[rustfmt::skip]
static FAMILIES: &[(&str, Key)] = &[
    ("ssl.quorum.", later("ssl.quorum.*", Named, "TLS between servers", NO_TLS)),
    ("ssl.", later("ssl.*", Named, "TLS for clients", NO_TLS)),
    ("quorum.auth.", later("quorum.auth.*", FileOnly, "SASL between servers", "SASL between servers is not served yet")),
    ("superUser", later("superUser.*", Named, "SASL principals treated as super", NO_SASL)),
    ("kerberos.", later("kerberos.*", Named, "Kerberos names", NO_SASL)),
    ("admin.", later("admin.*", Named, "the admin HTTP server", NO_HTTP)),
    ("metricsProvider.", later("metricsProvider.*", FileOnly, "the metrics endpoint", NO_METRICS)),
    ("pathStats.", later("pathStats.*", Named, "sampled statistics of hot paths", "not served yet")),
    ("jvm.pause.", later("jvm.pause.*", FileOnly, "the pause monitor", "not served yet")),
    ("jmx.", ignored("jmx.*", Named, "there is no JMX")),
    ("jdk.tls.", ignored("jdk.tls.*", Bare, JVM)),
    ("javax.net.", ignored("javax.net.*", Bare, JVM)),
    ("test.", ignored("zookeeper.test.*", Named, "a test hook of the Java sources")),
];

/// Every key with a fixed name, in the order of the manual's sections.
#[rustfmt::skip] // one key, one line: a table is read by its columns
pub static KEYS: &[Key] = &[
    // --- the least a file needs
    honoured("clientPort", FileOnly, "none", "port of the plain-text client listener; 0 = any free one", Number(0, 65535, |d, n| (d.client_port, d.client_port_given) = (n as u16, true))),
    honoured("secureClientPort", FileOnly, "none", "port of the TLS client listener", Number(0, 65535, |d, n| d.secure_port = n as u16)),
    honoured("dataDir", FileOnly, "must be set", "directory of snapshots, myid and, unless split, txn logs", Text(|d, t| d.data_dir = Some(t.to_owned()))),
    honoured("tickTime", FileOnly, "3000", "ms; base unit of session bounds and expiry", Number(1, INT_MAX, |d, n| d.config.tick_ms = n as u32)),
    ensemble("initLimit", FileOnly, "must be set in an ensemble", "ticks a learner may take to connect and sync", Number(i32::MIN as i64, INT_MAX, |d, n| d.ensemble.init_ticks = n.max(0) as u32)),
    ensemble("syncLimit", FileOnly, "must be set in an ensemble", "ticks a learner may be silent or behind", Number(i32::MIN as i64, INT_MAX, |d, n| d.ensemble.sync_ticks = n.max(0) as u32)),
    ensemble_later("observerMasterPort", FileOnly, "0 = off", "port on which followers feed observers", Number(0, 65535, no_number), NO_OBSERVER_MASTER),
    // --- listeners, sessions, admission
    honoured("clientPortAddress", FileOnly, "all interfaces", "address or name the client listener binds", Text(|d, t| d.client_host = set(t))),
    honoured("secureClientPortAddress", FileOnly, "all interfaces", "address or name the TLS listener binds", Text(|d, t| d.secure_host = set(t))),
    honoured("clientPortListenBacklog", FileOnly, "-1 = ours", "connects waiting in the kernel; below 0 = ours", Number(i32::MIN as i64, INT_MAX, |d, n| d.backlog = u32::try_from(n).ok())),
    honoured("minSessionTimeout", FileOnly, "-1 = 2 x tickTime", "ms; least timeout a client is granted; else below 0 = 0", Number(i32::MIN as i64, INT_MAX, |d, n| d.timeout_least = n)),
    honoured("maxSessionTimeout", FileOnly, "-1 = 20 x tickTime", "ms; longest timeout a client is granted", Number(-1, INT_MAX, |d, n| d.timeout_most = n)),
    honoured("maxClientCnxns", FileOnly, "60", "connections from one address; 0 = no limit", Number(i32::MIN as i64, INT_MAX, |d, n| d.config.address_connections_max = positive(n).unwrap_or(0) as u32)),
    honoured("maxCnxns", Named, "0 = no limit", "connections to one listener", Number(i32::MIN as i64, INT_MAX, |d, n| d.config.connections_max = positive(n).unwrap_or(0) as u32)),
    honoured("globalOutstandingLimit", Named, "1000", "requests in flight before connections that have one are not read", Number(0, INT_MAX, |d, n| d.config.outstanding_requests_max = n as u32)),
    ensemble_later("localSessionsEnabled", FileOnly, "false", "sessions start on one server, not replicated", Strict(no_flag), NO_LOCAL),
    ensemble_later("localSessionsUpgradingEnabled", FileOnly, "false", "such sessions become global when they need to", Strict(no_flag), NO_LOCAL),
    honoured("clientTcpKeepAlive", Named, "false", "SO_KEEPALIVE on client sockets", Loose(|d, b| d.config.keep_alive = b)),
    honoured("nio.sessionlessCnxnTimeout", Named, "10000", "ms before a socket without a connect request is closed", Number(1, INT_MAX, |d, n| d.config.sessionless_ms_max = n as u64)),
    honoured("connectionMaxTokens", Prefixed("connection_throttle_tokens"), "0 = off", "token bucket for new sessions", Number(0, INT_MAX, |d, n| d.config.connection_throttle.tokens = n as u32)),
    honoured("connectionTokenFillTime", Prefixed("connection_throttle_fill_time"), "1", "ms between refills of the bucket", Number(1, INT_MAX, |d, n| d.config.connection_throttle.fill_ms = n as u32)),
    honoured("connectionTokenFillCount", Prefixed("connection_throttle_fill_count"), "1", "tokens of one refill", Number(1, INT_MAX, |d, n| d.config.connection_throttle.fill_count = n as u32)),
    honoured("connectionFreezeTime", Prefixed("connection_throttle_freeze_time"), "-1 = off", "ms between changes of the drop probability", Number(-1, INT_MAX, |d, n| d.config.connection_throttle.freeze_ms = positive(n).map(|n| n as u32))),
    honoured("connectionDropIncrease", Prefixed("connection_throttle_drop_increase"), "0.02", "step up of the drop probability", Ratio(0.0, 1.0, |d, r| d.config.connection_throttle.drop_increase = r)),
    honoured("connectionDropDecrease", Prefixed("connection_throttle_drop_decrease"), "0.002", "step down of the drop probability", Ratio(0.0, 1.0, |d, r| d.config.connection_throttle.drop_decrease = r)),
    honoured("connectionDecreaseRatio", Prefixed("connection_throttle_decrease_ratio"), "0", "share of free tokens from which the probability goes down", Ratio(0.0, 1.0, |d, r| d.config.connection_throttle.decrease_ratio = r)),
    honoured("connection_throttle_weight_enabled", Named, "false", "charge new sessions by their kind", Loose(|d, b| d.config.connection_throttle.weighted = b)),
    honoured("connection_throttle_global_session_weight", Named, "3", "tokens of a new global session", Number(1, INT_MAX, |d, n| d.config.connection_throttle.weight_global = n as u32)),
    honoured("connection_throttle_renew_session_weight", Named, "2", "tokens of a re-attach", Number(1, INT_MAX, |d, n| d.config.connection_throttle.weight_renew = n as u32)),
    honoured("connection_throttle_local_session_weight", Named, "1", "tokens of a local session", Number(1, INT_MAX, |d, n| d.config.connection_throttle.weight_local = n as u32)),
    honoured("requestThrottleLimit", Prefixed("request_throttle_max_requests"), "0 = off", "requests in the server before more wait", Number(0, INT_MAX, |d, n| d.config.request_throttle.requests_max = n as u32)),
    ignored("requestThrottleStallTime", Prefixed("request_throttle_stall_time"), "a waiting request goes on as soon as there is room, not after a time"),
    honoured("requestThrottleDropStale", Prefixed("request_throttle_drop_stale"), "true", "drop requests that nobody waits for", Loose(|d, b| d.config.request_throttle.drop_stale = b)),
    honoured("requestStaleLatencyCheck", Prefixed("request_stale_latency_check"), "false", "a request older than its session's timeout is stale", Loose(|d, b| d.config.request_throttle.stale_by_latency = b)),
    ignored("requestStaleConnectionCheck", Prefixed("request_stale_connection_check"), "requests of a closed connection are never served"),
    honoured("request_throttler.shutdownTimeout", Named, "10000", "ms to drain at shutdown", Number(0, INT_MAX, |d, n| d.config.shutdown_ms_max = n as u64)),
    honoured("throttledOpWaitTime", Prefixed("throttled_op_wait_time"), "0 = off", "ms of waiting after which a request is answered -127", Number(i32::MIN as i64, INT_MAX, |d, n| d.config.request_throttle.op_wait_ms_max = positive(n).map(|n| n as u32))),
    honoured("largeRequestThreshold", Named, "-1 = off", "bytes from which a request counts as large", Number(i32::MIN as i64, INT_MAX, |d, n| d.config.large_request_bytes = positive(n).map(|n| n as u32))),
    honoured("largeRequestMaxBytes", Named, "104857600", "bytes of large requests in flight; more closes the connection", Number(1, INT_MAX, |d, n| d.config.large_requests_bytes_max = n as u64)),
    ignored("serverCnxnFactory", Named, "it names a Java class"),
    // --- storage
    honoured("dataLogDir", FileOnly, "the same as dataDir", "directory of the txn logs", Text(|d, t| d.data_log_dir = Some(t.to_owned()))),
    honoured("preAllocSize", Named, "65536", "KiB; size of a log segment, allocated ahead", Number(1, 1 << 40, |d, n| d.config.segment_bytes = n as u64 * 1024)),
    honoured("snapCount", Named, "100000", "txns before the next snapshot", Number(i32::MIN as i64, INT_MAX, |d, n| d.snap_count = n)),
    honoured("snapSizeLimitInKb", Named, "4194304", "KiB of log before the next snapshot; 0 and less = off", Number(i64::MIN >> 11, i64::MAX >> 11, |d, n| d.config.snap_log_bytes = positive(n).map(|n| n * 1024))),
    honoured("txnLogSizeLimitInKb", Named, "-1 = off", "KiB at which a log file is closed and a new one begun", Number(i64::MIN >> 11, i64::MAX >> 11, |d, n| d.config.log_bytes_roll = positive(n).map(|n| n * 1024))),
    ensemble("commitLogCount", Named, "500", "committed proposals kept in memory for learners", Number(i32::MIN as i64, INT_MAX, |d, n| d.ensemble.committed_txns_kept = n.max(COMMITTED_TXNS_KEPT_LEAST.into()) as u32)),
    ensemble("snapshotSizeFactor", Named, "0.33", "how much log, next to a snapshot's size, may serve a learner", Ratio(f64::MIN, f64::MAX, |d, r| d.ensemble.history_share = history_share(r))),
    ensemble_later("forceSnapshotSync", Named, "false", "learners always get a snapshot", Loose(no_flag), "learners get txns where those are known, a snapshot otherwise"),
    honoured("autopurge.snapRetainCount", FileOnly, "3", "snapshots the purge keeps; less than 3 becomes 3", Number(i32::MIN as i64, INT_MAX, |d, n| d.purge_keep = n)),
    honoured("autopurge.purgeInterval", FileOnly, "0 = never", "hours between purges", Number(i32::MIN as i64, INT_MAX, |d, n| d.config.purge_every_ms = positive(n).map(|n| n * 3_600_000))),
    honoured("fsync.warningthresholdms", Named, "1000", "ms; a slower sync is logged", Number(0, i64::MAX, |d, n| d.config.sync_warning_ms = n as u64)),
    honoured("flushDelay", Named, "0 = off", "ms a group commit is held back", Number(0, INT_MAX, |d, n| d.config.flush_delay_ms = n as u64)),
    honoured("maxWriteQueuePollTime", Named, "flushDelay / 3", "ms without a request that end the holding back", Number(0, INT_MAX, |d, n| d.flush_idle = Some(n as u64))),
    honoured("maxBatchSize", Named, "1000", "txns of one group commit; 0 and less = no limit", Number(i32::MIN as i64, INT_MAX, |d, n| d.config.batch_txns_max = positive(n).map_or(u32::MAX, |n| n as u32))),
    honoured("snapshot.compression.method", Named, "empty", "compression of written snapshots", OneOf(&["", "gz", "snappy"], |d, t| {
        d.config.snapshot_compression = match t {
            "gz" => Compression::Gzip,
            "snappy" => Compression::Snappy,
            _ => Compression::None,
        }
    })),
    honoured("snapshot.trust.empty", Beside("zookeeper.snapshot.trust.empty"), "false", "accept logs that have no snapshot before them", Loose(|d, b| d.config.trust_empty_snapshot = b)),
    honoured("datadir.autocreate", Named, "true", "make missing data directories", Loose(|d, b| d.config.data_dir_create = b)),
    ensemble("db.autocreate", Named, "true", "false: an empty data directory is taken for a loss, unless there is a file `initialize`", Loose(|d, b| d.ensemble.empty_votes = b)),
    honoured("digest.enabled", Named, "true", "keep the digest of the whole tree in txns and snapshots", Loose(|d, b| d.config.digest = b)),
    ignored("serializeLastProcessedZxid.enabled", Named, "snapshots always carry it, and are read with or without"),
    ignored("closeSessionTxn.enabled", Named, "ephemerals are always listed; a log without the list is read, too"),
    ensemble_later("syncEnabled", Beside("zookeeper.observer.syncEnabled"), "true", "observers write log and snapshots", Strict(no_flag), "observers write what they are sent to disk, too"),
    honoured("extendedTypesEnabled", Named, "false", "TTL znodes are allowed", Loose(|d, b| d.config.extended_types = b)),
    later("emulate353TTLNodes", Named, "read TTL znodes as ZooKeeper 3.5.3 laid them out", "TTL znodes written by 3.5.3 are read as ephemerals of sessions that do not exist"),
    honoured("znode.container.checkIntervalMs", Bare, "60000", "ms between sweeps for containers and TTL znodes", Number(1, INT_MAX, |d, n| d.config.containers.check_ms = n as u64)),
    honoured("znode.container.maxPerMinute", Bare, "10000", "most deletions of those sweeps a minute", Number(1, INT_MAX, |d, n| d.config.containers.deletes_per_minute = n as u32)),
    honoured("znode.container.maxNeverUsedIntervalMs", Bare, "0 = never", "ms after which a container that never had a child goes", Number(i64::MIN, i64::MAX, |d, n| d.config.containers.never_used_ms = positive(n))),
    ignored("intBufferStartingSizeBytes", Named, "a matter of Java buffers"),
    // --- caches and watches
    ignored("maxResponseCacheSize", Named, "replies are made without a cache"),
    ignored("maxGetChildrenResponseCacheSize", Named, "replies are made without a cache"),
    ignored("watchManagerName", Named, "there is one implementation of watches"),
    ignored("watcherCleanThreadsNum", Named, "watches need no cleaning thread"),
    ignored("watcherCleanThreshold", Named, "watches need no cleaning thread"),
    ignored("watcherCleanIntervalInSeconds", Named, "watches need no cleaning thread"),
    ignored("maxInProcessingDeadWatchers", Named, "watches need no cleaning thread"),
    ignored("bitHashCacheSize", Named, "watches need no cleaning thread"),
    // --- ensemble
    honoured("dynamicConfigFile", FileOnly, "none", "file with the server lines", Text(|d, t| d.dynamic_file = set(t))),
    ensemble("peerType", FileOnly, "participant", "role of this server", AnyCaseOf(&["participant", "observer"], |d, t| d.is_observer = t == "observer")),
    ensemble("electionAlg", FileOnly, "3", "election algorithm; there is one", Number(3, 3, no_number)),
    honoured("standaloneEnabled", FileOnly, "true", "a single server may run without an ensemble", Strict(|d, b| d.standalone = b)),
    honoured("reconfigEnabled", FileOnly, "false", "reconfig is not refused as switched off", Strict(|d, b| d.config.reconfig_enabled = b)),
    ensemble("connectToLearnerMasterLimit", FileOnly, "0 = initLimit", "ticks to connect to a leader", Number(i32::MIN as i64, INT_MAX, |d, n| d.ensemble.connect_ticks = n.max(0) as u32)),
    ensemble("leaderServes", Named, "yes", "the leader takes clients", Unless("no", |d, b| d.ensemble.leader_serves = b)),
    ensemble("cnxTimeout", Named, "5000", "ms to connect for an election", Number(1, INT_MAX, |d, n| d.ensemble.election_connect_ms = n as u64)),
    ensemble("quorumCnxnTimeoutMs", Named, "-1 = syncLimit ticks", "ms of silence on an election socket", Number(-1, INT_MAX, |d, n| d.ensemble.election_handshake_ms = positive(n))),
    ignored("quorum.cnxn.threads.size", FileOnly, "a matter of a Java thread pool"),
    ensemble("electionPortBindRetry", Named, "3; 0 = for ever", "tries to bind the election port", Number(0, INT_MAX, |d, n| d.ensemble.bind_tries = positive(n).map(|n| n as u32))),
    ensemble("quorumListenOnAllIPs", FileOnly, "false", "peer ports bind all interfaces", Strict(|d, b| d.ensemble.listen_everywhere = b)),
    ensemble("tcpKeepAlive", Named, "false", "SO_KEEPALIVE on election sockets", Loose(|d, b| d.ensemble.keep_alive = b)),
    ensemble("multiAddress.enabled", Beside("zookeeper.multiAddress.enabled"), "false", "several addresses in one server line", Strict(|d, b| d.ensemble.multi_address = b)),
    ensemble_later("multiAddress.reachabilityCheckEnabled", Beside("zookeeper.multiAddress.reachabilityCheckEnabled"), "true", "probe those addresses", Strict(no_flag), NO_PROBE),
    ensemble_later("multiAddress.reachabilityCheckTimeoutMs", Beside("zookeeper.multiAddress.reachabilityCheckTimeoutMs"), "1000", "ms of such a probe", Number(0, INT_MAX, no_number), NO_PROBE),
    ensemble_later("observer.reconnectDelayMs", Named, "0", "ms an observer waits before it reconnects", Number(0, INT_MAX, no_number), "an observer connects again at once"),
    ensemble_later("observer.election.DelayMs", Named, "200", "ms an observer waits before it looks for a leader", Number(0, INT_MAX, no_number), "an observer looks for a leader at once"),
    ensemble_later("observerMaster.sizeLimit", Named, "33554432", "bytes kept for observers that catch up", Number(0, INT_MAX, no_number), NO_OBSERVER_MASTER),
    ensemble("fastleader.minNotificationInterval", Named, "200", "ms; shortest pause between votes", Number(1, INT_MAX, |d, n| d.ensemble.notification_ms_least = n as u64)),
    ensemble("fastleader.maxNotificationInterval", Named, "60000", "ms; longest pause between votes", Number(1, INT_MAX, |d, n| d.ensemble.notification_ms_most = n as u64)),
    ensemble_later("maxTimeToWaitForEpoch", Prefixed("leader.maxTimeToWaitForEpoch"), "-1 = off", "ms before discovery is given up", Number(-1, INT_MAX, no_number), "discovery ends with initLimit"),
    ensemble_later("maxConcurrentSnapSyncs", Prefixed("leader.maxConcurrentSnapSyncs"), "10", "learners sent a snapshot at once", Number(1, INT_MAX, no_number), "every learner is synchronised when it comes"),
    ensemble_later("maxConcurrentDiffSyncs", Prefixed("leader.maxConcurrentDiffSyncs"), "100", "learners sent a DIFF at once", Number(1, INT_MAX, no_number), "every learner is synchronised when it comes"),
    ignored("leader.closeSocketAsync", Named, "closing a socket never blocks us"),
    ignored("learner.closeSocketAsync", Named, "closing a socket never blocks us"),
    ignored("learner.asyncSending", Named, "sending never blocks us"),
    ignored("forward_learner_requests_to_commit_processor_disabled", Named, PIPELINE),
    ignored("follower.skipLearnerRequestToNextProcessor", Named, PIPELINE),
    ensemble_later("leader.nodelay", Bare, "true", "TCP_NODELAY on the leader's sockets", Loose(no_flag), NO_DELAY),
    ensemble_later("follower.nodelay", Bare, "true", "TCP_NODELAY on a follower's socket", Loose(no_flag), NO_DELAY),
    ignored("leader.ackLoggingFrequency", Named, "our figures are not sampled"),
    ensemble_later("leaderConnectDelayDuringRetryMs", Named, "100", "ms between tries to connect to a leader", Number(0, INT_MAX, no_number), "the time between two tries is fixed"),
    ensemble_refused("oraclePath", FileOnly, "file that breaks the tie between two servers", Text(none), "an oracle that decides between two servers is not served; use three servers"),
    honoured("4lw.commands.whitelist", Named, "srvr", "four-letter words that are answered; * = all", Text(|d, t| d.set_words(t))),
    ensemble_later("readonlymode.enabled", Bare, "false", "serve read-only clients without a quorum", Loose(|d, b| d.read_only_mode = b), "a server without a quorum serves nobody"),
    // --- encryption
    ensemble_refused("sslQuorum", FileOnly, "TLS between servers", Strict(no_flag), NO_PEER_TLS),
    ensemble_later("portUnification", FileOnly, "false", "peer ports take TLS and plain text", Strict(no_flag), PLAIN_PEERS),
    ensemble_later("sslQuorumReloadCertFiles", FileOnly, "false", "reload the certificates between servers", Strict(no_flag), PLAIN_PEERS),
    ensemble_refused("quorum.auth.enableSasl", FileOnly, "SASL between servers", Strict(no_flag), NO_PEER_SASL),
    ensemble_refused("quorum.auth.learnerRequireSasl", FileOnly, "learners insist on it", Strict(no_flag), NO_PEER_SASL),
    ensemble_refused("quorum.auth.serverRequireSasl", FileOnly, "leaders insist on it", Strict(no_flag), NO_PEER_SASL),
    later("client.certReload", Named, "reload the certificates for clients", NO_TLS),
    later("client.portUnification", Named, "clientPort takes TLS too", NO_TLS),
    ignored("ssl.sslProvider", Named, "the TLS library is ours to choose"),
    later("outstandingHandshake.limit", Prefixed("netty.server.outstandingHandshake.limit"), "TLS handshakes in flight", NO_TLS),
    later("netty.server.earlyDropSecureConnectionHandshakes", Named, "refuse TLS before the handshake", NO_TLS),
    ignored("advancedFlowControlEnabled", Prefixed("netty.advancedFlowControl.enabled"), "connections are always read by their own pace"),
    later("fips-mode", Named, "FIPS rules for TLS and SASL", NO_TLS),
    // --- authentication
    honoured("DigestAuthenticationProvider.enabled", Named, "true", "the digest scheme is offered", Loose(|d, b| d.config.auth.digest = b)),
    honoured("DigestAuthenticationProvider.superDigest", Named, "none", "digest of the user that passes every check", Text(|d, t| d.config.auth.super_digest = Some(t.to_owned()).filter(|t| !t.is_empty()))),
    honoured("DigestAuthenticationProvider.digestAlg", Named, "SHA1", "hash of digest ids", OneOf(&["SHA1", "SHA-1", "SHA", "SHA-256", "SHA-512"], |d, t| {
        d.config.auth.digest_algorithm = match t {
            "SHA-256" => DigestAlgorithm::Sha256,
            "SHA-512" => DigestAlgorithm::Sha512,
            _ => DigestAlgorithm::Sha1,
        }
    })),
    later("IPAuthenticationProvider.usexforwardedfor", Named, "trust X-Forwarded-For on the admin server", NO_HTTP),
    later("X509AuthenticationProvider.superUser", Named, "certificate subject treated as super", NO_TLS),
    honoured("ensembleAuthName", Named, "none", "names of this ensemble for scheme `ensemble`", Text(|d, t| {
        d.config.auth.ensemble_names = t.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect();
    })),
    honoured("sessionRequireClientSASLAuth", Named, "false", "every client must authenticate by SASL", Loose(|d, b| d.require_sasl = b)),
    honoured("enforce.auth.enabled", Named, "false", "every client must authenticate", Loose(|d, b| d.enforce_auth = b)),
    honoured("enforce.auth.schemes", Named, "none", "schemes of which every client must use one", Text(|d, t| {
        d.config.auth.enforced_schemes = t.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect();
    })),
    ignored("enableEagerACLCheck", Named, "ACLs are checked once, by the server that decides; a standalone server is that one"),
    honoured("skipACL", Named, "no", "nobody's permissions are checked", Exactly("yes", |d, b| d.config.auth.skip_acl = b)),
    later("allowSaslFailedClients", Named, "keep a session after failed SASL", NO_SASL),
    ignored("letAnySaslUserDoX", Named, "obscure, and unsafe"),
    later("SASLAuthenticationProvider.superPassword", Named, "password of the SASL user super", NO_SASL),
    later("security.auth_to_local", Named, "Kerberos mapping rules", NO_SASL),
    later("sasl.serverconfig", Named, "JAAS section", NO_SASL),
    later("java.security.auth.login.config", Bare, "JAAS file", NO_SASL),
    later("java.security.krb5.conf", Bare, "Kerberos configuration", NO_SASL),
    ignored("server.realm", Named, "Kerberos login is JAAS's matter"),
    ignored("server.principal", Named, "Kerberos login is JAAS's matter"),
    ignored("kinit", Named, "Kerberos login is JAAS's matter"),
    ignored("requireKerberosConfig", Named, "Kerberos login is JAAS's matter"),
    // --- threads
    ignored("nio.numSelectorThreads", Named, "threads follow the CPUs; see ostler.workers"),
    ignored("nio.numWorkerThreads", Named, "threads follow the CPUs; see ostler.workers"),
    ignored("nio.directBufferBytes", Named, "a matter of Java buffers"),
    ignored("nio.shutdownTimeout", Named, "see request_throttler.shutdownTimeout"),
    ignored("commitProcessor.numWorkerThreads", Named, "threads follow the CPUs; see ostler.workers"),
    ignored("commitProcessor.maxReadBatchSize", Named, PIPELINE),
    ignored("commitProcessor.maxCommitBatchSize", Named, PIPELINE),
    ignored("commitProcessor.shutdownTimeout", Named, "see request_throttler.shutdownTimeout"),
    // --- debugging
    ensemble_later("messageTracker.Enabled", Named, "false", "log the last peer messages on a disconnect", Loose(no_flag), "not served yet"),
    ensemble_later("messageTracker.BufferSize", Named, "10", "how many of them", Number(1, INT_MAX, no_number), "not served yet"),
    later("jvm.pause.monitor", FileOnly, "the pause monitor", "not served yet"),
    // --- audit, quota, the rest
    later("audit.enable", Named, "log who changed what", "no audit log is written yet"),
    ignored("audit.impl.class", Named, "it names a Java class"),
    honoured("enforceQuota", Named, "false", "hard quotas refuse writes", Loose(|d, b| d.config.enforce_quota = b)),
    ignored("testingonly.initialZxid", Named, "a test hook of the Java sources"),
    ignored("controllerPort", FileOnly, "a test hook of the Java sources"),
    // --- unsafe
    honoured("forceSync", Named, "yes", "a write is on disk before it is acknowledged", Unless("no", |d, b| d.config.sync_before_ack = b)),
    honoured("jute.maxbuffer", Bare, "1048575", "bytes of the largest request", Number(limits::FRAME_BYTES_MAX_LEAST as i64, limits::FRAME_BYTES_MAX_MOST as i64, |d, n| d.config.frame_bytes_max = n as u32)),
    honoured("jute.maxbuffer.extrasize", Named, "the same as jute.maxbuffer", "bytes a txn may be longer than its request", Number(0, limits::FRAME_BYTES_MAX_MOST as i64, |d, n| d.frame_extra = Some(n as u32))),
    // --- ours
    honoured("ostler.workers", Named, "one per CPU", "threads that serve connections; 0 = by the CPUs", Number(0, 1024, |d, n| d.config.workers = n as usize)),
    honoured("ostler.logLevel", Named, "info", "what is logged: error, warn, info, debug, trace, or a filter; read again on SIGHUP", Text(|d, t| d.config.log_level = set(t))),
    honoured("ostler.slowRequest", Named, "1000", "ms; a request that takes so long is told in the log", Number(1, INT_MAX, |d, n| d.config.slow_request_ms = n as u32)),
    honoured("ostler.ignoreOwner", Bare, "false", "start although another process shows that it serves the data directory", Loose(|d, b| d.config.ignore_owner = b)),
    honoured("ostler.pinThreads", Named, "false", "every thread keeps to a CPU of its own", Loose(|d, b| d.config.pin_threads = b)),
    honoured("ostler.treeMemory", Named, "32768", "MiB of znodes held; near it, writes that add are refused", Number(1024, 32768, |d, n| d.config.tree_bytes_max = (n as usize) << 20)),
];
