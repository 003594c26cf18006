//! The consumers of a service: their positions at the bus, and moving them.

use composable_rust_core::Timestamp;
use composable_rust_core::bus::{
    BusError, EventBus as _, GroupPartition, GroupTopic, SharedEventBus, TopicOffset,
};

use crate::app::app::App;

/// A topic that a consumer of this service reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerTopic {
    /// The name of the consumer: `commands` for the commands and replies of other services, or that
    /// of a policy.
    pub consumer: String,
    /// The topic, and the group at the bus.
    pub of: GroupTopic,
    /// The positions of the group, in order of partitions. Empty if the topic is missing.
    pub partitions: Vec<GroupPartition>,
}

/// The place in a topic at which a consumer continues.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsumerStart {
    /// The oldest message that the bus still has.
    Beginning,
    /// The first message that was published at this time or later.
    Since(Timestamp),
    /// These offsets, each of the next message in its partition. The other partitions are left
    /// alone.
    At(Vec<TopicOffset>),
    /// The end of the topic: none of the present messages.
    End,
}

/// The error of an operation on the consumers of a service.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumerError {
    /// The app has no bus. Run the operation in a program that has.
    #[error("this program has no bus")]
    NoBus,
    /// The consumer reads no such topic, or the topic is missing.
    #[error("the consumer `{consumer}` reads no topic `{topic}`")]
    Unknown {
        /// The consumer.
        consumer: String,
        /// The topic.
        topic: String,
    },
    /// The topic has no such position.
    #[error("the topic has no position {offset} in partition {partition}")]
    NoPosition {
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// The group has members, or the bus is unavailable. Pause the log or stop the processes, and
    /// retry.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl App {
    /// Returns the topics that the consumers of this service read, with their positions at the bus.
    ///
    /// # Errors
    ///
    /// [`ConsumerError`]; each variant says what to do.
    pub async fn consumers(&self) -> Result<Vec<ConsumerTopic>, ConsumerError> {
        let (bus, mut found) = (self.bus()?, Vec::new());
        for (consumer, of) in self.consumed() {
            let partitions = bus.group_partitions(&of, None).await?;
            found.push(ConsumerTopic { consumer, of, partitions });
        }
        Ok(found)
    }

    /// Returns a topic that a consumer of this service reads, with its positions at the bus.
    ///
    /// # Errors
    ///
    /// [`ConsumerError`]; each variant says what to do.
    pub async fn consumer(
        &self,
        consumer: &str,
        topic: &str,
    ) -> Result<ConsumerTopic, ConsumerError> {
        let of = self.group_topic(consumer, topic)?;
        let partitions = self.bus()?.group_partitions(&of, None).await?;
        Ok(ConsumerTopic { consumer: consumer.to_owned(), of, partitions })
    }

    /// Returns the offsets at which a consumer would continue that is moved to a place in a topic.
    ///
    /// # Errors
    ///
    /// [`ConsumerError`]; each variant says what to do.
    pub async fn offsets_of(
        &self,
        consumer: &str,
        topic: &str,
        start: &ConsumerStart,
    ) -> Result<Vec<TopicOffset>, ConsumerError> {
        let of = self.group_topic(consumer, topic)?;
        let since = if let ConsumerStart::Since(time) = start { Some(*time) } else { None };
        let partitions = self.bus()?.group_partitions(&of, since).await?;
        if partitions.is_empty() {
            let (consumer, topic) = (consumer.to_owned(), topic.to_owned());
            return Err(ConsumerError::Unknown { consumer, topic });
        }
        let all = partitions.iter().map(|of| {
            let offset = match start {
                ConsumerStart::Beginning => of.first,
                ConsumerStart::Since(_) => of.since.unwrap_or(of.end),
                ConsumerStart::End => of.end,
                ConsumerStart::At(_) => return None,
            };
            Some(TopicOffset { partition: of.partition, offset })
        });
        let ConsumerStart::At(offsets) = start else { return Ok(all.flatten().collect()) };
        for TopicOffset { partition, offset } in offsets.iter().copied() {
            let of = partitions.iter().find(|of| of.partition == partition);
            if of.is_none_or(|of| !(of.first..=of.end).contains(&offset)) {
                return Err(ConsumerError::NoPosition { partition, offset });
            }
        }
        Ok(offsets.clone())
    }

    /// Moves a consumer to a place in a topic: after it lost its position, because retention
    /// removed the message there, or to read messages again. Its group must have no members: pause
    /// the log, or stop the processes.
    ///
    /// Recipients ignore duplicate messages within
    /// [`inbox_retention`](crate::settings::Settings::inbox_retention); older ones become dead
    /// letters.
    ///
    /// # Errors
    ///
    /// [`ConsumerError`]; each variant says what to do.
    pub async fn move_consumer(
        &self,
        consumer: &str,
        topic: &str,
        to: &ConsumerStart,
    ) -> Result<(), ConsumerError> {
        let offsets = self.offsets_of(consumer, topic, to).await?;
        let of = self.group_topic(consumer, topic)?;
        Ok(self.bus()?.move_group(&of, &offsets).await?)
    }

    fn bus(&self) -> Result<&SharedEventBus, ConsumerError> {
        self.event_bus().ok_or(ConsumerError::NoBus)
    }

    fn group_topic(&self, consumer: &str, topic: &str) -> Result<GroupTopic, ConsumerError> {
        let mut all = self.consumed().into_iter();
        let found = all.find(|(name, of)| name == consumer && of.topic == topic);
        found.map(|(_, of)| of).ok_or_else(|| ConsumerError::Unknown {
            consumer: consumer.to_owned(),
            topic: topic.to_owned(),
        })
    }
}
