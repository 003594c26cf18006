//! How often something is tried.

use std::time::Duration;

/// How often a handler may fail, and how long to wait in between: the wait doubles each time.
///
/// Only failures of the handler itself count. An unreachable store or broker, an open breaker, a
/// conflict, a lost lease or an unknown type are waited for instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many attempts there are, the first included. Default 5.
    pub max_attempts: u32,
    /// The wait after the first. Default 2 seconds, so that five attempts take half a minute.
    pub initial_backoff: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 5, initial_backoff: Duration::from_secs(2) }
    }
}

impl RetryPolicy {
    /// How long to wait after so many failures; `None` when there were enough.
    pub(crate) fn wait_after(&self, failures: u32) -> Option<Duration> {
        if failures >= self.max_attempts {
            return None;
        }
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(20));
        Some(self.initial_backoff.saturating_mul(doubled))
    }
}

/// The waits for what does not count as an attempt: doubling, capped.
pub(crate) fn wait_for_others(times: u32) -> Duration {
    const FIRST: Duration = Duration::from_millis(50);
    const MOST: Duration = Duration::from_secs(5);
    FIRST.saturating_mul(2_u32.saturating_pow(times.min(10))).min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_until_there_were_enough() {
        let attempts = RetryPolicy::default();
        let waits: Vec<_> = (1..=5).map(|n| attempts.wait_after(n).map(|w| w.as_secs())).collect();
        assert_eq!(waits, [Some(2), Some(4), Some(8), Some(16), None]);
        assert_eq!(RetryPolicy { max_attempts: 0, ..attempts }.wait_after(1), None);
        assert_eq!(wait_for_others(0), Duration::from_millis(50));
        assert_eq!(wait_for_others(u32::MAX), Duration::from_secs(5));
    }
}
