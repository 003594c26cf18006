//! Where a group begins of which the broker keeps no position.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use composable_rust_core::Timestamp;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::client::ClientLog;
use crate::reader::OffsetOnlyContext;
use crate::record::published_at;

/// The last message that is done, and when it was published.
type ProcessedUpTo = (i64, Option<Timestamp>);

/// What is known of a group from elsewhere, by topic and partition.
pub(crate) struct StoredGroupOffsets {
    pub(crate) done: BTreeMap<(String, i32), ProcessedUpTo>,
    /// For a client that looks at single messages.
    pub(crate) config: ClientConfig,
    pub(crate) timeout: Duration,
}

impl StoredGroupOffsets {
    /// Where to begin in a partition. Its calls block.
    pub(crate) fn begin(&self, topic: &str, partition: i32) -> Offset {
        let Some(done) = self.done.get(&(topic.to_owned(), partition)) else {
            return Offset::Beginning;
        };
        match self.is_anew(topic, partition, *done) {
            Ok(false) => Offset::Offset(done.0 + 1),
            Ok(true) => {
                tracing::warn!(
                    topic,
                    partition,
                    known = done.0,
                    "the topic was made anew since the group was there: it begins at the beginning"
                );
                Offset::Beginning
            }
            Err(error) => {
                tracing::warn!(%error, topic, partition, "what is known of a group cannot be checked");
                Offset::Offset(done.0 + 1)
            }
        }
    }

    fn is_anew(
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
        // Retention has removed it: whether anything is missing, `LostPosition` decides.
        let (Some(time), true) = (time, offset >= low) else { return Ok(false) };
        let mut place = TopicPartitionList::with_capacity(1);
        place.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        client.assign(&place)?;
        let deadline = Instant::now() + self.timeout;
        while Instant::now() < deadline {
            match client.poll(Duration::from_millis(100)) {
                Some(Ok(there)) => {
                    let same = there.offset() != offset
                        || published_at(&there).is_none_or(|there| there == time);
                    return Ok(!same);
                }
                Some(Err(error)) => return Err(error),
                None => {}
            }
        }
        // Nothing but the marks of transactions stands there and behind it.
        Ok(false)
    }
}
