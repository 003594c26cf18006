//! Rate limits: token buckets, of which each process fills its share.

use std::time::Duration;

/// A maximum rate of calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RateLimit {
    /// The calls per second, on average.
    pub(crate) per_second: f64,
    /// The calls that may begin at once after a pause.
    pub(crate) burst: u32,
}

impl RateLimit {
    /// Returns `true` if the limit ever admits a call.
    pub(crate) fn is_valid(&self) -> bool {
        self.per_second.is_finite() && self.per_second > 0.0 && self.burst > 0
    }

    /// Returns the size of the bucket of a process that holds `share` of the partitions; zero
    /// without partitions. A smaller bucket than one token would never admit a call.
    fn capacity(&self, share: f64) -> f64 {
        if share > 0.0 { (f64::from(self.burst) * share).max(1.0) } else { 0.0 }
    }
}

/// The rounding error that is accepted when tokens are counted.
const EPSILON: f64 = 1e-6;
/// The pause before a process without partitions looks again.
const NO_SHARE_PAUSE: Duration = Duration::from_secs(1);

/// The calls that may begin: a bucket that fills with the share of the rate that this process has.
/// Times are monotonic.
///
/// It is empty at first, since the process that held the partitions before may have used their
/// tokens. So all processes together never exceed the rate.
#[derive(Debug, Clone)]
pub(crate) struct TokenBucket {
    tokens: f64,
    filled_at: Duration,
}

impl TokenBucket {
    pub(crate) fn empty(now: Duration) -> Self {
        Self { tokens: 0.0, filled_at: now }
    }

    /// Returns the tokens at a time.
    fn tokens(&self, limit: &RateLimit, share: f64, now: Duration) -> f64 {
        let elapsed = now.saturating_sub(self.filled_at).as_secs_f64();
        (self.tokens + elapsed * limit.per_second * share).min(limit.capacity(share))
    }

    /// Adds the tokens since the last time.
    pub(crate) fn fill(&mut self, limit: &RateLimit, share: f64, now: Duration) {
        self.tokens = self.tokens(limit, share, now);
        self.filled_at = now.max(self.filled_at);
    }

    /// Returns the number of calls that may begin now.
    pub(crate) fn calls(&self, limit: &RateLimit, share: f64, now: Duration) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small count"
        )]
        let calls = (self.tokens(limit, share, now) + EPSILON) as usize;
        calls
    }

    /// Returns the time at which `calls` calls may begin together.
    pub(crate) fn ready_at(
        &self,
        calls: u32,
        limit: &RateLimit,
        share: f64,
        now: Duration,
    ) -> Duration {
        let missing = f64::from(calls) - self.tokens(limit, share, now);
        if missing <= EPSILON {
            return now;
        }
        if share <= 0.0 {
            return now + NO_SHARE_PAUSE;
        }
        let seconds = missing / (limit.per_second * share);
        // Rounded up to whole microseconds, the precision of clocks.
        let wait = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let micros = wait.as_nanos().div_ceil(1_000);
        let wait = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        now.saturating_add(wait)
    }

    /// Takes the token of a call that begins.
    pub(crate) fn take(&mut self, limit: &RateLimit, share: f64, now: Duration) {
        self.fill(limit, share, now);
        self.tokens = (self.tokens - 1.0).max(0.0);
    }

    /// Returns the token of a call that was not made.
    pub(crate) fn give_back(&mut self, limit: &RateLimit, share: f64, now: Duration) {
        self.tokens += 1.0;
        self.fill(limit, share, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Begins all calls that may begin within a time, and returns their number.
    fn calls(bucket: &mut TokenBucket, limit: &RateLimit, share: f64, for_: Duration) -> usize {
        let (start, mut count) = (bucket.filled_at, 0);
        loop {
            let now = bucket.filled_at;
            let at = bucket.ready_at(1, limit, share, now);
            if at > start + for_ {
                bucket.fill(limit, share, start + for_);
                return count;
            }
            assert!(bucket.calls(limit, share, at) >= 1, "ready when it said so");
            bucket.take(limit, share, at);
            count += 1;
        }
    }

    #[test]
    fn a_bucket_admits_the_rate_and_then_a_burst() {
        let limit = RateLimit { per_second: 7.0, burst: 20 };
        let mut bucket = TokenBucket::empty(SECOND);
        assert_eq!(calls(&mut bucket, &limit, 1.0, 100 * SECOND), 700);
        assert_eq!(bucket.calls(&limit, 1.0, 1_000 * SECOND), 20);
        assert_eq!(bucket.ready_at(20, &limit, 1.0, 1_000 * SECOND), 1_000 * SECOND);
        assert!(bucket.ready_at(21, &limit, 1.0, 1_000 * SECOND) > 1_000 * SECOND);
    }

    #[test]
    fn shares_add_up_to_the_rate() {
        let limit = RateLimit { per_second: 10.0, burst: 1 };
        let share = |share: f64| calls(&mut TokenBucket::empty(SECOND), &limit, share, 80 * SECOND);
        let (some, others) = (share(0.375), share(0.625));
        // Waits are rounded up.
        assert!((299..=300).contains(&some) && (499..=500).contains(&others), "{some} {others}");
        assert_eq!(TokenBucket::empty(SECOND).calls(&limit, 0.0, 80 * SECOND), 0);
    }

    #[test]
    fn a_call_that_was_not_made_costs_nothing() {
        let limit = RateLimit { per_second: 1.0, burst: 1 };
        let mut bucket = TokenBucket::empty(Duration::ZERO);
        assert_eq!(bucket.ready_at(1, &limit, 1.0, Duration::ZERO), SECOND);
        bucket.take(&limit, 1.0, SECOND);
        assert_eq!(bucket.calls(&limit, 1.0, SECOND), 0);
        bucket.give_back(&limit, 1.0, SECOND);
        assert_eq!(bucket.calls(&limit, 1.0, SECOND), 1);
    }
}
