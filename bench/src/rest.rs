//! Rest between two rounds: a snapshot, a garbage collection or a compiler goes on when its load has ended, and what was
//! written lies in the page cache for a while. Whoever is measured next would pay for it.
//! Not here: what counts inside a round. A snapshot that falls into one is that server's own.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Length of one look at a CPU, and the ticks of it (10 ms each) that it may be busy and still count as resting.
const LOOK: Duration = Duration::from_millis(150);
const BUSY_TICKS_MAX: u64 = 1;
/// A machine that never rests is measured all the same.
const LIMIT: Duration = Duration::from_secs(15);

/// Waits until `cpu` rests and the file system of `dir` has written what it holds. How long that took.
pub fn come_to_rest(cpu: usize, dir: &Path) -> Duration {
    let begin = Instant::now();
    while let Some(before) = busy_ticks(cpu)
        && begin.elapsed() < LIMIT
    {
        // Other processes' work offers nothing to wait on but time.
        std::thread::park_timeout(LOOK);
        if busy_ticks(cpu).is_none_or(|after| after - before <= BUSY_TICKS_MAX) {
            break;
        }
    }
    // A system without this program writes when it pleases.
    let _ = Command::new("sync").arg("-f").arg(dir).status();
    begin.elapsed()
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
