//! Retries: their number and backoff.

use std::time::Duration;

/// The attempts of a handler, and the backoff between them, which doubles each time.
///
/// Only failures of the handler itself count as attempts. An unavailable store or broker, an open
/// circuit breaker, a conflict, a lost lease or an unknown type do not: they are retried until they
/// are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Maximum attempts, the first included. Default: 5.
    pub max_attempts: u32,
    /// The backoff after the first attempt. Default: 2 seconds, so that five attempts take half a
    /// minute.
    pub initial_backoff: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 5, initial_backoff: Duration::from_secs(2) }
    }
}

impl RetryPolicy {
    /// Returns the backoff after a number of failures; `None` if no attempts are left.
    pub(crate) fn backoff_after(&self, failures: u32) -> Option<Duration> {
        if failures >= self.max_attempts {
            return None;
        }
        let factor = 2_u32.saturating_pow(failures.saturating_sub(1).min(20));
        Some(self.initial_backoff.saturating_mul(factor))
    }
}

/// Returns the backoff after failures that do not count as attempts: it doubles from 50
/// milliseconds to 5 seconds.
pub(crate) fn dependency_backoff(failures: u32) -> Duration {
    const INITIAL: Duration = Duration::from_millis(50);
    const MAX: Duration = Duration::from_secs(5);
    INITIAL.saturating_mul(2_u32.saturating_pow(failures.min(10))).min(MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoffs_double_until_no_attempts_are_left() {
        let policy = RetryPolicy::default();
        let backoffs: Vec<_> =
            (1..=5).map(|n| policy.backoff_after(n).map(|backoff| backoff.as_secs())).collect();
        assert_eq!(backoffs, [Some(2), Some(4), Some(8), Some(16), None]);
        assert_eq!(RetryPolicy { max_attempts: 0, ..policy }.backoff_after(1), None);
        assert_eq!(dependency_backoff(0), Duration::from_millis(50));
        assert_eq!(dependency_backoff(u32::MAX), Duration::from_secs(5));
    }
}
