//! How often something is tried.

use std::time::Duration;

/// How often a handler may fail, and how long to wait in between: the wait doubles each time.
///
/// Only failures of the handler itself count. An unreachable store or broker, an open breaker, a
/// conflict, a lost lease or an unknown type are waited for instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts {
    /// How many attempts there are, the first included. Default 5.
    pub most: u32,
    /// The wait after the first. Default 2 seconds, so that five attempts take half a minute.
    pub first_wait: Duration,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { most: 5, first_wait: Duration::from_secs(2) }
    }
}

impl Attempts {
    /// How long to wait after so many failures; `None` when there were enough.
    pub(crate) fn wait_after(&self, failures: u32) -> Option<Duration> {
        if failures >= self.most {
            return None;
        }
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(20));
        Some(self.first_wait.saturating_mul(doubled))
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
        let attempts = Attempts::default();
        let waits: Vec<_> = (1..=5).map(|n| attempts.wait_after(n).map(|w| w.as_secs())).collect();
        assert_eq!(waits, [Some(2), Some(4), Some(8), Some(16), None]);
        assert_eq!(Attempts { most: 0, ..attempts }.wait_after(1), None);
        assert_eq!(wait_for_others(0), Duration::from_millis(50));
        assert_eq!(wait_for_others(u32::MAX), Duration::from_secs(5));
    }
}
