//! Observers for people and for programs. Not here: measuring.

use std::fmt::Write as _;

use super::{ObserversResult, Row};
use crate::plot;
use crate::report::{
    aligned, circumstances_table, escape, html_table, lines_table, number, page, pairs_table,
};

fn table(rows: &[Row]) -> Vec<Vec<String>> {
    let header = [
        "by number of observers",
        "n",
        "write p50 us",
        "write p99 us",
        "leader CPU us/write",
        "all servers'",
        "leader sends bytes/write",
        "staleness p50 us",
        "p99 us",
        "longest us",
        "reads/s",
        "server CPU us/read",
    ];
    let mut table = vec![header.map(String::from).to_vec()];
    for row in rows {
        let optional = |value: Option<f64>| value.map_or("-".into(), number);
        table.push(vec![
            format!("{}{}", row.name, if row.invalid.is_empty() { "" } else { " (!)" }),
            row.observers.to_string(),
            number(row.write_p50_us),
            number(row.write_p99_us),
            optional(row.leader_cpu_us_per_write),
            optional(row.cpu_us_per_write),
            optional(row.leader_egress_bytes_per_write),
            optional(row.staleness.map(|s| s.p50_us)),
            optional(row.staleness.map(|s| s.p99_us)),
            optional(row.staleness.map(|s| s.max_us)),
            number(row.reads_per_second.round()),
            optional(row.cpu_us_per_read),
        ]);
    }
    table
}

fn remarks(rows: &[Row]) -> Vec<String> {
    let of_row = |row: &Row| {
        let first = row.invalid.first()?;
        Some(format!("{}, {} observers: {first}", row.name, row.observers))
    };
    rows.iter().filter_map(of_row).collect()
}

pub fn terminal(result: &ObserversResult) -> String {
    let mut text = format!("{}\n", aligned(&table(&result.rows), 1));
    if !result.lines.is_empty() {
        let _ = writeln!(text, "{}", aligned(&lines_table(&result.lines), 6));
    }
    for remark in remarks(&result.rows) {
        let _ = writeln!(text, "(!) {remark}");
    }
    text
}

pub fn html(result: &ObserversResult) -> String {
    let mut names: Vec<&str> = Vec::new();
    for row in &result.rows {
        if !names.contains(&row.name.as_str()) {
            names.push(&row.name);
        }
    }
    type Of = fn(&Row) -> Option<f64>;
    let figures: [(&str, &str, Of); 5] = [
        ("The leader's CPU of a write", "us", |row| row.leader_cpu_us_per_write),
        ("Bytes that the leader sends for a write", "bytes", |row| row.leader_egress_bytes_per_write),
        ("The writer's latency, p99", "us", |row| Some(row.write_p99_us)),
        ("From a write's acknowledgement to its sight at an observer, p99", "us", |row| {
            row.staleness.map(|staleness| staleness.p99_us)
        }),
        ("Server CPU of a read", "us", |row| row.cpu_us_per_read),
    ];
    let mut body = String::new();
    for (caption, unit, figure) in figures {
        let curve = |name: &str| -> Vec<(f64, f64)> {
            let rows = result.rows.iter().filter(|row| row.name == name);
            rows.filter_map(|row| Some((row.observers as f64, figure(row)?))).collect()
        };
        let curves: Vec<plot::Curve<'_>> = names.iter().map(|name| (*name, curve(name))).collect();
        body.push_str(&plot::lines(caption, ("observers", unit), &curves, false));
    }
    let labels: Vec<String> =
        result.rows.iter().map(|row| format!("{}, {} observers", row.name, row.observers)).collect();
    let histograms: Vec<(&str, &[(u64, u64)])> = labels
        .iter()
        .map(String::as_str)
        .zip(result.rows.iter().map(|row| &row.staleness_histogram[..]))
        .collect();
    let stale = plot::latency(&histograms);
    if !stale.is_empty() {
        let _ = write!(body, "<h2>Staleness</h2>{stale}");
    }
    body.push_str(&html_table(&table(&result.rows), "figures"));
    for remark in remarks(&result.rows) {
        let _ = write!(body, "<p class=\"bad\">(!) {}</p>", escape(&remark));
    }
    if !result.lines.is_empty() {
        let _ = write!(body, "<h2>Goals</h2>{}", html_table(&lines_table(&result.lines), "lines"));
    }
    let _ = write!(body, "<h2>Settings</h2>{}", pairs_table(&result.settings));
    body.push_str(&circumstances_table(&result.circumstances));
    page("ostler bench observers", &body)
}
