//! Positions of groups.

use std::time::Duration;

use composable_rust_core::{Delivery as _, EventBus as _, TopicOffset, TopicState, TopicStatus};
use composable_rust_redpanda::{LostPosition, RedpandaDeliveries, RedpandaEventBus};
use futures_util::StreamExt as _;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::brokers::{brokers, builder};
use crate::fixtures::{message, messages, next, number, publish, subscribe, take, unique};

/// Removes the first messages of a topic's only partition, as retention does.
async fn remove_below(brokers: &str, topic: &str, offset: i64) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    admin.delete_records(&list, &options).await.unwrap();
}

/// A key of each of two partitions.
async fn keys(bus: &RedpandaEventBus, topic: &str) -> [String; 2] {
    let mut keys = [None, None];
    let mut reader = subscribe(bus, &unique("look"), topic).await;
    for n in 0.. {
        let key = format!("k{n}");
        publish(bus, messages(topic, &key, 1)).await;
        let place = next(&mut reader).await.offset();
        keys[usize::try_from(place.partition).unwrap()].get_or_insert(key);
        if let [Some(first), Some(second)] = &keys {
            return [first.clone(), second.clone()];
        }
    }
    unreachable!("keys are spread")
}

/// The first error of the deliveries.
async fn error(deliveries: &mut RedpandaDeliveries) -> String {
    let told = async {
        loop {
            if let Err(error) = deliveries.next().await.expect("the deliveries go on") {
                return std::error::Error::source(&error).unwrap().to_string();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told).await.expect("it cannot be read")
}

#[tokio::test]
async fn a_lost_position_stops_its_partition_alone_unless_it_may_be_skipped() {
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
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(reader);
    tokio::time::sleep(Duration::from_secs(1)).await;
    remove_below(&brokers, &topic, position + 3).await;

    let mut reader = subscribe(&bus, &group, &topic).await;
    let told = error(&mut reader).await;
    assert!(told.starts_with(&format!("topic {topic}, partition 0: ")), "{told}");
    assert!(told.contains(&format!("position {position} is gone")), "{told}");
    publish(&bus, messages(&topic, &lost, 1)).await;
    publish(&bus, messages(&topic, &other, 1)).await;
    loop {
        let delivery = next(&mut reader).await;
        assert_eq!(delivery.offset().partition, 1, "the other partition goes on");
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
async fn a_group_that_is_new_begins_where_the_topic_begins() {
    let brokers = brokers();
    let bus = builder(&brokers).partitions(1).connect().await.unwrap();
    let topic = unique("orders");
    publish(&bus, messages(&topic, "k", 10)).await;
    remove_below(&brokers, &topic, 6).await;
    let taken = take(&mut subscribe(&bus, &unique("new"), &topic).await, 4).await;
    assert_eq!(taken.iter().map(number).collect::<Vec<_>>(), [6, 7, 8, 9]);
}

/// Otherwise librdkafka would read nothing of its partitions, without a word.
#[tokio::test]
async fn a_new_group_whose_positions_cannot_be_read_is_told_so_by_the_end_of_its_deliveries() {
    let settings = builder(&brokers()).partitions(1);
    let bus = settings.clone().connect().await.unwrap();
    let (topic, group) = (unique("orders"), unique("new"));
    publish(&bus, messages(&topic, "k", 3)).await;
    // Hardly any broker answers as fast.
    let hasty = settings.create_topics(false).connect_timeout(Duration::from_millis(1));
    let mut reader = subscribe(&hasty.connect().await.unwrap(), &group, &topic).await;
    let ends = async {
        loop {
            match reader.next().await {
                Some(Err(_)) => {}
                Some(Ok(_)) | None => return,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ends).await.expect("they end, or are read");
    drop(reader);
    assert_eq!(take(&mut subscribe(&bus, &group, &topic).await, 3).await.len(), 3);
}

/// What is to be read need not be there yet, but somebody should know.
#[tokio::test]
async fn a_missing_topic_is_told_and_read_once_it_is_there() {
    let settings = builder(&brokers()).set("topic.metadata.refresh.interval.ms", "200");
    let bus = settings.clone().create_topics(false).connect().await.unwrap();
    let (topic, group) = (unique("orders"), unique("billing"));
    let mut reader = subscribe(&bus, &group, &topic).await;
    let told = error(&mut reader).await;
    assert!(told.starts_with(&format!("topic {topic}: ")), "{told}");
    assert!(told.contains("Unknown topic or partition"), "{told}");
    let [status] = &bus.topic_status(&group)[..] else { panic!("one topic is read") };
    assert_eq!((&status.topic, status.partition), (&topic, None));
    assert!(matches!(status.state, TopicState::Unavailable { .. }), "{status:?}");

    publish(&settings.connect().await.unwrap(), messages(&topic, "k", 1)).await;
    assert_eq!(take(&mut reader, 1).await, messages(&topic, "k", 1));
    let status = bus.topic_status(&group);
    assert!(status.iter().all(|status| status.state == TopicState::Reading), "{status:?}");
}

#[tokio::test]
async fn topics_are_read_though_another_cannot_be_created() {
    let settings = builder(&brokers()).set("topic.metadata.refresh.interval.ms", "200");
    let bus = settings.clone().connect().await.unwrap();
    let (there, missing, group) = (unique("there"), unique("missing"), unique("billing"));
    publish(&bus, messages(&there, "k", 1)).await;
    // There are not as many brokers.
    let picky = settings.replication(1_000).connect().await.unwrap();
    let mut reader = picky.subscribe(&group, &[missing.clone(), there.clone()], &[]).await.unwrap();
    assert_eq!(take(&mut reader, 1).await, messages(&there, "k", 1));
    let is_told = async {
        let unavailable = |s: &TopicStatus| matches!(s.state, TopicState::Unavailable { .. });
        while !picky.topic_status(&group).iter().any(|s| s.topic == missing && unavailable(s)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), is_told).await.expect("it is told of");

    publish(&bus, messages(&missing, "k", 1)).await;
    assert_eq!(take(&mut reader, 1).await, messages(&missing, "k", 1));
}
