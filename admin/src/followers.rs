//! Moving policies, relays and consumers to another place.

use composable_rust_core::bus::{GroupPartition, TopicOffset};
use composable_rust_core::store::EventStore as _;
use composable_rust_runtime::operations::{ConsumerStart, ConsumerTopic, LogStart};
use serde::Serialize;

use crate::{Admin, AdminError, CheckpointView, Intent};

/// A topic that a consumer of the service reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConsumerView {
    /// The name of the consumer: `commands` for the commands and replies of other services, or that
    /// of a policy.
    pub consumer: String,
    /// The topic.
    pub topic: String,
    /// The name of the group at the bus, without the bus's prefix.
    pub group: String,
    /// The positions, in order of partitions. Empty if the topic is missing.
    pub partitions: Vec<ConsumerPartitionView>,
}

/// The position of a consumer in one partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConsumerPartitionView {
    /// The partition.
    pub partition: i32,
    /// The offset of the next message; `None` if the bus has no position of the consumer.
    pub next: Option<i64>,
    /// The offset of the oldest message that the bus still has.
    pub first: i64,
    /// The offset after the newest message.
    pub end: i64,
    /// The number of messages that are not read.
    pub lag: i64,
    /// The number of messages that were removed before they were read: the position is lost.
    pub lost: i64,
}

/// The move of a consumer in one partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConsumerMove {
    /// The partition.
    pub partition: i32,
    /// The offset of the next message before.
    pub from: Option<i64>,
    /// The offset of the next message afterwards.
    pub to: i64,
}

impl From<ConsumerTopic> for ConsumerView {
    fn from(of: ConsumerTopic) -> Self {
        Self {
            consumer: of.consumer,
            topic: of.of.topic,
            group: of.of.group,
            partitions: of.partitions.iter().map(ConsumerPartitionView::from).collect(),
        }
    }
}

impl From<&GroupPartition> for ConsumerPartitionView {
    fn from(of: &GroupPartition) -> Self {
        let GroupPartition { partition, next, first, end, .. } = *of;
        let from = next.unwrap_or(first);
        let (lag, lost) = ((end - from.max(first)).max(0), (first - from).max(0));
        Self { partition, next, first, end, lag, lost }
    }
}

impl Admin {
    /// Returns the progress of the policies over the log, in order of names.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn policies(&self) -> Result<Vec<CheckpointView>, AdminError> {
        self.checkpoints_of("follow/").await
    }

    /// Returns the progress of the relays, named `TOPIC/AGGREGATE`, in order of names.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn relays(&self) -> Result<Vec<CheckpointView>, AdminError> {
        self.checkpoints_of("relay/").await
    }

    async fn checkpoints_of(&self, prefix: &str) -> Result<Vec<CheckpointView>, AdminError> {
        let all = self.checkpoints().await?.into_iter();
        let named = all.filter_map(|of| {
            let name = of.name.strip_prefix(prefix)?.to_owned();
            Some(CheckpointView { name, ..of })
        });
        Ok(named.collect())
    }

    /// Returns the number of events of the log from a place on.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the place is not in the log, or the store cannot be read.
    pub async fn events_from(&self, start: &LogStart) -> Result<u64, AdminError> {
        let positions = self.app.positions_of(start).await?;
        let heads = self.store().heads().await?;
        let behind = heads.iter().filter_map(|head| {
            let at = positions.iter().find(|at| at.partition == head.partition)?;
            Some(head.offset.saturating_sub(at.offset))
        });
        Ok(behind.sum())
    }

    /// Has the relays publish the events of the log to a topic again, from a place on. Returns the
    /// number of events of the log from there on, of all types.
    ///
    /// # Errors
    ///
    /// [`AdminError::Republish`]: nothing is published to the topic, or streams are parked on it.
    pub async fn republish(&self, topic: &str, from: LogStart) -> Result<u64, AdminError> {
        self.audited(Intent::new("relays republish", topic), async || {
            let events = self.events_from(&from).await?;
            self.app.republish(topic, from.clone()).await?;
            Ok((events, format!("{events} events of the log")))
        })
        .await
    }

    /// Has a policy over the log continue at another place. Returns the number of events of the log
    /// from there on, of all types.
    ///
    /// # Errors
    ///
    /// [`AdminError::ResetPolicy`]: there is no such policy.
    pub async fn reset_policy(&self, name: &str, to: LogStart) -> Result<u64, AdminError> {
        self.audited(Intent::new("policies reset", name), async || {
            let events = self.events_from(&to).await?;
            self.app.reset_policy(name, to.clone()).await?;
            Ok((events, format!("{events} events of the log")))
        })
        .await
    }

    /// Returns the topics that the consumers of the app read, with their positions at the bus.
    ///
    /// # Errors
    ///
    /// [`AdminError::Consumer`]: the app has no bus, or the bus cannot be asked.
    pub async fn consumers(&self) -> Result<Vec<ConsumerView>, AdminError> {
        Ok(self.app.consumers().await?.into_iter().map(ConsumerView::from).collect())
    }

    /// Returns a topic that a consumer of the app reads, with its positions at the bus.
    ///
    /// # Errors
    ///
    /// [`AdminError::Consumer`]: there is no such consumer, or the bus cannot be asked.
    pub async fn consumer(&self, consumer: &str, topic: &str) -> Result<ConsumerView, AdminError> {
        Ok(self.app.consumer(consumer, topic).await?.into())
    }

    /// Returns the moves that [`move_consumer`](Self::move_consumer) would make.
    ///
    /// # Errors
    ///
    /// As [`move_consumer`](Self::move_consumer).
    pub async fn rehearse_move(
        &self,
        consumer: &str,
        topic: &str,
        to: &ConsumerStart,
    ) -> Result<Vec<ConsumerMove>, AdminError> {
        let offsets = self.app.offsets_of(consumer, topic, to).await?;
        let partitions = self.app.consumer(consumer, topic).await?.partitions;
        let planned = offsets.into_iter().map(|TopicOffset { partition, offset }| {
            let at = partitions.iter().find(|of| of.partition == partition);
            ConsumerMove { partition, from: at.and_then(|of| of.next), to: offset }
        });
        Ok(planned.filter(|of| of.from != Some(of.to)).collect())
    }

    /// Moves a consumer to another place in a topic. Its group must have no members: pause the log,
    /// or stop the processes.
    ///
    /// # Errors
    ///
    /// [`AdminError::Consumer`]: the group has members, the consumer or topic is unknown, or the
    /// bus is unavailable.
    pub async fn move_consumer(
        &self,
        consumer: &str,
        topic: &str,
        to: &ConsumerStart,
    ) -> Result<Vec<ConsumerMove>, AdminError> {
        let intent = Intent::new("consumers reset", format!("{consumer} in {topic}"));
        self.audited(intent, async || {
            let moves = self.rehearse_move(consumer, topic, to).await?;
            // The end of the topic may have moved on: what is entered below is what is done.
            let at = |of: &ConsumerMove| TopicOffset { partition: of.partition, offset: of.to };
            let to = ConsumerStart::At(moves.iter().map(at).collect());
            self.app.move_consumer(consumer, topic, &to).await?;
            let texts = moves.iter().map(|of| {
                let from = of.from.map_or_else(|| "none".to_owned(), |from| from.to_string());
                format!("{}: {from} to {}", of.partition, of.to)
            });
            let text = texts.collect::<Vec<_>>().join(", ");
            let result = if text.is_empty() { "it is there already".to_owned() } else { text };
            Ok((moves, result))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_messages_are_lost_and_not_behind() {
        let of = |next| {
            let partition = GroupPartition { partition: 0, next, first: 10, end: 25, since: None };
            let view = ConsumerPartitionView::from(&partition);
            (view.lag, view.lost)
        };
        assert_eq!(of(Some(20)), (5, 0));
        assert_eq!(of(Some(25)), (0, 0));
        assert_eq!(of(Some(3)), (15, 7));
        assert_eq!(of(None), (15, 0));
    }
}
