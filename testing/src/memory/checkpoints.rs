//! Checkpoints.

use composable_rust_core::queue::{Checkpoint, Checkpoints};
use composable_rust_core::store::{EventStore as _, StoreError, validate_partition};

use super::InMemoryEventStore;
use super::state::State;

impl Checkpoints for InMemoryEventStore {
    async fn load_checkpoints(&self, name: &str) -> Result<Vec<Checkpoint>, StoreError> {
        Ok(self.locked().load_checkpoints(name))
    }

    async fn save_checkpoints(&self, name: &str, to: &[Checkpoint]) -> Result<(), StoreError> {
        self.locked().save_checkpoints(name, to);
        Ok(())
    }

    async fn rewind(&self, worker: &str, to: Checkpoint) -> Result<(), StoreError> {
        validate_partition(self.log(), to.partition)?;
        self.locked().rewind(worker, to);
        self.leases_changed();
        Ok(())
    }
}

impl State {
    pub(super) fn load_checkpoints(&self, name: &str) -> Vec<Checkpoint> {
        let own = self.checkpoints.iter().filter(|((of, _), _)| of == name);
        own.map(|(_, checkpoint)| *checkpoint).collect()
    }

    pub(super) fn save_checkpoints(&mut self, name: &str, to: &[Checkpoint]) {
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
}
