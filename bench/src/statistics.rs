//! What rounds of a measurement say: medians, intervals, and whether a goal is met. Pure.
//! A goal counts only when the interval is narrower than a third of the distance to it; otherwise it is not judged.

/// Rounds that must remain valid for a goal to be judged.
pub const ROUNDS_MIN: usize = 5;

/// Median of a series; NaN when empty.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => f64::NAN,
        (n, half) if n % 2 == 1 => sorted[half],
        (_, half) => (sorted[half - 1] + sorted[half]) / 2.0,
    }
}

/// A median with the ends of its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

/// Median and 95 % interval of paired figures, one a round, by Wilcoxon's signed ranks (Hodges, Lehmann): an interval
/// over the means of all pairs that no single bad round can move far. The extremes when there are fewer than six
/// rounds, which then cover less.
pub fn interval(values: &[f64]) -> Interval {
    if values.is_empty() {
        return Interval { median: f64::NAN, low: f64::NAN, high: f64::NAN };
    }
    let mut means = Vec::new();
    for (at, a) in values.iter().enumerate() {
        means.extend(values[at..].iter().map(|b| (a + b) / 2.0));
    }
    means.sort_by(f64::total_cmp);
    let left_out = signed_rank_critical(values.len()).saturating_sub(1);
    Interval { median: median(values), low: means[left_out], high: means[means.len() - 1 - left_out] }
}

/// The largest w with P(W < w) <= 2.5 %, W being the signed-rank statistic of `count` pairs: the ends of the interval are
/// the w-th means from below and from above.
fn signed_rank_critical(count: usize) -> usize {
    let sums = count * (count + 1) / 2;
    let mut ways = vec![0.0f64; sums + 1];
    ways[0] = 1.0;
    for rank in 1..=count {
        for sum in (rank..=sums).rev() {
            ways[sum] += ways[sum - rank];
        }
    }
    let all = 2f64.powi(count as i32);
    let mut below = 0.0;
    for (w, way) in ways.iter().enumerate() {
        below += way / all;
        if below > 0.025 {
            return w;
        }
    }
    0
}

/// Which side of the bound is good.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub enum Sense {
    AtLeast,
    AtMost,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Verdict {
    Met,
    Missed,
    /// Why.
    NotJudged(String),
}

/// One goal beside what was measured.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Line {
    /// P1, P2 ...
    pub id: String,
    pub what: String,
    pub sense: Sense,
    pub bound: f64,
    pub unit: String,
    pub measured: Option<Interval>,
    /// Rounds behind it.
    pub rounds: usize,
    pub verdict: Verdict,
    /// What else the reader should know.
    pub note: String,
}

impl Line {
    fn new(id: &str, what: &str, sense: Sense, bound: f64, unit: &str) -> Line {
        Line {
            id: id.into(),
            what: what.into(),
            sense,
            bound,
            unit: unit.into(),
            measured: None,
            rounds: 0,
            verdict: Verdict::NotJudged("not measured".into()),
            note: String::new(),
        }
    }

    /// A goal measured in rounds: `values` holds one paired figure for each valid one.
    pub fn rounds(id: &str, what: &str, sense: Sense, bound: f64, unit: &str, values: &[f64]) -> Line {
        let mut line = Line::new(id, what, sense, bound, unit);
        line.rounds = values.len();
        if !values.is_empty() {
            let measured = interval(values);
            line.measured = Some(measured);
            line.verdict = judge(measured, values.len(), sense, bound);
        }
        line
    }

    /// A goal judged by throughput; where its rounds do not judge, by server CPU per operation, which the disk and the
    /// generator disturb less. `line` makes the line of either; the note says which it is, and the other one.
    pub fn either(line: impl Fn(&[f64]) -> Line, rates: &[f64], costs: &[f64]) -> Line {
        let (by_rate, by_cost) = (line(rates), line(costs));
        let judged = |line: &Line| line.measured.is_some() && !line.wants_rounds();
        if !judged(&by_rate) && judged(&by_cost) {
            let note =
                format!("by server CPU per operation; by throughput {}, too wide to judge", by_rate.shown());
            return by_cost.note(note);
        }
        let note = format!("{} by server CPU per operation", by_cost.shown());
        by_rate.note(note)
    }

    /// The same goal judged by user-space instructions per operation, where `self`'s rounds of time do not judge it.
    pub fn by_instructions(self, values: &[f64]) -> Line {
        let counted = Line::rounds(&self.id, &self.what, self.sense, self.bound, &self.unit, values);
        let rest = if self.note.is_empty() { String::new() } else { format!(" ({})", self.note) };
        let by_time = format!("{}{rest}", self.shown());
        if counted.measured.is_none() || counted.wants_rounds() {
            let note = format!("{by_time}; {} by user-space instructions per operation", counted.shown());
            return self.note(note);
        }
        counted
            .note(format!("by user-space instructions per operation, which know nothing of caches; by time {by_time}, too wide to judge"))
    }

    fn shown(&self) -> String {
        match self.measured {
            Some(Interval { median, low, high }) => format!("{median:.3} [{low:.3}, {high:.3}]"),
            None => "not measured".to_string(),
        }
    }

    /// A goal whose figure does not vary from run to run, such as memory per znode, or one that is judged by a maximum.
    pub fn once(id: &str, what: &str, sense: Sense, bound: f64, unit: &str, value: f64) -> Line {
        let mut line = Line::new(id, what, sense, bound, unit);
        line.rounds = 1;
        line.measured = Some(Interval { median: value, low: value, high: value });
        line.verdict = if holds(value, sense, bound) { Verdict::Met } else { Verdict::Missed };
        line
    }

    /// A goal that could not be measured here.
    pub fn absent(id: &str, what: &str, sense: Sense, bound: f64, unit: &str, why: &str) -> Line {
        let mut line = Line::new(id, what, sense, bound, unit);
        line.verdict = Verdict::NotJudged(why.into());
        line
    }

    /// It was measured, and more rounds may judge it.
    pub fn wants_rounds(&self) -> bool {
        self.measured.is_some() && matches!(self.verdict, Verdict::NotJudged(_))
    }

    pub fn note(mut self, note: impl Into<String>) -> Line {
        self.note = note.into();
        self
    }

    pub fn goal(&self) -> String {
        let sign = if self.sense == Sense::AtLeast { "≥" } else { "≤" };
        format!("{sign} {} {}", self.bound, self.unit).trim_end().to_string()
    }
}

fn holds(value: f64, sense: Sense, bound: f64) -> bool {
    match sense {
        Sense::AtLeast => value >= bound,
        Sense::AtMost => value <= bound,
    }
}

fn judge(measured: Interval, rounds: usize, sense: Sense, bound: f64) -> Verdict {
    if rounds < ROUNDS_MIN {
        return Verdict::NotJudged(format!("{rounds} valid rounds, {ROUNDS_MIN} are wanted"));
    }
    let width = measured.high - measured.low;
    let margin = (measured.median - bound).abs();
    if width.is_nan() || width > margin / 3.0 {
        let side = match (holds(measured.low, sense, bound), holds(measured.high, sense, bound)) {
            (true, true) => "all of it on the good side",
            (false, false) => "all of it on the bad side",
            _ => "the goal inside it",
        };
        return Verdict::NotJudged(format!("interval wider than a third of the margin, {side}"));
    }
    if holds(measured.median, sense, bound) { Verdict::Met } else { Verdict::Missed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn intervals_follow_the_tables_of_signed_ranks() {
        // Two-sided 5 % critical values of Wilcoxon's test: 0 at 6 pairs, 2 at 7, 3 at 8, 5 at 9, 8 at 10.
        for (count, critical) in [(5, 0), (6, 1), (7, 3), (8, 4), (9, 6), (10, 9)] {
            assert_eq!(signed_rank_critical(count), critical, "{count}");
        }
        let values: Vec<f64> = (1..=7).map(f64::from).collect();
        assert_eq!(interval(&values), Interval { median: 4.0, low: 2.0, high: 6.0 });
        assert_eq!(interval(&[2.0]), Interval { median: 2.0, low: 2.0, high: 2.0 });
    }

    #[test]
    fn a_wild_round_does_not_move_the_interval_far() {
        let tame = interval(&[10.0, 10.1, 9.9, 10.2, 9.8, 10.0, 100.0]);
        assert!(tame.low > 9.7 && tame.high < 60.0, "{tame:?}");
        assert_eq!(tame.median, 10.0);
    }

    fn check(values: &[f64], sense: Sense, bound: f64, judged: Option<bool>) {
        let line = Line::rounds("P0", "", sense, bound, "", values);
        let expected = matches!(
            (&line.verdict, judged),
            (Verdict::Met, Some(true)) | (Verdict::Missed, Some(false)) | (Verdict::NotJudged(_), None)
        );
        assert!(expected, "{line:?}");
        assert_eq!(line.wants_rounds(), judged.is_none() && !values.is_empty());
    }

    #[test]
    fn instructions_judge_what_time_does_not() {
        let by_time = Line::rounds("P0", "", Sense::AtMost, 1.05, "", &[0.9, 1.1, 1.0, 0.95, 1.05]);
        assert!(by_time.wants_rounds());
        let line = by_time.clone().by_instructions(&[1.001, 1.002, 1.001, 1.003, 1.002]);
        assert_eq!(line.verdict, Verdict::Met);
        assert!(line.note.starts_with("by user-space instructions"), "{line:?}");
        // What it does not judge either stays as time has it.
        let line = by_time.clone().by_instructions(&[1.0, 1.1]);
        assert_eq!(line.measured, by_time.measured);
        assert!(line.wants_rounds() && line.note.contains("by user-space instructions"), "{line:?}");
    }

    #[test]
    fn goals_are_judged_only_by_narrow_intervals() {
        let steady = [15.0, 15.1, 14.9, 15.0, 15.2, 14.8, 15.0];
        check(&steady, Sense::AtLeast, 13.0, Some(true));
        check(&steady, Sense::AtLeast, 18.0, Some(false));
        check(&steady, Sense::AtMost, 18.0, Some(true));
        check(&steady, Sense::AtLeast, 14.9, None);
        check(&steady[..3], Sense::AtLeast, 13.0, None);
        check(&[], Sense::AtLeast, 13.0, None);
    }
}
