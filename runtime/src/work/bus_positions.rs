//! How far a group has come on the bus, and what comes from below that place again.

use std::collections::BTreeMap;

use composable_rust_core::{
    BusPlace, BusPosition, Checkpoint, Delivery as _, EventId, EventStore as _, MessageId,
    QueuedRow, SharedDelivery, StoreError, StreamId, Timestamp, WorkQueues as _,
};
use uuid::Uuid;

use super::consumer::Consumer;

/// Why a message is parked that was delivered again when nobody knows it any more.
const LATE: &str = "it came over the bus again when what was known of it may have been pruned \
    (`keep_marks`): re-drive it if it was never handled, otherwise refuse it; its sender is not told";

impl Consumer {
    /// The name of the checkpoints in a topic's partitions.
    fn checkpoints(&self, topic: &str) -> String {
        format!("bus/{}/{topic}", self.group)
    }

    /// How far the group has come, as the store knows it.
    pub(super) async fn known(&self) -> Result<Vec<BusPosition>, StoreError> {
        let mut known = Vec::new();
        for topic in self.topics.iter().chain(&self.once_read) {
            let kept = self.work.store().load_checkpoints(&self.checkpoints(topic)).await?;
            known.extend(kept.into_iter().map(|at| {
                let offset = i64::try_from(at.offset).unwrap_or(i64::MAX);
                let place = BusPlace { partition: i32::from(at.partition), offset };
                BusPosition { topic: topic.clone(), place, published_at: at.event_id.map(time) }
            }));
        }
        Ok(known)
    }

    /// The topics to be read. Those that must be are kept as read, so that what is still on its way
    /// to them is taken by later code too.
    pub(super) async fn subscribed(&self) -> Result<Vec<String>, StoreError> {
        let mark = |topic: &String| format!("bus/{}/{topic}/read", self.group);
        let beginning = Checkpoint { partition: 0, offset: 0, event_id: None };
        for topic in &self.topics {
            self.work.store().keep_checkpoints(&mark(topic), &[beginning]).await?;
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
    pub(super) async fn keep(&self, done: &[SharedDelivery]) -> Result<(), StoreError> {
        let mut ends: BTreeMap<&str, BTreeMap<u16, Checkpoint>> = BTreeMap::new();
        for delivery in done {
            let BusPlace { partition, offset } = delivery.place();
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
            self.work.store().keep_checkpoints(&self.checkpoints(topic), &to).await?;
        }
        Ok(())
    }

    /// Of each message, whether it came before and is so old that its mark may be gone.
    pub(super) async fn late(&self, batch: &[SharedDelivery]) -> Result<Vec<bool>, StoreError> {
        let (now, age) = (self.work.shared.clock.now(), self.work.shared.settings.keep_marks);
        let is_old = |delivery: &SharedDelivery| {
            delivery.published_at().is_some_and(|published| now.since(published) >= age)
        };
        if !batch.iter().any(is_old) {
            return Ok(Vec::new());
        }
        let known = self.known().await?;
        let came = |delivery: &SharedDelivery| {
            let place = delivery.place();
            known.iter().any(|known| {
                known.topic == delivery.message().topic
                    && known.place.partition == place.partition
                    && known.place.offset >= place.offset
            })
        };
        Ok(batch.iter().map(|delivery| is_old(delivery) && came(delivery)).collect())
    }

    /// Leaves it to an operator whether messages that are late were handled before, except where
    /// the recipient still knows.
    pub(super) async fn park(&self, late: Vec<QueuedRow>) -> Result<(), StoreError> {
        let mut unknown = Vec::new();
        for late in late {
            let recipient: Result<StreamId, _> = late.row.recipient.parse();
            let mark = match recipient {
                Ok(to) => self.work.store().load_mark(&to, MessageId(late.row.id)).await?,
                Err(_) => None,
            };
            if mark.is_none() {
                unknown.push(late);
            }
        }
        for (partition, rows) in self.by_partition(unknown) {
            tracing::error!(group = self.group, rows = rows.len(), "dead letters: {LATE}");
            self.work.store().park(partition, &rows, LATE).await?;
        }
        Ok(())
    }
}

/// Checkpoints of the bus hold, instead of an event's id, when their message was published.
fn id(time: Timestamp) -> EventId {
    EventId(Uuid::from_u64_pair(0, time.as_micros().unsigned_abs()))
}

fn time(id: EventId) -> Timestamp {
    let (_, micros) = id.0.as_u64_pair();
    Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}
