//! Topics, prefixes, and brokers that are not there.

use std::time::{Duration, Instant};

use composable_rust_core::EventBus as _;
use composable_rust_redpanda::{ConnectError, RedpandaEventBus};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer as _};

use crate::brokers::{brokers, builder};
use crate::fixtures::{message, messages, publish, subscribe, take, unique};

fn partitions(topic: &str) -> usize {
    let client: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap();
    let metadata = client.client().fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
    metadata.topics()[0].partitions().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn prefixes_are_on_the_wire_alone() {
    let prefix = unique("staging.");
    let settings = builder(&brokers()).topic_prefix(&prefix).partitions(3);
    let bus = settings.connect().await.unwrap();
    let topic = unique("orders");
    publish(&bus, messages(&topic, "k", 2)).await;
    let taken = take(&mut subscribe(&bus, &unique("billing"), &topic).await, 2).await;
    assert_eq!(taken, messages(&topic, "k", 2));
    assert_eq!((partitions(&format!("{prefix}{topic}")), partitions(&topic)), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_not_created_when_they_must_not_be() {
    let settings = builder(&brokers()).create_topics(false);
    let bus = settings.publish_timeout(Duration::from_secs(2)).connect().await.unwrap();
    let topic = unique("orders");
    assert!(bus.publish(message(&topic, "k", 0)).await.is_err());
    assert_eq!(partitions(&topic), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_removed_is_made_again() {
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
        assert!(started.elapsed() < Duration::from_secs(30), "it is not made again");
    }
}

#[tokio::test]
async fn brokers_that_do_not_answer_are_named() {
    let settings = RedpandaEventBus::builder("127.0.0.1:1");
    let error = settings.connect_timeout(Duration::from_secs(1)).connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    assert_eq!(error.to_string(), "cannot reach the brokers at 127.0.0.1:1");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("refused"), "{source}");
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let settings = RedpandaEventBus::builder("127.0.0.1:1").set("no.such.setting", "1");
    let error = settings.connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Setting(_)), "{error:?}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("no.such.setting"), "{source}");
}
