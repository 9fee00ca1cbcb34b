//! Rest between two rounds: a snapshot, a garbage collection or a compiler goes on when its load has ended, and what was
//! written lies in the page cache for a while. Whoever is measured next would pay for it.
//! Not here: what counts inside a round. A snapshot that falls into one is that server's own.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Length of one look at a CPU, and the ticks of it (10 ms each) that it may be busy and still count as resting.
const LOOK: Duration = Duration::from_millis(150);
const BUSY_TICKS_MAX: u64 = 1;
/// How long to wait for it at first. A machine that never rests is measured all the same: each time in vain halves it.
const PATIENCE: Duration = Duration::from_secs(8);

/// What is to rest.
pub struct Rest {
    cpu: usize,
    dir: PathBuf,
    patience: Cell<Duration>,
}

impl Rest {
    /// `cpu` is the servers', their data is on the file system of `dir`.
    pub fn new(cpu: usize, dir: &Path) -> Rest {
        Rest { cpu, dir: dir.to_path_buf(), patience: Cell::new(PATIENCE) }
    }

    /// Waits until the CPU rests and the file system has written what it holds.
    pub fn come(&self) {
        if !self.cpu_rests() {
            self.patience.set(self.patience.get() / 2);
        }
        // A system without this program writes when it pleases.
        let _ = Command::new("sync").arg("-f").arg(&self.dir).status();
    }

    fn cpu_rests(&self) -> bool {
        let deadline = Instant::now() + self.patience.get();
        loop {
            let Some(before) = busy_ticks(self.cpu) else { return true };
            // Other processes' work offers nothing to wait on but time.
            std::thread::park_timeout(LOOK);
            if busy_ticks(self.cpu).is_none_or(|after| after - before <= BUSY_TICKS_MAX) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
        }
    }
}

/// Ticks that a CPU has worked since the machine started, whoever it was for; `None` where the kernel does not tell.
fn busy_ticks(cpu: usize) -> Option<u64> {
    busy_of(&std::fs::read_to_string("/proc/stat").ok()?, cpu)
}

fn busy_of(stat: &str, cpu: usize) -> Option<u64> {
    let name = format!("cpu{cpu}");
    let line = stat.lines().find(|line| line.split(' ').next() == Some(&name))?;
    let ticks: Vec<u64> = line.split_whitespace().skip(1).map_while(|text| text.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are counted in user already.
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks[..] else { return None };
    Some(user + nice + system + irq + softirq + steal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_for_the_disk_are_rest() {
        let stat =
            "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 4 1000 500 8 16 32 0 0\ncpu1 7 0 0 0 0 0 0 0 0 0\nintr 5\n";
        assert_eq!(busy_of(stat, 0), Some(63));
        assert_eq!(busy_of(stat, 1), Some(7));
        assert_eq!(busy_of(stat, 2), None);
    }
}
