//! Topics: creation, prefixes, size limits, and topics of other systems.

use std::time::{Duration, Instant};

use composable_rust_core::bus::{
    BusMessage, BusRecord, Delivery as _, EventBus as _, PublishError, Publisher as _, TopicState,
};
use composable_rust_redpanda::{Compression, ConnectError, RedpandaEventBus};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use uuid::Uuid;

use crate::brokers::{brokers, builder};
use crate::fixtures::{at, message, messages, next, publish, relay, subscribe, take, unique};

fn partitions(topic: &str) -> usize {
    let client: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap();
    let metadata = client.client().fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
    metadata.topics()[0].partitions().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_prefixes_appear_only_on_the_wire() {
    let prefix = unique("staging.");
    let settings = builder(&brokers()).topic_prefix(&prefix).partitions(3);
    let bus = settings.connect().await.unwrap();
    let topic = unique("orders");
    publish(&bus, messages(&topic, "k", 2)).await;
    let taken = take(&mut subscribe(&bus, &unique("billing"), &topic).await, 2).await;
    assert_eq!(taken, messages(&topic, "k", 2));
    assert_eq!((partitions(&format!("{prefix}{topic}")), partitions(&topic)), (3, 0));
}

/// A staging environment restored from production's database has the same log id.
#[tokio::test(flavor = "multi_thread")]
async fn different_prefixes_separate_logs_with_the_same_id() {
    let (log, group, topic) = (Uuid::new_v4(), unique("billing"), unique("orders"));
    let mut environments = Vec::new();
    for (n, prefix) in (1..).zip([unique("production."), unique("staging.")]) {
        let bus = builder(&brokers()).topic_prefix(&prefix).connect().await.unwrap();
        let mut publisher = bus.publisher(&relay(log)).await.unwrap();
        assert_eq!(publisher.resume_position().await.unwrap(), None);
        publisher.publish_batch(messages(&topic, "k", n), Some(at(5))).await.unwrap();
        environments.push((bus, publisher, n));
    }
    let mut readers = Vec::new();
    for (bus, publisher, n) in &mut environments {
        publisher.publish_batch(messages(&topic, "k", *n), Some(at(9))).await.unwrap();
        readers.push(subscribe(bus, &group, &topic).await);
    }
    for ((_, _, n), reader) in environments.iter().zip(&mut readers) {
        assert_eq!(take(reader, n * 2).await.len(), n * 2);
    }
    let groups: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap();
    let groups = groups.fetch_group_list(None, Duration::from_secs(10)).unwrap();
    let own = groups.groups().iter().filter(|of| of.name().ends_with(&group));
    assert_eq!(own.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_not_created_if_the_setting_forbids_it() {
    let settings = builder(&brokers()).create_topics(false);
    let bus = settings.publish_timeout(Duration::from_secs(2)).connect().await.unwrap();
    let topic = unique("orders");
    assert!(bus.publish(message(&topic, "k", 0)).await.is_err());
    assert_eq!(partitions(&topic), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_is_created_again() {
    use rdkafka::admin::{AdminClient, AdminOptions};
    use rdkafka::client::DefaultClientContext;
    let settings = builder(&brokers()).publish_timeout(Duration::from_secs(3));
    let bus = settings.set("topic.metadata.refresh.interval.ms", "200").connect().await.unwrap();
    let topic = unique("orders");
    publish(&bus, messages(&topic, "k", 1)).await;
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap();
    admin.delete_topics(&[&topic], &AdminOptions::new()).await.unwrap();
    let started = Instant::now();
    while bus.publish(message(&topic, "k", 1)).await.is_err() {
        assert!(started.elapsed() < Duration::from_secs(30), "the topic is not created again");
    }
}

#[tokio::test]
async fn invalid_settings_are_rejected() {
    let settings = RedpandaEventBus::builder("127.0.0.1:1").set("no.such.setting", "1");
    let error = settings.connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Setting(_)), "{error:?}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("no.such.setting"), "{source}");
}

/// Returns a producer of another system, which does not use this crate.
fn external_producer(settings: &[(&str, &str)]) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers());
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create().unwrap()
}

async fn create(topic: &str, settings: &[(&str, &str)]) {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    use rdkafka::client::DefaultClientContext;
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap();
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
    admin.create_topics([&new], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
}

/// Both the topic and the producer are set to compress with zstd.
#[tokio::test]
async fn topics_compressed_with_zstd_are_read() {
    let topic = unique("orders");
    create(&topic, &[("compression.type", "zstd")]).await;
    let producer = external_producer(&[("compression.type", "zstd")]);
    let payload = "x".repeat(1_000);
    for _ in 0..100 {
        let record: BaseRecord<'_, str, str> = BaseRecord::to(&topic).key("k").payload(&payload);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    let bus = builder(&brokers()).connect().await.unwrap();
    let taken = take(&mut subscribe(&bus, &unique("billing"), &topic).await, 100).await;
    assert!(taken.iter().all(|message| message.payload == payload.as_bytes()));
}

/// External topics are read under their own names and are not created. Their records are delivered
/// unchanged.
#[tokio::test]
async fn external_topics_are_read_unchanged() {
    let settings = builder(&brokers()).topic_prefix(&unique("staging."));
    let settings = settings.set("topic.metadata.refresh.interval.ms", "200");
    let bus = settings.connect().await.unwrap();
    let (topic, group) = (unique("legacy"), unique("billing"));
    let mut reader =
        bus.subscribe_external(&group, std::slice::from_ref(&topic), &[]).await.unwrap();
    let first = tokio::time::timeout(Duration::from_secs(60), reader.next()).await.unwrap();
    assert!(first.unwrap().is_err(), "the topic does not exist");
    assert_eq!(partitions(&topic), 0);

    create(&topic, &[]).await;
    let producer = external_producer(&[]);
    let header = |value| OwnedHeaders::new().insert(Header { key: "h", value });
    let records: [BaseRecord<'_, [u8], [u8]>; 4] = [
        BaseRecord::to(&topic).key(&[0xff, 1][..]).headers(header(None::<&[u8]>)),
        BaseRecord::to(&topic).key(&[0xfe, 1][..]).payload(&[][..]).headers(header(Some(&[0xff]))),
        BaseRecord::to(&topic).payload(&b"no key"[..]),
        BaseRecord::to(&topic).key(&b"k"[..]).payload(&b"text"[..]),
    ];
    for record in records {
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    let bytes = |bytes: &[u8]| Some(bytes.to_vec());
    let record = |key, headers: Option<Option<Vec<u8>>>, payload| {
        let headers = headers.into_iter().map(|value| ("h".to_owned(), value)).collect();
        BusRecord { key, headers, payload }
    };
    for expected in [
        record(bytes(&[0xff, 1]), Some(None), None),
        record(bytes(&[0xfe, 1]), Some(bytes(&[0xff])), bytes(b"")),
        record(None, None, bytes(b"no key")),
        record(bytes(b"k"), None, bytes(b"text")),
    ] {
        let delivery = next(&mut reader).await;
        assert_eq!(delivery.record(), expected);
        assert_eq!(delivery.message().topic, topic);
    }
    let status = bus.topic_status(&group);
    assert_eq!((status[0].topic.as_str(), &status[0].state), (&*topic, &TopicState::Reading));
}

/// A topic's limit may be lower than the bus's, and the broker checks the size of whole batches.
#[tokio::test(flavor = "multi_thread")]
async fn only_messages_over_the_limit_of_their_topic_are_rejected() {
    let topic = unique("orders");
    create(&topic, &[("max.message.bytes", "2000")]).await;
    let bus = builder(&brokers()).compression(Compression::None).connect().await.unwrap();
    let of = |bytes| BusMessage { payload: vec![b'x'; bytes], ..message(&topic, "k", 0) };
    let outcome = bus.publish(of(3_000)).await;
    assert!(matches!(outcome, Err(PublishError::Rejected(_))), "{outcome:?}");
    bus.publish(of(1_000)).await.unwrap();

    // Messages that share a batch with an oversized one are not rejected.
    let sizes = [900, 900, 3_000, 900, 900];
    let outcomes = join_all(sizes.map(|bytes| bus.publish(of(bytes)))).await;
    let rejected: Vec<_> = outcomes.iter().map(Result::is_err).collect();
    assert_eq!(rejected, [false, false, true, false, false], "{outcomes:?}");

    let log = Uuid::new_v4();
    for batch in [vec![of(3_000)], vec![of(1_000), of(3_000)], vec![of(1_000); 3]] {
        let mut publisher = bus.publisher(&relay(log)).await.unwrap();
        let outcome = publisher.publish_batch(batch, Some(at(9))).await;
        assert!(matches!(outcome, Err(PublishError::Invalid(_))), "{outcome:?}");
    }
    let mut publisher = bus.publisher(&relay(log)).await.unwrap();
    assert_eq!(publisher.resume_position().await.unwrap(), None);
    publisher.publish_batch(vec![of(1_000)], Some(at(1))).await.unwrap();
    assert_eq!(take(&mut subscribe(&bus, &unique("billing"), &topic).await, 6).await.len(), 6);
}
