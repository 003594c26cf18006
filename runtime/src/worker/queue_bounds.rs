//! The bound of the queues that policies and consumers fill. While one is full they rest: what they
//! would queue stays in the log, or on its topic.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use composable_rust_core::{Outbox as _, OutboxMessage, Queue, StoreError};

use crate::worker::context::WorkerContext;

/// Rows that this process adds to a queue before it counts again.
const RECOUNT_AFTER_ROWS: usize = 500;
/// Pause between two looks at a full queue.
pub(crate) const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(250);
/// Rest after which one page is queued all the same: all rows of a full queue may be stuck.
const MAX_FULL_QUEUE_PAUSE: Duration = Duration::from_secs(10);

/// For each queue that was not full when it was last counted, the rows that were added since.
#[derive(Debug, Default)]
pub(crate) struct QueueBounds(Mutex<BTreeMap<Queue, usize>>);

impl QueueBounds {
    fn needs_count(&self, queue: &Queue) -> bool {
        let added = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        added.get(queue).is_none_or(|added| *added >= RECOUNT_AFTER_ROWS)
    }

    fn was_counted(&self, queue: &Queue, is_full: bool) {
        let mut added = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_full {
            added.remove(queue)
        } else {
            added.insert(queue.clone(), 0)
        };
    }

    fn add(&self, partition: u16, rows: &[OutboxMessage]) {
        let mut added = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for OutboxMessage { row, .. } in rows {
            let queue = Queue { partition, kind: row.kind, target: row.target.clone() };
            *added.entry(queue).or_insert(RECOUNT_AFTER_ROWS) += 1;
        }
    }
}

/// The rest of a policy or consumer whose queue is full.
#[derive(Debug, Default)]
pub(crate) struct FullQueuePause {
    since: Option<Duration>,
}

impl FullQueuePause {
    /// Returns `true` if the next page may be queued: no queue is full, or one has been for long.
    pub(crate) fn is_over(&mut self, is_full: bool, now: Duration) -> bool {
        if !is_full {
            self.since = None;
            return true;
        }
        let since = self.since.get_or_insert(now);
        let is_over = now.saturating_sub(*since) >= MAX_FULL_QUEUE_PAUSE;
        if is_over {
            *since = now;
        }
        is_over
    }
}

impl WorkerContext {
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
        if let Some(Queue { partition, kind, target }) = queues.first()
            && self.logs(&format!("{worker} rests"))
        {
            tracing::info!(
                worker,
                queue = format!("{}/{target}", kind.as_str()),
                partition,
                bound,
                "a queue is full; the worker rests until there is room, and lets a page through every \
                 ten seconds"
            );
        }
        Ok(queues)
    }

    /// Adds rows that were queued to what the queues held when they were counted.
    pub(crate) fn has_queued(&self, partition: u16, rows: &[OutboxMessage]) {
        self.queue_bounds.add(partition, rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_ends_with_room_or_after_ten_seconds_for_one_page() {
        let mut rest = FullQueuePause::default();
        let second = Duration::from_secs;
        assert!(rest.is_over(false, second(0)));
        assert!(!rest.is_over(true, second(1)) && !rest.is_over(true, second(10)));
        assert!(rest.is_over(true, second(11)) && !rest.is_over(true, second(12)));
        assert!(!rest.is_over(true, second(20)) && rest.is_over(true, second(21)));
        assert!(rest.is_over(false, second(22)) && !rest.is_over(true, second(31)));
    }
}
