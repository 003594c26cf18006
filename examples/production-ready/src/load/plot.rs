//! The plot of a report, as SVG: throughput and latency over time.

#![expect(clippy::cast_precision_loss, reason = "a plot is not exact")]

use std::fmt::Write as _;

use super::report::Report;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
/// The height of each of the two panels, and the space above them.
const PANEL: f64 = 170.0;
const TOP: f64 = 40.0;

/// One panel: the values of an axis, mapped to a height.
struct Panel {
    top: f64,
    /// The seconds of the whole width.
    seconds: f64,
    low: f64,
    high: f64,
    is_logarithmic: bool,
}

impl Panel {
    fn x(&self, second: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * second / self.seconds
    }

    fn y(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.is_logarithmic { value.log10() } else { value };
        let share =
            (scale(value.max(self.low)) - scale(self.low)) / (scale(self.high) - scale(self.low));
        self.top + PANEL * (1.0 - share.min(1.0))
    }

    fn grid(&self, svg: &mut String, values: &[f64]) {
        for value in values {
            let y = self.y(*value);
            let (end, text) = (WIDTH - RIGHT, LEFT - 6.0);
            let _ = write!(
                svg,
                "<path class='grid' d='M{LEFT} {y:.1}H{end}'/>\
                 <text x='{text}' y='{:.1}' text-anchor='end'>{value}</text>",
                y + 4.0
            );
        }
    }

    fn line(&self, svg: &mut String, class: &str, values: impl Iterator<Item = f64>) {
        let points = values.enumerate().map(|(second, value)| {
            format!("{:.1},{:.1}", self.x(second as f64 + 0.5), self.y(value))
        });
        let points: Vec<_> = points.collect();
        let _ = write!(svg, "<polyline class='{class}' points='{}'/>", points.join(" "));
    }
}

/// Draws the plot.
pub(super) fn plot(report: &Report) -> String {
    let ticks = &report.timeline;
    let seconds = (ticks.len() as f64).max(1.0);
    let most = ticks.iter().map(|tick| tick.due.max(tick.acknowledged)).max().unwrap_or(0);
    let step = step(most.max(1) as f64);
    let steps = (most as f64 / step).ceil().max(1.0);
    let throughput =
        Panel { top: TOP, seconds, low: 0.0, high: step * steps, is_logarithmic: false };
    let slowest = ticks.iter().map(|tick| tick.p99_ms).fold(10.0, f64::max);
    let decades: Vec<f64> =
        std::iter::successors(Some(1.0), |value| (*value < slowest).then_some(value * 10.0))
            .collect();
    let high = *decades.last().unwrap_or(&10.0);
    let top = TOP + PANEL + TOP;
    let latency = Panel { top, seconds, low: 1.0, high, is_logarithmic: true };
    let height = top + PANEL + TOP;
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' role='img' \
         aria-label='Throughput and latency over time'><style>{STYLE}</style>\
         <rect class='page' width='100%' height='100%'/>"
    );
    let labels = [
        (TOP, "Orders per second: due (grey), acknowledged (blue)"),
        (top, "Latency in milliseconds: p50 (green), p99 (red)"),
    ];
    for (y, label) in labels {
        let _ = write!(svg, "<text x='{LEFT}' y='{}'>{label}</text>", y - 12.0);
    }
    let values: Vec<_> =
        (0..6).map(|n| f64::from(n) * step).filter(|value| *value <= throughput.high).collect();
    throughput.grid(&mut svg, &values);
    latency.grid(&mut svg, &decades);
    throughput.line(&mut svg, "due", ticks.iter().map(|tick| tick.due as f64));
    throughput.line(&mut svg, "done", ticks.iter().map(|tick| tick.acknowledged as f64));
    let due = |value: fn(&super::report::Tick) -> f64| {
        ticks.iter().take_while(|tick| tick.due > 0).map(value)
    };
    latency.line(&mut svg, "p50", due(|tick| tick.p50_ms));
    latency.line(&mut svg, "p99", due(|tick| tick.p99_ms));
    for incident in &report.incidents {
        let x = throughput.x(incident.at_seconds);
        let bottom = top + PANEL;
        let _ = write!(svg, "<path class='fault' d='M{x:.1} {TOP}V{bottom}'/>");
        let _ =
            write!(svg, "<text x='{:.1}' y='{}'>{}</text>", x + 3.0, TOP + 11.0, incident.process);
    }
    let _ = writeln!(
        svg,
        "<text x='{LEFT}' y='{y}'>0 s</text><text x='{end}' y='{y}' text-anchor='end'>{seconds} s\
         </text></svg>",
        y = height - 20.0,
        end = WIDTH - RIGHT
    );
    svg
}

const STYLE: &str = "text{font:12px sans-serif;fill:#333}.page{fill:#fff}\
    .grid{stroke:#ddd;fill:none}.fault{stroke:#999;stroke-dasharray:3 3;fill:none}\
    polyline{fill:none;stroke-width:1.5}.due{stroke:#bbb}.done{stroke:#06c}\
    .p50{stroke:#2a2}.p99{stroke:#c22}";

/// Returns a distance of grid lines: 1, 2 or 5 times a power of ten, at most five of them.
fn step(most: f64) -> f64 {
    let power = 10_f64.powf((most / 5.0).log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    factors.into_iter().map(|of| of * power).find(|step| step * 5.0 >= most).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grid_lines_are_round_numbers() {
        let close = |most: f64, expected: f64| (step(most) - expected).abs() < 1e-9;
        assert!(close(1_000.0, 200.0) && close(1_001.0, 500.0));
        assert!(close(50.0, 10.0) && close(3.0, 1.0));
    }
}
