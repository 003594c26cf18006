//! Topics as any client of Kafka sees them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// How long the broker may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How long everything may take to be read.
const MOST: Duration = Duration::from_secs(120);

/// An event as it stands on a topic or in a log: its version and its id.
pub(crate) type Standing = (u64, String);

/// Keeps to itself that a partition has an end.
struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Quiet {}

/// Reads topics without belonging to a group.
pub(crate) struct PlainConsumer {
    committed: BaseConsumer<Quiet>,
    uncommitted: BaseConsumer<Quiet>,
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
                .create_with_context::<_, BaseConsumer<_>>(Quiet)
                .expect("librdkafka takes the settings")
        };
        let (committed, uncommitted) = (consumer("read_committed"), consumer("read_uncommitted"));
        Self { committed, uncommitted, topics }
    }

    /// The partitions of the topics that are there.
    fn partitions(&self) -> Vec<(&str, i32)> {
        let mut partitions = Vec::new();
        for topic in &self.topics {
            // Asked for by its name, a topic that is missing could be made.
            let metadata = self.uncommitted.fetch_metadata(None, ANSWER).expect("it answers");
            let known = metadata.topics().iter().find(|known| known.name() == topic);
            let count = known.map_or(0, |known| known.partitions().len());
            partitions.extend((0..count).map(|n| (&**topic, i32::try_from(n).unwrap())));
        }
        partitions
    }

    fn end(consumer: &BaseConsumer<Quiet>, (topic, partition): (&str, i32)) -> i64 {
        let began = Instant::now();
        loop {
            match consumer.fetch_watermarks(topic, partition, ANSWER) {
                Ok((_, end)) => return end,
                // A topic that was just made has no leader yet.
                Err(error) => assert!(began.elapsed() < ANSWER, "{topic} {partition}: {error}"),
            }
        }
    }

    /// How much there is on the topics, of transactions that are open too.
    pub(crate) fn length(&self) -> i64 {
        self.partitions().into_iter().map(|place| Self::end(&self.uncommitted, place)).sum()
    }

    /// Whether a transaction is open on one of the topics.
    pub(crate) fn is_open(&self) -> bool {
        let open = |place| Self::end(&self.committed, place) < Self::end(&self.uncommitted, place);
        self.partitions().into_iter().any(open)
    }

    /// What was committed under each key, in the order in which it stands on the topic.
    pub(crate) fn read(&self) -> BTreeMap<String, Vec<Standing>> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in self.partitions() {
            list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
        }
        self.committed.assign(&list).expect("they are there");
        let (began, mut left) = (Instant::now(), list.count());
        let (mut keys, mut places) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::new());
        while left > 0 {
            assert!(began.elapsed() < MOST, "{left} topic partitions are not read");
            let message = match self.committed.poll(Duration::from_secs(1)) {
                None => continue,
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    left -= 1;
                    continue;
                }
                Some(message) => message.expect("it can be read"),
            };
            let header = |name| {
                let header = message.headers()?.iter().find(|header| header.key == name)?.value?;
                std::str::from_utf8(header).ok().map(str::to_owned)
            };
            let key = std::str::from_utf8(message.key().expect("a key")).unwrap().to_owned();
            let place = (message.topic().to_owned(), message.partition());
            let before = places.insert(key.clone(), place.clone());
            assert!(before.is_none_or(|before| before == place), "{key} is in two partitions");
            let version = header("ce_streamversion").expect("a version").parse().unwrap();
            keys.entry(key).or_default().push((version, header("ce_id").expect("an id")));
        }
        keys
    }
}
