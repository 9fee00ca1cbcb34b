//! Results for people and for programs: a terminal table, JSON, .hgrm, one self-contained HTML page with plots.
//! Not here: measuring.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use crate::circumstances::Circumstances;
use crate::compare::{ComparisonResult, median};
use crate::plot;
use crate::scenario::Report;

/// One scenario on the terminal.
pub fn terminal(report: &Report) -> String {
    let mut text = format!("{}\n", report.scenario);
    for figure in &report.figures {
        let _ = writeln!(text, "  {:<36} {:>14} {}", figure.name, number(figure.value), figure.unit);
    }
    if let Some(cpu) = report.server_cpu_us_per_op {
        let _ = writeln!(text, "  {:<36} {:>14} us", "server CPU per operation", number(cpu));
    }
    if report.by_op.len() > 1 {
        for (op, p) in &report.by_op {
            let _ = writeln!(
                text,
                "  {op:<10} {:>10} ops   p50 {:>9} us   p99 {:>9} us   max {:>9} us",
                p.count,
                number(p.p50_us),
                number(p.p99_us),
                number(p.max_us)
            );
        }
    }
    for (code, count) in &report.errors {
        let _ = writeln!(text, "  error {code}: {count} replies");
    }
    for (at, what) in &report.marks {
        let _ = writeln!(text, "  {at:.2} s: {what}");
    }
    for reason in &report.invalid {
        let _ = writeln!(text, "  INVALID: {reason}");
    }
    text
}

/// Few digits, thousands apart.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".into();
    }
    if value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{:.0}", value.abs());
    let grouped: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    format!("{}{}", if value < 0.0 { "-" } else { "" }, grouped.join(" "))
}

#[derive(serde::Serialize)]
struct Whole<'a> {
    circumstances: &'a Circumstances,
    report: &'a Report,
}

pub fn write_json(path: &Path, circumstances: &Circumstances, report: &Report) -> io::Result<()> {
    std::fs::write(path, serde_json::to_string_pretty(&Whole { circumstances, report })?)
}

pub fn write_comparison_json(path: &Path, result: &ComparisonResult) -> io::Result<()> {
    std::fs::write(path, serde_json::to_string(result)?)
}

/// HdrHistogram's percentile table, values in microseconds.
pub fn hgrm(report: &Report) -> String {
    let total: u64 = report.histogram.iter().map(|(_, count)| count).sum();
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let mut seen = 0;
    for (value, count) in &report.histogram {
        seen += count;
        let share = seen as f64 / total as f64;
        let inverse = if seen == total { "inf".to_string() } else { format!("{:.2}", 1.0 / (1.0 - share)) };
        let _ = writeln!(text, "{:12.3} {share:2.12} {seen:10} {inverse:>14}", *value as f64 / 1e3);
    }
    let _ = writeln!(text, "#[Total count = {total}]");
    text
}

fn table_row(cells: &[String], tag: &str) -> String {
    let cells: String = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
    format!("<tr>{cells}</tr>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}\
table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}\
th,td{padding:.25rem .75rem;border-bottom:1px solid #d8dee4;text-align:right}\
th:first-child,td:first-child{text-align:left}th{font-weight:600}\
.bad{color:#b42318}figure{margin:1.5rem 0}figcaption{color:#57606a}svg{max-width:100%;height:auto}";

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style>\
         <h1>{title}</h1>{body}</html>\n"
    )
}

fn circumstances_table(c: &Circumstances) -> String {
    let rows = [
        ("commit", c.commit.clone()),
        ("date", c.date.clone()),
        ("CPU", format!("{} ({} usable)", c.cpu, c.cpus)),
        ("memory", format!("{} MiB", c.memory_mib)),
        ("kernel", c.kernel.clone()),
        ("file system", c.file_system.clone()),
        ("congestion control", c.congestion_control.clone()),
    ];
    let rows: String = rows.map(|(name, value)| table_row(&[name.to_string(), value], "td")).concat();
    format!("<h2>Circumstances</h2><table>{rows}</table>")
}

pub fn html(circumstances: &Circumstances, report: &Report) -> String {
    let mut body = String::new();
    for reason in &report.invalid {
        let _ = write!(body, "<p class=\"bad\">Invalid: {}</p>", escape(reason));
    }
    let rows: String = report
        .figures
        .iter()
        .map(|f| table_row(&[f.name.clone(), format!("{} {}", number(f.value), f.unit)], "td"))
        .collect();
    let _ = write!(body, "<table>{rows}</table>");
    body.push_str(&plot::throughput(&report.seconds, &report.marks));
    body.push_str(&plot::latency(&[(report.scenario.as_str(), report.histogram.as_slice())]));
    body.push_str(&circumstances_table(circumstances));
    page(&format!("ostler bench {}", escape(&report.scenario)), &body)
}

/// The comparison's table: medians per server, then ratios of the first server to the others.
pub fn comparison_table(result: &ComparisonResult) -> Vec<Vec<String>> {
    let names: Vec<&str> = result
        .cells
        .first()
        .map(|cell| cell.series.iter().map(|s| s.server.as_str()).collect())
        .unwrap_or_default();
    let mut header = vec!["cell".to_string()];
    header.extend(names.iter().map(|name| format!("{name} ops/s (CPU us)")));
    header.extend(names.iter().skip(1).map(|name| format!("{} / {name} [95 %]", names[0])));
    let mut rows = vec![header];
    for cell in &result.cells {
        let mut row = vec![cell.name.clone()];
        for series in &cell.series {
            let mark = if series.invalid.is_empty() { "" } else { " (!)" };
            row.push(format!(
                "{} ({}){mark}",
                number(median(&series.ops_per_second)),
                number(median(&series.server_cpu_us))
            ));
        }
        for name in names.iter().skip(1) {
            let (mid, low, high) = cell.ratio(names[0], name).unwrap_or((f64::NAN, f64::NAN, f64::NAN));
            row.push(format!("{mid:.2} [{low:.2}, {high:.2}]"));
        }
        rows.push(row);
    }
    rows
}

pub fn comparison_terminal(result: &ComparisonResult) -> String {
    let rows = comparison_table(result);
    let columns = rows.first().map_or(0, Vec::len);
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (at, cell) in row.iter().enumerate() {
            let pad = widths[at] - cell.chars().count();
            let (before, after) = if at == 0 { (0, pad) } else { (pad, 0) };
            let _ = write!(text, "{}{cell}{}  ", " ".repeat(before), " ".repeat(after));
        }
        text.push('\n');
    }
    for limit in &result.sync_limits {
        let _ = writeln!(
            text,
            "sync {:?}: {} /s, p50 {} us",
            limit.method,
            number(limit.syncs_per_second),
            number(limit.latency.p50_us)
        );
    }
    for (name, bytes) in &result.rss_bytes {
        let each = *bytes as f64 / result.keys as f64;
        let _ =
            writeln!(text, "{name}: {} bytes resident per znode after {} znodes", number(each), result.keys);
    }
    text
}

pub fn comparison_html(result: &ComparisonResult) -> String {
    let rows = comparison_table(result);
    let mut body = String::from("<table>");
    for (at, row) in rows.iter().enumerate() {
        body.push_str(&table_row(row, if at == 0 { "th" } else { "td" }));
    }
    body.push_str("</table><p>Medians over rounds; ratios are paired round by round, with 95 % intervals. (!) marks cells with an invalid round.</p>");
    body.push_str(&plot::bars(result));
    for cell in &result.cells {
        let lines: Vec<(&str, &[(u64, u64)])> = cell
            .series
            .iter()
            .filter_map(|series| Some((series.server.as_str(), series.last.as_ref()?.histogram.as_slice())))
            .collect();
        let _ = write!(body, "<h3>{}</h3>{}", escape(&cell.name), plot::latency(&lines));
    }
    let limits: String = result
        .sync_limits
        .iter()
        .map(|limit| {
            let row = [
                format!("{:?}", limit.method),
                format!("{} /s", number(limit.syncs_per_second)),
                format!("p50 {} us", number(limit.latency.p50_us)),
                format!("p99 {} us", number(limit.latency.p99_us)),
            ];
            table_row(&row, "td")
        })
        .collect();
    let _ = write!(body, "<h2>Raw group commit of 300 bytes</h2><table>{limits}</table>");
    body.push_str(&circumstances_table(&result.circumstances));
    page("ostler bench compare", &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (value, text) in
            [(0.5, "0.50"), (99.994, "99.99"), (1234.6, "1 235"), (1e6, "1 000 000"), (f64::NAN, "-")]
        {
            assert_eq!(number(value), text);
        }
    }
}
