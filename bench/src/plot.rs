//! Plots as inline SVG through `plotters`: throughput over time, latency by percentile, bars of a comparison.

use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::compare::{CellResult, ComparisonResult, ECHO, Series};
use crate::measure::Second;

const SIZE: (u32, u32) = (960, 360);
const COLOURS: [RGBColor; 6] = [
    RGBColor(9, 105, 218),
    RGBColor(191, 57, 18),
    RGBColor(26, 127, 55),
    RGBColor(130, 80, 223),
    RGBColor(154, 103, 0),
    RGBColor(87, 96, 106),
];

/// A name and its points.
pub type Curve<'a> = (&'a str, Vec<(f64, f64)>);
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// The figure, or a sentence that says why there is none.
fn figure(caption: &str, draw: impl FnOnce(&mut String) -> Drawn) -> String {
    let mut svg = String::new();
    match draw(&mut svg) {
        Ok(()) => format!("<figure>{svg}<figcaption>{caption}</figcaption></figure>"),
        Err(e) => format!("<p class=\"bad\">{caption}: no plot ({e})</p>"),
    }
}

/// Operations in each whole second, and below it the longest latency in each; what happened is marked in both.
pub fn throughput(seconds: &[Second], marks: &[(f64, String)]) -> String {
    // The last second is seldom whole.
    let whole = &seconds[..seconds.len().saturating_sub(1)];
    if whole.len() < 2 {
        return String::new();
    }
    let points = |value: fn(&Second) -> f64| -> Vec<(f64, f64)> {
        whole.iter().enumerate().map(|(at, second)| (at as f64 + 0.5, value(second))).collect()
    };
    let mut text = over_time("Operations in each second", "ops/s", &points(|s| s.completed as f64), marks);
    if whole.iter().any(|second| second.max_ns > 0) {
        let longest = points(|s| s.max_ns as f64 / 1e3);
        text.push_str(&over_time("Longest latency in each second", "us", &longest, marks));
    }
    text
}

fn over_time(what: &str, unit: &str, points: &[(f64, f64)], marks: &[(f64, String)]) -> String {
    let caption =
        if marks.is_empty() { what.to_string() } else { format!("{what}; vertical lines mark events") };
    figure(&caption, |svg| {
        let top = points.iter().map(|p| p.1).fold(1.0, f64::max) * 1.25;
        let root = SVGBackend::with_string(svg, (SIZE.0, SIZE.1 * 3 / 4)).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(90)
            .build_cartesian_2d(0.0..points.len() as f64, 0.0..top)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc("s")
            .y_desc(unit)
            .y_label_formatter(&|y| short(*y))
            .draw()?;
        chart.draw_series(LineSeries::new(points.iter().copied(), COLOURS[0].stroke_width(2)))?;
        for (row, (at, what)) in marks.iter().enumerate() {
            chart.draw_series(LineSeries::new([(*at, 0.0), (*at, top)], &COLOURS[1]))?;
            let place = (*at + points.len() as f64 * 0.005, top * (0.97 - 0.07 * (row % 3) as f64));
            let style = ("sans-serif", 12).into_font().color(&COLOURS[1]);
            chart.draw_series([Text::new(what.clone(), place, style)])?;
        }
        drop(chart);
        root.present()?;
        Ok(())
    })
}

/// Latency over percentile; the x axis counts nines, so that the tail has room.
pub fn latency(lines: &[(&str, &[(u64, u64)])]) -> String {
    let curves: Vec<Curve<'_>> = lines
        .iter()
        .map(|(name, histogram)| (*name, curve(histogram)))
        .filter(|(_, c)| !c.is_empty())
        .collect();
    if curves.is_empty() {
        return String::new();
    }
    figure("Latency by percentile, both logarithmic", |svg| {
        let points = || curves.iter().flat_map(|(_, curve)| curve);
        let right = points().map(|p| p.0).fold(1.0, f64::max);
        let top = points().map(|p| p.1).fold(1.0, f64::max) * 1.3;
        let bottom = points().map(|p| p.1).fold(f64::MAX, f64::min) / 1.3;
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(80)
            .build_cartesian_2d(0.0..right, (bottom..top).log_scale())?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc("percentile")
            .y_desc("us")
            .x_labels(right.ceil() as usize + 1)
            .x_label_formatter(&|nines| percentile(*nines))
            .y_label_formatter(&|y| short(*y))
            .draw()?;
        draw_curves(&mut chart, &curves, 0)?;
        drop(chart);
        root.present()?;
        Ok(())
    })
}

/// 0 is the least, 1 p90, 2 p99, 3 p99.9.
fn percentile(nines: f64) -> String {
    match nines.round() as usize {
        0 => "least".into(),
        1 => "p90".into(),
        2 => "p99".into(),
        more => format!("p99.{}", "9".repeat(more - 2)),
    }
}

/// (nines, microseconds) up to the last value that is not the maximum alone.
fn curve(histogram: &[(u64, u64)]) -> Vec<(f64, f64)> {
    let total: u64 = histogram.iter().map(|(_, count)| count).sum();
    let mut seen = 0;
    histogram
        .iter()
        .map(|(value, count)| {
            let before = seen;
            seen += count;
            let above = (total - before) as f64 / total as f64;
            (-above.log10(), (*value as f64 / 1e3).max(0.001))
        })
        .collect()
}

/// Median throughput of every cell: the overview of a report.
pub fn bars(result: &ComparisonResult) -> String {
    if result.cells.is_empty() {
        return String::new();
    }
    figure("Median operations per second, logarithmic", |svg| draw_bars(result, svg))
}

/// The same as a file of its own.
pub fn headline(result: &ComparisonResult) -> std::io::Result<String> {
    let mut svg = String::new();
    draw_bars(result, &mut svg).map_err(|e| std::io::Error::other(format!("no plot: {e}")))?;
    Ok(svg)
}

fn draw_bars(result: &ComparisonResult, svg: &mut String) -> Drawn {
    let rows: usize = result.cells.iter().map(|cell| cell.series.len() + 1).sum();
    let values = || result.cells.iter().flat_map(|cell| &cell.series).map(Series::rate);
    let left = 1_000.0;
    let right = values().filter(|v| v.is_finite()).fold(10.0 * left, f64::max) * 4.0;
    {
        let root = SVGBackend::with_string(svg, (SIZE.0, 50 + 24 * rows as u32)).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .margin(10)
            .x_label_area_size(30)
            .build_cartesian_2d((left..right).log_scale(), 0.0..rows as f64)?;
        chart
            .configure_mesh()
            .disable_y_axis()
            .disable_y_mesh()
            .light_line_style(WHITE)
            .x_desc("ops/s")
            .x_label_formatter(&|x| short(*x))
            .draw()?;
        let mut row = rows as f64;
        for cell in &result.cells {
            row -= 1.0;
            let bold = ("sans-serif", 15).into_font().style(FontStyle::Bold);
            chart.draw_series([Text::new(cell.name.clone(), (left, row + 0.7), bold)])?;
            for (at, series) in cell.series.iter().enumerate() {
                row -= 1.0;
                let value = series.rate().max(left);
                let bar = [(left, row + 0.1), (value, row + 0.9)];
                chart.draw_series([Rectangle::new(bar, COLOURS[at % COLOURS.len()].filled())])?;
                let name = if series.server == ECHO { "echo limit" } else { series.server.as_str() };
                let label = format!("{name} {}", short(value));
                chart.draw_series([Text::new(label, (value * 1.02, row + 0.75), ("sans-serif", 13))])?;
            }
        }
        root.present()?;
    }
    Ok(())
}

/// Throughput over requests outstanding: a curve for each server, a figure for each mix with three cells or more.
pub fn concurrency(result: &ComparisonResult) -> String {
    let mut mixes: Vec<(u64, u64)> = Vec::new();
    for cell in result.cells.iter().filter(|cell| cell.reads + cell.writes > 0) {
        if !mixes.contains(&(cell.reads, cell.writes)) {
            mixes.push((cell.reads, cell.writes));
        }
    }
    let of_mix = |mix: &(u64, u64)| {
        let mut cells: Vec<&CellResult> =
            result.cells.iter().filter(|cell| (cell.reads, cell.writes) == *mix).collect();
        cells.sort_by_key(|cell| cell.sessions * cell.depth);
        let what = match mix {
            (_, 0) => "reads".to_string(),
            (0, _) => "writes".to_string(),
            (reads, writes) => format!("{reads}:{writes}"),
        };
        let names: Vec<&str> = cells[0].series.iter().map(|s| s.server.as_str()).collect();
        let curves: Vec<Curve<'_>> = names
            .into_iter()
            .map(|name| {
                let point = |cell: &&CellResult| {
                    let rate = cell.of(name)?.rate();
                    Some(((cell.sessions * cell.depth) as f64, rate))
                };
                (name, cells.iter().filter_map(point).collect())
            })
            .collect();
        if cells.len() < 3 { String::new() } else { curve_figure(&what, "requests outstanding", &curves) }
    };
    mixes.iter().map(of_mix).collect()
}

/// Throughput over anything that is turned up, both logarithmic.
pub fn curve_figure(what: &str, x_name: &str, curves: &[Curve<'_>]) -> String {
    let points = || curves.iter().flat_map(|(_, curve)| curve);
    if points().count() < 2 {
        return String::new();
    }
    figure(&format!("{what}: operations per second over {x_name}, both logarithmic"), |svg| {
        let right = points().map(|p| p.0).fold(1.0, f64::max) * 1.2;
        let left = points().map(|p| p.0).fold(f64::MAX, f64::min) / 1.2;
        let top = points().map(|p| p.1).fold(1.0, f64::max) * 1.5;
        let bottom = points().map(|p| p.1).fold(f64::MAX, f64::min) / 1.5;
        let (x, y) = ((left..right).log_scale(), (bottom.max(1.0)..top).log_scale());
        draw_lines(svg, (x, y), (x_name, "ops/s"), curves, Look { y_labels: 90, dot_radius: 3 })
    })
}

/// Curves over linear axes, or with `log_x` over a logarithmic x. The axes are named x, y.
pub fn lines(caption: &str, axes: (&str, &str), curves: &[Curve<'_>], log_x: bool) -> String {
    let points = || curves.iter().flat_map(|(_, curve)| curve);
    if points().count() < 2 {
        return String::new();
    }
    let (left, right) = points().fold((f64::MAX, f64::MIN), |(l, r), p| (l.min(p.0), r.max(p.0)));
    let top = points().map(|p| p.1).fold(1.0, f64::max) * 1.1;
    figure(caption, |svg| {
        if log_x {
            let range = (left.max(1e-3) / 1.2..right.max(1e-3) * 1.2).log_scale();
            draw_lines(svg, (range, 0.0..top), axes, curves, LINES)
        } else {
            draw_lines(svg, (left..right.max(left + 1.0), 0.0..top), axes, curves, LINES)
        }
    })
}

/// What differs between pictures of curves: the width of the labels at y, and the dots on points (0: none).
#[derive(Clone, Copy)]
struct Look {
    y_labels: u32,
    dot_radius: u32,
}

const LINES: Look = Look { y_labels: 80, dot_radius: 0 };

fn draw_lines<X, Y>(
    svg: &mut String,
    (x, y): (X, Y),
    (x_name, y_name): (&str, &str),
    curves: &[Curve<'_>],
    look: Look,
) -> Drawn
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
{
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(look.y_labels)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(x_name)
        .y_desc(y_name)
        .x_label_formatter(&|x| short(*x))
        .y_label_formatter(&|y| short(*y))
        .draw()?;
    draw_curves(&mut chart, curves, look.dot_radius)?;
    drop(chart);
    root.present()?;
    Ok(())
}

/// Each curve in a colour of its own, with dots of that radius on its points unless it is 0, and a legend.
fn draw_curves<'a, X, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    curves: &[Curve<'_>],
    dot_radius: u32,
) -> Drawn
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    for (at, (name, curve)) in curves.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        chart
            .draw_series(LineSeries::new(curve.iter().copied(), colour.stroke_width(2)))?
            .label(name.to_string())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        if dot_radius > 0 {
            chart.draw_series(curve.iter().map(|point| Circle::new(*point, dot_radius, colour.filled())))?;
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

/// 1500000 as 1.5 M.
fn short(value: f64) -> String {
    let (scaled, suffix) = match value {
        v if v >= 1e6 => (v / 1e6, " M"),
        v if v >= 1e3 => (v / 1e3, " k"),
        v => (v, ""),
    };
    let text = format!("{scaled:.1}");
    format!("{}{suffix}", text.strip_suffix(".0").unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plots_are_svg() {
        let seconds = vec![Second { completed: 5, max_ns: 1 }; 5];
        assert!(throughput(&seconds, &[(2.0, "snapshot".into())]).contains("<svg"));
        assert!(latency(&[("a", &[(1_000, 5), (2_000, 1)])]).contains("<svg"));
        assert!(latency(&[]).is_empty());
    }

    #[test]
    fn nines_count_what_lies_above() {
        let curve = curve(&[(1_000, 90), (2_000, 9), (3_000, 1)]);
        let nines: Vec<f64> = curve.iter().map(|p| (p.0 * 100.0).round() / 100.0).collect();
        assert_eq!(nines, [0.0, 1.0, 2.0]);
    }
}
