//! Limiting how often an operation runs.

use std::time::Duration;

/// Admits an operation once per interval. Times are monotonic, as `Clock::monotonic` gives them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Throttle {
    /// The time of the last admission.
    last: Duration,
}

impl Throttle {
    /// Returns a throttle that first admits after an interval from `now`.
    pub(crate) fn starting(now: Duration) -> Self {
        Self { last: now }
    }

    /// Returns `true`, and begins the next interval, if `interval` has passed since the last
    /// admission.
    pub(crate) fn admits(&mut self, now: Duration, interval: Duration) -> bool {
        let admits = self.is_due(now, interval);
        if admits {
            self.last = now;
        }
        admits
    }

    /// Returns `true` if `interval` has passed since the last admission.
    pub(crate) fn is_due(&self, now: Duration, interval: Duration) -> bool {
        now.saturating_sub(self.last) >= interval
    }

    /// Admits the next operation at once.
    pub(crate) fn reset(&mut self) {
        self.last = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_admits_once_per_interval() {
        let second = Duration::from_secs(1);
        let mut throttle = Throttle::starting(second * 10);
        assert!(!throttle.admits(second * 10, second));
        assert!(throttle.admits(second * 11, second) && !throttle.admits(second * 11, second));
        throttle.reset();
        assert!(throttle.admits(second * 11, second));
    }
}
