//! How far followers have come, and what they queue.

use composable_rust_core::{Checkpoint, CheckpointAdvance, OutboxMessage};

use super::state::State;

impl State {
    pub(super) fn checkpoints(&self, name: &str) -> Vec<Checkpoint> {
        let own = self.checkpoints.iter().filter(|((of, _), _)| of == name);
        own.map(|(_, checkpoint)| *checkpoint).collect()
    }

    pub(super) fn keep_checkpoints(&mut self, name: &str, to: &[Checkpoint]) {
        for to in to {
            let standing = self.checkpoints.entry((name.to_owned(), to.partition)).or_insert(*to);
            if standing.offset < to.offset {
                *standing = *to;
            }
        }
    }

    pub(super) fn rewind(&mut self, worker: &str, to: Checkpoint) {
        let key = (worker.to_owned(), to.partition);
        self.end_lease(&key);
        self.checkpoints.insert(key, to);
    }

    pub(super) fn enqueue(
        &mut self,
        partition: u16,
        rows: &[OutboxMessage],
        advance: Option<&CheckpointAdvance>,
    ) -> bool {
        if let Some(CheckpointAdvance { name, lease, to }) = advance {
            if !self.is_at_epoch(lease) {
                return false;
            }
            let key = (name.clone(), to.partition);
            if self.checkpoints.get(&key).is_some_and(|at| at.offset >= to.offset) {
                return true;
            }
            self.checkpoints.insert(key, *to);
        }
        let now = self.time.now();
        self.partitions[usize::from(partition)].queue(rows.iter().cloned(), now);
        true
    }
}
