//! Committed offsets of groups: lost positions, new groups, and missing topics.

use std::time::Duration;

use composable_rust_core::bus::{
    Delivery as _, EventBus as _, Publisher as _, TopicOffset, TopicState, TopicStatus,
};
use composable_rust_redpanda::{LostPosition, RedpandaDeliveries, RedpandaEventBus};
use futures_util::StreamExt as _;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use uuid::Uuid;

use crate::brokers::{brokers, builder};
use crate::fixtures::{
    at, message, messages, next, number, publish, relay, subscribe, take, unique,
};

/// Deletes the messages below `offset` of a topic's first partition, as retention does.
async fn delete_below(brokers: &str, topic: &str, offset: i64) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    admin.delete_records(&list, &options).await.unwrap();
}

fn consumer(brokers: &str, group: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", group).create().unwrap()
}

/// Waits until the broker counts no member of the group.
async fn wait_until_left(brokers: &str, group: &str) {
    let client = consumer(brokers, group);
    let left = async {
        loop {
            let list = client.fetch_group_list(Some(group), Duration::from_secs(10)).unwrap();
            if list.groups().iter().all(|group| group.members().is_empty()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), left).await.expect("the member leaves");
}

/// Returns the group's committed offset of a topic's first partition.
fn committed(brokers: &str, group: &str, topic: &str) -> Offset {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    let client = consumer(brokers, group);
    let committed = client.committed_offsets(list, Duration::from_secs(10)).unwrap();
    committed.find_partition(topic, 0).unwrap().offset()
}

/// Waits until the group has committed this offset of a topic's first partition.
async fn wait_until_committed(brokers: &str, group: &str, topic: &str, offset: i64) {
    let is_committed = async {
        while committed(brokers, group, topic) != Offset::Offset(offset) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), is_committed).await.unwrap_or_else(|_| {
        panic!("{offset} is not committed: {:?}", committed(brokers, group, topic))
    });
}

/// Returns one key for each of two partitions.
async fn keys(bus: &RedpandaEventBus, topic: &str) -> [String; 2] {
    let mut keys = [None, None];
    let mut reader = subscribe(bus, &unique("keys"), topic).await;
    for n in 0.. {
        let key = format!("k{n}");
        publish(bus, messages(topic, &key, 1)).await;
        let at = next(&mut reader).await.offset();
        keys[usize::try_from(at.partition).unwrap()].get_or_insert(key);
        if let [Some(first), Some(second)] = &keys {
            return [first.clone(), second.clone()];
        }
    }
    unreachable!("keys map to both partitions")
}

/// Returns the text of the first error among the deliveries.
async fn error(deliveries: &mut RedpandaDeliveries) -> String {
    let first = async {
        loop {
            if let Err(error) = deliveries.next().await.expect("the stream does not end") {
                return std::error::Error::source(&error).unwrap().to_string();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), first).await.expect("an error is reported")
}

#[tokio::test]
async fn a_lost_position_stops_its_partition_unless_skipping_is_allowed() {
    let brokers = brokers();
    let settings = builder(&brokers).partitions(2);
    let bus = settings.clone().connect().await.unwrap();
    let (topic, group) = (unique("orders"), unique("billing"));
    let [lost, other] = keys(&bus, &topic).await;
    publish(&bus, messages(&topic, &lost, 10)).await;
    let mut reader = subscribe(&bus, &group, &topic).await;
    let mut position = 0;
    for _ in 0..5 {
        let delivery = next(&mut reader).await;
        if delivery.offset().partition == 0 {
            position = delivery.offset().offset + 1;
        }
        delivery.acknowledge().await.unwrap();
    }
    drop(reader);
    wait_until_left(&brokers, &group).await;
    assert_eq!(committed(&brokers, &group, &topic), Offset::Offset(position));
    delete_below(&brokers, &topic, position + 3).await;

    let mut reader = subscribe(&bus, &group, &topic).await;
    let text = error(&mut reader).await;
    assert!(text.starts_with(&format!("topic {topic}, partition 0: ")), "{text}");
    assert!(text.contains(&format!("position {position} is gone")), "{text}");
    publish(&bus, messages(&topic, &lost, 1)).await;
    publish(&bus, messages(&topic, &other, 1)).await;
    loop {
        let delivery = next(&mut reader).await;
        assert_eq!(delivery.offset().partition, 1, "the other partition is read on");
        if *delivery.message() == message(&topic, &other, 0) {
            break;
        }
        delivery.acknowledge().await.unwrap();
    }
    let of = |partition: i32| {
        let status = bus.topic_status(&group);
        status.into_iter().find(|s| s.partition == Some(partition)).map(|s| (s.topic, s.state))
    };
    let (named, state) = of(0).unwrap();
    assert_eq!(named, topic);
    assert!(matches!(state, TopicState::LostPosition { .. }), "{state:?}");
    assert_eq!(of(1), Some((topic.clone(), TopicState::Reading)));

    let lenient = settings.lost_position(LostPosition::Beginning).connect().await.unwrap();
    drop(reader);
    let mut reader = subscribe(&lenient, &group, &topic).await;
    while next(&mut reader).await.offset() != (TopicOffset { partition: 0, offset: position + 3 }) {
    }
}

#[tokio::test]
async fn a_new_group_starts_at_the_beginning_of_its_topic() {
    let brokers = brokers();
    let bus = builder(&brokers).partitions(1).connect().await.unwrap();
    let topic = unique("orders");
    publish(&bus, messages(&topic, "k", 10)).await;
    delete_below(&brokers, &topic, 6).await;
    let taken = take(&mut subscribe(&bus, &unique("new"), &topic).await, 4).await;
    assert_eq!(taken.iter().map(number).collect::<Vec<_>>(), [6, 7, 8, 9]);
}

#[tokio::test]
async fn messages_removed_before_a_group_has_read_any_are_lost() {
    let brokers = brokers();
    let bus = builder(&brokers).partitions(1).connect().await.unwrap();
    let (topic, group) = (unique("orders"), unique("billing"));
    let reader = subscribe(&bus, &group, &topic).await;
    wait_until_committed(&brokers, &group, &topic, 0).await;
    drop(reader);
    wait_until_left(&brokers, &group).await;
    publish(&bus, messages(&topic, "k", 10)).await;
    delete_below(&brokers, &topic, 6).await;
    let text = error(&mut subscribe(&bus, &group, &topic).await).await;
    assert!(text.contains("position 0 is gone"), "{text}");
}

/// The end of a transaction is a record of its own, which retention removes as well.
#[tokio::test]
async fn the_end_of_a_transaction_that_is_removed_is_no_loss() {
    let brokers = brokers();
    let bus = builder(&brokers).partitions(1).connect().await.unwrap();
    let (topic, group) = (unique("orders"), unique("billing"));
    let mut publisher = bus.publisher(&relay(Uuid::new_v4())).await.unwrap();
    publisher.publish_batch(messages(&topic, "k", 3), Some(at(3))).await.unwrap();
    let mut reader = subscribe(&bus, &group, &topic).await;
    take(&mut reader, 3).await;
    // Three messages and the end of their transaction.
    wait_until_committed(&brokers, &group, &topic, 4).await;
    drop(reader);
    wait_until_left(&brokers, &group).await;
    delete_below(&brokers, &topic, 4).await;

    let mut reader = subscribe(&bus, &group, &topic).await;
    publisher.publish_batch(messages(&topic, "k", 1), Some(at(4))).await.unwrap();
    let delivery = reader.next().await.unwrap().expect("no position is lost");
    assert_eq!(*delivery.message(), message(&topic, "k", 0));
}

/// Otherwise librdkafka would read nothing and report no error.
#[tokio::test]
async fn deliveries_end_if_committed_offsets_cannot_be_read() {
    let settings = builder(&brokers()).partitions(1);
    let bus = settings.clone().connect().await.unwrap();
    let (topic, group) = (unique("orders"), unique("new"));
    publish(&bus, messages(&topic, "k", 3)).await;
    // Brokers hardly ever respond within a millisecond.
    let impatient = settings.create_topics(false).connect_timeout(Duration::from_millis(1));
    let mut reader = subscribe(&impatient.connect().await.unwrap(), &group, &topic).await;
    let ended_or_read = async {
        loop {
            match reader.next().await {
                Some(Err(_)) => {}
                Some(Ok(_)) | None => return,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ended_or_read)
        .await
        .expect("the deliveries end or arrive");
    drop(reader);
    assert_eq!(take(&mut subscribe(&bus, &group, &topic).await, 3).await.len(), 3);
}

/// A subscribed topic need not exist yet, but its absence is reported.
#[tokio::test]
async fn a_missing_topic_is_reported_and_read_once_it_exists() {
    let settings = builder(&brokers()).set("topic.metadata.refresh.interval.ms", "200");
    let bus = settings.clone().create_topics(false).connect().await.unwrap();
    let (topic, group) = (unique("orders"), unique("billing"));
    let mut reader = subscribe(&bus, &group, &topic).await;
    let text = error(&mut reader).await;
    assert!(text.starts_with(&format!("topic {topic}: ")), "{text}");
    assert!(text.contains("Unknown topic or partition"), "{text}");
    let [status] = &bus.topic_status(&group)[..] else { panic!("one topic is subscribed") };
    assert_eq!((&status.topic, status.partition), (&topic, None));
    assert!(matches!(status.state, TopicState::Unavailable { .. }), "{status:?}");

    publish(&settings.connect().await.unwrap(), messages(&topic, "k", 1)).await;
    assert_eq!(take(&mut reader, 1).await, messages(&topic, "k", 1));
    let status = bus.topic_status(&group);
    assert!(status.iter().all(|status| status.state == TopicState::Reading), "{status:?}");
}

#[tokio::test]
async fn other_topics_are_read_if_one_cannot_be_created() {
    let settings = builder(&brokers()).set("topic.metadata.refresh.interval.ms", "200");
    let bus = settings.clone().connect().await.unwrap();
    let (existing, missing, group) = (unique("existing"), unique("missing"), unique("billing"));
    publish(&bus, messages(&existing, "k", 1)).await;
    // The test cluster has fewer brokers than this.
    let over_replicated = settings.replication(1_000).connect().await.unwrap();
    let mut reader =
        over_replicated.subscribe(&group, &[missing.clone(), existing.clone()], &[]).await.unwrap();
    assert_eq!(take(&mut reader, 1).await, messages(&existing, "k", 1));
    let is_reported = async {
        let unavailable = |s: &TopicStatus| matches!(s.state, TopicState::Unavailable { .. });
        while !over_replicated
            .topic_status(&group)
            .iter()
            .any(|s| s.topic == missing && unavailable(s))
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), is_reported)
        .await
        .expect("the missing topic is reported");

    publish(&bus, messages(&missing, "k", 1)).await;
    assert_eq!(take(&mut reader, 1).await, messages(&missing, "k", 1));
}
