//! Positions of groups.

use std::time::Duration;

use composable_rust_core::{BusPlace, Delivery as _, EventBus as _, TopicState};
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
        let place = next(&mut reader).await.place();
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
        if delivery.place().partition == 0 {
            position = delivery.place().offset + 1;
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
        assert_eq!(delivery.place().partition, 1, "the other partition goes on");
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
    while next(&mut reader).await.place() != (BusPlace { partition: 0, offset: position + 3 }) {}
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
