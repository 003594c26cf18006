//! Forgetting messages that cannot come again.

use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::Inbox as _;

use crate::worker::context::WorkerContext;

/// The worker that prunes, as leases name it.
pub(crate) const PRUNER_WORKER: &str = "prune";
/// How often each partition is looked at.
const INTERVAL: Duration = Duration::from_secs(600);
/// Marks that one transaction deletes at most.
const BATCH: usize = 1_000;
/// Between two batches, so that appends are not held up.
const BATCH_PAUSE: Duration = Duration::from_millis(100);

/// Deletes old marks of the inbox, in small batches.
pub(crate) async fn prune(work: Arc<WorkerContext>) {
    let mut leases = work.leases.changes();
    let mut due = Duration::ZERO;
    loop {
        let now = work.now();
        let mut more = false;
        if now >= due {
            let age = work.shared.settings.inbox_retention;
            // What is older than `inbox_retention` counts as late by the clock of who sent it, and what is
            // not may wait for a while before it is handled.
            let age = age.saturating_add(age / 8);
            for held in work.leases.of(PRUNER_WORKER) {
                match work.store().prune_inbox(held.lease.partition, age, BATCH).await {
                    Ok(gone) => more |= gone >= BATCH as u64,
                    Err(error) => tracing::debug!(%error, "old marks are not deleted yet"),
                }
            }
            due = now + if more { BATCH_PAUSE } else { INTERVAL };
        }
        tokio::select! {
            biased;
            () = work.stop.cancelled() => return,
            _ = leases.changed() => {}
            () = work.clock().sleep(due.saturating_sub(work.now())) => {}
        }
    }
}
