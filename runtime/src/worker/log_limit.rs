//! Limiting repeated log lines.

use std::collections::BTreeMap;
use std::time::Duration;

/// Admits each reason once a minute.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    logged: BTreeMap<String, Duration>,
}

/// The period in which a reason is logged once.
const PERIOD: Duration = Duration::from_secs(60);
/// Maximum distinct reasons that are logged in a period: some texts never repeat.
const MAX_REASONS: usize = 100;

impl LogLimit {
    /// Returns `true`, and records `reason` as logged, if it was not logged within the last minute.
    pub(crate) fn admits(&mut self, now: Duration, reason: &str) -> bool {
        self.logged.retain(|_, logged| now.saturating_sub(*logged) < PERIOD);
        if self.logged.len() >= MAX_REASONS || self.logged.contains_key(reason) {
            return false;
        }
        self.logged.insert(reason.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_logged_once_a_minute() {
        let mut limit = LogLimit::default();
        let second = Duration::from_secs;
        assert!(limit.admits(second(0), "a") && limit.admits(second(1), "b"));
        assert!(!limit.admits(second(59), "a"));
        assert!(limit.admits(second(60), "a"));
        assert!(!limit.admits(second(60), "b"));
        assert!(limit.admits(second(61), "b"));
    }

    #[test]
    fn texts_that_never_repeat_are_bounded() {
        let mut limit = LogLimit::default();
        let count = (0..1_000).filter(|n| limit.admits(Duration::ZERO, &n.to_string())).count();
        assert_eq!(count, MAX_REASONS);
    }
}
