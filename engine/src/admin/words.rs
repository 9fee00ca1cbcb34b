//! Four-letter words: recognising them, whether they are answered, and the bytes of each answer as Apache 3.9.5 sends
//! them. Not here: collecting the facts, sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use ostler_replication::{Address, Zxid};

use super::counters::{Counter, Summary, Totals};
use super::facts::{ConnectionFacts, DirectoryFacts, ServerFacts, StateFacts, WatchFacts};
use super::process::ProcessFacts;
use super::{date, mntr};
use crate::config::{Config, EnsembleConfig, Words};
use crate::limits::WORD_REPLY_BYTES_MAX;
use crate::model::{SessionId, WallMillis};
use crate::version;

/// A word of ZooKeeper 3.9.5's socket interface. Others are taken for a frame's length.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FourLetter {
    Conf,
    Cons,
    Crst,
    Dirs,
    Dump,
    Envi,
    Gtmk,
    Hash,
    Isro,
    Mntr,
    /// Ours: whether the server can do all that it is there for.
    Redy,
    Ruok,
    Srst,
    Srvr,
    Stat,
    Stmk,
    Wchc,
    Wchp,
    Wchs,
}

/// What a server says to a word while it has no quorum.
pub const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// The trace mask of a fresh server.
pub const TRACE_MASK: i64 = 306;

impl FourLetter {
    pub const ALL: [FourLetter; 19] = [
        FourLetter::Conf,
        FourLetter::Cons,
        FourLetter::Crst,
        FourLetter::Dirs,
        FourLetter::Dump,
        FourLetter::Envi,
        FourLetter::Gtmk,
        FourLetter::Hash,
        FourLetter::Isro,
        FourLetter::Mntr,
        FourLetter::Redy,
        FourLetter::Ruok,
        FourLetter::Srst,
        FourLetter::Srvr,
        FourLetter::Stat,
        FourLetter::Stmk,
        FourLetter::Wchc,
        FourLetter::Wchp,
        FourLetter::Wchs,
    ];

    /// The word that the first four bytes of a connection are, if any.
    pub fn recognise(bytes: [u8; 4]) -> Option<FourLetter> {
        FourLetter::ALL.into_iter().find(|word| word.name().as_bytes() == bytes)
    }

    pub const fn name(self) -> &'static str {
        match self {
            FourLetter::Conf => "conf",
            FourLetter::Cons => "cons",
            FourLetter::Crst => "crst",
            FourLetter::Dirs => "dirs",
            FourLetter::Dump => "dump",
            FourLetter::Envi => "envi",
            FourLetter::Gtmk => "gtmk",
            FourLetter::Hash => "hash",
            FourLetter::Isro => "isro",
            FourLetter::Mntr => "mntr",
            FourLetter::Redy => "redy",
            FourLetter::Ruok => "ruok",
            FourLetter::Srst => "srst",
            FourLetter::Srvr => "srvr",
            FourLetter::Stat => "stat",
            FourLetter::Stmk => "stmk",
            FourLetter::Wchc => "wchc",
            FourLetter::Wchp => "wchp",
            FourLetter::Wchs => "wchs",
        }
    }

    /// Bytes that belong to the word behind it: `stmk` brings a mask, big-endian.
    pub const fn argument_bytes(self) -> usize {
        match self {
            FourLetter::Stmk => 8,
            _ => 0,
        }
    }

    /// `Err` holds the answer when the operator has not allowed the word.
    pub fn admit(self, allowed: &Words) -> Result<FourLetter, String> {
        match allowed.permits(self.name()) {
            true => Ok(self),
            false => Err(format!("{} is not executed because it is not in the whitelist.\n", self.name())),
        }
    }

    /// The answer while the server does not serve; `None` when the word is answered as ever.
    pub const fn when_not_serving(self) -> Option<&'static str> {
        match self {
            FourLetter::Redy | FourLetter::Ruok | FourLetter::Envi | FourLetter::Gtmk | FourLetter::Stmk => {
                None
            }
            FourLetter::Isro => Some("null"),
            // Apache forgets the line end here; tools compare whole replies.
            FourLetter::Hash => Some("This ZooKeeper instance is not currently serving requests"),
            _ => Some(NOT_SERVING),
        }
    }
}

// --- what needs no facts -----------------------------------------------------------------------------------------

/// Anything but `imok` is a failure to whoever asks: a server that does nothing any more does not say it.
pub fn ruok(state: &StateFacts) -> String {
    match state.is_well() {
        true => "imok".to_owned(),
        false => format!("not ok: {}\n", state.problems().join("; ")),
    }
}

pub fn redy(state: &StateFacts) -> String {
    match state.problems() {
        none if none.is_empty() => "ready\n".to_owned(),
        problems => format!("not ready: {}\n", problems.join("; ")),
    }
}

pub fn isro(read_only: bool) -> String {
    if read_only { "ro" } else { "rw" }.to_owned()
}

pub fn crst() -> String {
    "Connection stats reset.\n".to_owned()
}

pub fn srst() -> String {
    "Server stats reset.\n".to_owned()
}

/// Both `gtmk` and `stmk`: the mask that holds now.
pub fn trace_mask(mask: i64) -> String {
    mask.to_string()
}

// --- the server --------------------------------------------------------------------------------------------------

pub fn srvr(server: &ServerFacts, totals: &Totals) -> String {
    let mut text = version_lines(server);
    text.push_str(&server_lines(server, totals));
    text
}

pub fn stat(server: &ServerFacts, totals: &Totals, connections: &[ConnectionFacts]) -> String {
    let mut text = Bounded::new(version_lines(server) + "Clients:\n");
    connections.iter().for_each(|connection| text.line(&brief(connection)));
    text.finish() + "\n" + &server_lines(server, totals)
}

fn version_lines(server: &ServerFacts) -> String {
    let mut text = format!("Zookeeper version: {}\n", version::FULL);
    if server.mode == super::Mode::ReadOnly {
        text.push_str("READ-ONLY mode; serving only read-only clients\n");
    }
    text
}

fn server_lines(server: &ServerFacts, totals: &Totals) -> String {
    let latency = Milliseconds::of(totals, Summary::Latency);
    let mut text = format!(
        "Latency min/avg/max: {}/{}/{}\nReceived: {}\nSent: {}\nConnections: {}\nOutstanding: {}\nZxid: 0x{:x}\n\
         Mode: {}\nNode count: {}\n",
        latency.least,
        decimal(latency.average),
        latency.most,
        totals.count(Counter::PacketsReceived),
        totals.count(Counter::PacketsSent),
        server.connections,
        server.outstanding,
        server.zxid.0,
        server.mode.name(),
        server.znodes,
    );
    if server.ensemble.as_ref().is_some_and(|ensemble| ensemble.leading.is_some()) {
        let ProposalSizes { last, least, most } = ProposalSizes::of(totals);
        let _ = writeln!(text, "Proposal sizes last/min/max: {last}/{least}/{most}");
    }
    // Last, because there are readers that count lines.
    let _ = writeln!(text, "Ostler version: {}", version::OWN);
    text
}

/// Bytes of txns that this server proposed as a leader; -1 before the first.
pub(super) struct ProposalSizes {
    pub last: i64,
    pub least: i64,
    pub most: i64,
}

impl ProposalSizes {
    pub fn of(totals: &Totals) -> ProposalSizes {
        let sizes = totals.distribution(Summary::ProposalBytes);
        let size = |bytes: Option<u64>| bytes.and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(-1);
        let some = |bytes: u64| size((sizes.count > 0).then_some(bytes));
        ProposalSizes {
            last: size(totals.proposal_bytes_last),
            least: some(sizes.least),
            most: some(sizes.most),
        }
    }
}

/// A distribution of times in whole milliseconds, as ZooKeeper prints them; all 0 when empty.
pub(super) struct Milliseconds {
    pub least: u64,
    pub average: f64,
    pub most: u64,
    pub count: u64,
    pub sum: u64,
}

impl Milliseconds {
    pub fn of(totals: &Totals, summary: Summary) -> Milliseconds {
        let distribution = totals.distribution(summary);
        let unit = if summary.is_time() { 1_000_000 } else { 1 };
        let least = if distribution.count == 0 { 0 } else { distribution.least / unit };
        let average = match distribution.count {
            0 => 0.0,
            count => distribution.sum as f64 / count as f64 / unit as f64,
        };
        let sum = distribution.sum / unit;
        Milliseconds { least, average, most: distribution.most / unit, count: distribution.count, sum }
    }
}

/// As Java prints a double rounded to four places: at least one digit behind the point.
pub(super) fn decimal(value: f64) -> String {
    let rounded = (value * 10_000.0).round() / 10_000.0;
    format!("{rounded:?}")
}

pub fn dirs(sizes: DirectoryFacts) -> String {
    format!("datadir_size: {}\nlogdir_size: {}\n", sizes.data_bytes, sizes.log_bytes)
}

/// `port` is the one that is bound, which differs from the configured one when that is 0. `members`: the text of the
/// ensemble's configuration that holds now, as `/zookeeper/config` shows it; not looked at without an ensemble.
pub fn conf(config: &Config, port: u16, sizes: DirectoryFacts, members: &str) -> String {
    let version_dir = |dir: &std::path::Path| {
        std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf()).join("version-2").display().to_string()
    };
    let backlog = config.client.and_then(|client| client.backlog).map_or(-1, i64::from);
    let server = config.ensemble.as_ref().map_or(0, |ensemble| ensemble.me.0);
    let mut text = format!(
        "clientPort={port}\nsecureClientPort=-1\ndataDir={}\ndataDirSize={}\ndataLogDir={}\ndataLogSize={}\ntickTime={}\n\
         maxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\nclientPortListenBacklog={backlog}\n\
         serverId={server}\n",
        version_dir(&config.data_dir),
        sizes.data_bytes,
        version_dir(&config.data_log_dir),
        sizes.log_bytes,
        config.tick_ms,
        config.address_connections_max,
        config.session_timeout_ms_least,
        config.session_timeout_ms_most,
    );
    if let Some(ensemble) = &config.ensemble {
        text.push_str(&ensemble_lines(ensemble, members));
    }
    text
}

/// Without a line end, as the text of the members has none.
fn ensemble_lines(ensemble: &EnsembleConfig, members: &str) -> String {
    let own = ensemble.own();
    let ports = |port: fn(&Address) -> u16| {
        let mut ports: Vec<u16> = Vec::new();
        own.addresses.iter().map(port).for_each(|port| {
            if !ports.contains(&port) {
                ports.push(port);
            }
        });
        ports.iter().map(u16::to_string).collect::<Vec<_>>().join("|")
    };
    format!(
        "initLimit={}\nsyncLimit={}\nelectionAlg=3\nelectionPort={}\nquorumPort={}\npeerType={}\nmembership: \n{members}",
        ensemble.settings.init_ticks,
        ensemble.settings.sync_ticks,
        ports(|address| address.election_port),
        ports(|address| address.quorum_port),
        u8::from(own.is_observer),
    )
}

pub fn envi(process: &ProcessFacts) -> String {
    let mebibytes = |bytes: u64| format!("{}MB", bytes >> 20);
    let values: [(&str, &str); 15] = [
        ("zookeeper.version", version::FULL),
        ("host.name", &process.host_name),
        // There is no Java here; the keys stay because tools read the list by name.
        ("java.version", "none"),
        ("java.vendor", "Ostler"),
        ("java.home", "none"),
        ("java.class.path", &process.executable),
        ("java.library.path", "none"),
        ("java.io.tmpdir", &process.temp_dir),
        ("java.compiler", "<NA>"),
        ("os.name", &process.os_name),
        ("os.arch", &process.os_arch),
        ("os.version", &process.os_version),
        ("user.name", &process.user_name),
        ("user.home", &process.user_home),
        ("user.dir", &process.working_dir),
    ];
    let mut text = "Environment:\n".to_owned();
    for (key, value) in values {
        let _ = writeln!(text, "{key}={value}");
    }
    let _ = writeln!(text, "os.memory.free={}", mebibytes(process.memory_free));
    let _ = writeln!(text, "os.memory.max={}", mebibytes(process.memory_most));
    let _ = writeln!(text, "os.memory.total={}", mebibytes(process.memory_resident));
    text
}

/// The remembered digests, oldest first.
pub fn hash(digests: &[(Zxid, u64)]) -> String {
    digests.iter().map(|(zxid, digest)| format!("{:x}: {digest}\n", zxid.0)).collect()
}

pub fn mntr(server: &ServerFacts, totals: &Totals, process: &ProcessFacts) -> String {
    mntr::text(server, totals, process)
}

// --- connections -------------------------------------------------------------------------------------------------

pub fn cons(connections: &[ConnectionFacts]) -> String {
    let mut text = Bounded::new(String::new());
    connections.iter().for_each(|connection| text.line(&full(connection)));
    text.finish() + "\n"
}

fn brief(connection: &ConnectionFacts) -> String {
    let ConnectionFacts { interest, queued, received, sent, .. } = connection;
    format!(" {}[{interest:x}](queued={queued},recved={received},sent={sent})", address(connection.peer))
}

fn full(connection: &ConnectionFacts) -> String {
    let mut line = brief(connection);
    let Some(session) = &connection.session else { return line };
    line.pop();
    let operation = session.operation_last.and_then(operation).unwrap_or("NA");
    let _ = write!(
        line,
        ",sid={},lop={operation},est={},to={}",
        session.id, session.established.0, session.timeout_ms
    );
    if session.cxid_last >= 0 {
        let _ = write!(line, ",lcxid=0x{:x}", session.cxid_last);
    }
    let _ = write!(
        line,
        ",lzxid=0x{:x},lresp={},llat={},minlat={},avglat={},maxlat={})",
        session.zxid_last,
        session.reply_last_ms,
        session.latency_ms_last,
        session.latency_ms_least.unwrap_or(0),
        session.latency_ms_average,
        session.latency_ms_most,
    );
    line
}

/// The name `lop` has for an op; `None` for those that leave it unchanged (auth, sasl) and unknown ones.
pub const fn operation(op: i32) -> Option<&'static str> {
    Some(match op {
        -10 => "SESS",
        -11 => "CLOS",
        1 | 15 | 19 | 21 => "CREA",
        2 | 20 => "DELE",
        3 => "EXIS",
        4 => "GETD",
        5 => "SETD",
        6 => "GETA",
        7 => "SETA",
        8 | 12 => "GETC",
        9 => "SYNC",
        11 => "PING",
        13 => "CHEC",
        14 => "MULT",
        16 => "RECO",
        17 => "CHKW",
        18 => "REMW",
        22 => "MLTR",
        101 => "SETW",
        103 => "GETE",
        104 => "GETACN",
        105 => "STW2",
        106 => "ADDW",
        107 => "HOMI",
        _ => return None,
    })
}

/// As Java prints a socket address: `/127.0.0.1:2181`, `/[0:0:0:0:0:0:0:1]:2181`.
pub fn address(address: SocketAddr) -> String {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => format!("/{ip}:{}", address.port()),
        IpAddr::V6(ip) => {
            let groups: Vec<String> = ip.segments().iter().map(|group| format!("{group:x}")).collect();
            format!("/[{}]:{}", groups.join(":"), address.port())
        }
    }
}

// --- watches -----------------------------------------------------------------------------------------------------

pub fn wchs(watches: &[WatchFacts]) -> String {
    let watching = watches.iter().filter(|facts| !facts.paths.is_empty()).count();
    let paths: BTreeSet<&str> =
        watches.iter().flat_map(|facts| facts.paths.iter().map(String::as_str)).collect();
    let total: usize = watches.iter().map(|facts| facts.paths.len()).sum();
    format!("{watching} connections watching {} paths\nTotal watches:{total}\n", paths.len())
}

pub fn wchc(watches: &[WatchFacts]) -> String {
    let mut text = Bounded::new(String::new());
    for facts in watches.iter().filter(|facts| !facts.paths.is_empty()) {
        text.line(&facts.session.to_string());
        facts.paths.iter().for_each(|path| text.line(&format!("\t{path}")));
    }
    text.finish() + "\n"
}

pub fn wchp(watches: &[WatchFacts]) -> String {
    let mut by_path: BTreeMap<&str, Vec<SessionId>> = BTreeMap::new();
    for facts in watches {
        facts.paths.iter().for_each(|path| by_path.entry(path).or_default().push(facts.session));
    }
    let mut text = Bounded::new(String::new());
    for (path, sessions) in by_path {
        text.line(path);
        sessions.iter().for_each(|session| text.line(&format!("\t{session}")));
    }
    text.finish() + "\n"
}

// --- dump --------------------------------------------------------------------------------------------------------

/// The core's half of `dump`: sessions by the time they expire, soonest first, and sessions with their ephemerals.
/// The connections' half (`dump_connections`) follows it.
pub fn dump_sessions(
    expiries: &[(WallMillis, Vec<SessionId>)],
    ephemerals: &[(SessionId, Vec<String>)],
) -> String {
    let sessions: usize = expiries.iter().map(|(_, sessions)| sessions.len()).sum();
    let mut text = Bounded::new("SessionTracker dump:\n".to_owned());
    text.line(&format!("Session Sets ({})/({sessions}):", expiries.len()));
    for (time, sessions) in expiries {
        text.line(&format!("{} expire at {}:", sessions.len(), date::java(*time)));
        sessions.iter().for_each(|session| text.line(&format!("\t{session}")));
    }
    text.line("ephemeral nodes dump:");
    text.line(&format!("Sessions with Ephemerals ({}):", ephemerals.len()));
    for (session, paths) in ephemerals {
        text.line(&format!("{session}:"));
        paths.iter().for_each(|path| text.line(&format!("\t{path}")));
    }
    text.finish()
}

/// The workers' half of `dump`: connections by the time they would be closed for silence. Session 0 = no handshake.
pub fn dump_connections(expiries: &[(WallMillis, Vec<(SocketAddr, SessionId)>)]) -> String {
    let connections: usize = expiries.iter().map(|(_, connections)| connections.len()).sum();
    let mut text = Bounded::new("Connections dump:\n".to_owned());
    text.line(&format!("Connections Sets ({})/({connections}):", expiries.len()));
    for (time, connections) in expiries {
        text.line(&format!("{} expire at {}:", connections.len(), date::java(*time)));
        for (peer, session) in connections {
            text.line(&format!("\tip: {} sessionId: {session}", address(*peer)));
        }
    }
    text.finish()
}

/// Text that stops growing at `WORD_REPLY_BYTES_MAX`.
struct Bounded {
    text: String,
    left_out: usize,
}

impl Bounded {
    fn new(text: String) -> Bounded {
        Bounded { text, left_out: 0 }
    }

    fn line(&mut self, line: &str) {
        if self.left_out > 0 || self.text.len() + line.len() > WORD_REPLY_BYTES_MAX {
            self.left_out += 1;
            return;
        }
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn finish(mut self) -> String {
        if self.left_out > 0 {
            let _ = writeln!(self.text, "... {} more lines left out", self.left_out);
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EnsembleFacts, Mode, Registry, SessionFacts, facts};
    use super::*;
    use crate::config::{EnsembleSettings, Listener};
    use ostler_replication::{Members, Role, ServerId, Status};
    use std::sync::Arc;

    fn totals() -> Totals {
        let registry = Registry::default();
        let counters = registry.thread();
        counters.add(Counter::PacketsReceived, 20);
        counters.add(Counter::PacketsSent, 21);
        for ms in [1, 2, 140] {
            counters.record(Summary::Latency, ms * 1_000_000);
        }
        registry.totals()
    }

    fn server() -> ServerFacts {
        ServerFacts { zxid: Zxid(0x47), znodes: 10, connections: 2, sessions: 1, ..ServerFacts::default() }
    }

    fn connections() -> Vec<ConnectionFacts> {
        let session = SessionFacts {
            id: SessionId(0x0100_0029_4fd8_0000),
            timeout_ms: 10_000,
            established: WallMillis(1_795_262_210_915),
            operation_last: Some(1),
            cxid_last: 10,
            zxid_last: 7,
            reply_last_ms: 2_708_491,
            latency_ms_last: 1,
            latency_ms_least: Some(0),
            latency_ms_average: 15,
            latency_ms_most: 140,
        };
        let peer = "127.0.0.1:53476".parse().unwrap();
        let with =
            ConnectionFacts { peer, interest: 1, queued: 0, received: 11, sent: 12, session: Some(session) };
        let peer = "[::1]:53520".parse().unwrap();
        vec![with, ConnectionFacts { peer, interest: 0, queued: 0, received: 1, sent: 0, session: None }]
    }

    #[track_caller]
    fn check(found: String, expected: &str) {
        assert_eq!(found, expected);
    }

    const OURS: &str = concat!("Ostler version: ", env!("CARGO_PKG_VERSION"), "\n");
    const SERVER: &str = concat!(
        "Latency min/avg/max: 1/47.6667/140\nReceived: 20\nSent: 21\nConnections: 2\nOutstanding: 0\n",
        "Zxid: 0x47\nMode: standalone\nNode count: 10\nOstler version: ",
        env!("CARGO_PKG_VERSION"),
        "\n"
    );

    #[test]
    fn server_words() {
        let version = format!("Zookeeper version: {}\n", version::FULL);
        check(srvr(&server(), &totals()), &format!("{version}{SERVER}"));
        let clients = "Clients:\n /127.0.0.1:53476[1](queued=0,recved=11,sent=12)\n \
                       /[0:0:0:0:0:0:0:1]:53520[0](queued=0,recved=1,sent=0)\n\n";
        check(stat(&server(), &totals(), &connections()), &format!("{version}{clients}{SERVER}"));
        let read_only = ServerFacts { mode: Mode::ReadOnly, ..server() };
        assert!(
            srvr(&read_only, &Totals::default()).contains(
                "UTC\nREAD-ONLY mode; serving only read-only clients\nLatency min/avg/max: 0/0.0/0\n"
            )
        );
        check(dirs(DirectoryFacts { data_bytes: 3, log_bytes: 4 }), "datadir_size: 3\nlogdir_size: 4\n");
        check(hash(&[(Zxid(0x80), 7), (Zxid(0x100), u64::MAX)]), "80: 7\n100: 18446744073709551615\n");
        check(
            ruok(&StateFacts::default()) + &isro(false) + &isro(true) + &trace_mask(TRACE_MASK),
            "imokrwro306",
        );
    }

    #[test]
    fn server_words_of_an_ensemble() {
        let registry = Registry::default();
        let counters = registry.thread();
        let ensemble = EnsembleFacts::of(&facts::tests::leader(), 0, 0);
        let leader = ServerFacts { mode: Mode::Leader, ensemble, ..server() };
        assert!(srvr(&leader, &registry.totals()).ends_with(&format!(
            "Mode: leader\nNode count: 10\nProposal sizes last/min/max: -1/-1/-1\n{OURS}"
        )));
        [88, 48, 90, 60].into_iter().for_each(|bytes| counters.proposed(bytes));
        let text = stat(&leader, &registry.totals(), &[]);
        assert!(
            text.ends_with(&format!("Node count: 10\nProposal sizes last/min/max: 60/48/90\n{OURS}")),
            "{text}"
        );
        // `srst` counts them anew.
        registry.reset();
        counters.begin_turn();
        assert!(srvr(&leader, &registry.totals()).ends_with(&format!("last/min/max: -1/-1/-1\n{OURS}")));
        for mode in [Mode::Follower, Mode::Observer] {
            let role = if mode == Mode::Follower { Role::Following } else { Role::Observing };
            let status = Status { role: role(ServerId(2)), ..facts::tests::leader() };
            let learner = ServerFacts { mode, ensemble: EnsembleFacts::of(&status, 0, 0), ..server() };
            let text = srvr(&learner, &registry.totals());
            assert!(text.ends_with(&format!("Mode: {}\nNode count: 10\n{OURS}", mode.name())), "{text}");
        }
    }

    #[test]
    fn connection_words() {
        check(
            cons(&connections()),
            " /127.0.0.1:53476[1](queued=0,recved=11,sent=12,sid=0x10000294fd80000,lop=CREA,est=1795262210915,to=10000,\
             lcxid=0xa,lzxid=0x7,lresp=2708491,llat=1,minlat=0,avglat=15,maxlat=140)\n \
             /[0:0:0:0:0:0:0:1]:53520[0](queued=0,recved=1,sent=0)\n\n",
        );
        let mut silent = connections();
        let session = silent[0].session.as_mut().unwrap();
        (session.cxid_last, session.operation_last, session.zxid_last) = (-1, None, -1);
        assert!(cons(&silent).contains(",lop=NA,est=1795262210915,to=10000,lzxid=0xffffffffffffffff,lresp="));
        check(address("[::ffff:10.0.0.1]:7".parse().unwrap()), "/10.0.0.1:7");
    }

    #[test]
    fn watch_words() {
        let facts = |session, paths: &[&str]| WatchFacts {
            session: SessionId(session),
            paths: paths.iter().map(|path| path.to_string()).collect(),
        };
        let watches = [facts(0x1a, &["/a", "/b"]), facts(0x2b, &["/a"]), facts(0x3c, &[])];
        check(wchs(&watches), "2 connections watching 2 paths\nTotal watches:3\n");
        check(wchc(&watches), "0x1a\n\t/a\n\t/b\n0x2b\n\t/a\n\n");
        check(wchp(&watches), "/a\n\t0x1a\n\t0x2b\n/b\n\t0x1a\n\n");
        check(wchc(&[]), "\n");
    }

    #[test]
    fn dump_word() {
        let time = WallMillis(1_795_262_222_000);
        let session = SessionId(0x0100_0029_4fd8_0000);
        check(
            dump_sessions(&[(time, vec![session])], &[(session, vec!["/e".to_owned()])]),
            "SessionTracker dump:\nSession Sets (1)/(1):\n1 expire at Sat Nov 21 11:57:02 UTC 2026:\n\t0x10000294fd80000\n\
             ephemeral nodes dump:\nSessions with Ephemerals (1):\n0x10000294fd80000:\n\t/e\n",
        );
        let peer = "127.0.0.1:53562".parse().unwrap();
        check(
            dump_connections(&[(time, vec![(peer, SessionId::NONE), (peer, session)])]),
            "Connections dump:\nConnections Sets (1)/(2):\n2 expire at Sat Nov 21 11:57:02 UTC 2026:\n\
             \tip: /127.0.0.1:53562 sessionId: 0x0\n\tip: /127.0.0.1:53562 sessionId: 0x10000294fd80000\n",
        );
    }

    #[test]
    fn conf_word() {
        let config = Config {
            client: Some(Listener::loopback(0)),
            data_dir: "/d".into(),
            data_log_dir: "/l".into(),
            tick_ms: 2000,
            session_timeout_ms_least: 4000,
            session_timeout_ms_most: 40_000,
            ..Config::default()
        };
        check(
            conf(&config, 32181, DirectoryFacts { data_bytes: 478, log_bytes: 0 }, ""),
            "clientPort=32181\nsecureClientPort=-1\ndataDir=/d/version-2\ndataDirSize=478\ndataLogDir=/l/version-2\n\
             dataLogSize=0\ntickTime=2000\nmaxClientCnxns=60\nminSessionTimeout=4000\nmaxSessionTimeout=40000\n\
             clientPortListenBacklog=-1\nserverId=0\n",
        );
    }

    #[test]
    fn conf_word_of_an_ensemble() {
        let members =
            Members::parse("server.1=a:2888:3888:observer|aa:2889:3888\nserver.2=b:1:2").expect("valid");
        let settings = EnsembleSettings { init_ticks: 10, sync_ticks: 5, ..EnsembleSettings::default() };
        let ensemble = EnsembleConfig { me: ServerId(1), members: Arc::new(members), settings };
        let config = Config { ensemble: Some(ensemble), ..Config::default() };
        let text = conf(&config, 2181, DirectoryFacts::default(), "server.1=a:2888:3888:observer\nversion=0");
        let (_, behind) = text.split_once("clientPortListenBacklog=-1\n").expect("there");
        check(
            behind.to_owned(),
            "serverId=1\ninitLimit=10\nsyncLimit=5\nelectionAlg=3\nelectionPort=3888\nquorumPort=2888|2889\n\
             peerType=1\nmembership: \nserver.1=a:2888:3888:observer\nversion=0",
        );
    }

    #[test]
    fn envi_word() {
        let text = envi(&ProcessFacts { memory_free: 300 << 20, ..ProcessFacts::default() });
        let keys: Vec<&str> = text.lines().map(|line| line.split('=').next().unwrap()).collect();
        let expected = "Environment: zookeeper.version host.name java.version java.vendor java.home java.class.path \
                        java.library.path java.io.tmpdir java.compiler os.name os.arch os.version user.name user.home \
                        user.dir os.memory.free os.memory.max os.memory.total";
        assert_eq!(keys.join(" "), expected);
        assert!(text.contains("os.memory.free=300MB\n"));
    }

    #[test]
    fn which_words_and_when() {
        assert_eq!(FourLetter::recognise(*b"ruok"), Some(FourLetter::Ruok));
        assert_eq!(FourLetter::recognise(*b"RUOK"), None);
        let refusal = FourLetter::Dump.admit(&Words::default()).unwrap_err();
        check(refusal, "dump is not executed because it is not in the whitelist.\n");
        assert_eq!(FourLetter::Srvr.admit(&Words::default()), Ok(FourLetter::Srvr));
        assert_eq!(FourLetter::Dump.admit(&Words::All), Ok(FourLetter::Dump));
        assert_eq!(FourLetter::ALL.iter().filter(|word| word.when_not_serving().is_none()).count(), 5);
        assert_eq!(FourLetter::Isro.when_not_serving(), Some("null"));
        // No word can be mistaken for the length of a frame of the default size.
        for word in FourLetter::ALL {
            let length = u32::from_be_bytes(word.name().as_bytes().try_into().unwrap());
            assert!(length > crate::limits::FRAME_BYTES_MAX_MOST);
        }
    }

    #[test]
    fn decimals_as_java_prints_them() {
        for (value, expected) in
            [(0.0, "0.0"), (1.0, "1.0"), (15.45454, "15.4545"), (0.8125, "0.8125"), (2e7, "20000000.0")]
        {
            check(decimal(value), expected);
        }
    }

    #[test]
    fn long_answers_end_with_a_line_that_says_so() {
        let mut text = Bounded::new(String::new());
        let line = "x".repeat(WORD_REPLY_BYTES_MAX / 2);
        (0..4).for_each(|_| text.line(&line));
        let text = text.finish();
        assert!(text.len() < WORD_REPLY_BYTES_MAX + 100 && text.ends_with("\n... 3 more lines left out\n"));
    }
}
