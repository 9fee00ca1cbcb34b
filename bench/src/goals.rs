//! The goals that follow from the comparison's cells: P1 to P4 and P14. Pure: rounds in, lines out.
//! Not here: goals with a measurement of their own (proofs).

use crate::compare::{CellResult, ComparisonResult, ECHO, NETTY, NIO, OSTLER};
use crate::statistics::Line;
use crate::statistics::Sense::{AtLeast, AtMost};

const READ_ONE: &str = "read, 1 session, depth 1";
const READ_FLAT: &str = "read, 100 sessions, depth 1";
const READ_FEW: &str = "read, 10 sessions, depth 16";
const READ_DEEP: &str = "read, 100 sessions, depth 16";
const MIX_DEEP: &str = "10:1, 100 sessions, depth 16";
const MIX_FLAT: &str = "10:1, 100 sessions, depth 1";
const WRITE_DEEP: &str = "write, 100 sessions, depth 16";
const WRITE_ONE: &str = "write, 1 session, depth 1";
const CROWD: &str = "10 000 sessions connect at once";

/// All lines whose cells are in `result`, in the goals' order.
pub fn lines(result: &ComparisonResult) -> Vec<Line> {
    let mut lines: Vec<Line> = result.cells.iter().flat_map(of_cell).collect();
    let number = |line: &Line| line.id.trim_start_matches('P').parse::<u32>().unwrap_or(u32::MAX);
    lines.sort_by_key(number);
    lines
}

/// Those of one cell.
pub fn of_cell(cell: &CellResult) -> Vec<Line> {
    match cell.name.as_str() {
        MIX_DEEP => vec![faster("P1", cell, NETTY, 13.0), faster("P1", cell, NIO, 15.0)],
        MIX_FLAT => vec![of_limit("P1", cell, 0.85)],
        READ_ONE | READ_FLAT => vec![of_limit("P2", cell, 0.92)],
        READ_FEW | READ_DEEP => vec![own_cost(cell)],
        WRITE_DEEP => {
            vec![faster("P4", cell, NETTY, 12.0), faster("P4", cell, NIO, 12.0), of_limit("P4", cell, 0.35)]
        }
        WRITE_ONE => vec![lone_writer(cell)],
        CROWD => {
            vec![of_limit("P14", cell, 0.8), faster("P14", cell, NETTY, 1.6), faster("P14", cell, NIO, 1.6)]
        }
        _ => Vec::new(),
    }
}

fn faster(id: &str, cell: &CellResult, peer: &str, bound: f64) -> Line {
    let what = format!("{}, against {peer}", cell.name);
    if cell.of(peer).is_none() {
        return Line::absent(id, &what, AtLeast, bound, "times", "this peer did not run");
    }
    let servers = [OSTLER, peer];
    let rates = cell.paired(&servers, |at, s| Some(s[0].ops_per_second[at] / s[1].ops_per_second[at]));
    let costs = cell.paired_costs(&servers, |at, s| Some(s[1].server_cpu_us[at] / s[0].server_cpu_us[at]));
    Line::either(|values| Line::rounds(id, &what, AtLeast, bound, "times", values), &rates, &costs)
}

fn of_limit(id: &str, cell: &CellResult, bound: f64) -> Line {
    let what = format!("{}, of its limit", cell.name);
    let syncs = |at: usize, s: &[&crate::compare::Series]| s[0].syncs_per_op.get(at).copied();
    let shares = cell.paired(&[OSTLER, ECHO], |at, s| {
        Some(s[0].ops_per_second[at] / cell.limit(at, s[1], syncs(at, s).unwrap_or(0.0))?)
    });
    let costs = cell.paired_costs(&[OSTLER, ECHO], |at, s| {
        Some(cell.limit_cost(at, s[1], syncs(at, s).unwrap_or(0.0))? / s[0].server_cpu_us[at])
    });
    let line = Line::either(|values| Line::rounds(id, &what, AtLeast, bound, "", values), &shares, &costs);
    if cell.reads == 0 || cell.writes == 0 {
        return line;
    }
    // The strict reading counts a sync's CPU; the lenient one all the time it takes.
    let slow = cell.paired(&[OSTLER, ECHO], |at, s| {
        let cost = 1e6 / s[1].ops_per_second[at] + syncs(at, s)? * cell.raw_sync.get(at)?.p50_us;
        Some(s[0].ops_per_second[at] * cost / 1e6)
    });
    let per_op = crate::statistics::median(&cell.paired(&[OSTLER], syncs));
    let slow = crate::statistics::median(&slow);
    let note = format!(
        "{}; {per_op:.4} syncs per op; {slow:.2} if a sync costs its whole time, not its CPU",
        line.note
    );
    line.note(note)
}

fn own_cost(cell: &CellResult) -> Line {
    let costs = cell
        .paired_costs(&[OSTLER, ECHO], |at, s| Some((s[0].server_cpu_us[at] - s[1].server_cpu_us[at]) * 1e3));
    Line::rounds("P3", &format!("{}, CPU above the echo", cell.name), AtMost, 250.0, "ns", &costs)
}

fn lone_writer(cell: &CellResult) -> Line {
    let ratios = cell.paired(&[OSTLER, ECHO], |at, s| {
        Some(s[0].p50_us[at] / (s[1].p50_us[at] + cell.raw_sync.get(at)?.p50_us))
    });
    let what = format!("{}, p50 over echo round trip + raw sync", cell.name);
    Line::rounds("P4", &what, AtMost, 1.3, "times", &ratios)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{RawSync, Series};
    use crate::statistics::Verdict;

    fn series(server: &str, ops: f64, cpu_us: f64, p50_us: f64) -> Series {
        let all = |value: f64| vec![value; 7];
        Series {
            server: server.into(),
            ops_per_second: all(ops),
            server_cpu_us: all(cpu_us),
            instructions: Vec::new(),
            syncs_per_op: if server == ECHO { Vec::new() } else { all(0.01) },
            p50_us: all(p50_us),
            p99_us: all(p50_us),
            max_us: all(p50_us),
            invalid: vec![None; 7],
            saturated: vec![false; 7],
            histogram: Vec::new(),
        }
    }

    fn cell(name: &str, reads: u64, writes: u64) -> CellResult {
        let raw = RawSync { p50_us: 50.0, cpu_us: 20.0, records_per_second: 400_000.0 };
        CellResult {
            name: name.into(),
            sessions: 100,
            depth: 16,
            reads,
            writes,
            series: vec![
                series(OSTLER, 160_000.0, 5.0, 110.0),
                series(NIO, 10_000.0, 90.0, 200.0),
                series(ECHO, 200_000.0, 4.8, 50.0),
            ],
            raw_sync: if writes > 0 { vec![raw; 7] } else { Vec::new() },
        }
    }

    #[track_caller]
    fn check(line: &Line, measured: f64, verdict: Verdict) {
        let found = line.measured.unwrap().median;
        assert!((found - measured).abs() < 1e-6 * measured, "{line:?}");
        assert_eq!(line.verdict, verdict, "{line:?}");
    }

    #[test]
    fn limits_follow_the_kind_of_cell() {
        // 5 us of echo and 0.01 syncs of 20 us of CPU: 5.2 us an operation.
        check(&of_limit("P1", &cell(MIX_FLAT, 10, 1), 0.8), 160_000.0 * 5.2e-6, Verdict::Met);
        check(&of_limit("P2", &cell("read", 1, 0), 0.92), 0.8, Verdict::Missed);
        check(&of_limit("P4", &cell(WRITE_DEEP, 0, 1), 0.35), 0.8, Verdict::Met);
        check(&faster("P1", &cell(MIX_DEEP, 10, 1), NIO, 15.0), 16.0, Verdict::Met);
        check(&own_cost(&cell("read", 1, 0)), 200.0, Verdict::Met);
        check(&lone_writer(&cell(WRITE_ONE, 0, 1)), 1.1, Verdict::Met);
    }

    #[test]
    fn rounds_with_a_saturated_generator_do_not_count() {
        let mut cell = cell("read", 1, 0);
        cell.series[2].invalid[..3].fill(Some("saturated".into()));
        let line = of_limit("P2", &cell, 0.92);
        assert_eq!(line.rounds, 4);
        assert!(matches!(line.verdict, Verdict::NotJudged(_)), "{line:?}");
        // What the limit's operations cost is known all the same: 4.8 us of 5.
        cell.series[2].saturated[..3].fill(true);
        let line = of_limit("P2", &cell, 0.92);
        assert_eq!((line.rounds, &line.verdict), (7, &Verdict::Met), "{line:?}");
        assert!(
            (line.measured.unwrap().median - 0.96).abs() < 1e-9 && line.note.starts_with("by server CPU")
        );
    }

    #[test]
    fn lines_stand_in_the_order_of_the_goals() {
        let ids = |names: &[(&str, u64, u64)]| {
            let mut lines: Vec<Line> =
                names.iter().flat_map(|(name, r, w)| of_cell(&cell(name, *r, *w))).collect();
            lines.retain(|line| line.measured.is_some());
            lines.iter().map(|line| line.id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            ids(&[(READ_DEEP, 1, 0), (MIX_FLAT, 10, 1), (WRITE_DEEP, 0, 1)]),
            ["P3", "P1", "P4", "P4"]
        );
        assert_eq!(ids(&[("session storm, 100 at once", 0, 0)]), [""; 0]);
    }

    #[test]
    fn a_peer_that_did_not_run_is_told_of() {
        let line = faster("P1", &cell(MIX_DEEP, 10, 1), NETTY, 13.0);
        assert!(line.measured.is_none());
        assert!(matches!(line.verdict, Verdict::NotJudged(_)));
    }
}
