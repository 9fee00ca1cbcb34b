//! `zoo.cfg` and flags, as scenarios: what each key does to the `Config`, what is warned of, what is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ostler_replication::ServerId;

use super::*;

const BASE: &str = "clientPort=2181\ndataDir=/nowhere/data\nautopurge.purgeInterval=1\n";

fn base() -> Config {
    Config {
        client: Some(Listener { address: None, port: 2181, backlog: None }),
        data_dir: "/nowhere/data".into(),
        data_log_dir: "/nowhere/data".into(),
        purge_every_ms: Some(3_600_000),
        file: Some("zoo.cfg".into()),
        ..Config::default()
    }
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    let pairs = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    Environment { variables: pairs.collect::<BTreeMap<_, _>>() }
}

fn loaded(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    load_file(Path::new("zoo.cfg"), text.as_bytes(), &environment(variables))
}

/// `lines` behind the base, with these flags: the config is the base but for `change`.
#[track_caller]
fn check(lines: &str, flags: &str, change: impl FnOnce(&mut Config)) -> Vec<Notice> {
    let loaded = loaded(&format!("{BASE}{lines}"), &[("JVMFLAGS", flags)]);
    let loaded = loaded.unwrap_or_else(|error| panic!("{lines} {flags}: {error}"));
    let mut expected = base();
    change(&mut expected);
    assert_eq!(loaded.config, expected, "{lines} {flags}");
    loaded.notices
}

/// Nothing changes and nothing is said: the defaults are what the base says.
#[test]
fn base_is_quiet() {
    assert_eq!(check("", "", |_| {}), []);
}

#[track_caller]
fn refused(text: &str, parts: &[&str]) {
    let error = loaded(text, &[]).err().unwrap_or_else(|| panic!("{text} was accepted")).to_string();
    for part in parts {
        assert!(error.contains(part), "{text}: {error:?} lacks {part:?}");
    }
}

#[track_caller]
fn warned(notices: &[Notice], severity: Severity, parts: &[&str]) {
    let fits = |n: &&Notice| n.severity == severity && parts.iter().all(|part| n.text.contains(part));
    assert!(notices.iter().any(|n| fits(&n)), "no {severity:?} with {parts:?} in {notices:?}");
}

type Change = fn(&mut Config);

/// Every honoured key, with a value of its own, and what that does.
const HONOURED: &[(&str, &str, Change)] = &[
    ("clientPort", "2182", |c| c.client.as_mut().unwrap().port = 2182),
    ("clientPort", "0", |c| c.client.as_mut().unwrap().port = 0),
    ("dataDir", "/other", |c| {
        c.data_dir = "/other".into();
        c.data_log_dir = "/other".into();
    }),
    ("tickTime", "2000", |c| {
        c.tick_ms = 2000;
        c.session_timeout_ms_least = 4000;
        c.session_timeout_ms_most = 40_000;
    }),
    ("clientPortAddress", "127.0.0.1", |c| {
        c.client.as_mut().unwrap().address = Some("127.0.0.1".parse().unwrap());
    }),
    ("clientPortListenBacklog", "77", |c| c.client.as_mut().unwrap().backlog = Some(77)),
    ("secureClientPort", "2281", |_| {}),
    ("secureClientPortAddress", "", |_| {}),
    ("minSessionTimeout", "1000", |c| c.session_timeout_ms_least = 1000),
    ("maxSessionTimeout", "90000", |c| c.session_timeout_ms_most = 90_000),
    ("maxClientCnxns", "0", |c| c.address_connections_max = 0),
    ("maxCnxns", "5", |c| c.connections_max = 5),
    ("globalOutstandingLimit", "10", |c| c.outstanding_requests_max = 10),
    ("clientTcpKeepAlive", "TRUE", |c| c.keep_alive = true),
    ("nio.sessionlessCnxnTimeout", "5000", |c| c.sessionless_ms_max = 5000),
    ("connectionMaxTokens", "9", |c| c.connection_throttle.tokens = 9),
    ("connectionTokenFillTime", "9", |c| c.connection_throttle.fill_ms = 9),
    ("connectionTokenFillCount", "9", |c| c.connection_throttle.fill_count = 9),
    ("connectionFreezeTime", "9", |c| c.connection_throttle.freeze_ms = Some(9)),
    ("connectionDropIncrease", "0.5", |c| c.connection_throttle.drop_increase = 0.5),
    ("connectionDropDecrease", "0.5", |c| c.connection_throttle.drop_decrease = 0.5),
    ("connectionDecreaseRatio", "0.5", |c| c.connection_throttle.decrease_ratio = 0.5),
    ("connection_throttle_weight_enabled", "true", |c| c.connection_throttle.weighted = true),
    ("connection_throttle_global_session_weight", "9", |c| c.connection_throttle.weight_global = 9),
    ("connection_throttle_renew_session_weight", "9", |c| c.connection_throttle.weight_renew = 9),
    ("connection_throttle_local_session_weight", "9", |c| c.connection_throttle.weight_local = 9),
    ("requestThrottleLimit", "9", |c| c.request_throttle.requests_max = 9),
    ("requestThrottleDropStale", "no", |c| c.request_throttle.drop_stale = false),
    ("requestStaleLatencyCheck", "true", |c| c.request_throttle.stale_by_latency = true),
    ("request_throttler.shutdownTimeout", "9", |c| c.shutdown_ms_max = 9),
    ("throttledOpWaitTime", "9", |c| c.request_throttle.op_wait_ms_max = Some(9)),
    ("largeRequestThreshold", "9", |c| c.large_request_bytes = Some(9)),
    ("largeRequestMaxBytes", "9", |c| c.large_requests_bytes_max = 9),
    ("dataLogDir", "/logs", |c| c.data_log_dir = "/logs".into()),
    ("preAllocSize", "131072", |c| c.segment_bytes = 128 << 20),
    ("snapCount", "10", |c| c.snap_txns = 10),
    ("snapSizeLimitInKb", "0", |c| c.snap_log_bytes = None),
    ("txnLogSizeLimitInKb", "10", |c| c.log_bytes_roll = Some(10_240)),
    ("autopurge.snapRetainCount", "5", |c| c.purge_keep = 5),
    ("autopurge.purgeInterval", "2", |c| c.purge_every_ms = Some(7_200_000)),
    ("fsync.warningthresholdms", "20", |c| c.sync_warning_ms = 20),
    ("flushDelay", "9", |c| {
        c.flush_delay_ms = 9;
        c.flush_idle_ms = 3;
    }),
    ("maxWriteQueuePollTime", "2", |c| c.flush_idle_ms = 2),
    ("maxBatchSize", "-1", |c| c.batch_txns_max = u32::MAX),
    ("snapshot.compression.method", "gz", |c| c.snapshot_compression = Compression::Gzip),
    ("snapshot.trust.empty", "true", |c| c.trust_empty_snapshot = true),
    ("datadir.autocreate", "false", |c| c.data_dir_create = false),
    ("digest.enabled", "false", |c| c.digest = false),
    ("extendedTypesEnabled", "true", |c| c.extended_types = true),
    ("znode.container.checkIntervalMs", "9", |c| c.containers.check_ms = 9),
    ("znode.container.maxPerMinute", "9", |c| c.containers.deletes_per_minute = 9),
    ("znode.container.maxNeverUsedIntervalMs", "9", |c| c.containers.never_used_ms = Some(9)),
    ("dynamicConfigFile", "", |_| {}),
    ("standaloneEnabled", "True", |_| {}),
    ("4lw.commands.whitelist", "stat, ruok", |c| {
        c.words = Words::Only(vec!["stat".into(), "ruok".into(), "srvr".into()]);
    }),
    ("DigestAuthenticationProvider.enabled", "false", |c| c.auth.digest = false),
    ("DigestAuthenticationProvider.superDigest", "super:xQJmxLMiHGwaqBvst5y6rkB6HQs=", |c| {
        c.auth.super_digest = Some("super:xQJmxLMiHGwaqBvst5y6rkB6HQs=".into());
    }),
    ("DigestAuthenticationProvider.digestAlg", "SHA-256", |c| {
        c.auth.digest_algorithm = DigestAlgorithm::Sha256
    }),
    // Without the provider the names mean nothing, and enforcing is off: see the scenarios below.
    ("ensembleAuthName", "mine", |_| {}),
    ("sessionRequireClientSASLAuth", "false", |_| {}),
    ("enforce.auth.enabled", "false", |_| {}),
    ("enforce.auth.schemes", "digest", |_| {}),
    ("skipACL", "yes", |c| c.auth.skip_acl = true),
    ("enforceQuota", "true", |c| c.enforce_quota = true),
    ("reconfigEnabled", "true", |c| c.reconfig_enabled = true),
    ("forceSync", "no", |c| c.sync_before_ack = false),
    ("jute.maxbuffer", "4194304", |c| {
        c.frame_bytes_max = 4 << 20;
        c.frame_extra_bytes = 4 << 20;
    }),
    ("jute.maxbuffer.extrasize", "10", |c| c.frame_extra_bytes = 1024),
    ("ostler.workers", "3", |c| c.workers = 3),
    ("ostler.logLevel", "debug", |c| c.log_level = Some("debug".into())),
    ("ostler.slowRequest", "50", |c| c.slow_request_ms = 50),
    ("ostler.ignoreOwner", "true", |c| c.ignore_owner = true),
    ("ostler.pinThreads", "true", |c| c.pin_threads = true),
    ("ostler.treeMemory", "2048", |c| c.tree_bytes_max = 2 << 30),
];

#[test]
fn every_honoured_key_does_its_work_in_the_file_and_as_a_flag() {
    for (name, value, change) in HONOURED {
        let key = by_spelling(name).expect("in the table");
        let in_the_file = |spelling: &str| match key.binds_the_data() && !key.is_spelled_upstream(spelling) {
            true => drop(check(&format!("{spelling}={value}\n"), "", |_| {})),
            false => drop(check(&format!("{spelling}={value}\n"), "", change)),
        };
        in_the_file(name);
        if let Some(property) = key.property_name() {
            in_the_file(&property);
            if !value.contains(' ') {
                check("", &format!("-D{property}={value}"), change);
            }
        }
    }
}

#[test]
fn the_table_above_knows_every_honoured_key() {
    let tested: BTreeSet<_> = HONOURED.iter().map(|(name, ..)| *name).collect();
    let honoured: BTreeSet<_> = KEYS.iter().filter(|k| k.fate == Fate::Honoured).map(|k| k.name).collect();
    assert_eq!(tested, honoured);
    let names: BTreeSet<_> = KEYS.iter().map(|k| k.name).collect();
    assert_eq!(names.len(), KEYS.len(), "a key stands twice");
}

#[test]
fn keys_without_effect_are_named_with_the_reason() {
    for key in KEYS {
        let (Fate::Ignored(reason) | Fate::Later(reason)) = key.fate else { continue };
        let notices = check(&format!("{}=anything\n", key.name), "", |_| {});
        warned(&notices, Severity::Warning, &[key.name, reason, "zoo.cfg:4"]);
    }
    for line in ["ssl.keyStore.location=/k", "superUser.7=x", "admin.serverPort=1", "jmx.log4j.disable=x"] {
        warned(&check(line, "", |_| {}), Severity::Warning, &["has no effect here [", "zoo.cfg:4"]);
    }
    warned(&check("no.such.key=1", "", |_| {}), Severity::Warning, &["no.such.key", "zookeeper.no.such.key"]);
    warned(&check("", "-Dzookeeper.nix=1", |_| {}), Severity::Warning, &["JVMFLAGS", "-Dzookeeper.nix"]);
    warned(&check("", "-Xmx1g -XX:+UseG1GC", |_| {}), Severity::Warning, &["-Xmx1g -XX:+UseG1GC"]);
    assert_eq!(check("", "-Djava.net.preferIPv4Stack=true", |_| {}), []);
}

#[test]
fn malformed_values_name_line_key_and_what_would_be_right() {
    for key in KEYS {
        let is_taken = !key.binds_the_data() || key.is_spelled_upstream(key.name);
        if matches!(key.fate, Fate::Ignored(_) | Fate::Later(_)) || !is_taken {
            continue;
        }
        let wrong = match key.take {
            Take::Number(..) | Take::Ratio(..) | Take::Strict(_) | Take::OneOf(..) | Take::AnyCaseOf(..) => {
                "12x"
            }
            Take::Loose(_) | Take::Unless(..) | Take::Exactly(..) | Take::Text(_) => continue,
        };
        let line = format!("{BASE}{} = {wrong}", key.name);
        refused(&line, &["zoo.cfg:4", key.name, wrong, "this should be", &key.take.wanted()]);
    }
    refused(
        "dataDir=/d\nclientPort=65536",
        &["zoo.cfg:2: clientPort=65536", "a whole number from 0 to 65535"],
    );
    refused("dataDir=/d\nclientPort=2181\ntickTime=0", &["tickTime=0", "from 1 to 2147483647"]);
    refused("dataDir=/d\nclientPort=--1", &["zoo.cfg:2"]);
    refused("dataDir=/d\nclientPort=2181\nlocalSessionsEnabled=yes", &["true or false"]);
    refused("dataDir=/d\na=\\u00", &["zoo.cfg:2", "four hexadecimal digits"]);
    refused("dataDir=/d\nserver.1=host:2888", &["zoo.cfg:2", "server.1=host:2888", "host:port:port"]);
    refused(&format!("{BASE}electionAlg=1"), &["electionAlg=1", "from 3 to 3"]);
    refused(&format!("{BASE}server.1=h:1:1"), &["zoo.cfg:4", "server.1", "must differ"]);
}

#[test]
fn java_numbers() {
    check("", "-Djute.maxbuffer=0x400000", |c| {
        c.frame_bytes_max = 4 << 20;
        c.frame_extra_bytes = 4 << 20;
    });
    check("snapCount=0x10", "", |c| c.snap_txns = 16);
    // Apache's file parser reads the keys it knows by name in decimal only.
    for line in ["tickTime=0x10", "maxClientCnxns=-#5", "multiAddress.reachabilityCheckTimeoutMs=0X3"] {
        refused(&format!("{BASE}{line}"), &["zoo.cfg:4", line, "a whole number from"]);
    }
    check("maxCnxns=+7", "", |c| c.connections_max = 7);
    check("maxCnxns=007", "", |c| c.connections_max = 7);
}

/// Odd, but files that Apache's server starts with.
#[test]
fn values_that_apache_takes_too() {
    for role in ["Observer", "PARTICIPANT", "participant"] {
        assert_eq!(check(&format!("peerType={role}"), "", |_| {}), []);
    }
    check("minSessionTimeout=-7", "", |c| c.session_timeout_ms_least = 0);
    check("minSessionTimeout=-1", "", |_| {});
    refused(&format!("{BASE}maxSessionTimeout=-7"), &["maxSessionTimeout=-7"]);
    check("clientPortListenBacklog=-5", "", |_| {});
}

#[test]
fn what_belongs_together() {
    refused("clientPort=2181", &["dataDir is not set"]);
    refused("dataDir=/d", &["clientPort is not set"]);
    refused("dataDir=/d\nclientPortAddress=::1", &["clientPortAddress is set and clientPort is not"]);
    refused("dataDir=/d\nsecureClientPort=1", &["only secureClientPort is set"]);
    refused(&format!("{BASE}secureClientPortAddress=::1"), &["secureClientPort is not"]);
    refused(&format!("{BASE}minSessionTimeout=9\nmaxSessionTimeout=8"), &["minSessionTimeout=9", "=8"]);
    refused(&format!("{BASE}tickTime=60000\nmaxSessionTimeout=8000"), &["120000"]);
    refused(&format!("{BASE}enforce.auth.enabled=true"), &["enforce.auth.schemes"]);
    refused(&format!("{BASE}enforce.auth.enabled=true\nenforce.auth.schemes=sasl"), &["sasl"]);
    refused(&format!("{BASE}sessionRequireClientSASLAuth=true"), &["SASL is not served yet"]);
    check("enforce.auth.enabled=true\nenforce.auth.schemes=digest, ip", "", |c| {
        c.auth.enforced_schemes = vec!["digest".into(), "ip".into()];
    });
    let class = "org.apache.zookeeper.server.auth.EnsembleAuthenticationProvider";
    check(&format!("authProvider.1={class}\nensembleAuthName=a,b"), "", |c| {
        c.auth.ensemble_names = vec!["a".into(), "b".into()];
    });
    warned(
        &check("authProvider.1=com.acme.Mine", "", |_| {}),
        Severity::Warning,
        &["com.acme.Mine", "Java class"],
    );
}

#[test]
fn one_voter_runs_alone() {
    let notices = check("server.1=h:2888:3888\n", "", |_| {});
    warned(&notices, Severity::Warning, &["zoo.cfg:4", "standalone"]);
    refused(
        &format!("{BASE}server.1=a:1:2\nserver.2=b:1:2:observer"),
        &["observers need", "standaloneEnabled=false"],
    );
    refused(&format!("{BASE}server.1=a:1:2:observer"), &["observers need"]);
    refused(&format!("{BASE}standaloneEnabled=false"), &["standaloneEnabled=false", "no server votes"]);
    warned(&check("weight.1=2", "", |_| {}), Severity::Warning, &["zoo.cfg:4", "standalone"]);
    // What only an ensemble cares about is said there only.
    for line in ["sslQuorum=true", "oraclePath=/o", "observerMasterPort=2191", "quorum.auth.enableSasl=true"]
    {
        assert_eq!(check(line, "", |_| {}), [], "{line}");
    }
}

#[test]
fn the_dynamic_file_and_myid() {
    let dir = tempfile::tempdir().expect("temp dir");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let text = |lines: &str| format!("dataDir={}\n{lines}", dir.path().display());
    std::fs::write(at("myid"), "5\n").unwrap();
    std::fs::write(at("dynamic"), "server.5=h:2888:3888;127.0.0.1:2199").unwrap();
    let loaded_now = loaded(&text(&format!("dynamicConfigFile={}", at("dynamic"))), &[]).unwrap();
    assert_eq!(loaded_now.config.myid, Some(ServerId(5)));
    assert_eq!(loaded_now.config.client, Some(Listener::loopback(2199)));
    let both = text(&format!("dynamicConfigFile={}\nserver.5=h:1:2", at("dynamic")));
    refused(&both, &["dynamicConfigFile, not beside it"]);
    refused(&text("clientPort=1\nserver.5=h:2888:3888;2199"), &["2199", "clientPort=1"]);
    std::fs::write(at("dynamic"), "server.5=h:2888:3888\nversion=1").unwrap();
    refused(&text(&format!("dynamicConfigFile={}", at("dynamic"))), &["version does not belong"]);
    std::fs::write(at("myid"), "five").unwrap();
    refused(&text("clientPort=1"), &["myid", "five"]);
}

#[test]
fn precedence() {
    // The file beats flags; the last flag beats earlier ones; JVMFLAGS beats SERVER_JVMFLAGS; file-only keys have no flag.
    check("snapCount=10", "-Dzookeeper.snapCount=20", |c| c.snap_txns = 10);
    check("", "-Dzookeeper.snapCount=20 -Dzookeeper.snapCount=30", |c| c.snap_txns = 30);
    let both = [("SERVER_JVMFLAGS", "-Dzookeeper.snapCount=7"), ("JVMFLAGS", "-Dzookeeper.snapCount=8")];
    assert_eq!(loaded(BASE, &both).unwrap().config.snap_txns, 8);
    let notices = check("", "-Dzookeeper.tickTime=5", |_| {});
    warned(&notices, Severity::Warning, &["-Dzookeeper.tickTime", "only the file sets tickTime"]);
    let notices = check("", "-Dzookeeper.jute.maxbuffer=5000000", |_| {});
    warned(&notices, Severity::Warning, &["the property is jute.maxbuffer"]);
    let notices = check("snapCount=5\nsnapCount=6", "", |c| c.snap_txns = 6);
    warned(&notices, Severity::Warning, &["zoo.cfg:4", "line 5"]);
    let flag = environment(&[("JVMFLAGS", "-Dzookeeper.snapCount=7")]);
    let arguments: Vec<String> = ["0", "/nowhere/x", "-Dzookeeper.snapCount=9"].map(str::to_owned).to_vec();
    assert_eq!(load(&arguments, &flag).unwrap().config.snap_txns, 9);
    let off = loaded(BASE, &[("ZOO_DATADIR_AUTOCREATE_DISABLE", "1")]).unwrap();
    assert!(!off.config.data_dir_create);
}

#[test]
fn spellings_upstream_ignores_are_honoured_and_warned_of() {
    let notices = check("requestThrottleLimit=5", "", |c| c.request_throttle.requests_max = 5);
    warned(&notices, Severity::Warning, &["request_throttle_max_requests", "Ostler honours it"]);
    let notices = check("znode.container.checkIntervalMs=70000", "", |c| c.containers.check_ms = 70_000);
    warned(&notices, Severity::Warning, &["only as -Dznode.container.checkIntervalMs", "Ostler honours it"]);
    let notices = check("zookeeper.snapCount=50", "", |c| c.snap_txns = 50);
    warned(&notices, Severity::Warning, &["zookeeper.snapCount", "as snapCount", "Ostler honours it"]);
    assert_eq!(check("request_throttle_max_requests=5", "", |c| c.request_throttle.requests_max = 5), []);
}

/// A znode of 3 MB written under a file that means nothing of the kind to Apache would end the way back to it.
#[test]
fn what_binds_the_data_is_taken_where_apache_takes_it() {
    for line in
        ["jute.maxbuffer=4194304", "zookeeper.jute.maxbuffer=4194304", "zookeeper.jute.maxbuffer.extrasize=9"]
    {
        warned(&check(line, "", |_| {}), Severity::Warning, &["jute.maxbuffer", "has no effect here ["]);
    }
    let notices = check("jute.maxbuffer=4194304", "-Djute.maxbuffer=2000000", |c| {
        c.frame_bytes_max = 2_000_000;
        c.frame_extra_bytes = 2_000_000;
    });
    warned(&notices, Severity::Warning, &["only as -Djute.maxbuffer, in SERVER_JVMFLAGS"]);
    for line in [
        "zookeeper.forceSync=no",
        "zookeeper.extendedTypesEnabled=true",
        "zookeeper.skipACL=yes",
        "ostler.ignoreOwner=true",
    ] {
        warned(&check(line, "", |_| {}), Severity::Warning, &["has no effect here ["]);
    }
    let settings = loaded(&format!("{BASE}jute.maxbuffer=4194304"), &[]).expect("valid").settings;
    assert!(settings.iter().all(|setting| setting.is_taken == (setting.spelling != "jute.maxbuffer")));
}

#[test]
fn weakness_is_said_loudly() {
    warned(&check("forceSync=no", "", |c| c.sync_before_ack = false), Severity::Danger, &["forceSync=no"]);
    assert_eq!(check("forceSync=false", "", |_| {}), []);
    warned(&check("skipACL=yes", "", |c| c.auth.skip_acl = true), Severity::Danger, &["skipACL=yes"]);
    assert_eq!(check("skipACL=true", "", |_| {}), []);
    let trust = check("snapshot.trust.empty=true", "", |c| c.trust_empty_snapshot = true);
    warned(&trust, Severity::Danger, &["snapshot.trust.empty"]);
    warned(&check("secureClientPort=2281", "", |_| {}), Severity::Danger, &["secureClientPort", "TLS"]);
    let never = check("autopurge.purgeInterval=0", "", |c| c.purge_every_ms = None);
    warned(&never, Severity::Warning, &["autopurge.purgeInterval"]);
    warned(&check("snapCount=1", "", |c| c.snap_txns = 2), Severity::Warning, &["snapCount"]);
    warned(&check("autopurge.snapRetainCount=1", "", |_| {}), Severity::Warning, &["snapRetainCount"]);
    let small = check("preAllocSize=64", "", |c| c.segment_bytes = 2 * u64::from(c.entry_bytes_max()));
    warned(&small, Severity::Warning, &["preAllocSize"]);
}

#[test]
fn secrets_are_not_shown() {
    let loaded = loaded(&format!("{BASE}DigestAuthenticationProvider.superDigest=super:abc"), &[]).unwrap();
    let shown = loaded.settings.iter().any(|setting| setting.value.contains("abc"));
    assert!(!shown, "a super digest is as good as a password");
}

#[test]
fn secrets_of_keys_that_do_not_exist_are_not_shown() {
    let loaded = loaded(&format!("{BASE}my.password=abc"), &[]).unwrap();
    assert!(!loaded.settings.iter().any(|setting| setting.value.contains("abc")));
}

#[test]
fn where_data_goes_when_nobody_says() {
    let check = |variables: &[(&str, &str)], expected: &str| {
        assert_eq!(environment(variables).data_dir(), PathBuf::from(expected), "{variables:?}");
    };
    check(&[], "ostler-data");
    check(&[("HOME", "/h")], "/h/.local/state/ostler");
    check(&[("HOME", "/h"), ("XDG_STATE_HOME", "/s")], "/s/ostler");
    check(&[("HOME", "/h"), ("XDG_STATE_HOME", "relative")], "/h/.local/state/ostler");
    check(&[("HOME", "/h"), ("OSTLER_DATA_DIR", "here")], "here");
}

#[test]
fn command_lines() {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let home = environment(&[("HOME", "/home/me")]);
    let embedded = load(&[], &home).unwrap().config;
    assert_eq!(embedded.client, Some(Listener::loopback(2181)));
    assert_eq!(embedded.data_dir, PathBuf::from("/home/me/.local/state/ostler"));
    assert_eq!((embedded.address_connections_max, embedded.purge_every_ms.is_some()), (0, true));
    let positional = load(&words("0 /d 2000 7"), &home).unwrap().config;
    assert_eq!(positional.client, Some(Listener { address: None, port: 0, backlog: None }));
    assert_eq!((positional.tick_ms, positional.address_connections_max), (2000, 7));
    assert_eq!(positional.session_timeout_ms_most, 40_000);
    assert!(matches!(load(&words("1 /d 2 3 4"), &home), Err(ConfigError::Usage(_))));
    let error = load(&words("/no/such/zoo.cfg"), &home).err().unwrap().to_string();
    assert!(error.contains("/no/such/zoo.cfg"));
    let error = load(&words("port /d"), &home).err().unwrap().to_string();
    assert!(error.contains("command line") && error.contains("clientPort=port"));
}

// --- ensembles ---------------------------------------------------------------------------------------------------

const THREE: &str = "server.1=a:2888:3888\nserver.2=b:2888:3888\nserver.3=c:2888:3888\n";
const LIMITS: &str = "initLimit=10\nsyncLimit=5\n";

/// A member's data directory, which says that it is server 2.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("temp dir");
    std::fs::write(home.path().join("myid"), "2\n").unwrap();
    home
}

fn text_in(home: &tempfile::TempDir, lines: &str) -> String {
    format!("clientPort=2181\ndataDir={}\nautopurge.purgeInterval=1\n{lines}", home.path().display())
}

/// `lines` for server 2 make a member; what is said of it.
#[track_caller]
fn joined(lines: &str) -> (EnsembleConfig, Config, Vec<Notice>) {
    let home = home();
    let loaded = loaded(&text_in(&home, lines), &[]).unwrap_or_else(|error| panic!("{lines}: {error}"));
    let ensemble = loaded.config.ensemble.clone().unwrap_or_else(|| panic!("{lines}: runs alone"));
    (ensemble, loaded.config, loaded.notices)
}

/// Without remarks on keys that Apache would have ignored there.
fn but_infos(notices: Vec<Notice>) -> Vec<Notice> {
    notices.into_iter().filter(|notice| notice.severity > Severity::Info).collect()
}

#[track_caller]
fn not_joined(lines: &str, parts: &[&str]) {
    refused(&text_in(&home(), lines), parts);
}

#[test]
fn a_member_of_three() {
    let (ensemble, config, notices) = joined(&format!("{LIMITS}{THREE}"));
    assert_eq!(notices, []);
    assert_eq!((ensemble.me, config.server), (ServerId(2), ServerId(2)));
    assert_eq!((ensemble.voters(), ensemble.observers(), ensemble.own().is_observer), (3, 0, false));
    let settings =
        EnsembleSettings { init_ticks: 10, sync_ticks: 5, connect_ticks: 10, ..Default::default() };
    assert_eq!(ensemble.settings, settings);
    let text = "server.1=a:2888:3888:participant\nserver.2=b:2888:3888:participant\n\
                server.3=c:2888:3888:participant\nversion=0";
    assert_eq!(ensemble.members.text(), text);
    // The limit of requests in flight is shared as Apache shares it.
    assert_eq!(config.outstanding_requests_max, 500);
}

type EnsembleChange = fn(&mut EnsembleSettings);

/// Every key that an ensemble honours, with a value of its own, and what that does.
const IN_ENSEMBLE: &[(&str, &str, EnsembleChange)] = &[
    ("initLimit", "7", |s| (s.init_ticks, s.connect_ticks) = (7, 7)),
    ("syncLimit", "7", |s| s.sync_ticks = 7),
    ("connectToLearnerMasterLimit", "3", |s| s.connect_ticks = 3),
    ("peerType", "participant", |_| {}),
    ("electionAlg", "3", |_| {}),
    ("leaderServes", "no", |s| s.leader_serves = false),
    ("cnxTimeout", "9", |s| s.election_connect_ms = 9),
    ("quorumCnxnTimeoutMs", "9", |s| s.election_handshake_ms = Some(9)),
    ("electionPortBindRetry", "0", |s| s.bind_tries = None),
    ("quorumListenOnAllIPs", "true", |s| s.listen_everywhere = true),
    ("tcpKeepAlive", "true", |s| s.keep_alive = true),
    ("multiAddress.enabled", "true", |s| s.multi_address = true),
    ("commitLogCount", "600", |s| s.committed_txns_kept = 600),
    ("commitLogCount", "9", |_| {}),
    ("snapshotSizeFactor", "0.5", |s| s.history_share = Some(0.5)),
    ("snapshotSizeFactor", "-1", |s| s.history_share = None),
    ("snapshotSizeFactor", "1.5", |_| {}),
    ("db.autocreate", "false", |s| s.empty_votes = false),
    ("fastleader.minNotificationInterval", "9", |s| s.notification_ms_least = 9),
    ("fastleader.maxNotificationInterval", "9999", |s| s.notification_ms_most = 9999),
];

#[test]
fn every_key_that_an_ensemble_honours_does_its_work_there() {
    let (plain, ..) = joined(&format!("{LIMITS}{THREE}"));
    for (name, value, change) in IN_ENSEMBLE {
        let limits = if LIMITS.contains(name) {
            "initLimit=10\nsyncLimit=5\n".replace(name, "#")
        } else {
            LIMITS.into()
        };
        let (ensemble, _, notices) = joined(&format!("{limits}{THREE}{name}={value}\n"));
        let mut expected = plain.settings.clone();
        change(&mut expected);
        assert_eq!(ensemble.settings, expected, "{name}={value}");
        assert_eq!(but_infos(notices), [], "{name}={value}");
        let alone = check(&format!("{name}={value}\n"), "", |_| {});
        assert_eq!(but_infos(alone), [], "{name}={value}");
    }
    let tested: BTreeSet<_> = IN_ENSEMBLE.iter().map(|(name, ..)| *name).collect();
    let known: BTreeSet<_> =
        KEYS.iter().filter(|key| key.fate == Fate::Ensemble).map(|key| key.name).collect();
    assert_eq!(tested, known);
}

#[test]
fn keys_that_an_ensemble_lacks_or_cannot_do_without_are_named() {
    for key in KEYS {
        let value = match key.take {
            Take::Strict(_) | Take::Loose(_) if key.default == "true" => "false",
            Take::Strict(_) | Take::Loose(_) => "true",
            _ => "77",
        };
        let lines = format!("{LIMITS}{THREE}{}={value}\n", key.name);
        let usual = format!("{LIMITS}{THREE}{}={}\n", key.name, key.default.split(' ').next().unwrap());
        match key.fate {
            Fate::EnsembleLater(instead) => {
                let (_, _, notices) = joined(&lines);
                warned(&notices, Severity::Warning, &["zoo.cfg:9", key.name, instead]);
                assert_eq!(but_infos(joined(&usual).2), [], "{usual}");
            }
            Fate::EnsembleRefused(reason) => {
                not_joined(&lines, &["zoo.cfg:9", key.name, reason]);
                assert_eq!(but_infos(joined(&usual).2), [], "{usual}");
            }
            _ => {}
        }
    }
    not_joined(&format!("{LIMITS}{THREE}reconfigEnabled=true"), &["reconfigEnabled=true", "Set it to false"]);
    not_joined(&format!("{LIMITS}{THREE}group.1=1:2:3"), &["zoo.cfg:9", "groups and weights"]);
    // The last setting of a key counts.
    joined(&format!("{LIMITS}{THREE}sslQuorum=true\nsslQuorum=false"));
}

#[test]
fn numbers_of_voters() {
    let two = "server.1=a:1:2\nserver.2=b:1:2\n";
    let (_, config, notices) = joined(&format!("{LIMITS}{two}"));
    warned(&notices, Severity::Warning, &["2 voting servers", "no failure is tolerated"]);
    assert_eq!(config.outstanding_requests_max, 1000);
    let (_, _, notices) = joined(&format!("{LIMITS}{THREE}server.4=d:1:2"));
    warned(&notices, Severity::Warning, &["4 voting servers", "odd number"]);
    let (one, ..) =
        joined(&format!("{LIMITS}standaloneEnabled=false\nserver.2=b:1:2\nserver.9=i:1:2:observer"));
    assert_eq!((one.voters(), one.observers()), (1, 1));
}

#[test]
fn roles() {
    let lines = "server.1=a:1:2\nserver.2=b:1:2:observer\nserver.3=c:1:2\nserver.4=d:1:2\n";
    let (ensemble, config, notices) = joined(&format!("{LIMITS}{lines}peerType=observer"));
    assert!(ensemble.own().is_observer);
    assert_eq!(notices, []);
    // Apache's observers do not share the limit.
    assert_eq!(config.outstanding_requests_max, 1000);
    let (_, _, notices) = joined(&format!("{LIMITS}{lines}"));
    warned(&notices, Severity::Warning, &["zoo.cfg:7", "is observer there", "peerType says participant"]);
    let (_, _, notices) = joined(&format!("{LIMITS}{THREE}peerType=observer"));
    warned(&notices, Severity::Warning, &["is participant there", "peerType says observer"]);
}

#[test]
fn what_makes_no_member() {
    not_joined(&format!("syncLimit=5\n{THREE}"), &["initLimit is not set", "initLimit=10"]);
    not_joined(&format!("initLimit=5\n{THREE}"), &["syncLimit is not set"]);
    not_joined(&format!("{LIMITS}server.1=a:1:2\nserver.3=c:1:2"), &["myid says 2", "no line server.2"]);
    refused(&format!("{BASE}{LIMITS}{THREE}"), &["myid file is missing", "/nowhere/data/myid"]);
    not_joined(
        &format!("{LIMITS}{THREE}server.4=A:2888:9:observer"),
        &["server.1 and server.4", "port 2888"],
    );
    not_joined(
        &format!("{LIMITS}server.1=a:1:2\nserver.2=b:1:2181\n"),
        &["client port 2181 is the election port"],
    );
    let two_ways = "server.1=a:1:2|aa:1:2\nserver.2=b:1:2\n";
    not_joined(&format!("{LIMITS}{two_ways}"), &["zoo.cfg:6", "multiAddress.enabled=true"]);
    let (ensemble, ..) = joined(&format!("{LIMITS}{two_ways}multiAddress.enabled=true"));
    assert_eq!(ensemble.members.get(ServerId(1)).unwrap().addresses.len(), 2);
    not_joined(&format!("{LIMITS}{THREE}clientPort=2182\nserver.2=b:1:2;2183"), &["2183", "clientPort=2182"]);
}

#[test]
fn where_clients_connect() {
    let own = |client: &str| format!("{LIMITS}server.1=a:1:2\nserver.2=b:1:2;{client}\n");
    assert_eq!(joined(&own("2181")).1.client.unwrap().address, None);
    assert_eq!(joined(&own("127.0.0.1:2181")).1.client, Some(Listener::loopback(2181)));
    let bound = format!("{}clientPortAddress=127.0.0.1\n", own("127.0.0.1:2181"));
    assert_eq!(joined(&bound).1.client, Some(Listener::loopback(2181)));
    let bound = format!("{}clientPortAddress=127.0.0.1\n", own("2181"));
    not_joined(&bound, &["client address 2181", "clientPort=127.0.0.1:2181"]);
    // Another server's client port is none of our business.
    joined(&format!("{LIMITS}server.1=a:1:2;9999\nserver.2=b:1:2\n"));
}

#[test]
fn ids_of_servers() {
    let far = format!("{LIMITS}{THREE}server.258=d:1:2:observer");
    warned(&joined(&far).2, Severity::Danger, &["servers 2 and 258", "same id to two sessions"]);
    let home = home();
    std::fs::write(home.path().join("myid"), "255").unwrap();
    let lines = format!("{LIMITS}server.1=a:1:2\nserver.255=b:1:2\nextendedTypesEnabled=true\n");
    refused(&text_in(&home, &lines), &["at most 254", "server 255"]);
}

#[test]
fn an_empty_directory_that_is_meant_to_be_empty() {
    let home = home();
    let lines = text_in(&home, &format!("{LIMITS}{THREE}db.autocreate=false"));
    let votes = || loaded(&lines, &[]).unwrap().config.ensemble.unwrap().settings.empty_votes;
    assert!(!votes());
    std::fs::write(home.path().join("initialize"), "").unwrap();
    assert!(votes());
}

#[test]
fn members_in_a_dynamic_file() {
    let home = home();
    let dynamic = home.path().join("zoo.cfg.dynamic.100000004");
    std::fs::write(&dynamic, THREE).unwrap();
    let lines = text_in(&home, &format!("{LIMITS}dynamicConfigFile={}\n", dynamic.display()));
    let file = home.path().join("zoo.cfg");
    let load_it = || load_file(&file, lines.as_bytes(), &environment(&[]));
    let ensemble = load_it().unwrap().config.ensemble.unwrap();
    assert_eq!((ensemble.members.version(), ensemble.voters()), (0x1_0000_0004, 3));
    std::fs::write(home.path().join("zoo.cfg.dynamic.next"), THREE).unwrap();
    let error = load_it().err().unwrap().to_string();
    assert!(error.contains("zoo.cfg.dynamic.next holds a change"), "{error}");
    std::fs::write(&dynamic, "server.1=a:1:2\nserver.1=b:1:2\n").unwrap();
    std::fs::remove_file(home.path().join("zoo.cfg.dynamic.next")).unwrap();
    let notices = load_it().unwrap().notices;
    warned(&notices, Severity::Warning, &["100000004:1", "set again in line 2"]);
}
