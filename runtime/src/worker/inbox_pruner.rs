//! Pruning the inbox entries of messages that can no longer be redelivered.

use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::queue::Inbox as _;

use crate::worker::context::WorkerContext;
use crate::worker::worker_id::WorkerId;

/// Interval at which each partition is pruned.
const INTERVAL: Duration = Duration::from_secs(600);
/// The part of the entries' age that a store in memory, whose time may be virtual and pass fast,
/// keeps them for longer.
const PART_OF_AGE: u32 = 32;
/// Maximum entries that one transaction deletes.
const MAX_BATCH: usize = 1_000;
/// Pause between two transactions, so that appends are not delayed.
const BATCH_PAUSE: Duration = Duration::from_millis(100);

/// Deletes old inbox entries, in small batches.
pub(crate) async fn prune(context: Arc<WorkerContext>) {
    let worker = WorkerId::InboxPruner.to_string();
    let mut leases = context.leases.changes();
    let mut due = Duration::ZERO;
    let retention = context.shared.settings.inbox_retention;
    // A message counts as late by the clock of its sender, and one that is not late may wait before
    // it is handled.
    let age = retention.saturating_add(retention / 8);
    let interval = if context.is_notified() { (age / PART_OF_AGE).max(INTERVAL) } else { INTERVAL };
    loop {
        let now = context.now();
        let mut has_more = false;
        if now >= due {
            for held in context.leases.of(&worker) {
                match context.store().prune_inbox(held.lease.partition, age, MAX_BATCH).await {
                    Ok(pruned) => has_more |= pruned >= MAX_BATCH as u64,
                    Err(error) => tracing::debug!(%error, "failed to prune the inbox; retrying"),
                }
            }
            due = now + if has_more { BATCH_PAUSE } else { interval };
        }
        tokio::select! {
            biased;
            () = context.stop.cancelled() => return,
            _ = leases.changed() => {}
            () = context.clock().sleep(due.saturating_sub(context.now())) => {}
        }
    }
}
