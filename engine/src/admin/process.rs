//! Facts about this process and its machine, read from the operating system when a word asks.
//! Not here: the server's own figures.

use std::path::Path;

use crate::config::Environment;

/// For `envi` and the file descriptor lines of `mntr`.
#[derive(Clone, Debug, Default)]
pub struct ProcessFacts {
    pub host_name: String,
    pub os_name: String,
    pub os_arch: String,
    pub os_version: String,
    pub user_name: String,
    pub user_home: String,
    pub working_dir: String,
    pub temp_dir: String,
    pub executable: String,
    /// Bytes: free and all of the machine's memory, and what this process has resident.
    pub memory_free: u64,
    pub memory_most: u64,
    pub memory_resident: u64,
    pub descriptors: u64,
    pub descriptors_most: u64,
}

impl ProcessFacts {
    /// As the system says now. What it does not say stays empty or 0.
    pub fn read() -> ProcessFacts {
        let environment = Environment::of_process();
        let kernel = |name: &str| trimmed(&format!("/proc/sys/kernel/{name}"));
        let variable = |name: &str| environment.get(name).unwrap_or_default().to_owned();
        let path = |path: std::io::Result<std::path::PathBuf>| path.map(|p| p.display().to_string());
        ProcessFacts {
            host_name: kernel("hostname"),
            os_name: kernel("ostype"),
            // Java's name for it, because tools compare it.
            os_arch: if std::env::consts::ARCH == "x86_64" { "amd64" } else { std::env::consts::ARCH }
                .to_owned(),
            os_version: kernel("osrelease"),
            user_name: user_name(),
            user_home: variable("HOME"),
            working_dir: path(std::env::current_dir()).unwrap_or_default(),
            temp_dir: std::env::temp_dir().display().to_string(),
            executable: path(std::env::current_exe()).unwrap_or_default(),
            memory_free: kibibytes("/proc/meminfo", "MemAvailable:"),
            memory_most: kibibytes("/proc/meminfo", "MemTotal:"),
            memory_resident: kibibytes("/proc/self/status", "VmRSS:"),
            descriptors: std::fs::read_dir("/proc/self/fd").map_or(0, |list| list.count() as u64),
            descriptors_most: descriptors_most(),
        }
    }
}

/// As the user database has it; empty when it does not know us.
fn user_name() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next());
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == uid).then(|| name.to_owned())
    };
    uid.and_then(|_| users.lines().find_map(named)).unwrap_or_default()
}

/// Bytes of the files directly in `dir`, as `dirs` and `conf` count them; 0 when it cannot be read.
pub fn directory_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).filter(|m| m.is_file()).map(|m| m.len()).sum()
}

fn trimmed(path: &str) -> String {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// The figure behind `label` in a file of `label figure kB` lines, in bytes.
fn kibibytes(path: &str, label: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let figure = text
        .lines()
        .find_map(|line| line.strip_prefix(label)?.split_whitespace().next()?.parse::<u64>().ok());
    figure.unwrap_or(0) * 1024
}

fn descriptors_most() -> u64 {
    let text = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = |line: &str| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok();
    text.lines().find_map(soft).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process() {
        let facts = ProcessFacts::read();
        assert!(facts.descriptors > 2 && facts.descriptors_most >= facts.descriptors);
        assert!(facts.memory_resident > 1 << 20 && facts.memory_most > facts.memory_resident);
        assert!(!facts.os_name.is_empty() && !facts.os_version.is_empty());
    }

    #[test]
    fn sizes_of_directories() {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::write(dir.path().join("log.1"), [0; 10]).expect("write");
        std::fs::write(dir.path().join("log.2"), [0; 5]).expect("write");
        assert_eq!(directory_bytes(dir.path()), 15);
        assert_eq!(directory_bytes(&dir.path().join("missing")), 0);
    }
}
