//! A clock that follows Tokio's time.

use std::time::Duration;

use composable_rust_core::Timestamp;
use composable_rust_core::environment::Clock;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

/// A [`Clock`] that follows Tokio's time, which a test can pause. Copies share their start.
///
/// With `#[tokio::test(start_paused = true)]` the time moves on to the next deadline whenever every
/// task waits, so that waiting takes no real time. Use it where workers or timers run in the
/// background; use [`MockClock`](crate::MockClock) where the test itself moves the time.
///
/// # Example: an hour that takes no time
///
/// ```
/// use std::time::Duration;
///
/// use composable_rust_core::Timestamp;
/// use composable_rust_core::environment::Clock;
/// use composable_rust_testing::TokioClock;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?
/// #     .block_on(async {
/// let clock = TokioClock::new();
/// clock.sleep(Duration::from_secs(3600)).await;
/// assert!(clock.now() >= Timestamp::EPOCH + Duration::from_secs(3600));
/// # });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    start: Timestamp,
    started: Instant,
}

impl TokioClock {
    /// A clock that starts at [`Timestamp::EPOCH`].
    #[expect(clippy::new_without_default, reason = "the value depends on the time of the call")]
    pub fn new() -> Self {
        Self::at(Timestamp::EPOCH)
    }

    /// A clock that starts at `now`.
    pub fn at(now: Timestamp) -> Self {
        Self { start: now, started: Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.start + self.started.elapsed()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
