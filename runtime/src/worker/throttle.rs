//! Limiting how often an operation runs.

use std::time::Duration;

/// Admits an operation once per interval. Times are monotonic, as `Clock::monotonic` gives them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Throttle {
    /// The time of the last admission; `None` if the next is admitted at once.
    last: Option<Duration>,
}

impl Throttle {
    /// Returns a throttle that first admits after an interval from `now`.
    pub(crate) fn starting(now: Duration) -> Self {
        Self { last: Some(now) }
    }

    /// Returns `true`, and begins the next interval, if `interval` has passed since the last
    /// admission.
    pub(crate) fn admits(&mut self, now: Duration, interval: Duration) -> bool {
        let admits = self.is_due(now, interval);
        if admits {
            self.last = Some(now);
        }
        admits
    }

    /// Returns `true` if `interval` has passed since the last admission.
    pub(crate) fn is_due(&self, now: Duration, interval: Duration) -> bool {
        self.until_due(now, interval).is_zero()
    }

    /// Returns the time until an interval has passed since the last admission.
    pub(crate) fn until_due(&self, now: Duration, interval: Duration) -> Duration {
        self.last.map_or(Duration::ZERO, |last| last.saturating_add(interval).saturating_sub(now))
    }

    /// Admits the next operation at once.
    pub(crate) fn reset(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_admits_once_per_interval() {
        let second = Duration::from_secs(1);
        assert!(Throttle::default().admits(Duration::ZERO, second), "the first, whatever the time");
        let mut throttle = Throttle::starting(second * 10);
        assert!(!throttle.admits(second * 10, second));
        assert_eq!(throttle.until_due(second * 10, second), second);
        assert!(throttle.admits(second * 11, second) && !throttle.admits(second * 11, second));
        throttle.reset();
        assert!(throttle.admits(second * 11, second));
    }
}
