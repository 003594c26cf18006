//! Measurements that the overview plots.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use maud::{Markup, html};
use tokio::time::Instant;

/// The number of measurements that are kept.
const KEPT: usize = 120;
/// The minimum interval between two of them.
const INTERVAL: Duration = Duration::from_millis(1_900);

/// The last measurements, made while an overview is open.
#[derive(Debug, Default)]
pub(crate) struct Samples(Mutex<VecDeque<Sample>>);

/// A measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    /// The number of events of the log.
    pub(crate) events: u64,
    /// The number of waiting messages.
    pub(crate) depth: u64,
    /// The number of events that followers and projections have not processed.
    pub(crate) lag: u64,
}

/// The measurements as series of equal length.
#[derive(Debug, Default)]
pub(crate) struct Series {
    /// Events per second.
    pub(crate) rate: Vec<f64>,
    pub(crate) depth: Vec<f64>,
    pub(crate) lag: Vec<f64>,
}

impl Samples {
    /// Adds a measurement, unless the last one is recent, and returns all.
    #[expect(clippy::cast_precision_loss, reason = "the height of a line on the screen")]
    pub(crate) fn add(&self, sample: Sample) -> Series {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = kept.back().is_none_or(|last| sample.at - last.at >= INTERVAL);
        if is_new {
            kept.push_back(sample);
            if kept.len() > KEPT {
                kept.pop_front();
            }
        }
        let rate = |(one, other): (&Sample, &Sample)| {
            let events = other.events.saturating_sub(one.events) as f64;
            events / (other.at - one.at).as_secs_f64()
        };
        Series {
            rate: kept.iter().zip(kept.iter().skip(1)).map(rate).collect(),
            depth: kept.iter().map(|of| of.depth as f64).collect(),
            lag: kept.iter().map(|of| of.lag as f64).collect(),
        }
    }
}

/// Returns a line through the values, with 0 at the bottom.
pub(crate) fn plot(label: &str, values: &[f64]) -> Markup {
    const WIDTH: f64 = 120.0;
    const HEIGHT: f64 = 24.0;
    let most = values.iter().copied().fold(1.0, f64::max);
    let step = WIDTH / f64::from(u32::try_from(values.len().max(2) - 1).unwrap_or(u32::MAX));
    let points: Vec<String> = (0..)
        .zip(values)
        .map(|(n, value)| {
            let x = f64::from(n) * step;
            format!("{x:.1},{:.1}", HEIGHT - 1.0 - value / most * (HEIGHT - 2.0))
        })
        .collect();
    html! {
        @if values.len() > 1 {
            svg.plot viewBox="0 0 120 24" preserveAspectRatio="none" role="img" aria-label=(label) {
                polyline points=(points.join(" ")) {}
            }
        }
    }
}
