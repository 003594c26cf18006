//! The checkpoints of a consumer group, and redeliveries from below them.

use std::collections::{BTreeMap, BTreeSet};

use composable_rust_core::bus::{
    Delivery as _, EventBus as _, GroupOffset, SharedDelivery, TopicOffset,
};
use composable_rust_core::queue::{Checkpoint, Checkpoints as _};
use composable_rust_core::store::StoreError;
use composable_rust_core::{EventId, Timestamp};
use uuid::Uuid;

use crate::worker::bus::consumer::{Consumer, DeliveryHandler};

/// The last message of a topic partition that a group has queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BusCheckpoint {
    /// The topic's partition.
    partition: u16,
    offset: u64,
    /// The time at which the message was published, if the bus records it.
    published_at: Option<Timestamp>,
}

impl BusCheckpoint {
    /// Returns `None` for an offset or partition that no broker has.
    fn of(delivery: &SharedDelivery) -> Option<Self> {
        let TopicOffset { partition, offset } = delivery.offset();
        let partition = u16::try_from(i16::try_from(partition).ok()?).ok()?;
        let (offset, published_at) = (u64::try_from(offset).ok()?, delivery.published_at());
        Some(Self { partition, offset, published_at })
    }

    fn group_offset(self, topic: &str) -> GroupOffset {
        let offset = i64::try_from(self.offset).unwrap_or(i64::MAX);
        let at = TopicOffset { partition: i32::from(self.partition), offset };
        GroupOffset { topic: topic.to_owned(), at, published_at: self.published_at }
    }
}

/// The store's checkpoints have no time of publication: it is stored as the id of the event.
impl From<BusCheckpoint> for Checkpoint {
    fn from(BusCheckpoint { partition, offset, published_at }: BusCheckpoint) -> Self {
        let id = |at: Timestamp| EventId(Uuid::from_u64_pair(0, at.as_micros().unsigned_abs()));
        Self { partition, offset, event_id: published_at.map(id) }
    }
}

impl From<Checkpoint> for BusCheckpoint {
    fn from(Checkpoint { partition, offset, event_id }: Checkpoint) -> Self {
        let published_at = event_id.map(|EventId(id)| {
            let (_, micros) = id.as_u64_pair();
            Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
        });
        Self { partition, offset, published_at }
    }
}

impl<H: DeliveryHandler> Consumer<H> {
    /// Returns the name of the checkpoints of a topic.
    fn checkpoints_of(&self, topic: &str) -> String {
        format!("bus/{}/{topic}", self.group)
    }

    /// Returns the name of the checkpoint that records that a topic was read.
    fn read_checkpoint(&self, topic: &str) -> String {
        format!("bus/{}/{topic}/read", self.group)
    }

    /// Returns the name of the checkpoint that holds a topic's number of partitions.
    fn partitions_checkpoint(&self, topic: &str) -> String {
        format!("bus/{}/{topic}/partitions", self.group)
    }

    /// Loads the offsets that the group has reached.
    pub(super) async fn group_offsets(&self) -> Result<Vec<GroupOffset>, StoreError> {
        let mut offsets = Vec::new();
        for topic in self.topics.iter().chain(&self.once_read) {
            let stored = self.context.store().load_checkpoints(&self.checkpoints_of(topic)).await?;
            let reached = stored.into_iter().map(|at| BusCheckpoint::from(at).group_offset(topic));
            offsets.extend(reached);
        }
        Ok(offsets)
    }

    /// Saves the offsets that the group has reached with these deliveries.
    pub(super) async fn save_group_offsets(
        &self,
        done: &[SharedDelivery],
    ) -> Result<(), StoreError> {
        let mut reached: BTreeMap<&str, BTreeMap<u16, BusCheckpoint>> = BTreeMap::new();
        for delivery in done {
            let Some(at) = BusCheckpoint::of(delivery) else { continue };
            let of_topic = reached.entry(&delivery.message().topic).or_default();
            let last = of_topic.entry(at.partition).or_insert(at);
            if last.offset < at.offset {
                *last = at;
            }
        }
        for (topic, of_topic) in reached {
            let to: Vec<Checkpoint> = of_topic.into_values().map(Checkpoint::from).collect();
            self.context.store().save_checkpoints(&self.checkpoints_of(topic), &to).await?;
        }
        Ok(())
    }

    /// Returns the topics to be subscribed to. Those of this version of the code are recorded as
    /// read, so that later versions read what is still sent to them.
    pub(super) async fn topics_to_read(&self) -> Result<Vec<String>, StoreError> {
        self.handler.before_subscribing().await?;
        let store = self.context.store();
        let beginning = Checkpoint { partition: 0, offset: 0, event_id: None };
        for topic in &self.topics {
            store.save_checkpoints(&self.read_checkpoint(topic), &[beginning]).await?;
        }
        let mut topics = self.topics.clone();
        for topic in &self.once_read {
            if !store.load_checkpoints(&self.read_checkpoint(topic)).await?.is_empty() {
                topics.push(topic.clone());
            }
        }
        Ok(topics)
    }

    /// Loads the numbers of partitions that the topics had when they were last counted.
    pub(super) async fn partition_counts(&self) -> Result<BTreeMap<String, u16>, StoreError> {
        let mut counts = BTreeMap::new();
        for topic in self.topics.iter().chain(&self.once_read) {
            let name = self.partitions_checkpoint(topic);
            let stored = self.context.store().load_checkpoints(&name).await?;
            let count = stored.first().map(|at| u16::try_from(at.offset).unwrap_or(u16::MAX));
            counts.extend(count.map(|count| (topic.clone(), count)));
        }
        Ok(counts)
    }

    /// Counts the partitions of the topics of a batch, and reports if an operator has added some.
    pub(super) async fn count_partitions(
        &self,
        batch: &[SharedDelivery],
        counts: &mut BTreeMap<String, u16>,
    ) -> Result<(), StoreError> {
        let topics: BTreeSet<&str> = batch.iter().map(|d| &*d.message().topic).collect();
        for topic in topics {
            let before = counts.get(topic).copied();
            let Some(now) = self.bus.bus.partition_count(&self.group, topic) else { continue };
            if before.is_some_and(|before| before >= now) {
                continue;
            }
            let count = Checkpoint { partition: 0, offset: u64::from(now), event_id: None };
            let name = self.partitions_checkpoint(topic);
            self.context.store().save_checkpoints(&name, &[count]).await?;
            counts.insert(topic.to_owned(), now);
            if let Some(before) = before {
                tracing::error!(
                    group = self.group,
                    topic,
                    before,
                    now,
                    "a topic has more partitions than before, so keys have moved: a message may be \
                     handled before an earlier one of its key that is not read yet. To add partitions \
                     in order, stop the producers, wait until the group has read everything, add \
                     them, and start the producers again; compare the states of what was published \
                     meanwhile"
                );
            }
        }
        Ok(())
    }

    /// Returns for each delivery `true` if it is a redelivery, and so old that its inbox entry may
    /// have been pruned. Empty if no delivery is that old.
    pub(super) async fn late_redeliveries(
        &self,
        batch: &[SharedDelivery],
    ) -> Result<Vec<bool>, StoreError> {
        let shared = &self.context.shared;
        let (now, retention) = (shared.clock.now(), shared.settings.inbox_retention);
        let is_old = |delivery: &SharedDelivery| {
            delivery.published_at().is_some_and(|published| now.since(published) >= retention)
        };
        if !batch.iter().any(is_old) {
            return Ok(Vec::new());
        }
        let reached = self.group_offsets().await?;
        let is_redelivery = |delivery: &SharedDelivery| {
            let at = delivery.offset();
            reached.iter().any(|reached| {
                reached.topic == delivery.message().topic
                    && reached.at.partition == at.partition
                    && reached.at.offset >= at.offset
            })
        };
        Ok(batch.iter().map(|delivery| is_old(delivery) && is_redelivery(delivery)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_bus_checkpoint_keeps_the_time_of_publication() {
        for published_at in [None, Some(Timestamp::from_micros(1_700_000_000_000_000))] {
            let at = BusCheckpoint { partition: 3, offset: 7, published_at };
            assert_eq!(BusCheckpoint::from(Checkpoint::from(at)), at);
        }
    }
}
