//! Leaving alone what fails.

use std::collections::VecDeque;
use std::time::Duration;

/// When a gateway is left alone: once `errors_in_percent` of its last `calls` calls have failed, for
/// `open_for`; then a single call probes it. What waits meanwhile spends no attempts.
///
/// (Nygard, "Release It!", 2007, chapter 5.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// How many calls are looked at; 0: it never opens. Default 10.
    pub calls: usize,
    /// From which share of failures on it opens. Default 50.
    pub errors_in_percent: usize,
    /// How long it stays open. Default 30 seconds.
    pub open_for: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { calls: 10, errors_in_percent: 50, open_for: Duration::from_secs(30) }
    }
}

/// Moments are monotonic, as `Clock::monotonic` gives them.
#[derive(Debug)]
pub(crate) struct Breaker {
    settings: BreakerSettings,
    failed: VecDeque<bool>,
    open_until: Option<Duration>,
    probing: bool,
}

impl Breaker {
    pub(crate) fn new(settings: BreakerSettings) -> Self {
        Self { settings, failed: VecDeque::new(), open_until: None, probing: false }
    }

    /// Whether a call may begin now; if not, when to ask again.
    pub(crate) fn admit(&mut self, now: Duration) -> Result<(), Duration> {
        match self.open_until {
            None => Ok(()),
            Some(until) if now < until => Err(until),
            Some(_) if self.probing => Err(now + Duration::from_millis(50)),
            Some(_) => {
                self.probing = true;
                Ok(())
            }
        }
    }

    /// A call has ended. Gives true when the breaker opens by it.
    pub(crate) fn record(&mut self, failed: bool, now: Duration) -> bool {
        if self.open_until.is_some() {
            if !std::mem::take(&mut self.probing) {
                // It began before the breaker opened.
                return false;
            }
            if failed {
                self.open_until = Some(now + self.settings.open_for);
            } else {
                self.open_until = None;
                self.failed.clear();
            }
            return false;
        }
        if self.settings.calls == 0 {
            return false;
        }
        self.failed.push_back(failed);
        if self.failed.len() > self.settings.calls {
            self.failed.pop_front();
        }
        let errors = self.failed.iter().filter(|failed| **failed).count();
        let opens = self.failed.len() == self.settings.calls
            && errors * 100 >= self.settings.errors_in_percent * self.settings.calls;
        if opens {
            self.open_until = Some(now + self.settings.open_for);
        }
        opens
    }

    /// A call that was admitted did not happen.
    pub(crate) fn withdraw(&mut self) {
        self.probing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_opens_at_half_of_ten_and_closes_after_a_probe() {
        let mut breaker = Breaker::new(BreakerSettings::default());
        for n in 0..9 {
            assert!(!breaker.record(n % 2 == 0, SECOND));
        }
        assert_eq!(breaker.admit(SECOND), Ok(()));
        assert!(breaker.record(true, SECOND), "six of ten");
        assert_eq!(breaker.admit(SECOND * 2), Err(SECOND * 31));
        assert_eq!(breaker.admit(SECOND * 31), Ok(()), "the probe");
        assert!(breaker.admit(SECOND * 31).is_err(), "only one");
        breaker.record(true, SECOND * 32);
        assert_eq!(breaker.admit(SECOND * 33), Err(SECOND * 62));
        assert_eq!(breaker.admit(SECOND * 62), Ok(()));
        breaker.record(false, SECOND * 63);
        assert_eq!(breaker.admit(SECOND * 63), Ok(()));
        assert_eq!(breaker.admit(SECOND * 63), Ok(()));
    }
}
