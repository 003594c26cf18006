//! Timers.

use composable_rust_core::Timestamp;
use composable_rust_core::queue::{
    ArmedTimer, DeadLetter, DueTimer, DueTimers, OutboxKind, OutboxMessage, Queue, QueueChange,
    QueuePosition, TimerQueue, TimerSettlement, Timers,
};
use composable_rust_core::store::{
    EventStore as _, NewOutboxRow, StoreError, validate_timer_settlements,
};
use uuid::Uuid;

use super::InMemoryEventStore;
use super::StoredTimer;
use super::state::{PartitionState, State, StoredTimerRow};

impl Timers for InMemoryEventStore {
    async fn due_timers(
        &self,
        queues: &[TimerQueue],
        limit: usize,
    ) -> Result<DueTimers, StoreError> {
        Ok(self.locked().due_timers(queues, limit))
    }

    async fn settle_timers(
        &self,
        partition: u16,
        settlements: &[TimerSettlement],
    ) -> Result<(), StoreError> {
        validate_timer_settlements(self.log(), partition, settlements)?;
        self.locked().settle_timers(partition, settlements);
        if settlements.iter().any(|settlement| settlement.change.adds_rows()) {
            self.has_work();
        }
        Ok(())
    }
}

impl State {
    pub(super) fn due_timers(&self, queues: &[TimerQueue], limit: usize) -> DueTimers {
        let now = self.time.now();
        let mut armed: Vec<(u16, &StoredTimerRow)> = Vec::new();
        for partition in &self.partitions {
            let asked = |category: &str| {
                let mut queues = queues.iter().filter(|q| q.partition == partition.partition);
                queues.any(|queue| queue.category == category)
            };
            let streams = partition.streams.iter().filter(|(id, _)| asked(id.category()));
            let timers = streams.flat_map(|(_, stream)| stream.timers.values());
            armed.extend(timers.map(|armed| (partition.partition, armed)));
        }
        armed.sort_by_key(|(_, armed)| (armed.timer.due, &armed.timer.stream, &armed.timer.id));
        let due = armed.iter().take_while(|(_, armed)| armed.timer.due <= now).take(limit).count();
        let read = |(partition, armed): &(u16, &StoredTimerRow)| DueTimer {
            partition: *partition,
            stream: armed.timer.stream.clone(),
            timer: armed_timer(&armed.timer),
            due: armed.timer.due,
            armed_at: armed.armed_at,
            content: armed.timer.content.clone(),
            metadata: armed.timer.metadata.clone(),
            attempts: armed.attempts,
            begun: armed.attempts > 0 && armed.last_error.is_none(),
        };
        DueTimers {
            timers: armed[..due].iter().map(read).collect(),
            next: armed.get(due).map(|(_, armed)| armed.timer.due.since(now)),
        }
    }

    pub(super) fn settle_timers(&mut self, partition: u16, settlements: &[TimerSettlement]) {
        let (now, log) = (self.time.now(), self.log.id);
        for settlement in settlements {
            if self.is_at_epoch(&settlement.lease) {
                self.partitions[usize::from(partition)].settle_timer(log, settlement, now);
            }
        }
    }
}

impl PartitionState {
    fn settle_timer(&mut self, log: Uuid, settlement: &TimerSettlement, now: Timestamp) {
        let TimerSettlement { stream, timer: armed_by, change, .. } = settlement;
        let Some(data) = self.streams.get_mut(stream) else { return };
        let Some(armed) = data.timers.get_mut(&armed_by.id) else { return };
        if armed.timer.arming != armed_by.arming {
            return;
        }
        match change {
            QueueChange::Done(rows) => {
                data.timers.remove(&armed_by.id);
                self.queue(rows.iter().cloned(), now);
            }
            QueueChange::Begun { attempts } => {
                (armed.attempts, armed.last_error) = (*attempts, None);
                armed.timer.due = now;
            }
            QueueChange::Failed { attempts, retry_after, error } => {
                armed.attempts = *attempts;
                armed.timer.due = now + *retry_after;
                armed.last_error = Some(error.clone());
            }
            QueueChange::Parked { attempts, error } => {
                let Some(armed) = data.timers.remove(&armed_by.id) else { return };
                let letter = DeadLetter {
                    attempts: *attempts,
                    error: error.clone(),
                    parked_at: now,
                    ..parked(self.partition, log, armed.timer)
                };
                let position = QueuePosition { sequence: self.draw(), index: 0 };
                self.add_dead_letter(position, letter);
            }
        }
    }

    /// Arms a timer that was a dead letter, unless a timer of its id is armed.
    pub(super) fn rearm(&mut self, letter: DeadLetter, now: Timestamp) {
        let OutboxMessage { sender: stream, row } = letter.message;
        let (Some(arming), Some(data)) = (letter.arming, self.streams.get_mut(&stream)) else {
            return;
        };
        data.timers.entry(row.recipient.clone()).or_insert_with(|| StoredTimerRow {
            timer: StoredTimer {
                stream,
                id: row.recipient,
                arming,
                due: now,
                content: row.content,
                metadata: row.metadata,
            },
            armed_at: now,
            attempts: 0,
            last_error: None,
        });
    }
}

pub(super) fn armed_timer(timer: &StoredTimer) -> ArmedTimer {
    ArmedTimer { id: timer.id.clone(), arming: timer.arming }
}

/// Converts a timer to a dead letter.
fn parked(partition: u16, log: Uuid, timer: StoredTimer) -> DeadLetter {
    let category = timer.stream.category().to_owned();
    let row = NewOutboxRow {
        id: armed_timer(&timer).message_id(log, &timer.stream).0,
        kind: OutboxKind::Timer,
        target: category.clone(),
        recipient: timer.id,
        content: timer.content,
        metadata: timer.metadata,
    };
    DeadLetter {
        queue: Queue { partition, kind: OutboxKind::Timer, target: category },
        position: QueuePosition::default(),
        message: OutboxMessage { sender: timer.stream, row },
        arming: Some(timer.arming),
        attempts: 0,
        error: None,
        is_head: false,
        parked_at: timer.due,
        decision: None,
    }
}
