//! The positions of publishers: offsets of a group without members, with the event's id as metadata.

use std::time::{Duration, Instant};

use composable_rust_core::{BusError, EventId, PublisherName, ResumePosition};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::RedpandaEventBusBuilder;
use crate::client::{ClientLog, positions};
use crate::reader::OffsetOnlyContext;

/// Where the position of one publisher is kept.
pub(crate) struct ResumePoint {
    topic: String,
    partition: i32,
}

/// A client that reads the position of one publisher and commits it. Its calls block.
pub(crate) struct PublisherPositions {
    client: BaseConsumer<OffsetOnlyContext>,
    place: ResumePoint,
    limit: Duration,
}

/// The topic that the positions are offsets of, less the prefix: one for all purposes of a kind.
pub(crate) fn topic(name: &PublisherName) -> String {
    let kind = name.purpose.split('/').next().unwrap_or_default();
    format!("{}-{kind}", name.log)
}

/// The publisher as groups and transactional ids call it, less the partition. Some brokers take
/// letters, digits, `.`, `_` and `-` only.
pub(crate) fn broker_name(settings: &RedpandaEventBusBuilder, name: &PublisherName) -> String {
    format!("{}{}-{}", settings.topic_prefix, name.log, name.purpose.replace('/', "-"))
}

impl ResumePoint {
    pub(crate) fn new(settings: &RedpandaEventBusBuilder, name: &PublisherName) -> Self {
        let topic = format!("{}{}", settings.topic_prefix, topic(name));
        Self { topic, partition: i32::from(name.partition) }
    }

    /// A position as an offset to be committed.
    pub(crate) fn offset(&self, at: ResumePosition) -> Result<TopicPartitionList, BusError> {
        let offset = i64::try_from(at.offset)
            .map_err(|_| BusError::new(format!("the position {} is no offset", at.offset)))?;
        let mut list = TopicPartitionList::with_capacity(1);
        let mut place = list.add_partition(&self.topic, self.partition);
        place.set_offset(Offset::Offset(offset)).map_err(BusError::new)?;
        place.set_metadata(at.event_id.map(|id| id.to_string()).unwrap_or_default());
        Ok(list)
    }
}

impl PublisherPositions {
    pub(crate) fn open(
        settings: &RedpandaEventBusBuilder,
        name: &PublisherName,
    ) -> Result<Self, KafkaError> {
        let config = positions(settings, &broker_name(settings, name));
        Ok(Self {
            client: config.create_with_context(OffsetOnlyContext::new(ClientLog::default()))?,
            place: ResumePoint::new(settings, name),
            limit: settings.connect_timeout,
        })
    }

    /// The committed offsets, however long the group's coordinator moves. librdkafka hands that error on.
    fn committed(&self, wanted: &TopicPartitionList) -> Result<TopicPartitionList, KafkaError> {
        let deadline = Instant::now() + self.limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.client.committed_offsets(wanted.clone(), left) {
                Err(error) if is_moving(&error) && !left.is_zero() => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                found => return found,
            }
        }
    }

    /// The position that was committed last.
    pub(crate) fn read(&self) -> Result<Option<ResumePosition>, KafkaError> {
        let ResumePoint { topic, partition } = &self.place;
        let mut wanted = TopicPartitionList::with_capacity(1);
        wanted.add_partition(topic, *partition);
        let found = self.committed(&wanted)?;
        self.listen();
        let Some(found) = found.find_partition(topic, *partition) else {
            return Ok(None);
        };
        found.error()?;
        match found.offset() {
            Offset::Offset(offset) => {
                let event_id = found.metadata().parse().ok().map(EventId);
                let at = |offset| ResumePosition { offset, event_id };
                Ok(u64::try_from(offset).ok().map(at))
            }
            _ => Ok(None),
        }
    }

    pub(crate) fn group(&self) -> Result<ConsumerGroupMetadata, BusError> {
        self.client.group_metadata().ok_or_else(|| BusError::new("there is no such group"))
    }

    /// Commits an offset by itself.
    pub(crate) fn commit(&self, offset: &TopicPartitionList) -> Result<(), KafkaError> {
        let committed = self.client.commit(offset, CommitMode::Sync);
        self.listen();
        committed
    }

    /// Takes what the client has to say of itself; there are no messages.
    fn listen(&self) {
        for _ in 0..3 {
            let _ = self.client.poll(Duration::ZERO);
        }
    }
}

/// Whether a group's coordinator is being elected, moved or loaded.
fn is_moving(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    let moving = [CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator];
    error.rdkafka_error_code().is_some_and(|code| moving.contains(&code))
}
