//! What a number is worth nothing without: commit, machine, kernel, disk, settings.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

use crate::client::Client;
use crate::frames;

/// setDatas of the look at syncing, one at a time.
const SYNC_CHECK_WRITES: u64 = 50;
const SYNC_CHECK_PATH: &str = "/bench-sync-check";

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Circumstances {
    pub commit: String,
    pub date: String,
    pub cpu: String,
    pub cpus: usize,
    pub memory_mib: u64,
    pub kernel: String,
    pub file_system: String,
    pub congestion_control: String,
    pub disk: String,
    /// Which server, and what it says it is.
    pub versions: Vec<(String, String)>,
    /// Which server, and what the disk saw while it acknowledged writes one at a time.
    pub sync_checks: Vec<(String, String)>,
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_string()).unwrap_or_default()
}

fn file(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn field(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or("", |(_, value)| value).trim().to_string()
}

/// Reads them now. `dir`: where the servers keep their data.
pub fn circumstances(dir: &std::path::Path) -> Circumstances {
    let memory = field(&file("/proc/meminfo"), "MemTotal");
    let memory_kib: u64 = memory.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
    Circumstances {
        commit: output("git", &["describe", "--always", "--dirty", "--abbrev=12"]),
        date: output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
        cpu: field(&file("/proc/cpuinfo"), "model name"),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        memory_mib: memory_kib / 1024,
        kernel: file("/proc/sys/kernel/osrelease").trim().to_string(),
        file_system: output("stat", &["-f", "-c", "%T", &dir.display().to_string()]),
        congestion_control: file("/proc/sys/net/ipv4/tcp_congestion_control").trim().to_string(),
        disk: output("df", &["--output=source,fstype,size,avail", "-h", &dir.display().to_string()])
            .lines()
            .nth(1)
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(", "))
            .unwrap_or_default(),
        versions: Vec::new(),
        sync_checks: Vec::new(),
    }
}

impl Circumstances {
    /// Asks a server for its version and looks whether the disk is told to keep what it acknowledges.
    pub fn describe(&mut self, name: &str, address: SocketAddr) {
        self.versions.push((name.to_string(), version(address)));
        let checked = sync_check(address).unwrap_or_else(|e| format!("could not be checked: {e}"));
        self.sync_checks.push((name.to_string(), checked));
    }
}

fn version(address: SocketAddr) -> String {
    let text = crate::server::four_letter_word(address, "srvr").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    match line.split_once(':') {
        Some((_, version)) => version.trim().to_string(),
        None => "does not tell (is srvr allowed?)".to_string(),
    }
}

/// Flushes of all disks since the machine started; `None` where the kernel does not count them.
fn flushes() -> Option<u64> {
    let counts = file("/proc/diskstats");
    let of_line = |line: &str| line.split_whitespace().nth(18)?.parse::<u64>().ok();
    counts.lines().map(of_line).sum()
}

/// Writes one at a time and counts what the disk was told meanwhile. A server that acknowledges without syncing shows
/// no flush; other programs on the machine may add some.
fn sync_check(address: SocketAddr) -> std::io::Result<String> {
    let mut client = Client::connect(address, 30_000)?;
    client.ensure(SYNC_CHECK_PATH)?;
    let before = flushes();
    let begin = Instant::now();
    for _ in 0..SYNC_CHECK_WRITES {
        client.call(|out, xid| frames::set_data(out, xid, SYNC_CHECK_PATH.as_bytes(), b"x"))?;
    }
    let each = begin.elapsed().as_micros() as f64 / SYNC_CHECK_WRITES as f64;
    let seen = before.zip(flushes()).map(|(before, after)| after - before);
    client.close()?;
    Ok(match seen {
        None => format!("{each:.0} us a write; this kernel does not count flushes"),
        Some(seen) if seen < SYNC_CHECK_WRITES => format!(
            "NOT DURABLE, or on another machine: {SYNC_CHECK_WRITES} writes one at a time, {seen} flushes of the disk"
        ),
        Some(seen) => {
            format!(
                "{SYNC_CHECK_WRITES} writes one at a time, {seen} flushes of the disk, {each:.0} us a write"
            )
        }
    })
}
