//! The text of `mntr`: every line that Apache 3.9.5 prints in the same role, under the same names.
//! Not here: where figures come from. What cannot occur here (stages of a pipeline we do not have) is printed as Apache
//! prints what has not occurred: 0.

use std::fmt::Write;

use super::counters::{Counter, Summary, Totals};
use super::facts::{EnsembleFacts, ServerFacts, StateFacts};
use super::process::ProcessFacts;
use super::words::{Milliseconds, ProposalSizes, decimal};
use crate::limits::METRIC_KEYS_MAX;
use crate::version;

pub(super) fn text(server: &ServerFacts, totals: &Totals, process: &ProcessFacts) -> String {
    let mut lines = Lines { text: String::with_capacity(20_000) };
    lines.put("version", version::FULL);
    lines.put("server_state", server.mode.name());
    if let Some(ensemble) = &server.ensemble {
        of_ensemble(&mut lines, ensemble, totals);
    }
    gauges(&mut lines, server, totals, process);
    quotas(&mut lines, server);
    for name in COUNTERS {
        let counter = Counter::ALL.iter().find(|counter| counter.name() == *name);
        lines.put(name, counter.map_or(0, |&counter| totals.count(counter)));
    }
    // Gone from Apache's since 3.6, and still asked for by old dashboards.
    lines.put("fsync_threshold_exceed_count", totals.count(Counter::SlowSyncs));
    PLAIN.iter().for_each(|name| summary(&mut lines, totals, name, false));
    DISTRIBUTED.iter().for_each(|name| summary(&mut lines, totals, name, true));
    of_ours(&mut lines, &server.state);
    lines.text
}

struct Lines {
    text: String,
}

impl Lines {
    fn put(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.text, "zk_{name}\t{value}");
    }
}

/// The lines of every server, in the manual's order.
fn gauges(lines: &mut Lines, server: &ServerFacts, totals: &Totals, process: &ProcessFacts) {
    let latency = Milliseconds::of(totals, Summary::Latency);
    let replies = totals.distribution(Summary::ReplyBytes);
    let size = |bytes: Option<u64>| bytes.map_or("-1".to_owned(), |bytes| bytes.to_string());
    let some = |bytes: u64| size((replies.count > 0).then_some(bytes));
    lines.put("ephemerals_count", server.ephemerals);
    lines.put("num_alive_connections", server.connections);
    lines.put("avg_latency", decimal(latency.average));
    lines.put("min_latency", latency.least);
    lines.put("max_latency", latency.most);
    lines.put("outstanding_requests", server.outstanding);
    lines.put("znode_count", server.znodes);
    lines.put("watch_count", server.watches);
    lines.put("approximate_data_size", server.data_bytes);
    lines.put("global_sessions", server.sessions);
    lines.put("local_sessions", server.local_sessions);
    lines.put("packets_received", totals.count(Counter::PacketsReceived));
    lines.put("packets_sent", totals.count(Counter::PacketsSent));
    lines.put("uptime", server.uptime_ms);
    lines.put("open_file_descriptor_count", process.descriptors);
    lines.put("max_file_descriptor_count", process.descriptors_most);
    lines.put("connection_drop_probability", decimal(server.drop_probability));
    lines.put("last_client_response_size", size(totals.reply_bytes_last));
    lines.put("min_client_response_size", some(replies.least));
    lines.put("max_client_response_size", some(replies.most));
    lines.put("outstanding_tls_handshake", 0);
    lines.put("auth_failed_count", totals.count(Counter::AuthFailed));
    lines.put("non_mtls_local_conn_count", 0);
    lines.put("non_mtls_remote_conn_count", 0);
}

/// Ours alone, and numbers all of them: there are readers that fail at any other line that they do not know by name.
fn of_ours(lines: &mut Lines, state: &StateFacts) {
    lines.put("ostler_version_number", version::own_number());
    lines.put("ostler_ready", u8::from(state.problems().is_empty()));
    lines.put("ostler_writes_refused", u8::from(state.refuses_writes));
    lines.put("ostler_disk_full", u8::from(state.disk_is_full()));
    lines.put("ostler_disk_free_bytes", state.disk_free_bytes);
    lines.put("ostler_tree_full", u8::from(state.tree_is_full));
    lines.put("ostler_tree_bytes", state.tree_bytes);
    lines.put("ostler_tree_bytes_max", state.tree_bytes_max);
    lines.put("ostler_log_waiting_ms", state.log_waiting_ms);
    lines.put("ostler_silent_ms", state.silent_ms);
    lines.put("ostler_stalled_ms", state.stalled_ms);
}

/// The lines that a standalone server does not have.
fn of_ensemble(lines: &mut Lines, ensemble: &EnsembleFacts, totals: &Totals) {
    lines.put("peer_state", &ensemble.peer_state);
    if let Some(leader) = ensemble.observed {
        lines.put("observer_master_id", leader.0);
    }
    lines.put("quorum_size", ensemble.voters);
    let Some(leading) = &ensemble.leading else { return };
    let sizes = ProposalSizes::of(totals);
    lines.put("learners", leading.learners);
    lines.put("synced_followers", leading.followers);
    lines.put("synced_non_voting_followers", leading.followers_without_vote);
    lines.put("synced_observers", leading.observers);
    // Gone from Apache's since 3.6, and still asked for by old dashboards.
    lines.put("followers", leading.followers);
    lines.put("pending_syncs", leading.pending_syncs);
    lines.put("leader_uptime", leading.leading_ms);
    lines.put("last_proposal_size", sizes.last);
    lines.put("min_proposal_size", sizes.least);
    lines.put("max_proposal_size", sizes.most);
}

/// Keyed by the first component of the path. Apache writes it raw, which breaks strict parsers of `mntr`.
fn quotas(lines: &mut Lines, server: &ServerFacts) {
    let key = |namespace: &str| -> String {
        namespace.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
    };
    for (namespace, count) in server.quota_refusals.iter().take(METRIC_KEYS_MAX) {
        lines.put(&format!("{}_quota_exceeded_error_per_namespace", key(namespace)), count);
    }
    for quota in server.quotas.iter().take(METRIC_KEYS_MAX) {
        let key = key(&quota.namespace);
        lines.put(&format!("{key}_quota_count_limit_per_namespace"), quota.count_limit);
        lines.put(&format!("{key}_quota_bytes_limit_per_namespace"), quota.bytes_limit);
        lines.put(&format!("{key}_quota_count_usage_per_namespace"), quota.count);
        lines.put(&format!("{key}_quota_bytes_usage_per_namespace"), quota.bytes);
    }
}

fn summary(lines: &mut Lines, totals: &Totals, name: &str, distributed: bool) {
    let summary = Summary::ALL.iter().copied().find(|summary| summary.name() == name);
    let empty = Totals::default();
    // Any summary of nothing is all 0.
    let (totals, summary) = summary.map_or((&empty, Summary::Latency), |summary| (totals, summary));
    let ms = Milliseconds::of(totals, summary);
    lines.put(&format!("avg_{name}"), decimal(ms.average));
    lines.put(&format!("min_{name}"), ms.least);
    lines.put(&format!("max_{name}"), ms.most);
    lines.put(&format!("cnt_{name}"), ms.count);
    lines.put(&format!("sum_{name}"), ms.sum);
    if distributed {
        for (label, per_mille) in [("p50", 500), ("p95", 950), ("p99", 990), ("p999", 999)] {
            let value = totals.quantile(summary, per_mille).unwrap_or(0);
            lines.put(&format!("{label}_{name}"), value / 1_000_000);
        }
    }
}

#[rustfmt::skip]
const COUNTERS: &[&str] = &[
    "proposal_count", "commit_count", "request_commit_queued", "connection_request_count", "connection_drop_count",
    "connection_rejected", "connection_revalidate_count", "revalidate_count", "bytes_received_count", "response_bytes",
    "watch_bytes", "snap_count", "diff_count", "looking_count", "learner_proposal_received_count",
    "learner_commit_received_count", "stale_sessions_expired", "sessionless_connections_expired", "stale_requests",
    "stale_requests_dropped", "stale_replies", "throttled_ops", "request_throttle_wait_count",
    "large_requests_rejected", "digest_mismatches_count", "unrecoverable_error_count", "unsuccessful_handshake",
    "tls_handshake_exceeded", "insecure_admin_count", "cnxn_closed_without_zk_server_running",
    "response_packet_cache_hits", "response_packet_cache_misses", "response_packet_get_children_cache_hits",
    "response_packet_get_children_cache_misses", "ensemble_auth_success", "ensemble_auth_fail", "ensemble_auth_skip",
    "prep_processor_request_queued", "sync_processor_request_queued", "outstanding_changes_queued",
    "outstanding_changes_removed", "dead_watchers_queued", "dead_watchers_cleared", "add_dead_watcher_stall_time",
    "quit_leading_due_to_disloyal_voter", "snapshot_error_count", "snapshot_rate_limited_count",
    "restore_error_count", "restore_rate_limited_count", "skip_learner_request_to_next_processor_count",
    "requests_not_forwarded_to_commit_processor",
];

#[rustfmt::skip]
const PLAIN: &[&str] = &[
    "fsynctime", "snapshottime", "restore_time", "dbinittime", "startup_snap_load_time", "startup_txns_loaded",
    "startup_txns_load_time", "follower_sync_time", "observer_sync_time", "election_time", "unavailable_time",
    "leader_unavailable_time", "inflight_snap_count", "inflight_diff_count", "connection_token_deficit",
    "node_created_watch_count", "node_deleted_watch_count", "node_changed_watch_count", "node_children_watch_count",
    "prep_process_time", "prep_processor_queue_size", "proposal_process_time", "sync_process_time",
    "sync_processor_queue_size", "sync_processor_batch_size", "commit_process_time", "requests_in_session_queue",
    "pending_session_queue_size", "reads_after_write_in_session_queue", "reads_issued_from_session_queue",
    "session_queues_drained", "time_waiting_empty_pool_in_commit_processor_read_ms",
    "write_batch_time_in_commit_processor", "concurrent_request_processing_in_commit_processor",
    "read_commit_proc_req_queued", "write_commit_proc_req_queued", "commit_commit_proc_req_queued",
    "read_commit_proc_issued", "write_commit_proc_issued", "netty_queued_buffer_capacity",
    "learner_request_processor_queue_size", "socket_closing_time",
];

#[rustfmt::skip]
const DISTRIBUTED: &[&str] = &[
    "readlatency", "updatelatency", "propagation_latency", "proposal_latency", "proposal_ack_creation_latency",
    "commit_propagation_latency", "quorum_ack_latency", "close_session_prep_time", "prep_processor_queue_time_ms",
    "sync_processor_queue_time_ms", "sync_processor_queue_flush_time_ms",
    "sync_processor_queue_and_flush_time_ms", "read_commitproc_time_ms", "write_commitproc_time_ms",
    "local_write_committed_time_ms", "server_write_committed_time_ms", "read_final_proc_time_ms",
    "write_final_proc_time_ms", "om_proposal_process_time_ms", "om_commit_process_time_ms",
    "request_throttle_queue_time_ms", "dead_watchers_cleaner_latency", "jvm_pause_time_ms",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::facts::tests::leader;
    use super::super::{Mode, QuotaFacts, Registry};
    use super::*;
    use crate::limits::{READY_LOG_WAITING_MS_MAX, WELL_SILENT_MS_MAX};
    use ostler_replication::{Role, ServerId, Status};

    fn lines(text: &str) -> Vec<(&str, &str)> {
        text.lines().map(|line| line.split_once('\t').expect("name, tab, value")).collect()
    }

    #[track_caller]
    fn check(found: &[(&str, &str)], name: &str, value: &str) {
        let line = found.iter().find(|(key, _)| *key == name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(line.1, value, "{name}");
    }

    /// The names a standalone Apache 3.9.5 printed, but for those keyed by znodes.
    #[test]
    fn names_are_those_of_apache() {
        let text = text(&ServerFacts::default(), &Totals::default(), &ProcessFacts::default());
        let found = lines(&text);
        let names: BTreeSet<&str> = found.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), found.len(), "a name stands twice");
        let recorded: BTreeSet<&str> = include_str!("mntr.names").lines().collect();
        assert_eq!(recorded.difference(&names).collect::<Vec<_>>(), Vec::<&&str>::new());
        let more: Vec<_> =
            names.difference(&recorded).filter(|name| !name.starts_with("zk_ostler_")).collect();
        assert_eq!(more, [&"zk_fsync_threshold_exceed_count"]);
        assert_eq!(found[0], ("zk_version", version::FULL));
        assert_eq!(found[1], ("zk_server_state", "standalone"));
        // All but the first two are numbers, and the names hold nothing that a strict parser refuses.
        for (name, value) in &found[2..] {
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{name}");
            assert!(value.parse::<f64>().is_ok(), "{name} {value}");
        }
    }

    #[test]
    fn every_counter_and_summary_is_printed() {
        let text = text(&ServerFacts::default(), &Totals::default(), &ProcessFacts::default());
        let printed = |name: &str| text.contains(&format!("zk_{name}\t"));
        for counter in Counter::ALL {
            assert!(printed(counter.name()), "{counter:?}");
        }
        // What only a leader prints is shown below.
        for summary in Summary::ALL.iter().filter(|summary| **summary != Summary::ProposalBytes) {
            let name = summary.name();
            assert!(printed(&format!("max_{name}")), "{summary:?}");
        }
    }

    #[test]
    fn figures() {
        let registry = Registry::default();
        let counters = registry.thread();
        counters.record(Summary::SyncTime, 3_000_000);
        counters.record(Summary::SyncTime, 500_000);
        counters.record(Summary::BatchTxns, 7);
        counters.record(Summary::ReadLatency, 9_000_000);
        counters.replied(58);
        let quota =
            QuotaFacts { namespace: "my-app".into(), count_limit: 5, bytes_limit: -1, count: 1, bytes: 2 };
        let server = ServerFacts {
            quotas: vec![quota],
            quota_refusals: vec![("my-app".into(), 2)],
            uptime_ms: 1777,
            ..ServerFacts::default()
        };
        let text = text(&server, &registry.totals(), &ProcessFacts::default());
        let found = lines(&text);
        check(&found, "zk_avg_fsynctime", "1.75");
        check(&found, "zk_min_fsynctime", "0");
        check(&found, "zk_max_fsynctime", "3");
        check(&found, "zk_cnt_fsynctime", "2");
        check(&found, "zk_sum_fsynctime", "3");
        check(&found, "zk_sum_sync_processor_batch_size", "7");
        check(&found, "zk_p99_readlatency", "9");
        check(&found, "zk_uptime", "1777");
        check(&found, "zk_last_client_response_size", "54");
        check(&found, "zk_my_app_quota_exceeded_error_per_namespace", "2");
        check(&found, "zk_my_app_quota_count_limit_per_namespace", "5");
        check(&found, "zk_my_app_quota_bytes_limit_per_namespace", "-1");
    }

    /// Telegraf takes each line apart by `^zk_(\w[\w.-]*)\s+([\w.-]+)` and fails at one that is none; Datadog and Netdata
    /// split at blanks, want two words behind the first line, and numbers but for the state; others fail at what is neither
    /// `zk_version`, `zk_server_state` nor a number.
    #[test]
    fn monitoring_can_read_every_line() {
        let text = text(&ServerFacts::default(), &Totals::default(), &ProcessFacts::default());
        let is_word = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        for (at, line) in text.lines().enumerate() {
            let (name, value) = line.split_once(char::is_whitespace).expect("a blank");
            let name = name.strip_prefix("zk_").expect("the prefix");
            assert!(
                name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(is_word),
                "{line}"
            );
            assert!(value.starts_with(is_word), "{line}");
            if at > 0 {
                assert_eq!(line.split_whitespace().count(), 2, "{line}");
                assert!(name == "server_state" || value.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(text.starts_with("zk_version\t3.9.5-"), "versions are read from here");
        assert!(text.contains(&format!("zk_ostler_version_number\t{}\n", version::own_number())));
    }

    #[test]
    fn state_is_told_in_lines_and_in_words() {
        let state = |change: fn(&mut StateFacts)| {
            let mut state = StateFacts { tree_bytes_max: 100, ..StateFacts::default() };
            change(&mut state);
            let server = ServerFacts { state: state.clone(), ..ServerFacts::default() };
            (state, text(&server, &Totals::default(), &ProcessFacts::default()))
        };
        let (well, text) = state(|_| {});
        assert!(well.problems().is_empty() && well.is_well());
        check(&lines(&text), "zk_ostler_ready", "1");
        let (full, text) = state(|s| (s.refuses_writes, s.disk_free_bytes) = (true, 77));
        assert!(full.problems()[0].contains("disk full, 77 bytes free"), "{:?}", full.problems());
        assert!(full.is_well(), "it serves reads and deletes, and a restart would not help");
        for (name, value) in [("ready", "0"), ("disk_full", "1"), ("tree_full", "0"), ("writes_refused", "1")]
        {
            check(&lines(&text), &format!("zk_ostler_{name}"), value);
        }
        let (full, text) =
            state(|s| (s.refuses_writes, s.tree_is_full, s.log_waiting_ms) = (true, true, 1 << 40));
        assert!(full.problems()[0].contains("ostler.treeMemory") && full.is_well());
        check(&lines(&text), "zk_ostler_disk_full", "0");
        let (waiting, _) = state(|s| s.log_waiting_ms = READY_LOG_WAITING_MS_MAX + 1);
        assert!(waiting.problems()[0].contains("waited") && waiting.is_well());
        assert!(!state(|s| s.log_waiting_ms = WELL_SILENT_MS_MAX + 1).0.is_well());
        let (silent, _) = state(|s| s.silent_ms = WELL_SILENT_MS_MAX + 1);
        assert!(silent.problems()[0].contains("stalled") && !silent.is_well());
        assert!(!state(|s| s.is_looking = true).0.problems().is_empty());
    }

    #[test]
    fn nothing_happened_yet() {
        let text = text(&ServerFacts::default(), &Totals::default(), &ProcessFacts::default());
        let found = lines(&text);
        check(&found, "zk_avg_latency", "0.0");
        check(&found, "zk_min_latency", "0");
        check(&found, "zk_min_client_response_size", "-1");
        check(&found, "zk_p999_updatelatency", "0");
        check(&found, "zk_connection_drop_probability", "0.0");
    }

    #[test]
    fn lines_of_an_ensemble() {
        let registry = Registry::default();
        registry.thread().proposed(77);
        let show = |status: &Status, mode| {
            let ensemble = EnsembleFacts::of(status, 2, 1500);
            let server = ServerFacts { mode, ensemble, ..ServerFacts::default() };
            text(&server, &registry.totals(), &ProcessFacts::default())
        };
        let plain = text(&ServerFacts::default(), &Totals::default(), &ProcessFacts::default());
        let more = |text: &str| -> Vec<String> {
            let names: BTreeSet<&str> = lines(&plain).into_iter().map(|(name, _)| name).collect();
            let more = lines(text).into_iter().filter(|(name, _)| !names.contains(name));
            more.map(|(name, value)| format!("{name} {value}")).collect()
        };
        let leading = show(&leader(), Mode::Leader);
        assert_eq!(
            lines(&leading)[1..3],
            [("zk_server_state", "leader"), ("zk_peer_state", "leading - broadcast")]
        );
        let expected = [
            "zk_peer_state leading - broadcast",
            "zk_quorum_size 3",
            "zk_learners 6",
            "zk_synced_followers 2",
            "zk_synced_non_voting_followers 1",
            "zk_synced_observers 2",
            "zk_followers 2",
            "zk_pending_syncs 2",
            "zk_leader_uptime 1500",
            "zk_last_proposal_size 77",
            "zk_min_proposal_size 77",
            "zk_max_proposal_size 77",
        ];
        assert_eq!(more(&leading), expected);
        let follower = Status { role: Role::Following(ServerId(2)), ..leader() };
        let expected = ["zk_peer_state following - broadcast", "zk_quorum_size 3"];
        assert_eq!(more(&show(&follower, Mode::Follower)), expected);
        let observer = Status { role: Role::Observing(ServerId(2)), ..leader() };
        let expected = ["zk_peer_state observing - broadcast", "zk_observer_master_id 2", "zk_quorum_size 3"];
        assert_eq!(more(&show(&observer, Mode::Observer)), expected);
    }
}
