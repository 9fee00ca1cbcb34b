//! `observers`: what observers give and what they cost, by their number: reads they serve; the writer's latency, the
//! leader's CPU and the bytes it sends; and how long after a write's acknowledgement an observer shows it.
//! Not here: the look at staleness (`staleness`), how it is shown (`report`).

pub mod report;
mod staleness;

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::circumstances::{self, Circumstances};
use crate::compare::{OSTLER, VALUE_BYTES};
use crate::ensemble::Ensemble;
use crate::frames::Op;
use crate::load::Pace;
use crate::measure::Percentiles;
use crate::scenario::{self, Settings};
use crate::server::ServerKind;
use crate::statistics::{Line, Sense};
use staleness::Staleness;

/// Clients of the constant writes: enough that none of them is ever the limit.
const WRITERS: usize = 16;

pub struct Observers {
    pub kinds: Vec<ServerKind>,
    pub voters: usize,
    /// Ascending.
    pub counts: Vec<usize>,
    /// Writes a second.
    pub rate: f64,
    pub duration: Duration,
    pub warmup: Duration,
    /// Readers of each observer, and requests under way on each.
    pub readers: usize,
    pub depth: usize,
    pub keys: u64,
    pub dir: PathBuf,
}

/// One ensemble with so many observers.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Row {
    pub name: String,
    pub observers: usize,
    /// The constant writes, clients at the voters.
    pub write_p50_us: f64,
    pub write_p99_us: f64,
    pub write_rate: f64,
    pub leader_cpu_us_per_write: Option<f64>,
    pub cpu_us_per_write: Option<f64>,
    /// To all learners, as the kernel counts them; `None` where `ss` does not tell.
    pub leader_egress_bytes_per_write: Option<f64>,
    /// From the acknowledgement at the writer to the watch event at an observer; `None` without observers.
    pub staleness: Option<Percentiles>,
    /// As (value in ns, count).
    pub staleness_histogram: Vec<(u64, u64)>,
    /// Reads at the observers alone, or at the voters where there is no observer.
    pub reads_per_second: f64,
    pub cpu_us_per_read: Option<f64>,
    pub invalid: Vec<String>,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct ObserversResult {
    pub circumstances: Circumstances,
    pub settings: Vec<(String, String)>,
    pub rows: Vec<Row>,
    pub lines: Vec<Line>,
}

pub fn run(observers: &Observers, say: &mut dyn FnMut(String)) -> io::Result<ObserversResult> {
    std::fs::create_dir_all(&observers.dir)?;
    let mut circumstances = circumstances::circumstances(&observers.dir);
    let mut rows = Vec::new();
    for kind in &observers.kinds {
        say(format!("{}: starting {} voters", kind.name, observers.voters));
        let most = observers.counts.last().copied().unwrap_or(0);
        let dir = observers.dir.join(&kind.name);
        let mut ensemble = Ensemble::prepare(kind, &dir, observers.voters, most)?;
        for number in 1..=observers.voters {
            ensemble.launch(number)?;
        }
        for number in 1..=observers.voters {
            ensemble.wait_serving(number)?;
        }
        let leader = ensemble.leader_of(observers.voters)?;
        let at_leader = vec![ensemble.member(leader).address];
        let settings = Settings {
            connections: WRITERS,
            ..Settings::at(at_leader, Vec::new(), observers.keys, VALUE_BYTES)
        };
        scenario::preload(&settings, &mut |_| {})?;
        circumstances.describe(&kind.name, ensemble.members[0].address);
        // Just-in-time compilers and caches want to have seen the paths.
        observers.write(&ensemble, leader, 0)?;
        let mut running = 0;
        for count in &observers.counts {
            say(format!("{}: {count} observers", kind.name));
            for number in observers.voters + running + 1..=observers.voters + count {
                ensemble.launch(number)?;
                ensemble.wait_serving(number)?;
            }
            running = *count;
            rows.push(observers.measure(&ensemble, leader, *count, say)?);
        }
        ensemble.clear();
    }
    let lines = lines(&rows);
    Ok(ObserversResult { circumstances, settings: described(observers), rows, lines })
}

fn described(observers: &Observers) -> Vec<(String, String)> {
    let measured = format!(
        "{:.1} s after {:.1} s of warm-up",
        observers.duration.as_secs_f64(),
        observers.warmup.as_secs_f64()
    );
    [
        ("voters", observers.voters.to_string()),
        ("writes", format!("{} a second from {WRITERS} sessions at the voters, open loop", observers.rate)),
        (
            "staleness",
            "one more write every 5 ms, from its acknowledgement at a voter to the watch event at each observer; \
             an event that comes first counts as 0"
                .into(),
        ),
        (
            "reads",
            format!(
                "{} sessions at each observer, {} requests under way on each; without observers at the voters; \
                 nobody writes meanwhile",
                observers.readers, observers.depth
            ),
        ),
        ("znodes", format!("{} of production shape, {VALUE_BYTES} bytes", observers.keys)),
        ("measured", measured),
        ("on", "one machine: servers and clients share its CPUs, so reads/s do not grow with observers here".into()),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .to_vec()
}

impl Observers {
    /// The constant writes at the voters, and what `count` observers show of them.
    fn write(
        &self,
        ensemble: &Ensemble,
        leader: usize,
        count: usize,
    ) -> io::Result<(scenario::Report, Option<f64>, Staleness)> {
        let addresses = ensemble.addresses();
        let voters = &addresses[..self.voters];
        let settings = Settings {
            connections: WRITERS,
            mix: vec![(Op::Write, 1)],
            pace: Pace::Fixed(self.rate),
            warmup: self.warmup,
            duration: self.duration,
            ..Settings::at(voters.to_vec(), ensemble.pids(), self.keys, VALUE_BYTES)
        };
        let seen_at = &addresses[self.voters..self.voters + count];
        let port = ensemble.member(leader).quorum_port;
        std::thread::scope(|scope| {
            let watch = staleness::start(scope, voters[leader % self.voters], seen_at)?;
            let before = bytes_sent(port);
            let writes_before = watch.writes();
            let report = scenario::sustained("observers", &settings, &mut |_| {});
            let sent = bytes_sent(port).zip(before).map(|(after, before)| after.saturating_sub(before));
            let asides = watch.writes() - writes_before;
            let staleness = watch.finish()?;
            let report = report?;
            let time = (self.duration + self.warmup).as_secs_f64();
            let writes = report.value("throughput").unwrap_or(f64::NAN) * time + asides as f64;
            Ok((report, sent.map(|sent| sent as f64 / writes), staleness))
        })
    }

    fn measure(
        &self,
        ensemble: &Ensemble,
        leader: usize,
        count: usize,
        say: &mut dyn FnMut(String),
    ) -> io::Result<Row> {
        let (writing, egress, staleness) = self.write(ensemble, leader, count)?;
        say(format!("{}: {count} observers, reads", ensemble.kind.name));
        let reading = self.read(ensemble, count)?;
        let pid = ensemble.member(leader).pid();
        let of_leader = writing.cpu_us_per_op_by_server.iter().find(|(server, _)| Some(*server) == pid);
        let figure = |name| writing.value(name).unwrap_or(f64::NAN);
        let mut invalid = writing.invalid.clone();
        for report in [&writing, &reading] {
            invalid.extend(
                report.errors.iter().map(|(code, replies)| format!("{replies} replies with error {code}")),
            );
        }
        Ok(Row {
            name: ensemble.kind.name.clone(),
            observers: count,
            write_p50_us: figure("p50"),
            write_p99_us: figure("p99"),
            write_rate: figure("throughput"),
            leader_cpu_us_per_write: of_leader.map(|(_, cost)| *cost),
            cpu_us_per_write: writing.server_cpu_us_per_op,
            leader_egress_bytes_per_write: egress,
            staleness: (!staleness.histogram.is_empty()).then(|| Percentiles::of(&staleness.histogram)),
            staleness_histogram: staleness
                .histogram
                .iter_recorded()
                .map(|step| (step.value_iterated_to(), step.count_at_value()))
                .collect(),
            reads_per_second: reading.value("throughput").unwrap_or(f64::NAN),
            cpu_us_per_read: reading.server_cpu_us_per_op,
            invalid,
        })
    }

    /// Reads of the observers, or of the voters without any.
    fn read(&self, ensemble: &Ensemble, count: usize) -> io::Result<scenario::Report> {
        let range = if count == 0 { 0..self.voters } else { self.voters..self.voters + count };
        let members = &ensemble.members[range];
        let settings = Settings {
            connections: self.readers * members.len(),
            depth: self.depth,
            warmup: self.warmup,
            duration: self.duration,
            ..Settings::at(
                members.iter().map(|member| member.address).collect(),
                members.iter().filter_map(|member| member.pid()).collect(),
                self.keys,
                VALUE_BYTES,
            )
        };
        scenario::sustained("reads", &settings, &mut |_| {})
    }
}

/// Bytes that this machine has sent from `port` over the connections that stand, as the kernel counts them; `None`
/// where there is no `ss`, or a kernel that does not count.
fn bytes_sent(port: u16) -> Option<u64> {
    let output = Command::new("ss").args(["-Htin", "sport", "=", &format!(":{port}")]).output().ok()?;
    sum_of_sent(&String::from_utf8_lossy(&output.stdout))
}

fn sum_of_sent(text: &str) -> Option<u64> {
    let counts =
        text.split_whitespace().filter_map(|word| word.strip_prefix("bytes_sent:")?.parse::<u64>().ok());
    counts.reduce(|a, b| a + b)
}

fn row(rows: &[Row], observers: usize) -> Option<&Row> {
    rows.iter().find(|row| row.name == OSTLER && row.observers == observers)
}

fn lines(rows: &[Row]) -> Vec<Line> {
    let mut lines = Vec::new();
    if let (Some(none), Some(four)) = (row(rows, 0), row(rows, 4)) {
        let cost = four.leader_cpu_us_per_write.zip(none.leader_cpu_us_per_write);
        let what = "leader CPU per write with 4 observers over that with none";
        lines.push(match cost {
            Some((four, none)) => Line::once("P18", what, Sense::AtMost, 1.3, "", four / none)
                .note(format!("{four:.1} us against {none:.1} us")),
            None => Line::absent("P18", what, Sense::AtMost, 1.3, "", "the kernel does not tell"),
        });
        let ratio = four.write_p99_us / none.write_p99_us;
        let note = format!("{:.0} us against {:.0} us", four.write_p99_us, none.write_p99_us);
        let what = "writer's p99 with 4 observers over that with none";
        lines.push(Line::once("P18", what, Sense::AtMost, 1.2, "", ratio).note(note));
    }
    let stale =
        rows.iter().filter(|row| row.name == OSTLER).filter_map(|row| row.staleness.map(|s| (row, s)));
    if let Some((row, staleness)) = stale.max_by_key(|(row, _)| row.observers) {
        let what = "acknowledgement at the writer to visible at an observer, p99";
        let note = format!(
            "{} observers, {:.0} writes/s; median {:.2} ms, longest {:.1} ms",
            row.observers,
            row.write_rate,
            staleness.p50_us / 1e3,
            staleness.max_us / 1e3
        );
        lines.push(Line::once("P21", what, Sense::AtMost, 5.0, "ms", staleness.p99_us / 1e3).note(note));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sent_bytes_are_summed_over_connections() {
        let text = "ESTAB 0 0 127.0.0.1:2888 127.0.0.1:4\n\t cubic bytes_sent:100 bytes_acked:90\nESTAB 0 0 \
                    127.0.0.1:2888 127.0.0.1:5\n\t cubic bytes_sent:23 bytes_acked:23\n";
        assert_eq!(sum_of_sent(text), Some(123));
        assert_eq!(sum_of_sent("ESTAB 0 0\n"), None);
    }
}
