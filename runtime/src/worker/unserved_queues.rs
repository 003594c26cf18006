//! Telling operators what waits in vain.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::StoreError;

use crate::app::queues::Queues;
use crate::worker::context::WorkerContext;
use crate::worker::leases::worker_of;

/// How often the queues are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// What waits in a queue without a worker, over all partitions.
#[derive(Debug, Default, PartialEq, Eq)]
struct UnservedQueue {
    rows: u64,
    dead_letters: u64,
    oldest: Duration,
}

/// Warns about queues that no running process works, each once for as long as it is so. A queue has
/// to be found twice: processes that start, or whose log is paused no more, announce what they work
/// before their leases' time is over.
pub(crate) async fn watch(work: Arc<WorkerContext>) {
    let mut known: BTreeMap<String, UnservedQueue> = BTreeMap::new();
    let mut suspected = BTreeSet::new();
    let lease = work.shared.settings.lease_ttl;
    let mut pause = lease;
    while work.pause(pause).await {
        work.shared.unknowns.forget_stale(work.now());
        work.shared.stuck.forget_stale(work.now());
        let mut found = match unworked(&work).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "failed to look at the queues; looking again later");
                pause = CHECK_INTERVAL;
                continue;
            }
        };
        let before = std::mem::replace(&mut suspected, found.keys().cloned().collect());
        found.retain(|queue, _| before.contains(queue));
        pause = if suspected.is_subset(&before) { CHECK_INTERVAL } else { lease };
        for queue in known.keys().filter(|queue| !found.contains_key(*queue)) {
            gauge(queue, 0);
        }
        for (queue, UnservedQueue { rows, dead_letters, oldest }) in &found {
            gauge(queue, rows + dead_letters);
            if !known.contains_key(queue) {
                tracing::warn!(
                    queue,
                    rows,
                    dead_letters,
                    ?oldest,
                    "no running process works this queue, so its rows wait: deploy one that \
                     registers it, or park or discard them (App::queues)"
                );
            }
        }
        known = found;
    }
}

/// The least time between two times that stuck instances are tried because of overrides.
const RETRY_PAUSE: Duration = Duration::from_secs(60);

/// Has stuck instances tried again when events were overridden, by whichever process.
pub(crate) async fn retry_overridden(work: Arc<WorkerContext>) {
    let mut overrides = work.leases.overrides();
    // The first look may have been before this subscribed.
    let mut known = *overrides.borrow_and_update();
    loop {
        tokio::select! {
            biased;
            () = work.stop.cancelled() => return,
            changed = overrides.changed() => if changed.is_err() { return },
        }
        let before = std::mem::replace(&mut known, *overrides.borrow_and_update());
        if before.is_some() {
            work.shared.stuck.retry_all(work.now(), &*work.shared.rng);
            if !work.pause(RETRY_PAUSE).await {
                return;
            }
        }
    }
}

fn gauge(queue: &str, waiting: u64) {
    #[expect(clippy::cast_precision_loss, reason = "counting ends long before")]
    metrics::gauge!("composable_rust_queue_without_worker", "queue" => queue.to_owned())
        .set(waiting as f64);
}

/// While the log is paused, nothing is meant to be worked.
async fn unworked(work: &WorkerContext) -> Result<BTreeMap<String, UnservedQueue>, StoreError> {
    let mut found: BTreeMap<String, UnservedQueue> = BTreeMap::new();
    let (queues, is_paused) = Queues::new(&work.shared).read().await?;
    if is_paused {
        return Ok(found);
    }
    for of in queues.into_iter().filter(|of| !of.has_worker) {
        let unworked = found.entry(worker_of(of.queue.kind, &of.queue.target)).or_default();
        unworked.rows += of.rows;
        unworked.dead_letters += of.dead_letters;
        unworked.oldest = unworked.oldest.max(of.oldest);
    }
    Ok(found)
}
