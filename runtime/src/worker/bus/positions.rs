//! How far a group has come on the bus, and what comes from below that place again.

use std::collections::{BTreeMap, BTreeSet};

use composable_rust_core::{
    Checkpoint, Checkpoints as _, Delivery as _, EventBus as _, EventId, GroupOffset, Inbox as _,
    MessageId, Outbox as _, OutboxMessage, SharedDelivery, StoreError, StreamId, Timestamp,
    TopicOffset,
};
use uuid::Uuid;

use crate::worker::bus::consumer::{Consumer, ConsumerSource};
use crate::worker::bus::received::served_mark;

/// Why a message is parked that was delivered again when nobody knows it any more.
const LATE_REDELIVERY_ERROR: &str = "it came over the bus again when what was known of it may have been pruned \
    (`inbox_retention`): re-drive it if it was never handled, otherwise refuse it; its sender is not told";

impl Consumer {
    /// The name of the checkpoints in a topic's partitions.
    fn checkpoints(&self, topic: &str) -> String {
        format!("bus/{}/{topic}", self.group)
    }

    /// How far the group has come, as the store knows it.
    pub(crate) async fn known(&self) -> Result<Vec<GroupOffset>, StoreError> {
        let mut known = Vec::new();
        for topic in self.topics.iter().chain(&self.once_read) {
            let kept = self.work.store().load_checkpoints(&self.checkpoints(topic)).await?;
            known.extend(kept.into_iter().map(|at| {
                let offset = i64::try_from(at.offset).unwrap_or(i64::MAX);
                let place = TopicOffset { partition: i32::from(at.partition), offset };
                GroupOffset { topic: topic.clone(), at: place, published_at: at.event_id.map(time) }
            }));
        }
        Ok(known)
    }

    /// The topics to be read. Those that must be are kept as read, so that what is still on its way
    /// to them is taken by later code too, and the types that are served as served, so that their
    /// commands wait while no process that serves them runs.
    pub(crate) async fn subscribed(&self) -> Result<Vec<String>, StoreError> {
        let mark = |topic: &String| format!("bus/{}/{topic}/read", self.group);
        let beginning = Checkpoint { partition: 0, offset: 0, event_id: None };
        if matches!(self.consumes, ConsumerSource::Messages) {
            for target in &self.work.served {
                let mark = served_mark(self.work.shared.log.id, target);
                self.work.store().save_checkpoints(&mark, &[beginning]).await?;
            }
        }
        for topic in &self.topics {
            self.work.store().save_checkpoints(&mark(topic), &[beginning]).await?;
        }
        let mut topics = self.topics.clone();
        for topic in &self.once_read {
            if !self.work.store().load_checkpoints(&mark(topic)).await?.is_empty() {
                topics.push(topic.clone());
            }
        }
        Ok(topics)
    }

    /// Keeps how far the group has come.
    pub(crate) async fn keep(&self, done: &[SharedDelivery]) -> Result<(), StoreError> {
        let mut ends: BTreeMap<&str, BTreeMap<u16, Checkpoint>> = BTreeMap::new();
        for delivery in done {
            let TopicOffset { partition, offset } = delivery.offset();
            // Nobody has topics of more partitions than that.
            let partition = i16::try_from(partition).ok().and_then(|p| u16::try_from(p).ok());
            if let (Some(partition), Ok(offset)) = (partition, u64::try_from(offset)) {
                let event_id = delivery.published_at().map(id);
                let at = Checkpoint { partition, offset, event_id };
                let ends = ends.entry(&delivery.message().topic).or_default();
                let end = ends.entry(partition).or_insert(at);
                if end.offset < offset {
                    *end = at;
                }
            }
        }
        for (topic, ends) in ends {
            let to: Vec<_> = ends.into_values().collect();
            self.work.store().save_checkpoints(&self.checkpoints(topic), &to).await?;
        }
        Ok(())
    }

    /// How many partitions the topics had when they were last counted.
    pub(crate) async fn counted(&self) -> Result<BTreeMap<String, u16>, StoreError> {
        let mut counted = BTreeMap::new();
        for topic in self.topics.iter().chain(&self.once_read) {
            let kept = self.work.store().load_checkpoints(&self.counts(topic)).await?;
            let count = kept.first().map(|at| u16::try_from(at.offset).unwrap_or(u16::MAX));
            counted.extend(count.map(|count| (topic.clone(), count)));
        }
        Ok(counted)
    }

    fn counts(&self, topic: &str) -> String {
        format!("bus/{}/{topic}/partitions", self.group)
    }

    /// Counts the partitions of the topics of a batch, and reports if an operator has added some.
    pub(crate) async fn count(
        &self,
        batch: &[SharedDelivery],
        counted: &mut BTreeMap<String, u16>,
    ) -> Result<(), StoreError> {
        let Some(bus) = &self.work.bus else { return Ok(()) };
        let topics: BTreeSet<&str> = batch.iter().map(|d| &*d.message().topic).collect();
        for topic in topics {
            let before = counted.get(topic).copied();
            let Some(now) = bus.partition_count(&self.group, topic) else { continue };
            if before.is_some_and(|before| before >= now) {
                continue;
            }
            let count = Checkpoint { partition: 0, offset: u64::from(now), event_id: None };
            self.work.store().save_checkpoints(&self.counts(topic), &[count]).await?;
            counted.insert(topic.to_owned(), now);
            if let Some(before) = before {
                tracing::error!(
                    group = self.group,
                    topic,
                    before,
                    now,
                    "a topic has more partitions than before, so keys have moved: what follows under a \
                     key may be handled before what was published earlier and not read yet. To raise \
                     them in order, stop whoever publishes, wait until the group has read everything, \
                     raise them, and start again; compare the states of what was published meanwhile"
                );
            }
        }
        Ok(())
    }

    /// Of each message, whether it came before and is so old that its mark may be gone.
    pub(crate) async fn late(&self, batch: &[SharedDelivery]) -> Result<Vec<bool>, StoreError> {
        let (now, age) = (self.work.shared.clock.now(), self.work.shared.settings.inbox_retention);
        let is_old = |delivery: &SharedDelivery| {
            delivery.published_at().is_some_and(|published| now.since(published) >= age)
        };
        if !batch.iter().any(is_old) {
            return Ok(Vec::new());
        }
        let known = self.known().await?;
        let came = |delivery: &SharedDelivery| {
            let place = delivery.offset();
            known.iter().any(|known| {
                known.topic == delivery.message().topic
                    && known.at.partition == place.partition
                    && known.at.offset >= place.offset
            })
        };
        Ok(batch.iter().map(|delivery| is_old(delivery) && came(delivery)).collect())
    }

    /// Leaves it to an operator whether messages that are late were handled before, except where
    /// the recipient still knows.
    pub(crate) async fn park(&self, late: Vec<OutboxMessage>) -> Result<(), StoreError> {
        let mut unknown = Vec::new();
        for mut late in late {
            let recipient: Result<StreamId, _> = late.row.recipient.parse();
            let mark = match recipient {
                Ok(to) => self.work.store().load_inbox_entry(&to, MessageId(late.row.id)).await?,
                Err(_) => None,
            };
            if mark.is_none() {
                // By itself, it holds up nothing that its sender sends now.
                late.sender = late_of(&late.sender);
                unknown.push(late);
            }
        }
        for (partition, rows) in self.by_partition(unknown) {
            tracing::error!(
                group = self.group,
                rows = rows.len(),
                "dead letters: {LATE_REDELIVERY_ERROR}"
            );
            self.work.store().park(partition, &rows, LATE_REDELIVERY_ERROR).await?;
        }
        Ok(())
    }
}

/// The sender of what comes late of a sender: it is erased with it, and delays nothing of it.
pub(crate) fn late_of(sender: &StreamId) -> StreamId {
    let id = MessageId::from_elsewhere("late", sender.as_str());
    format!("bus_late-{id}").parse().unwrap_or_else(|_| unreachable!("a category and a UUID"))
}

/// Checkpoints of the bus hold, instead of an event's id, when their message was published.
fn id(time: Timestamp) -> EventId {
    EventId(Uuid::from_u64_pair(0, time.as_micros().unsigned_abs()))
}

fn time(id: EventId) -> Timestamp {
    let (_, micros) = id.0.as_u64_pair();
    Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}
