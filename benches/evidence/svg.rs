//! Small plots as SVG text, readable on light and dark pages.

use std::fmt::Write;

/// Colours: those of a light page, and of a dark one where the reader prefers it.
const STYLE: &str = "\
<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.small { font-size: 11px; fill: #59636e }
.axis { stroke: #8c959f; stroke-width: 1 }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.zero { stroke: #59636e; stroke-width: 1.5 }
.mark { stroke: #59636e; fill: #59636e }
.main { stroke: #0969da; fill: #0969da }
.better { stroke: #1a7f37; fill: #1a7f37 }
.worse { stroke: #cf222e; fill: #cf222e }
.line { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.small { fill: #9198a1 }
.axis { stroke: #656c76 }
.grid { stroke: #3d444d }
.zero, .mark { stroke: #9198a1 }
.mark { fill: #9198a1 }
.main { stroke: #4493f8; fill: #4493f8 }
.better { stroke: #3fb950; fill: #3fb950 }
.worse { stroke: #f85149; fill: #f85149 }
}
</style>";

/// Colours of lines, told apart on both pages.
const LINES: [&str; 8] =
    ["#2f81f7", "#d29922", "#3fb950", "#db61a2", "#a371f7", "#f0883e", "#76a8a8", "#8b949e"];

/// A row of a [`forest`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) label: String,
    pub(crate) mean: f64,
    /// The interval of the mean.
    pub(crate) interval: Option<(f64, f64)>,
    /// The single numbers.
    pub(crate) points: Vec<f64>,
    /// How it is drawn: `mark`, `main`, `better` or `worse`.
    pub(crate) class: &'static str,
}

/// The place on the axis, the mean, the interval.
pub(crate) type CurvePoint = (usize, f64, Option<(f64, f64)>);

/// A curve of [`curves`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Curve {
    pub(crate) label: String,
    pub(crate) points: Vec<CurvePoint>,
}

/// Returns text as the content of an element.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Returns the head of a picture with its title.
fn head(width: f64, height: f64, title: &str) -> String {
    let title = escaped(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-label=\"{title}\">\n{STYLE}\n<text class=\"title\" x=\"12\" \
         y=\"24\">{title}</text>\n"
    )
}

/// Returns the title of the axis across, centred at a place.
fn axis_title((x, y): (f64, f64), unit: &str) -> String {
    let unit = escaped(unit);
    format!(
        "<text class=\"small\" x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"middle\">{unit}</text>\n"
    )
}

/// Round numbers that divide a range into about `wanted` parts, from below its start to above its end.
pub(crate) fn ticks(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let span = if high > low { high - low } else { low.abs().max(1.0) };
    let raw = span / wanted.max(1) as f64;
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|f| f * power).find(|step| *step >= raw);
    let step = step.unwrap_or(10.0 * power);
    let first = (low / step).floor() as i64;
    let last = ((high / step).ceil() as i64).max(first + 1);
    (first..=last).map(|number| number as f64 * step).collect()
}

/// Writes a tick without needless zeros.
fn tick_text(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.to_string() }
}

/// Draws means with their intervals, a row below the other, and the single numbers as small dots. With `zero` the axis
/// has 0 in it, and a line there: for differences.
pub(crate) fn forest(title: &str, unit: &str, entries: &[Entry], zero: bool) -> String {
    const LEFT: f64 = 250.0;
    const WIDTH: f64 = 720.0;
    const RIGHT: f64 = WIDTH - 24.0;
    const TOP: f64 = 44.0;
    const STEP: f64 = 26.0;
    let all = entries.iter().flat_map(|entry| {
        let ends = entry.interval.map(|(low, high)| [low, high]);
        ends.into_iter().flatten().chain(entry.points.iter().copied()).chain([entry.mean])
    });
    let all = all.chain(zero.then_some(0.0)).filter(|value| value.is_finite());
    let (low, high) = all.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
    let ticks = ticks(low, high, 6);
    let (first, last) = (ticks[0], ticks[ticks.len() - 1]);
    let x = |value: f64| LEFT + (value - first) / (last - first) * (RIGHT - LEFT);
    let bottom = TOP + STEP * entries.len() as f64;
    let mut svg = head(WIDTH, bottom + 48.0, title);
    for &tick in &ticks {
        let (at, class) = (x(tick), if zero && tick == 0.0 { "zero" } else { "grid" });
        let _ = writeln!(
            svg,
            "<line class=\"{class}\" x1=\"{at:.1}\" y1=\"{TOP:.0}\" x2=\"{at:.1}\" y2=\"{bottom:.0}\"/>\n<text \
             class=\"small\" x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            bottom + 16.0,
            tick_text(tick)
        );
    }
    for (number, entry) in entries.iter().enumerate() {
        let y = TOP + STEP * (number as f64 + 0.5);
        let class = entry.class;
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 12.0,
            y + 4.5,
            escaped(&entry.label)
        );
        if let Some((low, high)) = entry.interval {
            let _ = writeln!(
                svg,
                "<line class=\"{class}\" stroke-width=\"2\" x1=\"{:.1}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\"/>",
                x(low),
                x(high)
            );
        }
        for &point in &entry.points {
            let _ = writeln!(
                svg,
                "<circle class=\"{class}\" fill-opacity=\"0.35\" stroke=\"none\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"3\"/>",
                x(point)
            );
        }
        let _ = writeln!(
            svg,
            "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"4.5\"/>",
            x(entry.mean)
        );
    }
    svg + &axis_title(((LEFT + RIGHT) / 2.0, bottom + 36.0), unit) + "</svg>\n"
}

/// Draws means over places of an axis, a curve for each row, with intervals as bars.
pub(crate) fn curves(title: &str, unit: &str, places: &[&str], curves: &[Curve]) -> String {
    const WIDTH: f64 = 720.0;
    const LEFT: f64 = 56.0;
    const RIGHT: f64 = 440.0;
    const TOP: f64 = 48.0;
    const BOTTOM: f64 = 330.0;
    let mut all: Vec<f64> = Vec::new();
    for (_, mean, interval) in curves.iter().flat_map(|curve| &curve.points) {
        all.push(*mean);
        all.extend(interval.iter().flat_map(|&(low, high)| [low, high]));
    }
    let all = all.into_iter().filter(|value| value.is_finite());
    let (low, high) = all.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
    let ticks = ticks(low, high, 6);
    let (first, last) = (ticks[0], ticks[ticks.len() - 1]);
    let y = |value: f64| BOTTOM - (value - first) / (last - first) * (BOTTOM - TOP);
    let gap = (RIGHT - LEFT) / places.len().max(1) as f64;
    // Bars of one place stand beside each other.
    let x = |place: usize, number: usize| {
        let shift = number as f64 - (curves.len() as f64 - 1.0) / 2.0;
        LEFT + gap * (place as f64 + 0.5) + 4.0 * shift
    };
    let height = (BOTTOM + 48.0).max(TOP + 22.0 * curves.len() as f64 + 16.0);
    let mut svg = head(WIDTH, height, title);
    for &tick in &ticks {
        let at = y(tick);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT:.0}\" y1=\"{at:.1}\" x2=\"{RIGHT:.0}\" y2=\"{at:.1}\"/>\n<text \
             class=\"small\" x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            at + 4.0,
            tick_text(tick)
        );
    }
    for (place, name) in places.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<text class=\"small\" x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            LEFT + gap * (place as f64 + 0.5),
            BOTTOM + 18.0,
            escaped(name)
        );
    }
    svg += &axis_title(((LEFT + RIGHT) / 2.0, BOTTOM + 38.0), unit);
    for (number, curve) in curves.iter().enumerate() {
        let color = LINES[number % LINES.len()];
        let dash = if number >= LINES.len() { " stroke-dasharray=\"5 3\"" } else { "" };
        let path: Vec<String> = curve
            .points
            .iter()
            .map(|&(place, mean, _)| format!("{:.1},{:.1}", x(place, number), y(mean)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline class=\"line\" stroke=\"{color}\"{dash} points=\"{}\"/>",
            path.join(" ")
        );
        for &(place, mean, interval) in &curve.points {
            let at = x(place, number);
            if let Some((low, high)) = interval {
                let _ = writeln!(
                    svg,
                    "<line stroke=\"{color}\" stroke-opacity=\"0.6\" x1=\"{at:.1}\" y1=\"{:.1}\" x2=\"{at:.1}\" \
                     y2=\"{:.1}\"/>",
                    y(low),
                    y(high)
                );
            }
            let _ = writeln!(
                svg,
                "<circle fill=\"{color}\" cx=\"{at:.1}\" cy=\"{:.1}\" r=\"3.5\"/>",
                y(mean)
            );
        }
        let at = TOP + 22.0 * number as f64;
        let _ = writeln!(
            svg,
            "<line stroke=\"{color}\" stroke-width=\"3\"{dash} x1=\"{:.0}\" y1=\"{at:.1}\" x2=\"{:.0}\" \
             y2=\"{at:.1}\"/>\n<text x=\"{:.0}\" y=\"{:.1}\">{}</text>",
            RIGHT + 24.0,
            RIGHT + 48.0,
            RIGHT + 56.0,
            at + 4.5,
            escaped(&curve.label)
        );
    }
    svg + "</svg>\n"
}
