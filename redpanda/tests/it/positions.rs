//! Positions of groups.

use std::time::Duration;

use composable_rust_redpanda::LostPosition;
use futures_util::StreamExt as _;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::brokers::{brokers, builder};
use crate::fixtures::{messages, number, publish, subscribe, take, unique};

/// Removes the first messages of a topic's only partition, as retention does.
async fn remove_below(brokers: &str, topic: &str, offset: i64) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    admin.delete_records(&list, &options).await.unwrap();
}

#[tokio::test]
async fn a_lost_position_ends_the_deliveries_unless_it_may_be_skipped() {
    let brokers = brokers();
    let settings = builder(&brokers).partitions(1);
    let bus = settings.clone().connect().await.unwrap();
    let (topic, group) = (unique("orders"), unique("billing"));
    publish(&bus, messages(&topic, "k", 10)).await;
    let mut reader = subscribe(&bus, &group, &topic).await;
    assert_eq!(take(&mut reader, 3).await.len(), 3);
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(reader);
    tokio::time::sleep(Duration::from_secs(1)).await;
    remove_below(&brokers, &topic, 6).await;

    let mut reader = subscribe(&bus, &group, &topic).await;
    let told = tokio::time::timeout(Duration::from_secs(30), reader.next()).await.unwrap();
    assert!(told.unwrap().is_err(), "messages 3 to 5 are gone");
    assert!(reader.next().await.is_none(), "nothing follows");

    let lenient = settings.lost_position(LostPosition::Beginning).connect().await.unwrap();
    let taken = take(&mut subscribe(&lenient, &group, &topic).await, 4).await;
    assert_eq!(taken.iter().map(number).collect::<Vec<_>>(), [6, 7, 8, 9]);
    // A new group has lost nothing: it begins where the topic begins now.
    let taken = take(&mut subscribe(&bus, &unique("new"), &topic).await, 4).await;
    assert_eq!(taken.iter().map(number).collect::<Vec<_>>(), [6, 7, 8, 9]);
}
