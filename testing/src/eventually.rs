//! Waiting for a condition.

use std::time::Duration;

use tokio::time::Instant;

/// The interval between two checks of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Waits until `condition` holds, for at most `limit` of Tokio's time.
///
/// ```
/// use std::time::Duration;
///
/// use composable_rust_testing::eventually;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let mut checks = 0;
/// eventually("the third check", Duration::from_secs(5), async || {
///     checks += 1;
///     checks == 3
/// })
/// .await;
/// # });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Panics
///
/// Panics with `what` if the condition does not hold within `limit`.
pub async fn eventually(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition().await {
        assert!(Instant::now() < deadline, "timed out after {limit:?} waiting for {what}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
