//! The context that all workers of an app share.

use std::fmt::Display;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use composable_rust_core::environment::Clock;
use composable_rust_core::queue::{Outbox as _, OutboxMessage, Queue};
use composable_rust_core::store::{SharedEventStore, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::app::context::AppContext;
use crate::app::unknown_messages::{Encounter, NewerCode, SeenAt};
use crate::panic::lock;
use crate::worker::deliveries::DeliveryMetrics;
use crate::worker::leases::Leases;
use crate::worker::log_limit::LogLimit;
use crate::worker::queue_bounds::QueueBounds;

/// The pause of a worker that waits until it is woken.
pub(crate) const UNTIL_WOKEN: Duration = Duration::MAX;

/// The store, the clock, the leases and the stop signal of an app's workers. It knows no aggregate,
/// gateway, policy, projection or bus: those that need one own it.
pub(crate) struct WorkerContext {
    pub(crate) shared: Arc<AppContext>,
    pub(crate) leases: Leases,
    /// A counter that rises when the queues may have work.
    pub(crate) wake: watch::Receiver<u64>,
    pub(crate) stop: CancellationToken,
    log_limit: Mutex<LogLimit>,
    queue_bounds: QueueBounds,
    pub(crate) deliveries: DeliveryMetrics,
}

impl WorkerContext {
    pub(crate) fn new(
        shared: Arc<AppContext>,
        leases: Leases,
        wake: watch::Receiver<u64>,
        stop: CancellationToken,
    ) -> Self {
        let (log_limit, queue_bounds) = (Mutex::default(), QueueBounds::default());
        let deliveries = DeliveryMetrics::default();
        Self { shared, leases, wake, stop, log_limit, queue_bounds, deliveries }
    }

    pub(crate) fn store(&self) -> &SharedEventStore {
        &self.shared.store
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.shared.clock
    }

    /// Returns the monotonic time.
    pub(crate) fn now(&self) -> Duration {
        self.shared.clock.monotonic()
    }

    /// Returns `true` if the store notifies this process of every change.
    pub(crate) fn is_notified(&self) -> bool {
        self.leases.is_notified()
    }

    /// Returns the pause after which to look for changes again: `interval`, or [`UNTIL_WOKEN`] if
    /// the store notifies this process of them.
    pub(crate) fn poll_interval(&self, interval: Duration) -> Duration {
        if self.is_notified() { UNTIL_WOKEN } else { interval }
    }

    /// Waits for `duration`, and for ever if it is [`UNTIL_WOKEN`].
    pub(crate) async fn sleep(&self, duration: Duration) {
        if duration == UNTIL_WOKEN {
            std::future::pending::<()>().await;
        }
        self.clock().sleep(duration).await;
    }

    /// Returns `true` if nothing was logged for this reason within the last minute.
    pub(crate) fn logs(&self, reason: &str) -> bool {
        let mut limit = lock(&self.log_limit);
        limit.admits(self.now(), reason)
    }

    /// Records that a worker has met something that this process does not know.
    pub(crate) fn meet(&self, worker: &str, newer: &NewerCode, place: &dyn Display) -> Encounter {
        let at = SeenAt {
            now: self.clock().now(),
            monotonic: self.now(),
            overdue_after: self.shared.settings.unknown_message_grace,
        };
        self.shared.unknowns.meet(worker, newer, place, at)
    }

    /// Returns `true` if something unknown has waited for so long that no running process knows it.
    pub(crate) fn is_overdue(&self, worker: &str, place: &dyn Display) -> bool {
        let waited = self.shared.unknowns.waited(worker, place, self.now());
        waited.is_some_and(|waited| waited >= self.shared.settings.unknown_message_grace)
    }

    /// Waits for `duration`. Returns `false` if the workers are to stop.
    pub(crate) async fn pause(&self, duration: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            () = self.clock().sleep(duration) => true,
        }
    }

    /// Returns those of `queues` that are full, for `worker`, which is about to add to them.
    pub(crate) async fn full_queues(
        &self,
        worker: &str,
        mut queues: Vec<Queue>,
    ) -> Result<Vec<Queue>, StoreError> {
        queues.retain(|queue| self.queue_bounds.needs_count(queue));
        if queues.is_empty() {
            return Ok(queues);
        }
        let bound = self.shared.settings.max_waiting_rows_per_queue;
        let mut counts = self.store().count_waiting(&queues, bound).await?.into_iter();
        queues.retain(|queue| {
            let is_full = counts.next().is_some_and(|count| count >= bound);
            self.queue_bounds.was_counted(queue, is_full);
            is_full
        });
        let first = queues.first().filter(|_| self.logs(&format!("{worker} rests")));
        if let Some(Queue { partition, kind, target }) = first {
            tracing::info!(
                worker,
                queue = format!("{}/{target}", kind.as_str()),
                partition,
                bound,
                "a queue is full; the worker waits until it has room, and adds a page every ten \
                 seconds"
            );
        }
        Ok(queues)
    }

    /// Counts rows that were added to queues, towards their bound.
    pub(crate) fn has_queued(&self, partition: u16, rows: &[OutboxMessage]) {
        self.queue_bounds.add(partition, rows);
    }
}
