//! Summaries of the queues.

use std::collections::BTreeMap;
use std::time::Duration;

use composable_rust_core::Timestamp;
use composable_rust_core::queue::{OutboxKind, Queue, QueueSummary};

use super::state::{State, StoredTimerRow};

/// A waiting row: its time, and its last error.
type Waits<'s> = (Timestamp, Option<&'s String>);

impl State {
    pub(super) fn summarize_queues(&self, limit: usize) -> Vec<QueueSummary> {
        let now = self.time.now();
        let mut waiting: BTreeMap<Queue, Vec<Waits<'_>>> = BTreeMap::new();
        let mut dead: BTreeMap<Queue, usize> = BTreeMap::new();
        for of in &self.partitions {
            let partition = of.partition;
            for row in of.outbox.values() {
                let (kind, target) = (row.queued.row.kind, row.queued.row.target.clone());
                let queue = Queue { partition, kind, target };
                waiting.entry(queue).or_default().push((row.queued_at, row.last_error.as_ref()));
            }
            let timers = of.streams.values().flat_map(|stream| stream.timers.values());
            let mut due: Vec<&StoredTimerRow> =
                timers.filter(|armed| armed.timer.due <= now).collect();
            due.sort_by_key(|armed| (armed.timer.due, &armed.timer.stream, &armed.timer.id));
            for StoredTimerRow { timer, last_error, .. } in due {
                let target = timer.stream.category().to_owned();
                let queue = Queue { partition, kind: OutboxKind::Timer, target };
                waiting.entry(queue).or_default().push((timer.due, last_error.as_ref()));
            }
            for letter in of.dead.values() {
                *dead.entry(letter.queue.clone()).or_default() += 1;
                waiting.entry(letter.queue.clone()).or_default();
            }
        }
        let summary = |(queue, waiting): (Queue, Vec<Waits<'_>>)| QueueSummary {
            rows: waiting.len().min(limit) as u64,
            oldest: waiting.first().map_or(Duration::ZERO, |(since, _)| now.since(*since)),
            last_error: waiting.iter().take(limit).find_map(|(_, error)| error.cloned()),
            dead_letters: dead.get(&queue).copied().unwrap_or_default().min(limit) as u64,
            queue,
        };
        waiting.into_iter().map(summary).collect()
    }
}
