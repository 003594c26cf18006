//! The counts and latencies of a load.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::generator::Completed;

/// The counts and latencies of a load, in total and by second.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    pub(super) seconds: Vec<Second>,
    pub(super) latency: Latency,
    /// The latency since it was last taken.
    recent: Latency,
    /// The numbers of the acknowledged orders.
    pub(super) acknowledged: Vec<u64>,
    /// The failed commands, by reason.
    pub(super) failures: BTreeMap<String, u64>,
    /// The repeated attempts, by reason.
    pub(super) retries: BTreeMap<String, u64>,
}

/// One second of a load.
#[derive(Debug, Default)]
pub(super) struct Second {
    /// The commands that were due in it.
    pub(super) due: u64,
    /// The commands that were acknowledged in it.
    pub(super) acknowledged: u64,
    /// The latency of the commands that were due in it.
    pub(super) latency: Latency,
}

/// Latencies, in microseconds, with two significant digits.
#[derive(Debug, Clone)]
pub(super) struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new(2).expect("two digits are supported"))
    }
}

impl Latency {
    fn record(&mut self, latency: Duration) {
        // It grows with the value, so this cannot fail.
        let _ = self.0.record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// Returns a quantile in milliseconds; 0 without commands.
    pub(super) fn quantile(&self, quantile: f64) -> f64 {
        Duration::from_micros(self.0.value_at_quantile(quantile)).as_secs_f64() * 1_000.0
    }
}

impl Statistics {
    pub(super) fn record(&mut self, completed: Completed) {
        let Completed { n, due, latency, retries, outcome } = completed;
        self.second(due).due += 1;
        for reason in retries {
            *self.retries.entry(reason).or_default() += 1;
        }
        match outcome {
            Ok(()) => {
                self.second(due).latency.record(latency);
                self.second(due + latency).acknowledged += 1;
                self.latency.record(latency);
                self.recent.record(latency);
                self.acknowledged.push(n);
            }
            Err(reason) => *self.failures.entry(reason).or_default() += 1,
        }
    }

    /// Returns the latency of the commands that were acknowledged since the last call.
    pub(super) fn take_recent(&mut self) -> Latency {
        std::mem::take(&mut self.recent)
    }

    /// Returns the number of commands that were acknowledged or have failed.
    pub(super) fn completed(&self) -> u64 {
        self.acknowledged.len() as u64 + self.failed()
    }

    pub(super) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    pub(super) fn retried(&self) -> u64 {
        self.retries.values().sum()
    }

    fn second(&mut self, at: Duration) -> &mut Second {
        let second = usize::try_from(at.as_secs()).unwrap_or(usize::MAX);
        if self.seconds.len() <= second {
            self.seconds.resize_with(second + 1, Second::default);
        }
        &mut self.seconds[second]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_belongs_to_the_second_in_which_it_was_due() {
        let mut statistics = Statistics::default();
        let completed = |n, outcome| Completed {
            n,
            due: Duration::from_millis(900),
            latency: Duration::from_millis(1_200),
            retries: vec!["503 unavailable".to_owned()],
            outcome,
        };
        statistics.record(completed(0, Ok(())));
        statistics.record(completed(1, Err("500 internal".to_owned())));
        let seconds: Vec<_> =
            statistics.seconds.iter().map(|second| (second.due, second.acknowledged)).collect();
        assert_eq!(seconds, [(2, 0), (0, 0), (0, 1)]);
        assert!((statistics.seconds[0].latency.quantile(0.5) - 1_200.0).abs() < 12.0);
        assert_eq!((statistics.completed(), statistics.failed()), (2, 1));
        assert_eq!((statistics.retried(), &*statistics.acknowledged), (2, &[0][..]));
    }
}
