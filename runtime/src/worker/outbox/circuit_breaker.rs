//! A circuit breaker.

use std::collections::VecDeque;
use std::time::Duration;

/// Settings of a gateway's circuit breaker: once `failure_rate_percent` of the last `window` calls
/// have failed, the breaker opens for `open_duration`; then a single call probes the gateway. Calls
/// that wait while the breaker is open spend no attempts.
///
/// (Nygard, "Release It!", 2007, chapter 5.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitBreakerSettings {
    /// Number of recent calls that are evaluated; with 0 the breaker never opens. Default: 10.
    pub window: usize,
    /// Percentage of failed calls at which the breaker opens. Default: 50.
    pub failure_rate_percent: usize,
    /// Maximum age of an evaluated call. Default: 10 minutes.
    pub max_call_age: Duration,
    /// Duration for which the breaker stays open. Default: 30 seconds.
    pub open_duration: Duration,
}

impl Default for CircuitBreakerSettings {
    fn default() -> Self {
        Self {
            window: 10,
            failure_rate_percent: 50,
            max_call_age: Duration::from_secs(600),
            open_duration: Duration::from_secs(30),
        }
    }
}

/// The permit of an admitted call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CallPermit(u64);

/// A circuit breaker. Times are monotonic, as `Clock::monotonic` gives them.
#[derive(Debug)]
pub(crate) struct CircuitBreaker {
    settings: CircuitBreakerSettings,
    /// The times at which the last calls ended, and `true` for those that failed.
    calls: VecDeque<(Duration, bool)>,
    open_until: Option<Duration>,
    probe: Option<CallPermit>,
    next: CallPermit,
    /// The first call after the breaker last opened or closed: earlier ones are not evaluated.
    first: CallPermit,
}

/// A reason for which the breaker admits no call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotPermitted {
    /// The breaker is open until this time.
    Until(Duration),
    /// A probe is under way. Its outcome decides.
    Probing,
}

impl CircuitBreaker {
    pub(crate) fn new(settings: CircuitBreakerSettings) -> Self {
        Self {
            settings,
            calls: VecDeque::new(),
            open_until: None,
            probe: None,
            next: CallPermit(0),
            first: CallPermit(0),
        }
    }

    /// Checks that a call may begin.
    pub(crate) fn check(&self, now: Duration) -> Result<(), NotPermitted> {
        match self.open_until {
            Some(until) if now < until => Err(NotPermitted::Until(until)),
            Some(_) if self.probe.is_some() => Err(NotPermitted::Probing),
            Some(_) | None => Ok(()),
        }
    }

    /// Admits a call, if one may begin.
    pub(crate) fn admit(&mut self, now: Duration) -> Result<CallPermit, NotPermitted> {
        self.check(now)?;
        let admitted = self.draw();
        if self.open_until.is_some() {
            self.probe = Some(admitted);
        }
        Ok(admitted)
    }

    fn draw(&mut self) -> CallPermit {
        let CallPermit(number) = self.next;
        std::mem::replace(&mut self.next, CallPermit(number + 1))
    }

    /// Records the outcome of a call.
    pub(crate) fn record(&mut self, call: CallPermit, failed: bool, now: Duration) {
        if self.probe == Some(call) {
            self.probe = None;
            self.open_until = failed.then(|| now + self.settings.open_duration);
            self.calls.clear();
            self.first = self.next;
            return;
        }
        if self.open_until.is_some() || call < self.first || self.settings.window == 0 {
            return;
        }
        self.calls.push_back((now, failed));
        if self.calls.len() > self.settings.window {
            self.calls.pop_front();
        }
        while self.calls.front().is_some_and(|(at, _)| self.is_old(*at, now)) {
            self.calls.pop_front();
        }
        let errors = self.calls.iter().filter(|(_, failed)| *failed).count();
        let opens = self.calls.len() == self.settings.window
            && errors * 100 >= self.settings.failure_rate_percent * self.settings.window;
        if opens {
            self.open_until = Some(now + self.settings.open_duration);
            self.first = self.next;
        }
    }

    fn is_old(&self, at: Duration, now: Duration) -> bool {
        now.saturating_sub(at) >= self.settings.max_call_age
    }

    /// Returns the time until which the breaker is open, which may have passed; `None` if it is
    /// closed.
    pub(crate) fn open_until(&self) -> Option<Duration> {
        self.open_until
    }

    /// Forgets a probe whose outcome will not be recorded.
    pub(crate) fn forget_probe(&mut self) {
        self.probe = None;
    }

    /// Records that an admitted call was not made.
    pub(crate) fn withdraw(&mut self, call: CallPermit) {
        if self.probe == Some(call) {
            self.probe = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Admits a call and records its outcome. Returns `true` if the breaker is open then.
    fn call(breaker: &mut CircuitBreaker, failed: bool, now: Duration) -> bool {
        let call = breaker.admit(now).unwrap();
        breaker.record(call, failed, now);
        breaker.open_until().is_some()
    }

    #[test]
    fn the_breaker_opens_at_half_of_ten_calls_and_closes_after_a_probe() {
        let mut breaker = CircuitBreaker::new(CircuitBreakerSettings::default());
        for n in 0..9 {
            assert!(!call(&mut breaker, n % 2 == 0, SECOND));
        }
        assert!(call(&mut breaker, true, SECOND), "six of ten");
        assert_eq!(breaker.admit(SECOND * 2), Err(NotPermitted::Until(SECOND * 31)));
        let probe = breaker.admit(SECOND * 31).unwrap();
        assert_eq!(breaker.admit(SECOND * 31), Err(NotPermitted::Probing), "only one");
        breaker.record(probe, true, SECOND * 32);
        assert_eq!(breaker.admit(SECOND * 33), Err(NotPermitted::Until(SECOND * 62)));
        let probe = breaker.admit(SECOND * 62).unwrap();
        breaker.record(probe, false, SECOND * 63);
        assert!(breaker.admit(SECOND * 63).is_ok());
        assert!(breaker.admit(SECOND * 63).is_ok());
    }

    #[test]
    fn a_call_from_before_the_breaker_opened_is_not_the_probe() {
        let settings =
            CircuitBreakerSettings { window: 1, open_duration: SECOND, ..Default::default() };
        let mut breaker = CircuitBreaker::new(settings);
        let slow = breaker.admit(SECOND).unwrap();
        let withdrawn = breaker.admit(SECOND).unwrap();
        assert!(call(&mut breaker, true, SECOND));
        let probe = breaker.admit(SECOND * 2).unwrap();
        breaker.record(slow, false, SECOND * 3);
        breaker.withdraw(withdrawn);
        assert_eq!(breaker.admit(SECOND * 3), Err(NotPermitted::Probing));
        breaker.record(probe, false, SECOND * 3);
        breaker.record(slow, true, SECOND * 4);
        assert_eq!(breaker.open_until(), None, "it is not evaluated");
        assert!(breaker.admit(SECOND * 4).is_ok());
    }

    #[test]
    fn old_failures_do_not_count() {
        let settings = CircuitBreakerSettings { window: 4, ..Default::default() };
        let day = SECOND * 24 * 3_600;
        let mut breaker = CircuitBreaker::new(settings);
        for n in 0..8 {
            assert!(!call(&mut breaker, n % 2 == 0, day * n), "day {n}");
        }
        for n in 0..3 {
            assert!(!call(&mut breaker, n % 2 == 0, day * 8 + SECOND * n));
        }
        assert!(call(&mut breaker, true, day * 8 + SECOND * 3));
    }
}
