//! The command line of `ostler bench`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::failover::How;
use crate::frames::Op;
use crate::keys::{Choice, Keys, Shape, Zipf};
use crate::load::Pace;
use crate::scenario::Settings;

/// Measures any ZooKeeper server: honest latencies, whole histograms, limits beside every figure.
#[derive(Parser, Debug)]
#[command(name = "ostler bench", args_override_self = true)]
pub struct Bench {
    #[command(subcommand)]
    pub command: BenchCommand,
}

#[derive(Subcommand, Debug)]
pub enum BenchCommand {
    /// Reads and writes at --ratio (10:1), on --keys znodes built first
    Mixed(LoadArgs),
    /// getData only
    Read(LoadArgs),
    /// setData only
    Write(LoadArgs),
    /// create and delete in turn
    Create(LoadArgs),
    /// A storm of connects: each session is closed once it stands
    Sessions(LoadArgs),
    /// --population sessions that only ping: memory and CPU
    Idle(LoadArgs),
    /// One change fires --population watchers; --elsewhere watches look on
    Watch(LoadArgs),
    /// --population contenders for one lock, as the recipe does it
    Lock(LoadArgs),
    /// The mix, with a snapshot inside the window (needs --data-dir)
    Snapshot(LoadArgs),
    /// Kill and start anew: time to the first served read (needs --start)
    Restart(RestartArgs),
    /// Build --keys znodes of --shape
    Preload(LoadArgs),
    /// The mix at a constant --rate for hours: maximum and least second
    Soak(LoadArgs),
    /// What this machine allows at best
    Limit(LimitArgs),
    /// Start servers, alternate rounds, report medians and ratios
    Compare(CompareArgs),
    /// Kill the leader of an ensemble under load, again and again: what clients feel, and whether writes are lost
    Failover(FailoverArgs),
    /// Writes and a mix of ensembles, by number of voters
    Ensemble(EnsembleArgs),
    /// What observers give and cost, by their number: reads, the writer's latency, the leader's work, staleness
    Observers(ObserversArgs),
    /// The headline table and plot of a comparison's JSON
    Plot(PlotArgs),
    /// The echo loop as a process of its own (used by compare and limit)
    #[command(hide = true)]
    EchoServer {
        #[arg(long)]
        port: u16,
        #[arg(long, default_value_t = 100)]
        value: usize,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ShapeArg {
    Flat,
    Production,
}

impl ShapeArg {
    pub fn shape(self) -> Shape {
        match self {
            ShapeArg::Flat => Shape::Flat,
            ShapeArg::Production => Shape::Production,
        }
    }
}

#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// host:port of each server; connections are spread over them
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:2181")]
    pub servers: Vec<String>,
    #[arg(long, default_value_t = 100)]
    pub connections: usize,
    /// Requests outstanding per connection (closed loop)
    #[arg(long, default_value_t = 16)]
    pub depth: usize,
    /// Seconds measured
    #[arg(long, default_value_t = 10.0)]
    pub duration: f64,
    /// Seconds of load before the window opens
    #[arg(long, default_value_t = 2.0)]
    pub warmup: f64,
    /// Requests a second over all connections: an open loop, latency from the intended start
    #[arg(long)]
    pub rate: Option<f64>,
    /// With --rate: exponential gaps instead of even ones
    #[arg(long, requires = "rate")]
    pub poisson: bool,
    /// read:write of `mixed`, `snapshot` and `soak`
    #[arg(long, default_value = "10:1")]
    pub ratio: String,
    /// Weights instead of --ratio, such as read=8,exists=1,children=1,write=1,create=1,delete=1,multi=1
    #[arg(long)]
    pub mix: Option<String>,
    /// Znodes read and written
    #[arg(long, default_value_t = 10_000)]
    pub keys: u64,
    #[arg(long, value_enum, default_value = "flat")]
    pub shape: ShapeArg,
    /// Choose keys by Zipf's law with this exponent instead of evenly
    #[arg(long)]
    pub zipf: Option<f64>,
    /// Bytes of data in a znode
    #[arg(long, default_value_t = 100)]
    pub value: usize,
    #[arg(long, default_value_t = 30_000)]
    pub session_timeout: i32,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Process ids of local servers, for CPU and memory; found by the listening port when left out
    #[arg(long, value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// Sessions of `idle`, watchers of `watch`, contenders of `lock`
    #[arg(long, default_value_t = 1_000)]
    pub population: usize,
    #[arg(long, default_value_t = 0)]
    pub elsewhere: usize,
    /// `sessions`: --population sessions connect at once, instead of --connections that come and go
    #[arg(long)]
    pub at_once: bool,
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Run several times and plot the curve: `servers` (the first, the first two ...), `connections=1,10,100`, `depth=1,4,16`
    #[arg(long)]
    pub sweep: Option<String>,
    /// The keys are there already
    #[arg(long)]
    pub no_preload: bool,
    /// Pin this process to a CPU
    #[arg(long)]
    pub cpu: Option<usize>,
    #[command(flatten)]
    pub out: OutArgs,
}

#[derive(Args, Clone, Debug, Default)]
pub struct OutArgs {
    /// Write the whole result, histogram included, as JSON
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Write the percentile distribution in HdrHistogram's text format
    #[arg(long)]
    pub hgrm: Option<PathBuf>,
    /// Write one self-contained HTML page
    #[arg(long)]
    pub html: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct RestartArgs {
    /// Command that starts the server in the foreground
    #[arg(long)]
    pub start: String,
    #[command(flatten)]
    pub load: LoadArgs,
}

#[derive(Args, Clone, Debug)]
pub struct LimitArgs {
    #[arg(value_enum)]
    pub which: LimitKind,
    /// Where `sync` writes
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// Bytes of one commit of `sync`
    #[arg(long, default_value_t = 300)]
    pub batch: usize,
    #[arg(long, default_value_t = 100)]
    pub connections: usize,
    #[arg(long, default_value_t = 16)]
    pub depth: usize,
    #[arg(long, default_value_t = 3.0)]
    pub duration: f64,
    #[arg(long, default_value_t = 100)]
    pub value: usize,
}

#[derive(Args, Clone, Debug)]
pub struct PlotArgs {
    /// What `compare --json` wrote
    pub results: PathBuf,
    /// Where the plot goes
    #[arg(long)]
    pub svg: Option<PathBuf>,
    /// Put the headline table between the markers `<!-- bench -->` and `<!-- /bench -->` of this file
    #[arg(long)]
    pub readme: Option<PathBuf>,
    /// Write the whole report anew
    #[arg(long)]
    pub html: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum LimitKind {
    Echo,
    Sync,
}

#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// Rounds of each cell; servers take turns inside a round
    #[arg(long, default_value_t = 7)]
    pub rounds: usize,
    /// More rounds, up to so many, where a goal is not judged by the first; three times --rounds when left out
    #[arg(long)]
    pub rounds_most: Option<usize>,
    /// Seconds measured in one round of one cell
    #[arg(long, default_value_t = 2.0)]
    pub duration: f64,
    #[arg(long, default_value_t = 0.4)]
    pub warmup: f64,
    /// Znodes under the load
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: u64,
    #[arg(long, value_enum, default_value = "production")]
    pub shape: ShapeArg,
    /// CPU of the servers; the load takes another
    #[arg(long, default_value_t = 0)]
    pub server_cpu: usize,
    #[arg(long, default_value_t = 1)]
    pub load_cpu: usize,
    /// Class path of Apache ZooKeeper 3.9.5; without it Apache is left out
    #[arg(long, env = "OSTLER_CLASSPATH")]
    pub apache_classpath: Option<String>,
    /// A further server: NAME=COMMAND, with {port} and {dir} in it
    #[arg(long)]
    pub peer: Vec<String>,
    /// Only cells whose name contains this
    #[arg(long)]
    pub only: Option<String>,
    /// Goals with a measurement of their own instead of the table's cells, such as P7,P9; `all`: the table, then all of them
    #[arg(long, value_delimiter = ',')]
    pub lines: Vec<String>,
    /// With --lines: full sizes (10 M znodes, ten minutes), which take long
    #[arg(long)]
    pub long: bool,
    /// Where data and logs of the servers go; a temporary directory when left out
    #[arg(long)]
    pub dir: Option<PathBuf>,
    #[command(flatten)]
    pub out: OutArgs,
}

/// Which ensembles are started.
#[derive(Args, Clone, Debug)]
pub struct KindArgs {
    /// Class path of Apache ZooKeeper 3.9.5; without it Apache is left out
    #[arg(long, env = "OSTLER_CLASSPATH")]
    pub apache_classpath: Option<String>,
    /// Another build of Ostler than this one
    #[arg(long, value_name = "BINARY")]
    pub ostler: Option<PathBuf>,
    /// Leave Apache out though there is a class path
    #[arg(long)]
    pub no_apache: bool,
    /// Where data and logs of the servers go; a temporary directory when left out
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct FailoverArgs {
    /// Faults of each way in an ensemble of Ostlers, or in that of --connect
    #[arg(long, default_value_t = 20)]
    pub kills: usize,
    /// The same in an ensemble of Apaches, which takes a second and more each
    #[arg(long, default_value_t = 5)]
    pub apache_kills: usize,
    /// What happens to the leader: kill (SIGKILL), term (SIGTERM); rolling: all servers are restarted in turn
    #[arg(long = "signal", value_enum, value_delimiter = ',', default_value = "kill")]
    pub hows: Vec<How>,
    #[arg(long, default_value_t = 3)]
    pub voters: usize,
    #[arg(long, default_value_t = 0)]
    pub observers: usize,
    /// Znodes of the tree, of production shape and 100 bytes; several sizes are played one after the other
    #[arg(long, value_delimiter = ',', default_value = "1000")]
    pub znodes: Vec<u64>,
    /// Sessions that write, spread over all servers
    #[arg(long, default_value_t = 24)]
    pub writers: usize,
    /// Sessions that read, at each server
    #[arg(long, default_value_t = 2)]
    pub readers: usize,
    /// Writes a second over all writers; 0: each as soon as it is answered
    #[arg(long, default_value_t = 2_000.0)]
    pub rate: f64,
    #[arg(long, default_value_t = 10_000)]
    pub session_timeout: i32,
    /// host:port of every server of an ensemble that runs already, instead of ensembles of our own
    #[arg(long, value_delimiter = ',', requires = "kill_command")]
    pub connect: Vec<String>,
    /// Kills the leader of --connect: {server} is its place there from 1, {host} and {port} are its client address
    #[arg(long, requires = "connect")]
    pub kill_command: Option<String>,
    /// Starts it again; without this it is waited for
    #[arg(long, requires = "connect")]
    pub start_command: Option<String>,
    #[command(flatten)]
    pub kinds: KindArgs,
    #[command(flatten)]
    pub out: PageArgs,
}

#[derive(Args, Clone, Debug)]
pub struct EnsembleArgs {
    /// Sizes of the ensembles; 1 is a standalone server
    #[arg(long, value_delimiter = ',', default_value = "1,3,5")]
    pub voters: Vec<usize>,
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Seconds measured in one round of one ensemble
    #[arg(long, default_value_t = 1.0)]
    pub duration: f64,
    #[arg(long, default_value_t = 0.3)]
    pub warmup: f64,
    #[arg(long, default_value_t = 100)]
    pub connections: usize,
    /// Requests outstanding per connection
    #[arg(long, default_value_t = 16)]
    pub depth: usize,
    /// Znodes read and written, of production shape
    #[arg(long, default_value_t = 10_000)]
    pub keys: u64,
    #[command(flatten)]
    pub kinds: KindArgs,
    #[command(flatten)]
    pub out: PageArgs,
}

#[derive(Args, Clone, Debug)]
pub struct ObserversArgs {
    /// Numbers of observers, measured in ascending order
    #[arg(long, value_delimiter = ',', default_value = "0,1,2,4")]
    pub observers: Vec<usize>,
    #[arg(long, default_value_t = 3)]
    pub voters: usize,
    /// Writes a second while latency, cost and staleness are measured
    #[arg(long, default_value_t = 5_000.0)]
    pub rate: f64,
    /// Seconds measured: of writes, then of reads, for each number of observers
    #[arg(long, default_value_t = 3.0)]
    pub duration: f64,
    #[arg(long, default_value_t = 0.5)]
    pub warmup: f64,
    /// Sessions that read at each observer
    #[arg(long, default_value_t = 10)]
    pub readers: usize,
    /// Requests outstanding on each of them
    #[arg(long, default_value_t = 16)]
    pub depth: usize,
    /// Znodes read and written, of production shape
    #[arg(long, default_value_t = 10_000)]
    pub keys: u64,
    #[command(flatten)]
    pub kinds: KindArgs,
    #[command(flatten)]
    pub out: PageArgs,
}

/// Results of more than one ensemble.
#[derive(Args, Clone, Debug, Default)]
pub struct PageArgs {
    /// Write the whole result as JSON
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Write one self-contained HTML page
    #[arg(long)]
    pub html: Option<PathBuf>,
}

pub(crate) fn resolve(server: &str) -> Result<SocketAddr, String> {
    let mut addresses = server.to_socket_addrs().map_err(|e| format!("{server}: {e}"))?;
    addresses.next().ok_or_else(|| format!("{server}: no address"))
}

fn parse_ratio(text: &str) -> Result<Vec<(Op, u64)>, String> {
    let complaint = || format!("--ratio {text}: want READS:WRITES, such as 10:1");
    let (reads, writes) = text.split_once(':').ok_or_else(complaint)?;
    let number = |part: &str| part.trim().parse().map_err(|_| complaint());
    Ok(vec![(Op::Read, number(reads)?), (Op::Write, number(writes)?)])
}

fn parse_mix(text: &str) -> Result<Vec<(Op, u64)>, String> {
    const MIXABLE: [Op; 7] =
        [Op::Read, Op::Exists, Op::Children, Op::Write, Op::Create, Op::Delete, Op::Multi];
    text.split(',')
        .map(|part| {
            let (name, weight) =
                part.split_once('=').ok_or_else(|| format!("--mix {part}: want name=weight"))?;
            let names = MIXABLE.map(Op::name).join(", ");
            let op = MIXABLE.into_iter().find(|op| op.name() == name);
            let op = op.ok_or_else(|| format!("--mix {name}: not one of {names}"))?;
            Ok((op, weight.parse().map_err(|_| format!("--mix {part}: the weight is not a number"))?))
        })
        .collect()
}

impl LoadArgs {
    /// The runs of `--sweep`: what is turned up, and for each run its value and its arguments.
    pub fn sweep_runs(&self, sweep: &str) -> Result<(String, Vec<(f64, LoadArgs)>), String> {
        let complaint = || format!("--sweep {sweep}: want servers, connections=1,10,100 or depth=1,4,16");
        if sweep == "servers" {
            let runs = (1..=self.servers.len()).map(|count| {
                let servers = self.servers[..count].to_vec();
                (count as f64, LoadArgs { servers, ..self.clone() })
            });
            return Ok(("servers".into(), runs.collect()));
        }
        let (what, values) = sweep.split_once('=').ok_or_else(complaint)?;
        let values: Result<Vec<usize>, _> = values.split(',').map(str::parse).collect();
        let run = |value: usize| match what {
            "connections" => Some(LoadArgs { connections: value, ..self.clone() }),
            "depth" => Some(LoadArgs { depth: value, ..self.clone() }),
            _ => None,
        };
        let runs =
            values.map_err(|_| complaint())?.into_iter().map(|value| Some((value as f64, run(value)?)));
        Ok((what.to_string(), runs.collect::<Option<Vec<_>>>().ok_or_else(complaint)?))
    }

    /// The settings in words, for reports.
    pub fn described(&self) -> Vec<(String, String)> {
        let pace = match self.rate {
            Some(rate) if self.poisson => format!("open loop, {rate}/s with exponential gaps"),
            Some(rate) => format!("open loop, {rate}/s evenly spaced"),
            None => "closed loop".to_string(),
        };
        let choice = self.zipf.map_or("uniform".to_string(), |exponent| format!("Zipf {exponent}"));
        [
            ("servers", self.servers.join(", ")),
            ("connections", self.connections.to_string()),
            ("depth", self.depth.to_string()),
            ("pace", pace),
            ("mix", self.mix.clone().unwrap_or_else(|| format!("{} reads:writes", self.ratio))),
            ("znodes", format!("{} of {:?} shape, {} bytes, {choice}", self.keys, self.shape, self.value)),
            ("measured", format!("{} s after {} s of warm-up", self.duration, self.warmup)),
            ("population", self.population.to_string()),
            ("seed", self.seed.to_string()),
        ]
        .map(|(name, value)| (name.to_string(), value))
        .to_vec()
    }

    /// `name`: the scenario, which decides the mix unless `--mix` does.
    pub fn settings(&self, name: &str) -> Result<Settings, String> {
        let targets = self.servers.iter().map(|server| resolve(server)).collect::<Result<Vec<_>, _>>()?;
        let mix = match (&self.mix, name) {
            (Some(mix), _) => parse_mix(mix)?,
            (None, "read") => vec![(Op::Read, 1)],
            (None, "write") => vec![(Op::Write, 1)],
            (None, "create") => vec![(Op::Create, 1), (Op::Delete, 1)],
            (None, _) => parse_ratio(&self.ratio)?,
        };
        if self.connections == 0 || self.depth == 0 || self.keys == 0 {
            return Err("--connections, --depth and --keys are at least 1".into());
        }
        let shape = self.shape.shape();
        let choice = match self.zipf {
            Some(exponent) if exponent > 0.0 => Choice::Zipf(Zipf::new(self.keys, exponent)),
            Some(exponent) => return Err(format!("--zipf {exponent}: want an exponent above 0")),
            None => Choice::Uniform,
        };
        let pace = match (self.rate, self.poisson) {
            (Some(rate), _) if rate <= 0.0 => return Err(format!("--rate {rate}: want more than 0")),
            (Some(rate), true) => Pace::Poisson(rate),
            (Some(rate), false) => Pace::Fixed(rate),
            (None, _) => Pace::Closed,
        };
        let server_pids = match self.pid.is_empty() {
            true => targets.iter().filter_map(|target| crate::server::listener_pid(target.port())).collect(),
            false => self.pid.clone(),
        };
        Ok(Settings {
            targets,
            connections: self.connections,
            depth: self.depth,
            mix,
            keys: Keys { shape, count: self.keys },
            choice,
            value_bytes: self.value,
            pace,
            warmup: Duration::from_secs_f64(self.warmup.max(0.0)),
            duration: Duration::from_secs_f64(self.duration.max(0.001)),
            session_timeout_ms: self.session_timeout,
            seed: self.seed,
            server_pids,
            population: self.population,
            elsewhere: self.elsewhere,
            data_dir: self.data_dir.clone(),
            created_parent: crate::load::CREATED_PARENT.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Bench::command().debug_assert();
    }

    #[test]
    fn what_is_said_last_counts() {
        let words = ["bench", "read", "--depth", "4", "--depth", "8"];
        let BenchCommand::Read(args) = Bench::try_parse_from(words).unwrap().command else {
            panic!("not read")
        };
        assert_eq!(args.depth, 8);
    }

    #[test]
    fn sweeps() {
        let words = ["bench", "read", "--servers", "a:1,b:2"];
        let BenchCommand::Read(args) = Bench::try_parse_from(words).unwrap().command else {
            panic!("not read")
        };
        let (what, runs) = args.sweep_runs("servers").unwrap();
        assert_eq!((what.as_str(), runs.len(), runs[1].1.servers.len()), ("servers", 2, 2));
        let (_, runs) = args.sweep_runs("depth=1,4").unwrap();
        assert_eq!((runs[1].0, runs[1].1.depth), (4.0, 4));
        assert!(args.sweep_runs("keys=1").is_err() && args.sweep_runs("depth=x").is_err());
    }

    #[test]
    fn mixes_and_ratios() {
        assert_eq!(parse_ratio("10:1").unwrap(), [(Op::Read, 10), (Op::Write, 1)]);
        assert!(parse_ratio("10").is_err());
        assert_eq!(parse_mix("read=3,multi=1").unwrap(), [(Op::Read, 3), (Op::Multi, 1)]);
        assert!(parse_mix("ping=1").is_err());
    }
}
