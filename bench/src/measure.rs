//! What is measured: latency histograms by operation, a second-by-second record, errors, CPU and memory of processes.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::frames::Op;

/// Latencies from 1 ns to a minute, three significant digits; longer ones count as a minute.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("constant bounds are valid")
}

/// One second of a run.
#[derive(Clone, Copy, Default, Debug, serde::Serialize, serde::Deserialize)]
pub struct Second {
    pub completed: u64,
    pub max_ns: u64,
}

/// Everything one run recorded inside its window.
pub struct Recording {
    histograms: Vec<Option<Histogram<u64>>>,
    pub seconds: Vec<Second>,
    /// Replies whose header carried an error, by code.
    pub errors: BTreeMap<i32, u64>,
    /// Connections lost inside the window.
    pub lost_connections: u64,
    /// Watch events received inside the window.
    pub events: u64,
    /// How late requests were sent after their intended start (open loop).
    pub send_lag: Histogram<u64>,
}

impl Default for Recording {
    fn default() -> Recording {
        Recording {
            histograms: vec![None; Op::COUNT],
            seconds: Vec::new(),
            errors: BTreeMap::new(),
            lost_connections: 0,
            events: 0,
            send_lag: new_histogram(),
        }
    }
}

impl Recording {
    /// A reply that came `at_ns` after the window opened, `latency_ns` after its request was meant to start.
    pub fn reply(&mut self, op: Op, at_ns: u64, latency_ns: u64) {
        self.histograms[op as usize].get_or_insert_with(new_histogram).saturating_record(latency_ns.max(1));
        let second = (at_ns / 1_000_000_000) as usize;
        if self.seconds.len() <= second {
            self.seconds.resize(second + 1, Second::default());
        }
        let second = &mut self.seconds[second];
        second.completed += 1;
        second.max_ns = second.max_ns.max(latency_ns);
    }

    pub fn error(&mut self, code: i32) {
        *self.errors.entry(code).or_default() += 1;
    }

    pub fn histogram(&self, op: Op) -> Option<&Histogram<u64>> {
        self.histograms[op as usize].as_ref()
    }

    /// All operations together.
    pub fn total(&self) -> Histogram<u64> {
        let mut total = new_histogram();
        for histogram in self.histograms.iter().flatten() {
            // Both have the same precision, so adding cannot fail.
            let _ = total.add(histogram);
        }
        total
    }

    pub fn completed(&self) -> u64 {
        self.seconds.iter().map(|s| s.completed).sum()
    }
}

/// The figures people quote, in microseconds.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Percentiles {
    pub count: u64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub p9999_us: f64,
    pub max_us: f64,
}

impl Percentiles {
    pub fn of(histogram: &Histogram<u64>) -> Percentiles {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Percentiles {
            count: histogram.len(),
            mean_us: histogram.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            p9999_us: at(0.9999),
            max_us: histogram.max() as f64 / 1e3,
        }
    }
}

/// CPU time and memory of a process of this machine, from /proc.
#[derive(Clone, Copy, Default, Debug, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    pub user: Duration,
    pub system: Duration,
    pub rss_bytes: u64,
}

impl Usage {
    pub fn cpu(&self) -> Duration {
        self.user + self.system
    }

    /// `None` when there is no such process.
    pub fn of(pid: u32) -> Option<Usage> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok());
        // Linux reports in USER_HZ, which is 100 on every architecture it runs on today.
        let time = |ticks: u64| Duration::from_millis(ticks * 10);
        // The exact clock does not split it: all counts as user.
        let exact = cpu_exact(pid).map(|cpu| (cpu, Duration::ZERO));
        let (user, system) = exact.unwrap_or((time(ticks(11)?), time(ticks(12)?)));
        Some(Usage { user, system, rss_bytes: ticks(21)? * 4096 })
    }

    pub fn since(&self, earlier: &Usage) -> Usage {
        Usage {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
            rss_bytes: self.rss_bytes,
        }
    }
}

/// Anonymous resident bytes of a process: without the pages of mapped files, which are the kernel's to take back.
pub fn anonymous_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// CPU time of a process to the nanosecond, with that of threads which have ended: a sum over those that are there would
/// shrink when one goes. The clock does not split it into user's and system's.
pub(crate) fn cpu_exact(pid: u32) -> Option<Duration> {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both calls only write to the place they are given, which is ours and of their type.
    let done = unsafe {
        libc::clock_getcpuclockid(pid.try_into().ok()?, &mut clock) == 0
            && libc::clock_gettime(clock, &mut time) == 0
    };
    done.then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_percentiles() {
        let mut recording = Recording::default();
        for i in 0..1000u64 {
            recording.reply(Op::Read, i * 2_000_000, (i + 1) * 1_000);
        }
        assert_eq!(recording.seconds.len(), 2);
        assert_eq!(recording.completed(), 1000);
        let p = Percentiles::of(&recording.total());
        assert!((p.p50_us - 500.0).abs() < 2.0, "{p:?}");
        assert!((p.max_us - 1000.0).abs() < 2.0, "{p:?}");
    }

    #[test]
    fn what_a_thread_used_still_counts_when_it_has_ended() {
        let own = || cpu_exact(std::process::id()).unwrap();
        let wanted = own() + Duration::from_millis(20);
        std::thread::spawn(move || while own() < wanted {}).join().unwrap();
        assert!(own() >= wanted);
    }

    #[test]
    fn own_usage_is_readable() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss_bytes > 0);
    }
}
