//! Waiting for a condition.

use std::time::Duration;

use tokio::time::Instant;

/// The interval between two checks of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The result of one check of a condition: a bool, or the value that is waited for.
pub trait Condition {
    /// The value when the condition holds.
    type Value;

    /// Returns the value if the condition holds.
    fn value(self) -> Option<Self::Value>;
}

impl Condition for bool {
    type Value = ();

    fn value(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Condition for Option<T> {
    type Value = T;

    fn value(self) -> Option<T> {
        self
    }
}

/// Waits until `check` returns `true` or `Some`, for at most `limit` of Tokio's time. Returns the
/// value of `Some`.
///
/// ```
/// use std::time::Duration;
///
/// use composable_rust_testing::eventually;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let mut checks = 0;
/// let third = eventually("the third check", Duration::from_secs(5), async || {
///     checks += 1;
///     (checks == 3).then_some(checks)
/// });
/// assert_eq!(third.await, 3);
/// # });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Panics
///
/// Panics with `what` if the condition does not hold within `limit`.
pub async fn eventually<C: Condition>(
    what: &str,
    limit: Duration,
    mut check: impl AsyncFnMut() -> C,
) -> C::Value {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = check().await.value() {
            return value;
        }
        assert!(Instant::now() < deadline, "timed out after {limit:?} waiting for {what}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
