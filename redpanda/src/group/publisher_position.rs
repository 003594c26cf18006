//! The positions of publishers: committed offsets of a group without members, with the event's id
//! as metadata.

use std::time::{Duration, Instant};

use composable_rust_core::EventId;
use composable_rust_core::bus::{BusError, PublisherName, ResumePosition};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::client::config::positions;
use crate::client::log::{ClientLog, OffsetOnlyContext};
use crate::client::settings::Settings;

/// The topic partition whose committed offset is a publisher's position.
pub(crate) struct ResumePoint {
    topic: String,
    partition: i32,
}

/// Reads and commits the position of one publisher. Its methods block.
pub(crate) struct PublisherPositions {
    client: BaseConsumer<OffsetOnlyContext>,
    resume_point: ResumePoint,
    timeout: Duration,
}

/// Returns the topic, without the prefix, whose offsets are the positions. Purposes of one kind
/// share it.
pub(crate) fn topic(name: &PublisherName) -> String {
    let kind = name.purpose.split('/').next().unwrap_or_default();
    format!("{}-{kind}", name.log)
}

/// Returns a publisher's name in groups and transactional ids, without the partition. It replaces
/// `/`, because some brokers accept only letters, digits, `.`, `_` and `-`.
pub(crate) fn broker_name(settings: &Settings, name: &PublisherName) -> String {
    format!("{}{}-{}", settings.topic_prefix, name.log, name.purpose.replace('/', "-"))
}

impl ResumePoint {
    pub(crate) fn new(settings: &Settings, name: &PublisherName) -> Self {
        let topic = format!("{}{}", settings.topic_prefix, topic(name));
        Self { topic, partition: i32::from(name.partition) }
    }

    /// Returns a position as an offset to commit.
    pub(crate) fn offset(&self, at: ResumePosition) -> Result<TopicPartitionList, BusError> {
        let offset = i64::try_from(at.offset).map_err(|_| {
            BusError::new(format!("the position {} is not a valid offset", at.offset))
        })?;
        let mut list = TopicPartitionList::with_capacity(1);
        let mut element = list.add_partition(&self.topic, self.partition);
        element.set_offset(Offset::Offset(offset)).map_err(BusError::new)?;
        element.set_metadata(at.event_id.map(|id| id.to_string()).unwrap_or_default());
        Ok(list)
    }
}

impl PublisherPositions {
    pub(crate) fn open(settings: &Settings, name: &PublisherName) -> Result<Self, KafkaError> {
        let config = positions(settings, &broker_name(settings, name));
        Ok(Self {
            client: config.create_with_context(OffsetOnlyContext::new(ClientLog::default()))?,
            resume_point: ResumePoint::new(settings, name),
            timeout: settings.connect_timeout,
        })
    }

    /// Returns the committed offsets. Retries while the group's coordinator moves, because
    /// librdkafka does not.
    fn committed(&self, wanted: &TopicPartitionList) -> Result<TopicPartitionList, KafkaError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.client.committed_offsets(wanted.clone(), left) {
                Err(error) if is_coordinator_moving(&error) && !left.is_zero() => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                found => return found,
            }
        }
    }

    /// Reads the last committed position.
    pub(crate) fn read(&self) -> Result<Option<ResumePosition>, KafkaError> {
        let ResumePoint { topic, partition } = &self.resume_point;
        let mut wanted = TopicPartitionList::with_capacity(1);
        wanted.add_partition(topic, *partition);
        let found = self.committed(&wanted)?;
        self.poll_events();
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
        self.client.group_metadata().ok_or_else(|| BusError::new("the client has no group"))
    }

    /// Commits an offset outside a transaction.
    pub(crate) fn commit(&self, offset: &TopicPartitionList) -> Result<(), KafkaError> {
        let committed = self.client.commit(offset, CommitMode::Sync);
        self.poll_events();
        committed
    }

    /// Polls the client's errors and log messages. It reads no topics, so there are no records.
    fn poll_events(&self) {
        for _ in 0..3 {
            let _ = self.client.poll(Duration::ZERO);
        }
    }
}

/// Returns `true` while a group's coordinator is being elected, moved or loaded.
fn is_coordinator_moving(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    let moving = [CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator];
    error.rdkafka_error_code().is_some_and(|code| moving.contains(&code))
}
