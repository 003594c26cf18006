//! The inbox.

use std::collections::BTreeSet;
use std::time::Duration;

use composable_rust_core::queue::{ArmedTimer, Inbox, InboxEntry};
use composable_rust_core::store::{EventStore as _, StoreError, validate_partition};
use composable_rust_core::{MessageId, StreamId};
use uuid::Uuid;

use super::InMemoryEventStore;
use super::state::{PartitionState, State};

impl Inbox for InMemoryEventStore {
    async fn load_inbox_entry(
        &self,
        stream: &StreamId,
        message_id: MessageId,
    ) -> Result<Option<InboxEntry>, StoreError> {
        Ok(self.locked().stream(stream).and_then(|s| s.entries.get(&message_id)).cloned())
    }

    async fn prune_inbox(
        &self,
        partition: u16,
        age: Duration,
        limit: usize,
    ) -> Result<u64, StoreError> {
        validate_partition(self.log(), partition)?;
        Ok(self.locked().prune_inbox(partition, age, limit))
    }
}

impl State {
    pub(super) fn prune_inbox(&mut self, partition: u16, age: Duration, limit: usize) -> u64 {
        let oldest = self.time.now() - age;
        let waiting: BTreeSet<MessageId> =
            self.partitions.iter().flat_map(|partition| partition.waiting(self.log.id)).collect();
        let mut pruned = 0;
        for stream in self.partitions[usize::from(partition)].streams.values_mut() {
            let old =
                stream.handled_at.iter().filter(|(id, at)| **at <= oldest && !waiting.contains(id));
            let old: Vec<_> = old.map(|(id, _)| *id).take(limit - pruned).collect();
            for id in &old {
                stream.entries.remove(id);
                stream.handled_at.remove(id);
            }
            pruned += old.len();
        }
        pruned as u64
    }
}

impl PartitionState {
    /// Returns the ids of the messages that may still be delivered.
    fn waiting(&self, log: Uuid) -> impl Iterator<Item = MessageId> {
        let outbox = self.outbox.values().map(|waiting| &waiting.queued);
        let dead = self.dead.values().map(|letter| &letter.message);
        let timers = self.streams.values().flat_map(|stream| stream.timers.values());
        let timers = timers.map(move |armed| {
            let firing = ArmedTimer { id: armed.timer.id.clone(), arming: armed.timer.arming };
            firing.message_id(log, &armed.timer.stream)
        });
        outbox.chain(dead).map(|queued| MessageId(queued.row.id)).chain(timers)
    }
}
