//! The start offsets of a group without committed offsets at the broker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use composable_rust_core::Timestamp;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::client::log::{ClientLog, OffsetOnlyContext};
use crate::record::published_at;

/// The offset of the last processed message, with its publish time.
pub(crate) type ProcessedUpTo = (i64, Option<Timestamp>);

/// The offsets of a group that the subscriber passed, by topic and partition.
pub(crate) struct StoredGroupOffsets {
    pub(crate) processed: BTreeMap<(String, i32), ProcessedUpTo>,
    /// The configuration of the client that reads the last processed message.
    pub(crate) config: ClientConfig,
    pub(crate) timeout: Duration,
}

impl StoredGroupOffsets {
    /// Returns the offset to start at in a partition. This blocks.
    pub(crate) fn start_offset(&self, topic: &str, partition: i32) -> Offset {
        let Some(last) = self.processed.get(&(topic.to_owned(), partition)) else {
            return Offset::Beginning;
        };
        match self.was_recreated(topic, partition, *last) {
            Ok(false) => Offset::Offset(last.0 + 1),
            Ok(true) => {
                tracing::warn!(
                    topic,
                    partition,
                    processed = last.0,
                    "topic was recreated; starting from its beginning"
                );
                Offset::Beginning
            }
            Err(error) => {
                let then = "starting after the last processed offset";
                tracing::warn!(%error, topic, partition, "failed to check a topic; {then}");
                Offset::Offset(last.0 + 1)
            }
        }
    }

    /// Returns `true` if another message than the last processed one is at its offset, or none:
    /// then the topic was recreated. If the message cannot be proven different, the topic counts as
    /// the same.
    fn was_recreated(
        &self,
        topic: &str,
        partition: i32,
        (offset, time): ProcessedUpTo,
    ) -> Result<bool, KafkaError> {
        let client: BaseConsumer<OffsetOnlyContext> =
            self.config.create_with_context(OffsetOnlyContext::new(ClientLog::default()))?;
        let (low, high) = client.fetch_watermarks(topic, partition, self.timeout)?;
        if offset >= high {
            return Ok(true);
        }
        // If retention removed the message, `LostPosition` decides about missing ones.
        let (Some(time), true) = (time, offset >= low) else { return Ok(false) };
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        client.assign(&list)?;
        let deadline = Instant::now() + self.timeout;
        while Instant::now() < deadline {
            match client.poll(Duration::from_millis(100)) {
                Some(Ok(found)) => {
                    // A later message says nothing: the one at `offset` was compacted away.
                    let is_at_offset = found.offset() == offset;
                    return Ok(is_at_offset && published_at(&found).is_some_and(|at| at != time));
                }
                Some(Err(error)) => return Err(error),
                None => {}
            }
        }
        // Only transaction markers follow, so there is no message to compare.
        Ok(false)
    }
}
