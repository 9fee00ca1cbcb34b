//! A fail-over for people and for programs: terminal text and one page. Not here: measuring.

use std::fmt::Write as _;

use super::tally::{BEFORE_MS, STEP_MS, quantile};
use super::{FailoverResult, Series};
use crate::plot;
use crate::report::{
    aligned, circumstances_table, escape, html_table, lines_table, number, page, pairs_table,
};

/// Milliseconds: median, p99, longest.
fn spread(values: &[f64]) -> String {
    let at = |share| number(quantile(values, share));
    if values.is_empty() { "-".into() } else { format!("{} / {} / {}", at(0.5), at(0.99), at(1.0)) }
}

fn gaps_table(series: &[Series]) -> Vec<Vec<String>> {
    let header = [
        "ms: median / p99 / longest",
        "faults",
        "gap in acknowledged writes",
        "first write asked after it",
        "gap in reads of a survivor",
        "gap while nothing happened",
        "server back after",
    ];
    let mut rows = vec![header.map(String::from).to_vec()];
    for series in series {
        let of = |figure: fn(&super::tally::Outage) -> Option<f64>| {
            spread(&series.outages.iter().filter_map(figure).collect::<Vec<_>>())
        };
        rows.push(vec![
            series.label(),
            series.outages.len().to_string(),
            of(|outage| Some(outage.gap_ms)),
            of(|outage| outage.first_ms),
            of(|outage| Some(outage.read_gap_ms)),
            of(|outage| Some(outage.calm_gap_ms)),
            of(|outage| outage.restart_ms),
        ]);
    }
    rows
}

fn counts_table(series: &[Series]) -> Vec<Vec<String>> {
    let header = [
        "counts",
        "acknowledged",
        "fate unknown",
        "refused",
        "lost",
        "applied twice",
        "never asked",
        "survivors' connections closed",
        "sessions lost",
        "writes/s before",
    ];
    let mut rows = vec![header.map(String::from).to_vec()];
    for series in series {
        let closed = format!(
            "{} of {}",
            series.sum(|outage| outage.connections_lost),
            series.sum(|outage| outage.connections)
        );
        rows.push(vec![
            series.label(),
            number(series.acknowledged as f64),
            series.unknown.to_string(),
            series.refused.to_string(),
            series.worst(|back| back.lost).to_string(),
            series.worst(|back| back.twice).to_string(),
            series.worst(|back| back.uncalled).to_string(),
            closed,
            series.sum(|outage| outage.sessions_lost).to_string(),
            number(series.calm_rate.round()),
        ]);
    }
    rows
}

pub fn terminal(result: &FailoverResult) -> String {
    let mut text = String::new();
    for table in [gaps_table(&result.series), counts_table(&result.series)] {
        let _ = writeln!(text, "{}", aligned(&table, 1));
    }
    if !result.lines.is_empty() {
        let _ = writeln!(text, "{}", aligned(&lines_table(&result.lines), 6));
    }
    for series in &result.series {
        let gaps: Vec<String> = series.gaps().iter().map(|gap| format!("{gap:.0}")).collect();
        let _ = writeln!(text, "{}: gaps in ms, one a fault: {}", series.label(), gaps.join(" "));
    }
    text
}

/// Acknowledged writes a second around the fault whose gap is the median one.
fn around(series: &Series) -> Vec<(f64, f64)> {
    let wanted = quantile(&series.gaps(), 0.5);
    let Some(outage) = series.outages.iter().find(|outage| outage.gap_ms == wanted) else {
        return Vec::new();
    };
    let time = |step: usize| (step as u64 * STEP_MS) as f64 - BEFORE_MS as f64;
    let rate = |count: &u32| f64::from(*count) * 1e3 / STEP_MS as f64;
    outage.steps.iter().enumerate().map(|(step, count)| (time(step), rate(count))).collect()
}

/// The share of faults whose gap is at most so long.
fn shares(series: &Series) -> Vec<(f64, f64)> {
    let mut gaps = series.gaps();
    gaps.sort_by(f64::total_cmp);
    let count = gaps.len() as f64;
    gaps.into_iter().enumerate().map(|(at, gap)| (gap.max(0.1), (at + 1) as f64 * 100.0 / count)).collect()
}

pub fn html(result: &FailoverResult) -> String {
    let mut body = String::new();
    for series in result.series.iter().filter(|series| series.is_wrong()) {
        let _ = write!(
            body,
            "<p class=\"bad\">{}: writes are missing, or there twice.</p>",
            escape(&series.label())
        );
    }
    let labels: Vec<String> = result.series.iter().map(Series::label).collect();
    let curves = |points: fn(&Series) -> Vec<(f64, f64)>| -> Vec<plot::Curve<'_>> {
        labels.iter().map(String::as_str).zip(result.series.iter().map(points)).collect()
    };
    body.push_str(&plot::lines(
        "Acknowledged writes around the fault with the median gap",
        ("ms from the fault", "writes/s"),
        &curves(around),
        false,
    ));
    body.push_str(&plot::lines(
        "Faults whose longest gap in acknowledged writes was at most so long",
        ("ms, logarithmic", "% of the faults"),
        &curves(shares),
        true,
    ));
    body.push_str(&html_table(&gaps_table(&result.series), "figures"));
    body.push_str(&html_table(&counts_table(&result.series), "figures"));
    if !result.lines.is_empty() {
        let _ = write!(body, "<h2>Goals</h2>{}", html_table(&lines_table(&result.lines), "lines"));
    }
    let _ = write!(body, "<h2>Settings</h2>{}", pairs_table(&result.settings));
    body.push_str(&circumstances_table(&result.circumstances));
    page("ostler bench failover", &body)
}
