//! The plot of growth: what each path costs against the smallest size, one line each. Flat is good.

use crate::figures::{Course, Growth};
use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 470.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 400.0;
/// The axis reaches from an eighth to eight times; what is beyond is drawn at its edge.
const DOUBLINGS: f64 = 3.0;
const LINE_HEIGHT: f64 = 24.0;
const COLOURS: [&str; 12] = [
    "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#e377c2", "#17becf", "#7f7f7f",
    "#bcbd22", "#003f5c", "#a05195",
];

/// A size in few letters.
pub fn size(size: usize) -> String {
    match size {
        size if size >= 1_000_000 => format!("{}M", size / 1_000_000),
        size if size >= 1_000 => format!("{}k", size / 1_000),
        size => size.to_string(),
    }
}

/// The plot as an SVG.
pub fn svg(engine: &str, growth: &Growth) -> anyhow::Result<String> {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} 460\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"460\" fill=\"white\"/>\n"
    );
    writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"24\" font-size=\"16\">Cost of one, against {} devices and batches ({engine})</text>",
        size(growth.sizes.first().copied().unwrap_or_default())
    )?;
    for doubling in -3..=3 {
        let at = height(f64::from(doubling).exp2());
        let label = if doubling < 0 { format!("1/{}", 1 << -doubling) } else { format!("{}", 1 << doubling) };
        let stroke = if doubling == 0 { "#444444" } else { "#dddddd" };
        writeln!(
            out,
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{RIGHT}\" y2=\"{at:.1}\" stroke=\"{stroke}\"/>"
        )?;
        let (x, y) = (LEFT - 8.0, at + 4.0);
        writeln!(out, "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{label}×</text>")?;
    }
    let places = places(growth.sizes.len());
    for (number, at) in growth.sizes.iter().zip(&places) {
        let (y, label) = (BOTTOM + 22.0, size(*number));
        writeln!(out, "<text x=\"{at:.1}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>")?;
    }
    for ((number, path), colour) in growth.paths.iter().enumerate().zip(COLOURS.iter().cycle()) {
        line(&mut out, number, path, colour, &places)?;
    }
    out += "</svg>\n";
    Ok(out)
}

fn line(out: &mut String, number: usize, path: &Course, colour: &str, places: &[f64]) -> anyhow::Result<()> {
    let first = path.micros.first().copied().unwrap_or(1.0);
    let mut points = String::new();
    for (micros, at) in path.micros.iter().zip(places) {
        write!(points, "{at:.1},{:.1} ", height(micros / first))?;
    }
    writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
        points.trim()
    )?;
    let (x, y) = (RIGHT + 24.0, TOP + 14.0 + number as f64 * LINE_HEIGHT);
    writeln!(out, "<rect x=\"{x}\" y=\"{:.1}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>", y - 6.0)?;
    writeln!(out, "<text x=\"{}\" y=\"{y:.1}\">{}</text>", x + 22.0, path.what)?;
    Ok(())
}

/// Where a cost stands that is so many times the first.
fn height(times: f64) -> f64 {
    let doublings = times.max(f64::MIN_POSITIVE).log2().clamp(-DOUBLINGS, DOUBLINGS);
    let middle = f64::midpoint(TOP, BOTTOM);
    middle - doublings / DOUBLINGS * (BOTTOM - TOP) / 2.0
}

fn places(count: usize) -> Vec<f64> {
    let step = (RIGHT - LEFT) / count.saturating_sub(1).max(1) as f64;
    (0..count).map(|number| LEFT + step * number as f64).collect()
}
