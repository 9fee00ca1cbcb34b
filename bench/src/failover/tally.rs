//! What the clients of a fail-over saw, as figures. Pure.

use crate::failover::load::{At, Fate, Record};

/// Length of one step of the picture of an outage, and how much of it lies before and behind the fault.
pub const STEP_MS: u64 = 10;
pub const BEFORE_MS: u64 = 500;
pub const BEHIND_MS: u64 = 3_500;

/// What was done to the ensemble, and when.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub at: At,
    /// The ensemble was left alone up to here.
    pub until: At,
    /// The load went on undisturbed for so long before.
    pub calm_from: At,
    /// Place of the server it was done to; `None` when it was done to all of them.
    pub victim: Option<usize>,
}

/// What one fault did to the clients.
#[derive(Clone, Default, Debug, serde::Serialize, serde::Deserialize)]
pub struct Outage {
    /// Number of the server it was done to; 0 when it was done to all of them.
    pub server: usize,
    /// The longest time without an acknowledged write.
    pub gap_ms: f64,
    /// From the fault to the first acknowledged write that was asked after it; `None` for a fault that takes its time.
    pub first_ms: Option<f64>,
    /// The longest time without an acknowledged write in the time before, when nothing happened.
    pub calm_gap_ms: f64,
    /// The longest time without an answered read, at the survivor where it was longest.
    pub read_gap_ms: f64,
    /// Reads answered by the survivors from the fault to the first acknowledged write.
    pub reads: u64,
    /// Connections at the survivors when it happened, and how many of them the survivors closed.
    pub connections: u64,
    pub connections_lost: u64,
    pub sessions_lost: u64,
    /// From the start of the killed server to its first session, or of a rolling restart the whole.
    pub restart_ms: Option<f64>,
    /// Acknowledged writes in each step of `STEP_MS` from `BEFORE_MS` before the fault.
    pub steps: Vec<u32>,
}

fn ms(time: At) -> f64 {
    time as f64 / 1e6
}

/// The longest distance between neighbours of an ascending series inside `from..=to`, the ends of it included.
fn longest(moments: &[At], from: At, to: At) -> At {
    let first = moments.partition_point(|at| *at < from);
    let last = moments.partition_point(|at| *at <= to);
    let mut before = from;
    let mut gap = 0;
    for at in moments[first..last].iter().copied().chain([to]) {
        gap = gap.max(at - before);
        before = at;
    }
    gap
}

/// What each of `faults` did.
pub fn outages(record: &Record, faults: &[Fault]) -> Vec<Outage> {
    let mut acknowledged: Vec<At> = Vec::new();
    for write in &record.writes {
        if let Fate::Acknowledged(at) = write.fate {
            acknowledged.push(at);
        }
    }
    acknowledged.sort_unstable();
    faults.iter().map(|fault| outage(record, &acknowledged, fault)).collect()
}

fn outage(record: &Record, acknowledged: &[At], fault: &Fault) -> Outage {
    let Fault { at, until, calm_from, victim } = *fault;
    let last_before = acknowledged[..acknowledged.partition_point(|moment| *moment <= at)].last();
    let asked_after = record.writes.iter().filter(|write| write.asked >= at);
    let first = asked_after
        .filter_map(|write| match write.fate {
            Fate::Acknowledged(moment) => Some(moment - at),
            _ => None,
        })
        .min();
    let survives = |target: usize| victim.is_none_or(|victim| victim != target);
    let stood = record
        .stays
        .iter()
        .filter(|stay| stay.from <= at && stay.to.is_none_or(|to| to > at) && survives(stay.target));
    let (mut connections, mut connections_lost) = (0, 0);
    for stay in stood {
        connections += 1;
        connections_lost += u64::from(stay.was_lost && stay.to.is_some_and(|to| to <= until));
    }
    let targets = record.reads.iter().map(|read| read.target + 1).max().unwrap_or(0);
    let read_gaps = (0..targets).filter(|target| survives(*target)).map(|target| {
        let mut moments: Vec<At> = Vec::new();
        moments.extend(record.reads.iter().filter(|read| read.target == target).map(|read| read.at));
        longest(&moments, at, until)
    });
    let outage_end = at + first.unwrap_or(0);
    let is_read = |read: &&super::load::Read| survives(read.target) && (at..=outage_end).contains(&read.at);
    let begin = at.saturating_sub(BEFORE_MS * 1_000_000);
    let mut steps = vec![0; ((BEFORE_MS + BEHIND_MS) / STEP_MS) as usize];
    for moment in acknowledged {
        if let Some(step) = moment
            .checked_sub(begin)
            .and_then(|since| steps.get_mut((since / (STEP_MS * 1_000_000)) as usize))
        {
            *step += 1;
        }
    }
    Outage {
        server: victim.map_or(0, |victim| victim + 1),
        gap_ms: ms(longest(acknowledged, last_before.copied().unwrap_or(at), until)),
        first_ms: victim.and(first).map(ms),
        calm_gap_ms: ms(longest(acknowledged, calm_from, at)),
        read_gap_ms: ms(read_gaps.max().unwrap_or(0)),
        reads: record.reads.iter().filter(is_read).count() as u64,
        connections,
        connections_lost,
        sessions_lost: record.sessions_lost.iter().filter(|lost| (at..=until).contains(lost)).count() as u64,
        restart_ms: None,
        steps,
    }
}

/// What a server's tree holds of the writes, against what the clients know of them.
#[derive(Clone, Default, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct ReadBack {
    pub server: usize,
    pub znodes: u64,
    /// Acknowledged, and not there.
    pub lost: u64,
    /// There more than once.
    pub twice: u64,
    /// There, though refused or never asked.
    pub uncalled: u64,
}

/// `names`: the children of each writer's parent, `NUMBER-SEQUENCE` each.
pub fn read_back(record: &Record, server: usize, names: &[Vec<String>]) -> ReadBack {
    let mut expected: Vec<Vec<Option<Fate>>> = vec![Vec::new(); names.len()];
    for write in &record.writes {
        let lane = &mut expected[write.lane as usize];
        lane.resize(lane.len().max(write.number as usize + 1), None);
        lane[write.number as usize] = Some(write.fate);
    }
    let mut back = ReadBack { server, ..ReadBack::default() };
    for (names, expected) in names.iter().zip(&expected) {
        let mut found = vec![0u32; expected.len()];
        for name in names {
            back.znodes += 1;
            let number = name.split_once('-').and_then(|(number, _)| number.parse::<usize>().ok());
            match number.and_then(|number| found.get_mut(number)) {
                Some(count) => *count += 1,
                None => back.uncalled += 1,
            }
        }
        for (count, fate) in found.iter().zip(expected) {
            back.twice += u64::from(*count > 1);
            match fate {
                Some(Fate::Acknowledged(_)) => back.lost += u64::from(*count == 0),
                Some(Fate::Unknown) => {}
                Some(Fate::Refused(_)) | None => back.uncalled += u64::from(*count > 0),
            }
        }
    }
    back
}

/// The value that a share of them does not exceed; NaN without values.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::super::load::{Read, Stay, Write};
    use super::*;

    const MS: At = 1_000_000;

    fn write(number: u32, asked: At, fate: Fate) -> Write {
        Write { lane: 0, number, asked: asked * MS, fate }
    }

    fn acknowledged(number: u32, asked: At, at: At) -> Write {
        write(number, asked, Fate::Acknowledged(at * MS))
    }

    #[test]
    fn an_outage_in_figures() {
        let stay =
            |target, to: Option<At>, was_lost| Stay { target, from: 0, to: to.map(|at| at * MS), was_lost };
        let record = Record {
            // Asked before the fault and answered behind it: it ends the gap, and is not the first one asked after it.
            writes: vec![
                acknowledged(0, 900, 910),
                acknowledged(1, 970, 990),
                acknowledged(2, 995, 1_040),
                write(3, 996, Fate::Unknown),
                acknowledged(4, 1_010, 1_060),
                acknowledged(5, 1_020, 1_070),
                acknowledged(6, 1_500, 1_990),
                acknowledged(7, 2_000, 3_000),
            ],
            reads: [(0, 999), (1, 1_000), (1, 1_020), (1, 1_100), (2, 1_001), (2, 1_950)]
                .map(|(target, at)| Read { target, at: at * MS })
                .to_vec(),
            stays: vec![
                stay(0, Some(1_000), true),
                stay(1, Some(1_005), true),
                stay(1, None, false),
                stay(2, Some(900), true),
                stay(2, Some(1_900), false),
            ],
            sessions_lost: vec![500 * MS, 1_200 * MS],
        };
        let fault = Fault { at: 1_000 * MS, until: 1_100 * MS, calm_from: 900 * MS, victim: Some(0) };
        let [outage] = &outages(&record, &[fault])[..] else { panic!("one fault") };
        assert_eq!((outage.server, outage.gap_ms, outage.first_ms), (1, 50.0, Some(60.0)));
        assert_eq!(outage.calm_gap_ms, 80.0);
        // Server 3 answered at 1001 and not again up to 1100.
        assert_eq!((outage.read_gap_ms, outage.reads), (99.0, 3));
        assert_eq!((outage.connections, outage.connections_lost, outage.sessions_lost), (3, 1, 0));
        assert_eq!(outage.steps[(BEFORE_MS / STEP_MS) as usize + 4], 1);
        assert_eq!(outage.steps.iter().sum::<u32>(), 7);
    }

    #[test]
    fn an_outage_that_does_not_end_counts_up_to_where_one_looked() {
        let record = Record { writes: vec![acknowledged(0, 1, 2)], ..Record::default() };
        let fault = Fault { at: 10 * MS, until: 500 * MS, calm_from: 0, victim: Some(1) };
        let outage = &outages(&record, &[fault])[0];
        assert_eq!((outage.gap_ms, outage.first_ms), (498.0, None));
    }

    #[test]
    fn what_is_lost_and_what_is_there_twice() {
        let record = Record {
            writes: vec![
                acknowledged(0, 1, 2),
                acknowledged(1, 3, 4),
                write(2, 5, Fate::Unknown),
                write(3, 6, Fate::Refused(-4)),
                write(4, 7, Fate::Unknown),
            ],
            ..Record::default()
        };
        let names = ["0-0000000000", "2-0000000001", "2-0000000002", "3-0000000003", "9-0000000004", "x"];
        let names = vec![names.map(String::from).to_vec()];
        let expected = ReadBack { server: 2, znodes: 6, lost: 1, twice: 1, uncalled: 3 };
        assert_eq!(read_back(&record, 2, &names), expected);
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.99)), (10.0, 20.0));
        assert_eq!(quantile(&[7.0], 0.0), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
