//! Reporting queues that no running process works, and retrying stuck instances.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::store::StoreError;
use tokio::sync::watch;

use crate::app::queues::Queues;
use crate::metrics::QUEUE_WITHOUT_WORKER;
use crate::worker::context::WorkerContext;
use crate::worker::worker_id::WorkerId;

/// Interval at which the queues are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The rows of a queue without a worker, over all partitions.
#[derive(Debug, Default, PartialEq, Eq)]
struct UnservedQueue {
    rows: u64,
    dead_letters: u64,
    oldest: Duration,
}

/// Warns about queues that no running process works, once each time that a queue loses its worker.
/// A queue must be found twice, because processes that start, or whose log was resumed, announce
/// their workers within the leases' time-to-live.
pub(crate) async fn report_unserved(context: Arc<WorkerContext>) {
    let mut known: BTreeMap<String, UnservedQueue> = BTreeMap::new();
    let mut suspected = BTreeSet::new();
    let lease = context.shared.settings.lease_ttl;
    let mut pause = lease;
    while context.pause(pause).await {
        context.shared.unknowns.forget_stale(context.now());
        context.shared.stuck.forget_stale(context.now());
        // Before the check, so that no news of the time between is lost.
        let news = News::subscribe(&context);
        let mut found = match unserved(&context).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "failed to check the queues; retrying later");
                pause = CHECK_INTERVAL;
                continue;
            }
        };
        let before = std::mem::replace(&mut suspected, found.keys().cloned().collect());
        found.retain(|queue, _| before.contains(queue));
        pause = if suspected.is_subset(&before) { CHECK_INTERVAL } else { lease };
        let is_idle = suspected.is_empty()
            && known.is_empty()
            && context.shared.unknowns.is_empty()
            && context.shared.stuck.is_empty();
        if is_idle && !news.wait(&context).await {
            return;
        }
        for queue in known.keys().filter(|queue| !found.contains_key(*queue)) {
            QUEUE_WITHOUT_WORKER.set_count([queue], 0);
        }
        for (queue, UnservedQueue { rows, dead_letters, oldest }) in &found {
            QUEUE_WITHOUT_WORKER.set_count([queue], rows + dead_letters);
            if !known.contains_key(queue) {
                tracing::warn!(
                    queue,
                    rows,
                    dead_letters,
                    ?oldest,
                    "no running process works this queue, so its rows wait: deploy a process that \
                     registers it, or park or discard the rows (App::queues)"
                );
            }
        }
        known = found;
    }
}

/// News since a check began.
struct News {
    /// Changes of the store.
    wake: watch::Receiver<u64>,
    leases: watch::Receiver<u64>,
}

impl News {
    fn subscribe(context: &WorkerContext) -> Self {
        let (mut wake, leases) = (context.wake.clone(), context.leases.changes());
        wake.mark_unchanged();
        Self { wake, leases }
    }

    /// Waits until the queues or the leases may have changed. Returns `false` if the workers are to
    /// stop.
    async fn wait(mut self, context: &WorkerContext) -> bool {
        tokio::select! {
            biased;
            () = context.stop.cancelled() => false,
            _ = self.wake.changed() => true,
            _ = self.leases.changed() => true,
        }
    }
}

/// Minimum interval between two retries of stuck instances because of overridden events.
const RETRY_PAUSE: Duration = Duration::from_secs(60);

/// Retries stuck instances when any process has overridden events.
pub(crate) async fn retry_overridden(work: Arc<WorkerContext>) {
    let mut overrides = work.leases.overrides();
    // The leases may have been read before this subscription.
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

/// Returns the queues without a worker; none while the log is paused.
async fn unserved(context: &WorkerContext) -> Result<BTreeMap<String, UnservedQueue>, StoreError> {
    let mut found: BTreeMap<String, UnservedQueue> = BTreeMap::new();
    let queues = Queues::new(&context.shared).all().await?;
    for of in queues.into_iter().filter(|of| of.has_worker == Some(false)) {
        let worker = WorkerId::of_queue(of.queue.kind, &of.queue.target).to_string();
        let unserved = found.entry(worker).or_default();
        unserved.rows += of.rows;
        unserved.dead_letters += of.dead_letters;
        unserved.oldest = unserved.oldest.max(of.oldest);
    }
    Ok(found)
}
