//! Waking the workers when the store has work for them.

use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::environment::Clock;
use composable_rust_core::queue::Outbox as _;
use composable_rust_core::store::SharedEventStore;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Interval at which the workers are woken without news, in case a notification was lost. A store
/// that may miss notifications for a while wakes them itself; only those of a process that crashed
/// just after a commit are missing, whose leases take as long to lapse.
const IDLE_POLL_INTERVAL: Duration = Duration::from_secs(15);
/// The pause after the store could not be waited on.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Raises `wake` when the store says that there may be work, until `stop`.
pub(crate) async fn wake(
    store: SharedEventStore,
    clock: Arc<dyn Clock>,
    wake: watch::Sender<u64>,
    stop: CancellationToken,
) {
    let (mut seen, mut woken_at) = (0, Duration::ZERO);
    loop {
        let waited = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            waited = store.wait_for_work(seen) => waited,
        };
        match waited {
            Ok(count) => {
                let now = clock.monotonic();
                if count != seen || now.saturating_sub(woken_at) >= IDLE_POLL_INTERVAL {
                    wake.send_modify(|n| *n += 1);
                    woken_at = now;
                }
                seen = count;
            }
            Err(error) => {
                tracing::debug!(%error, "failed to wait for work; polling");
                wake.send_modify(|n| *n += 1);
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = clock.sleep(RETRY_PAUSE) => {}
                }
            }
        }
    }
}
