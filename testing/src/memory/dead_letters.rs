//! Dead letters.

use std::collections::BTreeSet;

use composable_rust_core::Timestamp;
use composable_rust_core::queue::{
    DeadLetter, DeadLetterDecision, DeadLetters, Lease, OutboxKind, OutboxMessage, Queue,
    QueuePosition,
};
use composable_rust_core::store::{EventStore as _, StoreError, validate_partition, validate_rows};
use uuid::Uuid;

use super::InMemoryEventStore;
use super::outbox::is_pair;
use super::state::{PartitionState, State};

impl DeadLetters for InMemoryEventStore {
    async fn dead_letters(
        &self,
        after: Option<(Queue, QueuePosition)>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        Ok(self.locked().dead_letters(after.as_ref(), limit))
    }

    async fn decide_dead_letter(
        &self,
        partition: u16,
        id: Uuid,
        decision: DeadLetterDecision,
    ) -> Result<bool, StoreError> {
        let is_kept = self.locked().decide_dead_letter(partition, id, decision);
        if is_kept {
            self.has_work();
        }
        Ok(is_kept)
    }

    async fn decided_dead_letters(
        &self,
        queues: &[Queue],
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        Ok(self.locked().decided_dead_letters(queues, limit))
    }

    async fn resolve_dead_letter(
        &self,
        lease: &Lease,
        letter: &DeadLetter,
        replies: &[OutboxMessage],
    ) -> Result<bool, StoreError> {
        validate_partition(self.log(), lease.partition)?;
        validate_rows(replies)?;
        let is_done = self.locked().resolve_dead_letter(lease, letter, replies);
        if is_done {
            self.has_work();
        }
        Ok(is_done)
    }
}

impl State {
    pub(super) fn dead_letters(
        &self,
        after: Option<&(Queue, QueuePosition)>,
        limit: usize,
    ) -> Vec<DeadLetter> {
        let mut letters: Vec<_> =
            self.partitions.iter().flat_map(PartitionState::letters).collect();
        letters.retain(|letter| {
            after.is_none_or(|(queue, position)| {
                (&letter.queue, &letter.position) > (queue, position)
            })
        });
        letters.sort_by(|a, b| (&a.queue, a.position).cmp(&(&b.queue, b.position)));
        letters.truncate(limit);
        letters
    }

    pub(super) fn decide_dead_letter(
        &mut self,
        partition: u16,
        id: Uuid,
        made: DeadLetterDecision,
    ) -> bool {
        let partition = self.partitions.get_mut(usize::from(partition));
        let Some(partition) = partition else { return false };
        let Some(position) = partition.position_of(id) else { return false };
        if !partition.is_head(position) {
            return false;
        }
        if let Some(letter) = partition.dead.get_mut(&position) {
            letter.decision = Some(made);
        }
        true
    }

    pub(super) fn decided_dead_letters(&self, queues: &[Queue], limit: usize) -> Vec<DeadLetter> {
        let of_partition = |partition: &PartitionState| {
            let decided = partition
                .dead
                .iter()
                .filter(|(_, letter)| letter.decision.is_some() && queues.contains(&letter.queue));
            // Only heads have decisions.
            let shown = |(position, letter): (&QueuePosition, &DeadLetter)| DeadLetter {
                position: *position,
                is_head: true,
                ..letter.clone()
            };
            decided.map(shown).collect::<Vec<_>>()
        };
        self.partitions.iter().flat_map(of_partition).take(limit).collect()
    }

    pub(super) fn resolve_dead_letter(
        &mut self,
        lease: &Lease,
        letter: &DeadLetter,
        replies: &[OutboxMessage],
    ) -> bool {
        if !self.is_at_epoch(lease) {
            return false;
        }
        let now = self.time.now();
        let partition = &mut self.partitions[usize::from(lease.partition)];
        let position = partition.position_of(letter.message.row.id);
        let standing = position.and_then(|position| partition.dead.get(&position));
        let decision = standing.and_then(|standing| standing.decision);
        let (Some(position), Some(decision)) = (position, decision) else { return false };
        if letter.decision != Some(decision) {
            return false;
        }
        match decision {
            DeadLetterDecision::Redrive => partition.redrive(position, now),
            DeadLetterDecision::Discard => {
                partition.dead.remove(&position);
                partition.queue(replies.iter().cloned(), now);
            }
        }
        true
    }
}

impl PartitionState {
    /// Returns all dead letters, in order of positions.
    fn letters(&self) -> impl Iterator<Item = DeadLetter> {
        let mut pairs = BTreeSet::new();
        self.dead.iter().map(move |(position, letter)| {
            let OutboxMessage { sender: stream, row } = &letter.message;
            let is_head = pairs.insert((&letter.queue, stream, &row.recipient));
            DeadLetter { position: *position, is_head, ..letter.clone() }
        })
    }

    /// Adds rows to the dead letters, at the ends of their queues.
    pub(super) fn park(&mut self, rows: &[OutboxMessage], error: &str, now: Timestamp) {
        let sequence = self.draw();
        for (queued, index) in rows.iter().zip(0..) {
            let position = QueuePosition { sequence, index };
            let row = &queued.row;
            if self.has_row(row.id) {
                continue;
            }
            let (partition, kind, target) = (self.partition, row.kind, row.target.clone());
            let letter = DeadLetter {
                queue: Queue { partition, kind, target },
                position,
                message: queued.clone(),
                arming: None,
                attempts: 0,
                error: Some(error.to_owned()),
                is_head: false,
                parked_at: now,
                decision: None,
            };
            self.add_dead_letter(position, letter);
        }
    }

    /// Adds a dead letter. One whose id is there already is a duplicate.
    pub(super) fn add_dead_letter(&mut self, position: QueuePosition, letter: DeadLetter) {
        if self.position_of(letter.message.row.id).is_none() {
            self.dead.insert(position, letter);
        }
    }

    fn position_of(&self, id: Uuid) -> Option<QueuePosition> {
        let found = self.dead.iter().find(|(_, letter)| letter.message.row.id == id);
        found.map(|(position, _)| *position)
    }

    /// Returns the positions of all dead letters of the same pair.
    fn pair(&self, position: QueuePosition) -> Vec<QueuePosition> {
        let Some(letter) = self.dead.get(&position) else { return Vec::new() };
        let alike = self.dead.iter().filter(|(_, other)| {
            other.queue == letter.queue && is_pair(&other.message, &letter.message)
        });
        alike.map(|(position, _)| *position).collect()
    }

    fn is_head(&self, position: QueuePosition) -> bool {
        self.pair(position).first() == Some(&position)
    }

    fn redrive(&mut self, head: QueuePosition, now: Timestamp) {
        // Up to the next that has an error of its own.
        let failed = |position: &QueuePosition| {
            self.dead.get(position).is_some_and(|letter| {
                letter.queue.kind != OutboxKind::Timer && letter.error.is_some()
            })
        };
        let behind = self.pair(head).into_iter().filter(|position| *position >= head);
        let behind = behind.take_while(|position| *position == head || !failed(position));
        // Of several armings of a timer the last counts.
        for position in behind.collect::<Vec<_>>().into_iter().rev() {
            match self.dead.remove(&position) {
                Some(letter) if letter.queue.kind == OutboxKind::Timer => self.rearm(letter, now),
                Some(letter) => {
                    self.put(position, letter.message, now);
                    if let (Some(row), Some(queued_at)) =
                        (self.outbox.get_mut(&position), self.dead_queued_at.remove(&position))
                    {
                        row.queued_at = queued_at;
                    }
                }
                None => {}
            }
        }
    }
}
