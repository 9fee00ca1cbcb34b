//! Every bound of the engine: what it bounds, its unit, why it has that value.
//! Names go noun, unit, qualifier. `_DEFAULT` can be changed by the operator (see `config`), the rest cannot.
//! Not here: the code that holds to them. Relations between them are asserted at compile time below.

// --- requests and txns -------------------------------------------------------------------------------------------

/// Largest request frame: the default of `jute.maxbuffer` in ZooKeeper 3.9.
pub const FRAME_BYTES_MAX_DEFAULT: u32 = 0xf_ffff;
/// Least `jute.maxbuffer` we start with: below this not even a connect request or a path of usual length fits.
pub const FRAME_BYTES_MAX_LEAST: u32 = 1024;
/// Most `jute.maxbuffer` we start with: a batch, a segment and the log's reserve are sized by it.
pub const FRAME_BYTES_MAX_MOST: u32 = 512 << 20;
/// Headroom of a txn over its request (`zookeeper.jute.maxbuffer.extrasize`), and the least it can be set to.
pub const FRAME_EXTRA_BYTES_DEFAULT: u32 = FRAME_BYTES_MAX_DEFAULT;
pub const FRAME_EXTRA_BYTES_LEAST: u32 = 1024;
/// What the log adds to each entry we write: magic and CRC32C. Counts towards the largest entry.
pub const TRAILER_BYTES: usize = 8;
/// Largest log entry: a frame plus what validation may add to it (ACLs expanded, paths, digest, trailer).
pub const ENTRY_BYTES_MAX_DEFAULT: u32 = FRAME_BYTES_MAX_DEFAULT + FRAME_EXTRA_BYTES_DEFAULT;
/// A connect request that is longer than this is not one: sent before any authentication, so it is bounded apart
/// from frames. The real one is 45 bytes with a 16-byte password.
pub const CONNECT_BYTES_MAX: u32 = 4096;

// --- batches, ring, queues ---------------------------------------------------------------------------------------

/// Bytes of txns in one batch (a proposal, a group commit). One entry of any legal size must fit.
pub const BATCH_BYTES_MAX: u32 = 4 << 20;
/// Txns in one batch: `zookeeper.maxBatchSize`.
pub const BATCH_TXNS_MAX_DEFAULT: u32 = 1000;
/// Changes of znodes in one batch after which it takes no more: a closeSession of many ephemerals is one small txn and as
/// much work as all its deletes.
pub const BATCH_CHANGES_ENOUGH: usize = 8192;
/// Answers that wait behind a proposal which a full disk holds up, bytes; with more, no requests are taken.
pub const STUCK_REPLY_BYTES_MAX: usize = 64 << 20;
/// ... and requests that wait for such a batch to be closed.
pub const STUCK_REQUESTS_MAX: usize = 16_384;
/// Events in the ring between core and workers; a power of two. With one batch a sync, the slowest worker may be
/// this many syncs behind before the core waits for it.
pub const RING_EVENTS_MAX: usize = 4096;
/// Bytes the ring may hold before the core stops taking requests: batches, answers and the Views behind them.
pub const RING_BYTES_MAX: usize = 256 << 20;
/// Requests queued from all workers to the core; a power of two. Full means: sockets are not read.
pub const INTAKE_REQUESTS_MAX: usize = 16_384;
/// Bytes of request bodies queued to the core from all workers.
pub const INTAKE_BYTES_MAX: usize = 64 << 20;
/// Requests the core takes in one step before it seals and looks at its other inputs.
pub const CORE_STEP_REQUESTS_MAX: usize = 4096;
/// Requests whose znodes the core fetches ahead: enough to hide the wait for memory, few enough to stay in the cache.
pub const CORE_AHEAD_REQUESTS: usize = 64;
/// Log written since the last snapshot, in sizes of that snapshot, from which on the next is worth it at any time: one
/// costs about as much CPU and disk as its size in log, so this keeps snapshots at a quarter of what the log costs.
pub const SNAPSHOT_LOG_SIZES_WORTH: u64 = 4;
/// The same in calm times, once the last one is `SNAPSHOT_RESTS` times its own duration ago. Replay costs about twice
/// as much as loading the same znodes from a snapshot, so that a server killed behind growth would be long in coming back.
pub const SNAPSHOT_LOG_SIZES_RESTED: u64 = 1;
/// Log of the last second up to which times are calm: some ten thousands of small writes. Who writes more than that needs
/// the CPU that a snapshot takes.
pub const SNAPSHOT_CALM_BYTES_PER_SECOND: u64 = 16 << 20;
/// What lies between snapshots in calm times, in durations of the last one: they take a tenth of the time at most.
pub const SNAPSHOT_RESTS: u64 = 9;
/// Log written since the last snapshot before the next is worth it where nobody asked for anything else, bytes: replayed in
/// about a second. A small tree under load would be written over and over.
pub const SNAPSHOT_LOG_BYTES_LEAST: u64 = 128 << 20;
/// Proposals on their way to the log thread, in count and bytes. A learner's have one txn each, and those that came while the
/// last sync ran must all fit behind it, or one sync covers few of them.
pub const LOG_QUEUE_PROPOSALS_MAX: usize = 8192;
pub const LOG_QUEUE_BYTES_MAX: usize = 4 * BATCH_BYTES_MAX as usize;
/// Clients' requests that a learner has sent to its leader and that are not answered yet.
pub const FORWARDED_REQUESTS_MAX: usize = 65_536;
/// Batches sealed in one turn: each holds one write more of clients that have reads between their writes under way. One
/// sync covers them all.
pub const TURN_BATCHES_MAX: usize = 8;
/// Connections served in one turn from which on replies to reads wait for that of a write under way; how many turns (of
/// at least so many connections each, so a millisecond or less), and up to how many bytes.
pub const LINGER_JOBS_LEAST: usize = 32;
pub const LINGER_TURNS_MAX: u32 = 3;
pub const LINGER_BYTES_MAX: usize = 16 << 10;
/// What reads that wait between two writes under way may answer in all, bytes: they are served whether their client takes
/// replies or not.
pub const OVERTAKEN_BYTES_MAX: usize = 128 << 10;
/// ... how many they may be, and how large a write that overtakes them.
pub const OVERTAKEN_READS_MAX: usize = 255;
pub const OVERTAKING_BYTES_MAX: usize = 64 << 10;

// --- a worker's turn ---------------------------------------------------------------------------------------------

/// Bytes one turn reads from one socket: one `read` call.
pub const TURN_READ_BYTES_MAX: usize = 64 << 10;
/// Requests of one connection served in one turn; the rest wait in its buffer for the next.
pub const TURN_REQUESTS_MAX: usize = 1024;
/// Bytes of replies made for several connections before they are written: they are to be in the second cache still.
pub const FLUSH_REPLY_BYTES: u64 = 64 << 10;
/// Bytes of replies made in one turn, after which each connection gets one more and the rest in the next: a few
/// milliseconds of copying.
pub const TURN_REPLY_BYTES_MAX: u64 = 8 << 20;
/// Connections accepted before the acceptor looks at anything else.
pub const TURN_ACCEPTS_MAX: usize = 64;
/// Watch events delivered in one portion of a large fan-out.
pub const FANOUT_EVENTS_PORTION: usize = 4096;
/// Bytes of one portion of a large reply (getChildren of a wide znode, getEphemerals).
pub const REPLY_BYTES_PORTION: usize = 1 << 20;
/// Children looked at for one portion: the names of that many fit it, and take about a millisecond.
pub const CHILDREN_PORTION: usize = 8192;
/// Paths of setWatches, and ephemerals of getEphemerals, done in one turn: a millisecond or two.
pub const SET_WATCHES_PORTION: usize = 2048;
pub const EPHEMERALS_PORTION: usize = 4096;
/// A reply that outgrows this closes the connection: no client takes a frame of a gigabyte.
pub const REPLY_BYTES_MAX: usize = 1 << 30;
/// Writes of one turn for connections that were not served in it, such as those of a large fan-out.
pub const TURN_FLUSHES_MAX: usize = 512;
/// Connections that a worker closes in one turn when the server's role changes: one or two milliseconds.
pub const TURN_CLOSES_MAX: u32 = 256;
/// Length of one wait for readiness when nothing is due, in milliseconds: how late a clock-driven duty may be.
pub const WAIT_MS_MAX: u64 = 100;

// --- connections -------------------------------------------------------------------------------------------------

/// What a connection that has not finished its handshake may cost, beyond what it has sent.
pub const CONNECTION_BYTES_UNAUTHENTICATED: usize = 4096;
/// First size of a read buffer. It grows with bytes received, never with bytes announced.
pub const READ_BUFFER_BYTES_FIRST: usize = 1024;
/// Read buffers above this are given back once they are empty.
pub const READ_BUFFER_BYTES_KEPT: usize = 64 << 10;
/// Input of one connection that waits to be served; its socket is not read above it, but for the rest of a frame.
pub const INPUT_BYTES_WAITING_MAX: usize = 64 << 10;
/// Replies waiting to be written above which the connection is not read.
pub const REPLY_BYTES_PAUSE: usize = 2 << 20;
/// ... and below which it is read again.
pub const REPLY_BYTES_RESUME: usize = 512 << 10;
/// Replies made and not yet taken by their clients, of all connections of one worker. Above it, connections that leave
/// replies lying get no further ones beyond `REPLY_BYTES_LEAN`, and large replies are made one at a time; whoever reads
/// is served as ever.
pub const WORKER_REPLY_BYTES_MAX: usize = 512 << 20;
pub const REPLY_BYTES_LEAN: usize = 64 << 10;
/// Unsolicited events waiting to be written above which the client is disconnected: it cannot be paused, because
/// events are not answers to anything it sends.
pub const EVENT_BYTES_MAX: usize = 16 << 20;
/// A connection that never sends a connect request: `zookeeper.nio.sessionlessCnxnTimeout`, milliseconds.
pub const SESSIONLESS_MS_MAX_DEFAULT: u64 = 10_000;
/// How long a connection that is being closed may take to drain what the peer sent, milliseconds.
pub const LINGER_MS_MAX: u64 = 1_000;
/// Between two of the rounds in which a worker looks at a part of its connections for what is overdue, milliseconds.
pub const SWEEP_MS: u64 = 100;
/// Sockets from one address: `maxClientCnxns` in a `zoo.cfg`.
pub const ADDRESS_CONNECTIONS_MAX_DEFAULT: u32 = 60;
/// Auth identities on one connection: each is checked against each ACL entry of each read.
pub const CONNECTION_IDENTITIES_MAX: usize = 64;
/// Watches of one connection, and bytes of the paths kept for them (only of znodes that are not there). Apache has no
/// bound; ten times what anybody was seen to use. A connection that goes beyond is closed.
pub const CONNECTION_WATCHES_MAX: u32 = 16 << 20;
pub const CONNECTION_WATCH_PATH_BYTES_MAX: u32 = 1 << 30;
/// Requests in flight before connections are not read: `zookeeper.globalOutstandingLimit`.
pub const OUTSTANDING_REQUESTS_MAX_DEFAULT: u32 = 1000;
/// Waiting connects in the kernel when `clientPortListenBacklog` does not say: enough for a reconnect storm.
pub const BACKLOG_CONNECTIONS_DEFAULT: u32 = 1024;
/// One line in the log for clients of another protocol (HTTP, TLS on the plain port) per so many milliseconds.
pub const WRONG_PROTOCOL_LOG_MS: u64 = 10_000;

// --- client sessions ---------------------------------------------------------------------------------------------

/// `tickTime` when the file does not set it, milliseconds.
pub const TICK_MS_DEFAULT: u32 = 3000;
/// `minSessionTimeout` and `maxSessionTimeout` in ticks.
pub const SESSION_TICKS_LEAST_DEFAULT: u32 = 2;
pub const SESSION_TICKS_MOST_DEFAULT: u32 = 20;
/// Touches a worker reports in one request to the core.
pub const TOUCHES_PORTION: usize = 4096;
/// Paths of ephemerals in one closeSession txn, bytes. A session with more is emptied by bounded multis first.
pub const CLOSE_PATH_BYTES_MAX: usize = 512 << 10;
/// Paths of one of those multis, bytes, and its sub-txns.
pub const CLOSE_PORTION_PATH_BYTES: usize = 128 << 10;
pub const CLOSE_PORTION_TXNS: usize = 1024;
/// Sessions expired in one step of the core; the rest follow in the next.
pub const EXPIRIES_PORTION: usize = 256;
/// Sessions looked at in one step for being due.
pub const SESSIONS_SCAN_PORTION: usize = 4096;
/// A turn of the core later than this counts as a stall of the process: every deadline moves by it, milliseconds.
pub const STALL_MS_LEAST: u64 = 200;

// --- world -------------------------------------------------------------------------------------------------------

/// Memory for znodes: all that 32-bit handles in units of 8 bytes can name. `ostler.treeMemory`.
pub const TREE_BYTES_MAX_DEFAULT: usize = 32 << 30;
/// Retired records and blobs freed in one portion.
pub const RECLAIM_RECORDS_PORTION: usize = 4096;
/// `znode.container.checkIntervalMs`, `znode.container.maxPerMinute`.
pub const CONTAINER_CHECK_MS_DEFAULT: u64 = 60_000;
pub const CONTAINER_DELETES_PER_MINUTE_DEFAULT: u32 = 10_000;
/// Containers and TTL znodes looked at in one turn.
pub const REAP_SCAN_PORTION: usize = 2048;
/// One remembered tree digest per so many txns, and how many are remembered (`hash`).
pub const DIGEST_TXNS_STEP: u64 = 128;
pub const DIGESTS_KEPT_MAX: usize = 1024;

// --- log and snapshots -------------------------------------------------------------------------------------------

/// `zookeeper.preAllocSize`: size of a log segment, bytes (the key is in KiB).
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
/// Least segment: one largest entry with its framing must fit, and zero-writing tiny files ahead is no use.
pub const SEGMENT_BYTES_LEAST: u64 = 64 << 10;
/// Bytes of a log file that are read at once for a learner that lags behind.
pub const HISTORY_READ_BYTES: usize = 1 << 20;
/// Spare segments made ahead of need. They are also the reserve of a full disk.
pub const SEGMENTS_SPARE: usize = 2;
/// Zeros are written in pieces of this size: larger ones give large folios, and each sync then writes a whole one.
pub const SEGMENT_ZERO_BYTES_STEP: usize = 4096;
/// Of the reserve on a full disk, what is kept for closeSession when deletes have used the rest, bytes.
pub const RESERVE_BYTES_FLOOR: u64 = 4 << 20;
/// Between two attempts to make room on a full disk, milliseconds.
pub const SPACE_AGAIN_MS: u64 = 30_000;
/// `snapCount`: txns since the last snapshot before the next one.
pub const SNAP_TXNS_DEFAULT: u32 = 100_000;
/// `snapSizeLimitInKb` in bytes: log bytes since the last snapshot before the next one.
pub const SNAP_LOG_BYTES_DEFAULT: u64 = 4 << 30;
/// Written and synced at a time, so that a sync of the log never queues behind more of a snapshot, bytes. With 4 MiB the
/// slowest write beside one took twice as long.
pub const SNAPSHOT_BYTES_PORTION: usize = 512 << 10;
/// Bytes a snapshot may keep from being freed before it is given up and tried again later.
pub const SNAPSHOT_RETAINED_BYTES_MAX: usize = 2 << 30;
/// `autopurge.snapRetainCount`; lower values are raised to it.
pub const SNAPSHOTS_KEPT_LEAST: u32 = 3;
/// Snapshots tried at start before giving up, as Apache does.
pub const SNAPSHOTS_TRIED_MAX: usize = 100;
/// `fsync.warningthresholdms`.
pub const SYNC_WARNING_MS_DEFAULT: u64 = 1000;
/// The side mark of the last sync is written when no sync came for so long, milliseconds.
pub const SIDE_MARK_IDLE_MS: u64 = 500;
/// What a burst of writes left free in the heap goes back to the system when the core has had nothing to do for so long,
/// milliseconds: longer than pauses within a burst, ...
pub const HEAP_TRIM_AFTER_MS: u64 = 250;
/// ... and when so much was written since it last did, bytes of records: then the millisecond or two are nothing beside it.
pub const HEAP_TRIM_BYTES_LEAST: u64 = 16 << 20;
/// The core syncs a batch itself, without the log thread, when nobody but its client has called for so long, milliseconds:
/// then nobody is kept waiting. Longer than a client takes to answer, shorter than anybody notices.
pub const LONE_CALLER_MS: u64 = 10;
/// ... and the batch is at most so large, bytes of records: a larger one takes longer on the disk than two hand-offs cost.
pub const LOG_HERE_BYTES_MAX: usize = 64 << 10;
/// ... and a sync takes no longer than this as a rule, microseconds, ...
pub const LOG_HERE_MICROS_USUAL: u64 = 1000;
/// ... that is, as a mean in which the last one counts for one part in so many, ...
pub const LOG_HERE_MEMORY: u32 = 16;
/// ... and none stalled for this, microseconds, which a disk that others share does now and then, ...
pub const LOG_HERE_MICROS_MAX: u64 = 10_000;
/// ... for so long, milliseconds.
pub const LOG_HERE_AGAIN_MS: u64 = 100;

// --- admin and shutdown ------------------------------------------------------------------------------------------

/// A four-letter word's reply: `cons`, `wchc`, `wchp` and `dump` of a big server are cut here with a line saying so.
pub const WORD_REPLY_BYTES_MAX: usize = 64 << 20;
/// Watched paths that a worker lists at once for `wchs`, `wchc` and `wchp`: a millisecond.
pub const WATCHED_PATHS_PORTION: usize = 4096;
/// How long the answer to a word waits for one busy worker, or the core, and a connection for its answer, milliseconds.
pub const FACTS_MS_MAX: u64 = 10_000;
pub const WORD_MS_MAX: u64 = 30_000;
/// Top-level znodes that get keyed metrics of their own; the rest are summed.
pub const METRIC_KEYS_MAX: usize = 64;
/// Time to hand out replies that are due once SIGTERM came, milliseconds.
pub const SHUTDOWN_MS_MAX_DEFAULT: u64 = 10_000;

const _: () = assert!(BATCH_BYTES_MAX >= ENTRY_BYTES_MAX_DEFAULT);
const _: () = assert!(ENTRY_BYTES_MAX_DEFAULT > FRAME_BYTES_MAX_DEFAULT);
const _: () = assert!(FRAME_BYTES_MAX_LEAST <= FRAME_BYTES_MAX_DEFAULT);
const _: () = assert!(FRAME_BYTES_MAX_DEFAULT <= FRAME_BYTES_MAX_MOST);
// An entry is at most frame + extra; both at their most must not overflow the u32 lengths of records.
const _: () = assert!(FRAME_BYTES_MAX_MOST as u64 * 2 <= i32::MAX as u64);
const _: () = assert!(FRAME_EXTRA_BYTES_LEAST <= FRAME_EXTRA_BYTES_DEFAULT);
/// Committed txns kept in memory for learners that lag, in bytes: above it fewer are kept than `commitLogCount` says.
pub const COMMITTED_BYTES_KEPT: usize = 64 << 20;
/// What may wait for one learner before it is cut off, to be synchronised anew.
pub const LEARNER_BYTES_MAX: usize = 256 << 20;
/// What a leader may propose to a learner without committing it: far more than leaders let wait.
pub const UNCOMMITTED_BYTES_MAX: usize = 1 << 30;
/// Pieces of history, of a batch's size each at most, read ahead of the learner that they are for.
pub const HISTORY_PIECES_AHEAD: usize = 4;

const _: () = assert!(CONNECT_BYTES_MAX <= FRAME_BYTES_MAX_DEFAULT);
const _: () = assert!(RING_EVENTS_MAX.is_power_of_two());
const _: () = assert!(INTAKE_REQUESTS_MAX.is_power_of_two());
// The ring holds at least one batch of the largest size with the frames it answers.
const _: () = assert!(RING_BYTES_MAX >= 4 * BATCH_BYTES_MAX as usize);
const _: () = assert!(INTAKE_BYTES_MAX >= 2 * FRAME_BYTES_MAX_DEFAULT as usize);
const _: () = assert!(REPLY_BYTES_RESUME < REPLY_BYTES_PAUSE);
const _: () = assert!(REPLY_BYTES_LEAN < REPLY_BYTES_RESUME);
// A reply of the default size never pauses a connection by itself.
const _: () = assert!(REPLY_BYTES_PAUSE > FRAME_BYTES_MAX_DEFAULT as usize);
const _: () = assert!(READ_BUFFER_BYTES_FIRST <= CONNECTION_BYTES_UNAUTHENTICATED);
const _: () = assert!(FORWARDED_REQUESTS_MAX >= INTAKE_REQUESTS_MAX);
const _: () = assert!(REPLY_BYTES_PORTION < REPLY_BYTES_MAX);
const _: () = assert!(CHILDREN_PORTION * 100 <= REPLY_BYTES_PORTION);
// The desk gives up on a busy thread before the connection gives up on the desk.
const _: () = assert!(FACTS_MS_MAX < WORD_MS_MAX);
const _: () = assert!(READ_BUFFER_BYTES_FIRST <= READ_BUFFER_BYTES_KEPT);
const _: () = assert!(TURN_READ_BYTES_MAX <= READ_BUFFER_BYTES_KEPT);
const _: () = assert!(SESSION_TICKS_LEAST_DEFAULT <= SESSION_TICKS_MOST_DEFAULT);
// A stall is noticed well inside the shortest session a default server grants.
const _: () = assert!(STALL_MS_LEAST * 4 <= (SESSION_TICKS_LEAST_DEFAULT * TICK_MS_DEFAULT) as u64);
// closeSession with the most paths it may carry still fits an entry, and one portion of its deletes too.
const _: () = assert!(CLOSE_PATH_BYTES_MAX < FRAME_BYTES_MAX_DEFAULT as usize);
const _: () = assert!(CLOSE_PORTION_PATH_BYTES <= CLOSE_PATH_BYTES_MAX);
// A batch that still takes txns has room for one that closes a session: the duties of a turn seal no batch.
const _: () = assert!(2 * CLOSE_PATH_BYTES_MAX <= BATCH_BYTES_MAX as usize / 2);
const _: () = assert!(SEGMENT_BYTES_LEAST <= SEGMENT_BYTES_DEFAULT);
// A default segment holds a batch of the largest size.
const _: () = assert!(SEGMENT_BYTES_DEFAULT >= 2 * BATCH_BYTES_MAX as u64);
const _: () = assert!(RESERVE_BYTES_FLOOR < SEGMENT_BYTES_DEFAULT * SEGMENTS_SPARE as u64);
// The floor can always close at least one session with the most paths.
const _: () = assert!(RESERVE_BYTES_FLOOR >= 2 * CLOSE_PATH_BYTES_MAX as u64);
