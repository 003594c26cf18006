//! The bound of the queues that policies and consumers add to. They wait while one is full: further
//! events stay in the log, and further messages on their topic.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use composable_rust_core::queue::{OutboxMessage, Queue};

use crate::panic::lock;

/// Rows that this process adds to a queue before it counts the queue again.
const RECOUNT_AFTER_ROWS: usize = 500;
/// Poll interval of a full queue.
pub(crate) const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(250);
/// Pause after which a page is added to a full queue all the same: all its rows may be stuck.
const MAX_FULL_QUEUE_PAUSE: Duration = Duration::from_secs(10);

/// The rows that were added to each queue since it was last counted and not full.
#[derive(Debug, Default)]
pub(crate) struct QueueBounds(Mutex<BTreeMap<Queue, usize>>);

impl QueueBounds {
    /// Returns `true` if a queue must be counted before rows are added.
    pub(super) fn needs_count(&self, queue: &Queue) -> bool {
        let added = lock(&self.0);
        added.get(queue).is_none_or(|added| *added >= RECOUNT_AFTER_ROWS)
    }

    /// Records that a queue was counted.
    pub(super) fn was_counted(&self, queue: &Queue, is_full: bool) {
        let mut added = lock(&self.0);
        if is_full {
            added.remove(queue)
        } else {
            added.insert(queue.clone(), 0)
        };
    }

    /// Records that rows were added to their queues.
    pub(super) fn add(&self, partition: u16, rows: &[OutboxMessage]) {
        let mut added = lock(&self.0);
        for OutboxMessage { row, .. } in rows {
            let queue = Queue { partition, kind: row.kind, target: row.target.clone() };
            *added.entry(queue).or_insert(RECOUNT_AFTER_ROWS) += 1;
        }
    }
}

/// The pause of a policy or consumer while a queue is full.
#[derive(Debug, Default)]
pub(crate) struct FullQueuePause {
    since: Option<Duration>,
}

impl FullQueuePause {
    /// Returns `true` if the next page may be queued: no queue is full, or one has been full for
    /// long.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_when_the_queue_has_room_or_after_ten_seconds_for_one_page() {
        let mut pause = FullQueuePause::default();
        let second = Duration::from_secs;
        assert!(pause.is_over(false, second(0)));
        assert!(!pause.is_over(true, second(1)) && !pause.is_over(true, second(10)));
        assert!(pause.is_over(true, second(11)) && !pause.is_over(true, second(12)));
        assert!(!pause.is_over(true, second(20)) && pause.is_over(true, second(21)));
        assert!(pause.is_over(false, second(22)) && !pause.is_over(true, second(31)));
    }
}
