//! The committed offsets of a group, for operators. The functions block.

use std::time::Duration;

use composable_rust_core::Timestamp;
use composable_rust_core::bus::{BusError, GroupPartition, TopicOffset};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{MetadataPartition, MetadataTopic};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::client::log::{ClientLog, OffsetOnlyContext};
use crate::error::{Failure, bus_error};

/// A topic that a group reads, by their names on the wire.
pub(crate) struct GroupPositions {
    client: BaseConsumer<OffsetOnlyContext>,
    topic: String,
    timeout: Duration,
}

impl GroupPositions {
    pub(crate) fn open(
        config: &ClientConfig,
        topic: String,
        timeout: Duration,
    ) -> Result<Self, BusError> {
        let context = OffsetOnlyContext::new(ClientLog::default());
        let client = config.create_with_context(context).map_err(bus_error)?;
        Ok(Self { client, topic, timeout })
    }

    /// Reads the positions, and the offsets since a time. Empty if the topic is missing.
    pub(crate) fn read(&self, since: Option<Timestamp>) -> Result<Vec<GroupPartition>, BusError> {
        self.read_partitions(since).map_err(bus_error)
    }

    fn read_partitions(&self, since: Option<Timestamp>) -> Result<Vec<GroupPartition>, KafkaError> {
        let partitions = self.partitions()?;
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut wanted = TopicPartitionList::with_capacity(partitions.len());
        for partition in &partitions {
            wanted.add_partition(&self.topic, *partition);
        }
        let committed = self.client.committed_offsets(wanted.clone(), self.timeout)?;
        let times = match since {
            Some(since) => {
                wanted.set_all_offsets(Offset::Offset(since.as_micros().div_euclid(1_000)))?;
                Some(self.client.offsets_for_times(wanted, self.timeout)?)
            }
            None => None,
        };
        let offset_in = |list: &TopicPartitionList, partition| match list
            .find_partition(&self.topic, partition)?
            .offset()
        {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        let mut found = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let (first, end) =
                self.client.fetch_watermarks(&self.topic, partition, self.timeout)?;
            let since = times.as_ref().map(|times| offset_in(times, partition).unwrap_or(end));
            let next = offset_in(&committed, partition);
            found.push(GroupPartition { partition, next, first, end, since });
        }
        Ok(found)
    }

    /// Returns the partitions of the topic; none if it is missing.
    fn partitions(&self) -> Result<Vec<i32>, KafkaError> {
        let metadata = self.client.fetch_metadata(Some(&self.topic), self.timeout)?;
        let topics = metadata.topics().iter().filter(|of| of.error().is_none());
        let partitions = topics.flat_map(MetadataTopic::partitions).map(MetadataPartition::id);
        let mut partitions: Vec<_> = partitions.collect();
        partitions.sort_unstable();
        Ok(partitions)
    }

    /// Commits offsets for the group.
    ///
    /// # Errors
    ///
    /// The group has members, or the broker is unavailable.
    pub(crate) fn commit(&self, to: &[TopicOffset]) -> Result<(), BusError> {
        let mut list = TopicPartitionList::with_capacity(to.len());
        for TopicOffset { partition, offset } in to {
            let offset = Offset::Offset(*offset);
            list.add_partition_offset(&self.topic, *partition, offset).map_err(bus_error)?;
        }
        self.client.commit(&list, CommitMode::Sync).map_err(|error| {
            match error.rdkafka_error_code() {
                // A broker accepts offsets of a stranger only for a group without members.
                Some(
                    RDKafkaErrorCode::UnknownMemberId
                    | RDKafkaErrorCode::IllegalGeneration
                    | RDKafkaErrorCode::RebalanceInProgress,
                ) => Failure::new("the group has members")
                    .with_detail(Some(error.to_string()))
                    .into(),
                _ => bus_error(error),
            }
        })
    }
}
