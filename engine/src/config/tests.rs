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
    ("ostler.pinThreads", "true", |c| c.pin_threads = true),
    ("ostler.treeMemory", "2048", |c| c.tree_bytes_max = 2 << 30),
];

#[test]
fn every_honoured_key_does_its_work_in_the_file_and_as_a_flag() {
    for (name, value, change) in HONOURED {
        check(&format!("{name}={value}\n"), "", change);
        let key = by_spelling(name).expect("in the table");
        if let Some(property) = key.property_name() {
            check(&format!("{property}={value}\n"), "", change);
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
        if matches!(key.fate, Fate::Ignored(_) | Fate::Later(_)) {
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
    refused("dataDir=/d\nserver.1=host:2888", &["zoo.cfg:2", "host:quorumPort:electionPort"]);
    refused(&format!("{BASE}electionAlg=1"), &["electionAlg=1", "from 3 to 3"]);
    refused(&format!("{BASE}server.1=h:1:1"), &["host:quorumPort"]);
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
fn one_voter_runs_alone_and_more_are_refused() {
    let notices = check("server.1=h:2888:3888\n", "", |_| {});
    warned(&notices, Severity::Warning, &["zoo.cfg:4", "standalone"]);
    refused(
        &format!("{BASE}server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2"),
        &["3 voting servers", "cannot join yet"],
    );
    refused(&format!("{BASE}standaloneEnabled=false\nserver.1=a:1:2"), &["1 voting servers"]);
    refused(&format!("{BASE}server.1=a:1:2\nserver.2=b:1:2:observer"), &["observers need"]);
    refused(&format!("{BASE}server.1=a:1:2:observer"), &["observers need"]);
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
fn spellings_upstream_ignores_are_honoured_and_said() {
    let notices = check("requestThrottleLimit=5", "", |c| c.request_throttle.requests_max = 5);
    warned(&notices, Severity::Info, &["request_throttle_max_requests"]);
    assert_eq!(check("request_throttle_max_requests=5", "", |c| c.request_throttle.requests_max = 5), []);
    let notices = check("jute.maxbuffer=2000000", "", |c| {
        c.frame_bytes_max = 2_000_000;
        c.frame_extra_bytes = 2_000_000;
    });
    warned(&notices, Severity::Info, &["only as -Djute.maxbuffer"]);
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
