//! What a number is worth nothing without: commit, machine, kernel, disk, settings.

use std::process::Command;

#[derive(Clone, Debug, serde::Serialize)]
pub struct Circumstances {
    pub commit: String,
    pub date: String,
    pub cpu: String,
    pub cpus: usize,
    pub memory_mib: u64,
    pub kernel: String,
    pub file_system: String,
    pub congestion_control: String,
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
    }
}
