//! Results for people and for programs: a terminal table, JSON, .hgrm, one self-contained HTML page with plots.
//! Not here: measuring.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use crate::circumstances::Circumstances;
use crate::compare::{CellResult, ComparisonResult, ECHO, OSTLER};
use crate::plot;
use crate::scenario::Report;
use crate::statistics::{Line, Verdict, median};

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
pub(crate) fn number(value: f64) -> String {
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
    settings: &'a [(String, String)],
    report: &'a Report,
}

pub fn write_json(
    path: &Path,
    circumstances: &Circumstances,
    settings: &[(String, String)],
    report: &Report,
) -> io::Result<()> {
    std::fs::write(path, serde_json::to_string_pretty(&Whole { circumstances, settings, report })?)
}

/// One run of a sweep.
#[derive(serde::Serialize)]
pub struct Point {
    pub value: f64,
    pub report: Report,
}

#[derive(serde::Serialize)]
struct Sweep<'a> {
    circumstances: &'a Circumstances,
    settings: &'a [(String, String)],
    swept: &'a str,
    points: &'a [Point],
}

pub fn write_sweep_json(
    path: &Path,
    circumstances: &Circumstances,
    settings: &[(String, String)],
    swept: &str,
    points: &[Point],
) -> io::Result<()> {
    let sweep = Sweep { circumstances, settings, swept, points };
    std::fs::write(path, serde_json::to_string_pretty(&sweep)?)
}

fn sweep_table(what: &str, points: &[Point]) -> Vec<Vec<String>> {
    let mut rows =
        vec![[what, "ops/s", "p50 us", "p99 us", "p99.9 us", "server CPU us/op"].map(String::from).to_vec()];
    for Point { value, report } in points {
        let figure = |name: &str| report.value(name).map_or("-".into(), number);
        let cpu = report.server_cpu_us_per_op.map_or("-".into(), number);
        let row =
            [format!("{value:.0}"), figure("throughput"), figure("p50"), figure("p99"), figure("p99.9"), cpu];
        rows.push(row.to_vec());
    }
    rows
}

/// The curve as a table.
pub fn sweep_terminal(name: &str, what: &str, points: &[Point]) -> String {
    let mut text = format!("{name} by {what}\n");
    for line in aligned(&sweep_table(what, points), 0).lines() {
        let _ = writeln!(text, "  {line}");
    }
    for Point { value, report } in points {
        for reason in &report.invalid {
            let _ = writeln!(text, "  INVALID at {value:.0}: {reason}");
        }
    }
    text
}

pub fn sweep_html(
    circumstances: &Circumstances,
    settings: &[(String, String)],
    name: &str,
    what: &str,
    points: &[Point],
) -> String {
    let mut body = String::new();
    for Point { value, report } in points {
        for reason in &report.invalid {
            let _ = write!(body, "<p class=\"bad\">Invalid at {value:.0}: {}</p>", escape(reason));
        }
    }
    body.push_str(&html_table(&sweep_table(what, points), "figures"));
    let rates = points.iter().filter_map(|p| Some((p.value, p.report.value("throughput")?))).collect();
    body.push_str(&plot::curve_figure(name, what, &[(name, rates)]));
    let labels: Vec<String> = points.iter().map(|p| format!("{what} {:.0}", p.value)).collect();
    let curves: Vec<(&str, &[(u64, u64)])> = labels
        .iter()
        .zip(points)
        .map(|(label, point)| (label.as_str(), point.report.histogram.as_slice()))
        .collect();
    body.push_str(&plot::latency(&curves));
    let _ = write!(body, "<h2>Settings</h2>{}", pairs_table(settings));
    body.push_str(&circumstances_table(circumstances));
    page(&format!("ostler bench {} by {}", escape(name), escape(what)), &body)
}

pub fn read_comparison_json(path: &Path) -> io::Result<ComparisonResult> {
    let text = std::fs::read_to_string(path)?;
    serde_json::from_str(&text).map_err(|e| io::Error::other(format!("{}: {e}", path.display())))
}

/// The table for people who read one table, in Markdown: throughput by server, and Ostler over each.
pub fn headline(result: &ComparisonResult) -> String {
    let names = server_names(result);
    let peers: Vec<&str> = names.iter().copied().filter(|name| ![OSTLER, ECHO].contains(name)).collect();
    let mut header = vec!["ops/s (server CPU us per op)".to_string(), OSTLER.into()];
    header.extend(peers.iter().map(|name| name.to_string()));
    header.push("limit".into());
    header.extend(peers.iter().map(|name| format!("over {name} [95 %]")));
    let mut rows = vec![header.clone(), vec!["---".to_string(); header.len()]];
    for cell in &result.cells {
        let figure = |name: &str| {
            let Some(series) = cell.of(name) else { return "-".to_string() };
            let ops = number(series.rate().round());
            format!("{ops} ({})", number(series.cpu_us()))
        };
        let mut row = vec![cell.name.clone(), figure(OSTLER)];
        row.extend(peers.iter().map(|name| figure(name)));
        row.push(cell.limit_median(OSTLER).map_or("-".into(), |limit| number(limit.round())));
        for name in &peers {
            let ratio = cell.ratio(OSTLER, name);
            row.push(format!("{:.2} [{:.2}, {:.2}]", ratio.median, ratio.low, ratio.high));
        }
        rows.push(row);
    }
    let mut text: String = rows.iter().map(|row| format!("| {} |\n", row.join(" | "))).collect();
    let c = &result.circumstances;
    let _ = writeln!(
        text,
        "\nCommit {}, {}: {} rounds of {} s, {} znodes; {}, {} CPUs, Linux {}, {}.",
        c.commit,
        c.date,
        rounds_played(result),
        result.seconds,
        number(result.keys as f64),
        c.cpu,
        c.cpus,
        c.kernel,
        c.file_system
    );
    for reason in invalid_rounds(result) {
        let _ = writeln!(text, "{reason}.");
    }
    text
}

/// The goals, for the terminal.
pub fn goals_terminal(result: &ComparisonResult) -> String {
    aligned(&lines_table(&result.lines), 6)
}

const MARK: &str = "<!-- bench -->\n";
const END_MARK: &str = "<!-- /bench -->";

/// `text` with what lies between the markers replaced; `None` without markers.
pub fn between_markers(text: &str, new: &str) -> Option<String> {
    let (before, rest) = text.split_once(MARK)?;
    let (_, after) = rest.split_once(END_MARK)?;
    Some(format!("{before}{MARK}{new}{END_MARK}{after}"))
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

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}\
table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}\
th,td{padding:.25rem .75rem;border-bottom:1px solid #d8dee4;text-align:right}\
th:first-child,td:first-child{text-align:left}th{font-weight:600}\
.lines td,.lines th,.pairs td{text-align:left;vertical-align:top}.pairs td:first-child{white-space:nowrap;color:#57606a}\
.figures td,.figures th{white-space:nowrap}.bad{color:#b42318}figure{margin:1.5rem 0}figcaption{color:#57606a}svg{max-width:100%;height:auto}";

pub(crate) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style>\
         <h1>{title}</h1>{body}</html>\n"
    )
}

pub(crate) fn circumstances_table(c: &Circumstances) -> String {
    let rows = [
        ("commit", c.commit.clone()),
        ("date", c.date.clone()),
        ("CPU", format!("{} ({} usable)", c.cpu, c.cpus)),
        ("memory", format!("{} MiB", c.memory_mib)),
        ("kernel", c.kernel.clone()),
        ("file system", c.file_system.clone()),
        ("disk", c.disk.clone()),
        ("congestion control", c.congestion_control.clone()),
    ];
    let mut rows: Vec<(String, String)> =
        rows.map(|(name, value)| (name.to_string(), value)).into_iter().collect();
    rows.extend(c.versions.iter().map(|(name, version)| (format!("version of {name}"), version.clone())));
    rows.extend(c.sync_checks.iter().map(|(name, text)| (format!("does {name} sync?"), text.clone())));
    format!("<h2>Circumstances</h2>{}", pairs_table(&rows))
}

/// Names and values.
pub(crate) fn pairs_table(rows: &[(String, String)]) -> String {
    let rows: String = rows.iter().map(|(n, v)| table_row(&[n.clone(), v.clone()], "td")).collect();
    format!("<table class=\"pairs\">{rows}</table>")
}

pub fn html(circumstances: &Circumstances, settings: &[(String, String)], report: &Report) -> String {
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
    let _ = write!(body, "<h2>Settings</h2>{}", pairs_table(settings));
    body.push_str(&circumstances_table(circumstances));
    page(&format!("ostler bench {}", escape(&report.scenario)), &body)
}

/// Medians by server, the ceiling last.
fn figures_table(result: &ComparisonResult) -> Vec<Vec<String>> {
    let names = server_names(result);
    let mut header = vec!["ops/s (server CPU us/op)".to_string()];
    header.extend(names.iter().map(|name| name.to_string()));
    header.push("limit".into());
    let mut rows = vec![header];
    for cell in &result.cells {
        let mut row = vec![cell.name.clone()];
        for series in &cell.series {
            let mark = if series.invalid.iter().any(Option::is_some) { " (!)" } else { "" };
            let ops = number(series.rate());
            row.push(format!("{ops} ({}){mark}", number(series.cpu_us())));
        }
        row.push(cell.limit_median(OSTLER).map_or("-".into(), number));
        rows.push(row);
    }
    rows
}

/// Ostler over the others, paired round by round.
fn ratios_table(result: &ComparisonResult) -> Vec<Vec<String>> {
    let names: Vec<&str> = server_names(result).into_iter().filter(|name| *name != OSTLER).collect();
    let mut header = vec!["ostler over [95 %]".to_string()];
    header.extend(names.iter().map(|name| name.to_string()));
    let mut rows = vec![header];
    for cell in &result.cells {
        let mut row = vec![cell.name.clone()];
        for name in &names {
            let ratio = cell.ratio(OSTLER, name);
            row.push(format!("{:.2} [{:.2}, {:.2}]", ratio.median, ratio.low, ratio.high));
        }
        rows.push(row);
    }
    rows
}

/// User-space instructions per operation; empty where the machine counts none.
fn instructions_table(result: &ComparisonResult) -> Vec<Vec<String>> {
    let mut header = vec!["user-space instructions/op".to_string()];
    header.extend(server_names(result).iter().map(|name| name.to_string()));
    let mut rows = vec![header];
    for cell in result.cells.iter().filter(|cell| cell.series.iter().any(|s| !s.instructions.is_empty())) {
        let mut row = vec![cell.name.clone()];
        row.extend(cell.series.iter().map(|series| number(median(&series.instructions))));
        rows.push(row);
    }
    if rows.len() == 1 { Vec::new() } else { rows }
}

pub(crate) fn lines_table(lines: &[Line]) -> Vec<Vec<String>> {
    let mut rows =
        vec![["goal", "what", "wanted", "measured [95 %]", "verdict", "note"].map(String::from).to_vec()];
    for line in lines {
        let figure = |value: f64| if value.abs() < 100.0 { format!("{value:.3}") } else { number(value) };
        let measured = match line.measured {
            Some(m) if m.low == m.high => format!("{} {}", figure(m.median), line.unit),
            Some(m) => format!("{} [{}, {}] {}", figure(m.median), figure(m.low), figure(m.high), line.unit),
            None => "-".into(),
        };
        let verdict = match &line.verdict {
            Verdict::Met => "met".into(),
            Verdict::Missed => "MISSED".into(),
            Verdict::NotJudged(why) => format!("not judged: {why}"),
        };
        rows.push(vec![
            line.id.clone(),
            line.what.clone(),
            line.goal(),
            measured.trim_end().into(),
            verdict,
            line.note.clone(),
        ]);
    }
    if rows.len() == 1 { Vec::new() } else { rows }
}

fn server_names(result: &ComparisonResult) -> Vec<&str> {
    let first = result.cells.first();
    first.map(|cell| cell.series.iter().map(|s| s.server.as_str()).collect()).unwrap_or_default()
}

/// How many rounds the cells had: one number, or the least and the most.
fn rounds_played(result: &ComparisonResult) -> String {
    let played = |cell: &CellResult| cell.series.iter().map(|series| series.ops_per_second.len()).max();
    let least = result.cells.iter().filter_map(played).min().unwrap_or(result.rounds);
    let most = result.cells.iter().filter_map(played).max().unwrap_or(result.rounds);
    if least == most { least.to_string() } else { format!("{least} to {most}") }
}

/// Why rounds do not count, each reason once.
fn invalid_rounds(result: &ComparisonResult) -> Vec<String> {
    let mut texts = Vec::new();
    for cell in &result.cells {
        for series in &cell.series {
            let reasons: Vec<&String> = series.invalid.iter().flatten().collect();
            if let Some(first) = reasons.first() {
                texts.push(format!(
                    "{}, {}: {} of {} rounds do not count: {first}",
                    cell.name,
                    series.server,
                    reasons.len(),
                    series.invalid.len()
                ));
            }
        }
    }
    texts
}

/// `text_columns` are aligned left.
pub(crate) fn aligned(rows: &[Vec<String>], text_columns: usize) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[at] - cell.chars().count());
            let _ =
                if at < text_columns { write!(line, "{cell}{pad}  ") } else { write!(line, "{pad}{cell}  ") };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

pub fn comparison_terminal(result: &ComparisonResult) -> String {
    let mut text = String::new();
    if !result.cells.is_empty() {
        let _ = writeln!(text, "{}", aligned(&figures_table(result), 1));
        let _ = writeln!(text, "{}", aligned(&ratios_table(result), 1));
        match instructions_table(result) {
            rows if rows.is_empty() => {
                text.push_str("this machine does not count instructions\n\n");
            }
            rows => drop(writeln!(text, "{}", aligned(&rows, 1))),
        }
    }
    let _ = writeln!(text, "{}", aligned(&lines_table(&result.lines), 6));
    for reason in invalid_rounds(result) {
        let _ = writeln!(text, "(!) {reason}");
    }
    for limit in &result.sync_limits {
        let _ = writeln!(
            text,
            "raw group commit, {:<12} {:>8} /s   p50 {:>7} us   CPU {:>6} us",
            format!("{:?}:", limit.method),
            number(limit.syncs_per_second),
            number(limit.latency.p50_us),
            number(limit.cpu_us)
        );
    }
    for (name, bytes) in &result.rss_bytes {
        let each = *bytes as f64 / result.keys as f64;
        let _ = writeln!(
            text,
            "{name}: {} bytes of the whole process per znode behind {} creates",
            number(each),
            number(result.keys as f64)
        );
    }
    for (name, checked) in &result.circumstances.sync_checks {
        let _ = writeln!(text, "{name}: {checked}");
    }
    text
}

pub(crate) fn html_table(rows: &[Vec<String>], class: &str) -> String {
    let mut table = format!("<table class=\"{class}\">");
    for (at, row) in rows.iter().enumerate() {
        table.push_str(&table_row(row, if at == 0 { "th" } else { "td" }));
    }
    table.push_str("</table>");
    table
}

pub fn comparison_html(result: &ComparisonResult) -> String {
    let mut body = String::new();
    if !result.lines.is_empty() {
        let _ = write!(body, "<h2>Goals</h2>{}", html_table(&lines_table(&result.lines), "lines"));
    }
    if !result.cells.is_empty() {
        let _ = write!(
            body,
            "<h2>Throughput</h2>{}<p>Medians over rounds. The limit is the bare echo loop, for writes the lower of echo \
             and raw group commit, for mixes the echo's cost plus that of the syncs. (!): rounds that do not count.</p>{}\
             <p>Paired round by round, with 95 % intervals.</p>",
            html_table(&figures_table(result), "figures"),
            html_table(&ratios_table(result), "figures")
        );
        match instructions_table(result) {
            rows if rows.is_empty() => body.push_str("<p>This machine does not count instructions.</p>"),
            rows => body.push_str(&html_table(&rows, "figures")),
        }
    }
    for reason in invalid_rounds(result) {
        let _ = write!(body, "<p class=\"bad\">(!) {}</p>", escape(&reason));
    }
    body.push_str(&plot::bars(result));
    body.push_str(&plot::concurrency(result));
    for (name, run) in &result.runs {
        let plots = plot::throughput(&run.seconds, &run.marks);
        if !plots.is_empty() {
            let _ = write!(body, "<h3>{}</h3>{plots}", escape(name));
        }
    }
    if !result.cells.is_empty() {
        body.push_str("<h2>Latency</h2>");
    }
    for cell in &result.cells {
        let lines: Vec<(&str, &[(u64, u64)])> =
            cell.series.iter().map(|series| (series.server.as_str(), series.histogram.as_slice())).collect();
        let _ = write!(body, "<h3>{}</h3>{}", escape(&cell.name), plot::latency(&lines));
    }
    body.push_str(&disk_section(result));
    let _ = write!(body, "<h2>Settings</h2>{}", pairs_table(&result.settings));
    body.push_str(&circumstances_table(&result.circumstances));
    page("ostler bench compare", &body)
}

fn disk_section(result: &ComparisonResult) -> String {
    if result.sync_limits.is_empty() {
        return String::new();
    }
    let mut rows = vec![["method", "commits/s", "p50 us", "p99 us", "CPU us"].map(String::from).to_vec()];
    rows.extend(result.sync_limits.iter().map(|limit| {
        vec![
            format!("{:?}", limit.method),
            number(limit.syncs_per_second),
            number(limit.latency.p50_us),
            number(limit.latency.p99_us),
            number(limit.cpu_us),
        ]
    }));
    format!("<h2>Raw group commit of 300 bytes</h2>{}", html_table(&rows, "figures"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_between_the_markers_changes() {
        let text = "a\n<!-- bench -->\nold\n<!-- /bench -->\nb";
        assert_eq!(between_markers(text, "new\n").unwrap(), text.replace("old", "new"));
        assert_eq!(between_markers("a", "new"), None);
    }

    #[test]
    fn numbers_are_readable() {
        for (value, text) in
            [(0.5, "0.50"), (99.994, "99.99"), (1234.6, "1 235"), (1e6, "1 000 000"), (f64::NAN, "-")]
        {
            assert_eq!(number(value), text);
        }
    }
}
