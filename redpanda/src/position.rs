//! The positions of publishers: offsets of a group without members.

use std::time::Duration;

use composable_rust_core::{BusError, PublisherName};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerGroupMetadata};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::RedpandaEventBusBuilder;
use crate::client::{Voice, positions};
use crate::reader::Quiet;

/// Where the positions of one log and purpose are kept. Its calls block.
pub(crate) struct Positions {
    client: BaseConsumer<Quiet>,
    topic: String,
    partition: i32,
    limit: Duration,
}

/// The name of the topic, less the prefix, and of the group.
pub(crate) fn topic(name: &PublisherName) -> String {
    format!("{}-{}", name.log, name.purpose)
}

impl Positions {
    pub(crate) fn open(
        settings: &RedpandaEventBusBuilder,
        name: &PublisherName,
    ) -> Result<Self, KafkaError> {
        let group = topic(name);
        let config = positions(settings, &group);
        Ok(Self {
            client: config.create_with_context(Quiet::new(Voice::default()))?,
            topic: format!("{}{group}", settings.topic_prefix),
            partition: i32::from(name.partition),
            limit: settings.connect_timeout,
        })
    }

    /// The position that was committed last.
    pub(crate) fn read(&self) -> Result<Option<u64>, KafkaError> {
        let mut wanted = TopicPartitionList::with_capacity(1);
        wanted.add_partition(&self.topic, self.partition);
        let found = self.client.committed_offsets(wanted, self.limit)?;
        self.listen();
        let Some(found) = found.find_partition(&self.topic, self.partition) else {
            return Ok(None);
        };
        found.error()?;
        match found.offset() {
            Offset::Offset(offset) => Ok(u64::try_from(offset).ok()),
            _ => Ok(None),
        }
    }

    /// A position as an offset, to be committed with a transaction.
    pub(crate) fn offset(&self, position: u64) -> Result<TopicPartitionList, BusError> {
        let offset = i64::try_from(position)
            .map_err(|_| BusError::new(format!("the position {position} is no offset")))?;
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&self.topic, self.partition, Offset::Offset(offset))
            .map_err(BusError::new)?;
        Ok(list)
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
