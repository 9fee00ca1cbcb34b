//! Counters and distributions, kept by each thread for itself and added up when somebody asks.
//! Not here: gauges (facts that have an owner), names as `mntr` prints them (`mntr`).
//!
//! Who runs at once: one thread writes one `Counters`, by plain relaxed loads and stores; any thread may read all of
//! them at any time. A total is therefore not of one instant, and a distribution may lack the value being recorded
//! just now; monitoring does not care. No read-modify-write, no line that two threads write: a request costs its
//! worker a few stores to lines it owns. Reset: the registry raises `generation`, each owner clears its own cells when
//! it sees that (`begin_turn`), and until then a reader takes the cells of an older generation for zero.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::utils::CachePadded;

macro_rules! catalogue {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident $text:literal)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name { $($(#[$doc])* $variant),* }

        impl $name {
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// As ZooKeeper's metrics call it.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text),* }
            }
        }
    };
}

catalogue! {
    /// Things counted one by one.
    Counter {
        PacketsReceived "packets_received"
        PacketsSent "packets_sent"
        /// Bytes of request frames.
        BytesReceived "bytes_received_count"
        /// Bytes of reply frames.
        BytesReplied "response_bytes"
        /// Bytes of watch events.
        BytesOfEvents "watch_bytes"
        /// Connect requests that asked for a session.
        ConnectRequests "connection_request_count"
        /// Sockets closed by `maxClientCnxns` or `maxCnxns`.
        ConnectionsRejected "connection_rejected"
        /// Connections whose client went away without closing its session.
        ConnectionsDropped "connection_drop_count"
        /// Sockets closed because no connect request came.
        SessionlessExpired "sessionless_connections_expired"
        /// Connect requests refused because the server's role does not serve.
        ConnectsNotServed "cnxn_closed_without_zk_server_running"
        SessionsExpired "stale_sessions_expired"
        StaleRequests "stale_requests"
        StaleRequestsDropped "stale_requests_dropped"
        StaleReplies "stale_replies"
        /// Requests answered -127.
        ThrottledOps "throttled_ops"
        RequestThrottleWaits "request_throttle_wait_count"
        LargeRequestsRejected "large_requests_rejected"
        DigestMismatches "digest_mismatches_count"
        AuthFailed "auth_failed_count"
        EnsembleAuthSuccess "ensemble_auth_success"
        EnsembleAuthFail "ensemble_auth_fail"
        EnsembleAuthSkip "ensemble_auth_skip"
        /// Requests that reached the core as writes.
        WritesReceived "prep_processor_request_queued"
        /// Txns handed to the log.
        TxnsLogged "sync_processor_request_queued"
        SnapshotErrors "snapshot_error_count"
        /// Syncs slower than `fsync.warningthresholdms`.
        SlowSyncs "fsync_threshold_exceed_count"
    }
}

catalogue! {
    /// Things of which least, most, count and sum are kept, and for some the distribution.
    Summary {
        /// Nanoseconds from a request's receipt to its reply, every request but ping.
        Latency "latency"
        /// Nanoseconds, reads only.
        ReadLatency "readlatency"
        /// Nanoseconds, writes only.
        UpdateLatency "updatelatency"
        /// Nanoseconds a write waited for the core.
        CoreQueueTime "prep_processor_queue_time_ms"
        /// Nanoseconds from a txn's batch being sealed to its being durable.
        LogQueueAndSyncTime "sync_processor_queue_and_flush_time_ms"
        /// Nanoseconds of one sync of the log with what was written for it.
        LogFlushTime "sync_processor_queue_flush_time_ms"
        /// Nanoseconds from receipt of a write to its commit.
        WriteCommitTime "write_commitproc_time_ms"
        /// Nanoseconds the process stood still.
        Pause "jvm_pause_time_ms"
        /// Nanoseconds of one sync of the log.
        SyncTime "fsynctime"
        /// Nanoseconds of one snapshot.
        SnapshotTime "snapshottime"
        /// Nanoseconds from start until the tree was loaded.
        LoadTime "dbinittime"
        SnapshotLoadTime "startup_snap_load_time"
        LogLoadTime "startup_txns_load_time"
        LogLoadTxns "startup_txns_loaded"
        /// Txns of one batch.
        BatchTxns "sync_processor_batch_size"
        ConnectionTokenDeficit "connection_token_deficit"
        /// Watches fired by one txn, by kind of event.
        CreatedWatches "node_created_watch_count"
        DeletedWatches "node_deleted_watch_count"
        ChangedWatches "node_changed_watch_count"
        ChildrenWatches "node_children_watch_count"
        /// Bytes of a reply.
        ReplyBytes "client_response_size"
        /// Bytes of a txn that was proposed as leader of an ensemble.
        ProposalBytes "proposal_size"
    }
}

impl Summary {
    /// Those kept with their distribution; they come first in `ALL`.
    const DISTRIBUTED: usize = Summary::Pause as usize + 1;

    /// Recorded in nanoseconds, printed in milliseconds.
    pub const fn is_time(self) -> bool {
        (self as usize) <= Summary::LogLoadTime as usize
    }
}

/// Buckets of a distribution: powers of two in four steps each, so that a bucket is at most a quarter too wide.
const BUCKETS: usize = 4 * 40;

fn bucket(value: u64) -> usize {
    let value = value.max(4);
    let octave = 63 - value.leading_zeros() as usize;
    let step = (value >> (octave - 2)) as usize & 3;
    ((octave - 2) * 4 + step).min(BUCKETS - 1)
}

/// The least value that falls into bucket `at`.
fn bucket_floor(at: usize) -> u64 {
    (4 + at as u64 % 4) << (at / 4)
}

/// One `Summary` of one thread.
struct Cells {
    count: AtomicU64,
    sum: AtomicU64,
    least: AtomicU64,
    most: AtomicU64,
}

impl Cells {
    fn new() -> Cells {
        let cells = Cells {
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            least: AtomicU64::new(0),
            most: AtomicU64::new(0),
        };
        cells.clear();
        cells
    }

    fn clear(&self) {
        self.count.store(0, Relaxed);
        self.sum.store(0, Relaxed);
        self.least.store(u64::MAX, Relaxed);
        self.most.store(0, Relaxed);
    }
}

/// One thread's counters. Only that thread may call what writes; a second writer would lose counts, no more.
pub struct Counters {
    counts: [AtomicU64; Counter::ALL.len()],
    cells: [Cells; Summary::ALL.len()],
    buckets: [[AtomicU64; BUCKETS]; Summary::DISTRIBUTED],
    /// Bytes of the newest reply; 0 = none yet.
    reply_bytes_last: AtomicU64,
    /// Bytes of the newest txn proposed; 0 = none yet.
    proposal_bytes_last: AtomicU64,
    /// Generation these cells belong to.
    seen: AtomicU64,
    generation: Arc<CachePadded<AtomicU64>>,
}

impl Counters {
    fn new(generation: Arc<CachePadded<AtomicU64>>) -> Counters {
        Counters {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            cells: std::array::from_fn(|_| Cells::new()),
            buckets: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            reply_bytes_last: AtomicU64::new(0),
            proposal_bytes_last: AtomicU64::new(0),
            seen: AtomicU64::new(generation.load(Relaxed)),
            generation,
        }
    }

    /// Once a turn: takes note of a reset.
    pub fn begin_turn(&self) {
        let generation = self.generation.load(Relaxed);
        if self.seen.load(Relaxed) == generation {
            return;
        }
        self.counts.iter().for_each(|count| count.store(0, Relaxed));
        self.cells.iter().for_each(Cells::clear);
        self.buckets.iter().flatten().for_each(|count| count.store(0, Relaxed));
        self.reply_bytes_last.store(0, Relaxed);
        self.proposal_bytes_last.store(0, Relaxed);
        self.seen.store(generation, Relaxed);
    }

    pub fn add(&self, counter: Counter, number: u64) {
        bump(&self.counts[counter as usize], number);
    }

    /// `value` in nanoseconds where `summary.is_time()`. Inlined: most of it falls away when the summary is known.
    #[inline(always)]
    pub fn record(&self, summary: Summary, value: u64) {
        self.record_many(summary, value, 1);
    }

    /// The same value so many times.
    #[inline(always)]
    pub fn record_many(&self, summary: Summary, value: u64, times: u64) {
        let cells = &self.cells[summary as usize];
        bump(&cells.count, times);
        bump(&cells.sum, value.wrapping_mul(times));
        if value < cells.least.load(Relaxed) {
            cells.least.store(value, Relaxed);
        }
        if value > cells.most.load(Relaxed) {
            cells.most.store(value, Relaxed);
        }
        if let Some(buckets) = self.buckets.get(summary as usize) {
            bump(&buckets[bucket(value)], times);
        }
    }

    /// So many replies, of `frame_bytes` in all, left for clients; `range` holds the least and the most of one, `last`
    /// that of the newest. All with their length words, without which Apache counts.
    pub fn replied_many(
        &self,
        replies: u64,
        frame_bytes: u64,
        range: std::ops::RangeInclusive<u64>,
        last: u64,
    ) {
        let bytes = frame_bytes.saturating_sub(4 * replies);
        self.add(Counter::PacketsSent, replies);
        self.add(Counter::BytesReplied, bytes);
        let cells = &self.cells[Summary::ReplyBytes as usize];
        bump(&cells.count, replies);
        bump(&cells.sum, bytes);
        let (least, most) = (range.start().saturating_sub(4), range.end().saturating_sub(4));
        cells.least.store(cells.least.load(Relaxed).min(least), Relaxed);
        cells.most.store(cells.most.load(Relaxed).max(most), Relaxed);
        self.reply_bytes_last.store(last.saturating_sub(4), Relaxed);
    }

    /// One reply left for a client: its frame, the length word included. Apache counts without that word.
    pub fn replied(&self, frame_bytes: u64) {
        let bytes = frame_bytes.saturating_sub(4);
        self.add(Counter::PacketsSent, 1);
        self.add(Counter::BytesReplied, bytes);
        self.record(Summary::ReplyBytes, bytes);
        self.reply_bytes_last.store(bytes, Relaxed);
    }
}

impl Counters {
    /// A txn of so many bytes, as the log has it, was proposed to an ensemble.
    pub fn proposed(&self, bytes: u64) {
        self.record(Summary::ProposalBytes, bytes);
        self.proposal_bytes_last.store(bytes, Relaxed);
    }
}

/// For a cell with one writer: no read-modify-write needed.
fn bump(cell: &AtomicU64, number: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(number), Relaxed);
}

/// All threads' counters.
pub struct Registry {
    threads: Mutex<Vec<Arc<CachePadded<Counters>>>>,
    generation: Arc<CachePadded<AtomicU64>>,
}

impl Default for Registry {
    fn default() -> Registry {
        Registry { threads: Mutex::default(), generation: Arc::new(CachePadded::new(AtomicU64::new(0))) }
    }
}

impl Registry {
    /// Counters for one more thread.
    pub fn thread(&self) -> Arc<CachePadded<Counters>> {
        let counters = Arc::new(CachePadded::new(Counters::new(self.generation.clone())));
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(counters.clone());
        counters
    }

    /// `srst`: everything counts from zero again.
    pub fn reset(&self) {
        self.generation.fetch_add(1, Relaxed);
    }

    pub fn totals(&self) -> Totals {
        let generation = self.generation.load(Relaxed);
        let mut totals = Totals::default();
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if thread.seen.load(Relaxed) == generation {
                totals.take_in(thread);
            }
        }
        totals
    }
}

/// What all threads counted since the start or the last reset.
#[derive(Clone, Debug)]
pub struct Totals {
    counts: [u64; Counter::ALL.len()],
    distributions: [Distribution; Summary::ALL.len()],
    buckets: [[u64; BUCKETS]; Summary::DISTRIBUTED],
    /// Bytes of a newest reply, of some thread that sent one; `None` before the first.
    pub reply_bytes_last: Option<u64>,
    /// Bytes of the newest txn proposed; `None` before the first.
    pub proposal_bytes_last: Option<u64>,
}

/// `least` is `u64::MAX` as long as `count` is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Distribution {
    pub count: u64,
    pub sum: u64,
    pub least: u64,
    pub most: u64,
}

impl Default for Totals {
    fn default() -> Totals {
        Totals {
            counts: [0; Counter::ALL.len()],
            distributions: [Distribution { count: 0, sum: 0, least: u64::MAX, most: 0 }; Summary::ALL.len()],
            buckets: [[0; BUCKETS]; Summary::DISTRIBUTED],
            reply_bytes_last: None,
            proposal_bytes_last: None,
        }
    }
}

impl Totals {
    fn take_in(&mut self, thread: &Counters) {
        for (total, count) in self.counts.iter_mut().zip(&thread.counts) {
            *total = total.wrapping_add(count.load(Relaxed));
        }
        for (total, cells) in self.distributions.iter_mut().zip(&thread.cells) {
            total.count += cells.count.load(Relaxed);
            total.sum = total.sum.wrapping_add(cells.sum.load(Relaxed));
            total.least = total.least.min(cells.least.load(Relaxed));
            total.most = total.most.max(cells.most.load(Relaxed));
        }
        for (total, count) in self.buckets.iter_mut().flatten().zip(thread.buckets.iter().flatten()) {
            *total += count.load(Relaxed);
        }
        self.reply_bytes_last = match thread.reply_bytes_last.load(Relaxed) {
            0 => self.reply_bytes_last,
            bytes => Some(bytes),
        };
        // Only the core proposes.
        let proposed = thread.proposal_bytes_last.load(Relaxed);
        self.proposal_bytes_last = self.proposal_bytes_last.or((proposed > 0).then_some(proposed));
    }

    pub fn count(&self, counter: Counter) -> u64 {
        self.counts[counter as usize]
    }

    pub fn distribution(&self, summary: Summary) -> Distribution {
        self.distributions[summary as usize]
    }

    /// The value that `per_mille` of all do not exceed, up to a quarter too low; 0 without values, `None` where no
    /// distribution is kept.
    pub fn quantile(&self, summary: Summary, per_mille: u64) -> Option<u64> {
        let buckets = self.buckets.get(summary as usize)?;
        let total: u64 = buckets.iter().sum();
        let rank = (total * per_mille).div_ceil(1000).max(1);
        let most = self.distribution(summary).most;
        let mut passed = 0;
        let at = buckets.iter().position(|count| {
            passed += count;
            passed >= rank
        });
        Some(at.map_or(0, |at| if passed == total { most } else { bucket_floor(at).min(most) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(totals: &Totals, summary: Summary, count: u64, sum: u64, least: u64, most: u64) {
        assert_eq!(totals.distribution(summary), Distribution { count, sum, least, most }, "{summary:?}");
    }

    #[test]
    fn threads_add_up_and_reset() {
        let registry = Registry::default();
        let (one, two) = (registry.thread(), registry.thread());
        one.add(Counter::PacketsReceived, 3);
        two.add(Counter::PacketsReceived, 4);
        one.record(Summary::ReadLatency, 10);
        two.record(Summary::ReadLatency, 2);
        two.replied(81);
        let totals = registry.totals();
        assert_eq!(totals.count(Counter::PacketsReceived), 7);
        check(&totals, Summary::ReadLatency, 2, 12, 2, 10);
        assert_eq!((totals.count(Counter::PacketsSent), totals.reply_bytes_last), (1, Some(77)));

        registry.reset();
        check(&registry.totals(), Summary::ReadLatency, 0, 0, u64::MAX, 0);
        one.begin_turn();
        one.record(Summary::ReadLatency, 5);
        check(&registry.totals(), Summary::ReadLatency, 1, 5, 5, 5);
        two.begin_turn();
        assert_eq!(registry.totals().count(Counter::PacketsReceived), 0);
    }

    #[test]
    fn buckets_hold_their_values() {
        for value in [4, 5, 7, 8, 100, 1000, 123_456_789, 60_000_000_000] {
            let floor = bucket_floor(bucket(value));
            assert!(floor <= value && value - floor <= value / 4, "{value}: {floor}");
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn quantiles() {
        let registry = Registry::default();
        let counters = registry.thread();
        assert_eq!(registry.totals().quantile(Summary::ReadLatency, 500), Some(0));
        (1..=1000).for_each(|ms| counters.record(Summary::ReadLatency, ms * 1_000_000));
        let totals = registry.totals();
        let p50 = totals.quantile(Summary::ReadLatency, 500).expect("distributed") / 1_000_000;
        let p99 = totals.quantile(Summary::ReadLatency, 990).expect("distributed") / 1_000_000;
        assert!((375..=500).contains(&p50), "{p50}");
        assert!((800..=1000).contains(&p99), "{p99}");
        assert_eq!(totals.quantile(Summary::ReadLatency, 1000), Some(1_000_000_000));
        assert_eq!(totals.quantile(Summary::SyncTime, 500), None);
    }

    #[test]
    fn times_come_first() {
        let times: Vec<_> = Summary::ALL.iter().take_while(|s| s.is_time()).collect();
        assert_eq!(times.len(), Summary::ALL.iter().filter(|s| s.is_time()).count());
        assert!(!Summary::LogLoadTxns.is_time() && Summary::SyncTime.is_time());
    }
}
