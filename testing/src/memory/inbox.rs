//! Pruning what is known of messages.

use std::collections::BTreeSet;
use std::time::Duration;

use composable_rust_core::{ArmedTimer, MessageId};
use uuid::Uuid;

use super::state::{PartitionState, State};

impl State {
    pub(super) fn prune_marks(&mut self, partition: u16, age: Duration, limit: usize) -> u64 {
        let oldest = self.time.now() - age;
        let waiting: BTreeSet<MessageId> =
            self.partitions.iter().flat_map(|partition| partition.waiting(self.log.id)).collect();
        let mut pruned = 0;
        for stream in self.partitions[usize::from(partition)].streams.values_mut() {
            let old =
                stream.marked_at.iter().filter(|(id, at)| **at <= oldest && !waiting.contains(id));
            let old: Vec<_> = old.map(|(id, _)| *id).take(limit - pruned).collect();
            for id in &old {
                stream.marks.remove(id);
                stream.marked_at.remove(id);
            }
            pruned += old.len();
        }
        pruned as u64
    }
}

impl PartitionState {
    /// The ids of the messages that may still be delivered.
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
