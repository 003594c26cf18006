//! Reading topics with a plain Kafka client.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// The timeout of a request to the broker.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The time limit for reading the topics.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// The version and the id of an event on a topic or in a log.
pub(crate) type EventKey = (u64, String);

/// A client context that does not log the end of a partition.
struct SilentContext;

impl ClientContext for SilentContext {
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for SilentContext {}

/// A consumer that reads topics without a group.
pub(crate) struct PlainConsumer {
    committed: BaseConsumer<SilentContext>,
    uncommitted: BaseConsumer<SilentContext>,
    topics: Vec<String>,
}

impl PlainConsumer {
    pub(crate) fn new(brokers: &str, topics: Vec<String>) -> Self {
        let consumer = |isolation| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", brokers).set("group.id", "none");
            config.set("isolation.level", isolation).set("enable.auto.commit", "false");
            config.set("enable.partition.eof", "true").set("auto.offset.reset", "error");
            config
                .create_with_context::<_, BaseConsumer<_>>(SilentContext)
                .expect("librdkafka takes the settings")
        };
        let (committed, uncommitted) = (consumer("read_committed"), consumer("read_uncommitted"));
        Self { committed, uncommitted, topics }
    }

    /// Returns the partitions of the topics that exist.
    fn partitions(&self) -> Vec<(&str, i32)> {
        let mut partitions = Vec::new();
        for topic in &self.topics {
            // Ask for all topics: asking for a missing topic by name could create it.
            let metadata =
                self.uncommitted.fetch_metadata(None, REQUEST_TIMEOUT).expect("the broker answers");
            let known = metadata.topics().iter().find(|known| known.name() == topic);
            let count = known.map_or(0, |known| known.partitions().len());
            partitions.extend((0..count).map(|n| (&**topic, i32::try_from(n).unwrap())));
        }
        partitions
    }

    fn end(consumer: &BaseConsumer<SilentContext>, (topic, partition): (&str, i32)) -> i64 {
        let began = Instant::now();
        loop {
            match consumer.fetch_watermarks(topic, partition, REQUEST_TIMEOUT) {
                Ok((_, end)) => return end,
                // A new topic has no leader yet.
                Err(error) => {
                    assert!(began.elapsed() < REQUEST_TIMEOUT, "{topic} {partition}: {error}");
                }
            }
        }
    }

    /// Returns the number of messages on the topics, including those of open transactions.
    pub(crate) fn length(&self) -> i64 {
        self.partitions().into_iter().map(|partition| Self::end(&self.uncommitted, partition)).sum()
    }

    /// `true` if a transaction is open on one of the topics.
    pub(crate) fn has_open_transaction(&self) -> bool {
        let open = |partition| {
            Self::end(&self.committed, partition) < Self::end(&self.uncommitted, partition)
        };
        self.partitions().into_iter().any(open)
    }

    /// Returns the committed events of each key, in the order of the topic.
    pub(crate) fn read(&self) -> BTreeMap<String, Vec<EventKey>> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in self.partitions() {
            list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
        }
        self.committed.assign(&list).expect("the partitions exist");
        let (began, mut left) = (Instant::now(), list.count());
        let (mut keys, mut partitions) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::new());
        while left > 0 {
            assert!(began.elapsed() < TIME_LIMIT, "{left} topic partitions are not read");
            let message = match self.committed.poll(Duration::from_secs(1)) {
                None => continue,
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    left -= 1;
                    continue;
                }
                Some(message) => message.expect("a message"),
            };
            let header = |name| {
                let header = message.headers()?.iter().find(|header| header.key == name)?.value?;
                std::str::from_utf8(header).ok().map(str::to_owned)
            };
            let key = std::str::from_utf8(message.key().expect("a key")).unwrap().to_owned();
            let partition = (message.topic().to_owned(), message.partition());
            let before = partitions.insert(key.clone(), partition.clone());
            assert!(before.is_none_or(|before| before == partition), "{key} is in two partitions");
            let version = header("ce_streamversion").expect("a version").parse().unwrap();
            keys.entry(key).or_default().push((version, header("ce_id").expect("an id")));
        }
        keys
    }
}
