//! Waiting before a retry.

use std::time::Duration;

use composable_rust_core::environment::{Clock, Rng};

/// Exponential backoff with full jitter: wait number `n` takes a random part of `first * 2^n`, at
/// most of `max`. Full jitter spreads competitors best (Brooker, "Exponential Backoff and Jitter",
/// AWS 2015).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    ceiling: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, max: Duration) -> Self {
        Self { ceiling: first, max }
    }

    pub(crate) async fn wait(&mut self, clock: &dyn Clock, rng: &dyn Rng) {
        let micros = u64::try_from(self.ceiling.as_micros()).unwrap_or(u64::MAX).max(1);
        self.ceiling = (self.ceiling * 2).min(self.max);
        clock.sleep(Duration::from_micros(rng.next_u64() % micros)).await;
    }
}
