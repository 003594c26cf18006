//! Consumer groups whose members join and leave while messages are published.

use std::collections::BTreeSet;
use std::time::Duration;

use composable_rust_core::bus::Delivery as _;
use composable_rust_redpanda::{RedpandaDeliveries, RedpandaDelivery, RedpandaEventBus};
use composable_rust_testing::TestBroker;
use futures_util::StreamExt as _;

use crate::brokers::{brokers, builder};
use crate::fixtures::{assert_complete, by_key, message, next, number, publish, subscribe, unique};

const KEYS: usize = 12;
const EACH: usize = 150;

/// Members read a topic and acknowledge each message after a millisecond, while others join and
/// leave. No message is missing, and each key is in order apart from redeliveries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_lost_while_members_join_and_leave() {
    let bus = builder(&brokers()).max_outstanding(50).connect().await.unwrap();
    let (topic, group) = (unique("orders"), unique("billing"));
    let writer = {
        let (bus, topic) = (bus.clone(), topic.clone());
        tokio::spawn(async move {
            for n in 0..EACH {
                let round = (0..KEYS).map(|key| message(&topic, &format!("k{key}"), n));
                publish(&bus, round.collect()).await;
            }
        })
    };
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    // Milliseconds until each member joins, and for which it stays: some overlap others.
    for (joins_after, stays_for) in [(0, 60_000), (1_000, 3_000), (2_500, 60_000), (5_000, 2_000)] {
        let (bus, topic, group, sender) =
            (bus.clone(), topic.clone(), group.clone(), sender.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(joins_after)).await;
            let mut deliveries = subscribe(&bus, &group, &topic).await;
            let stay = async {
                while let Some(delivery) = deliveries.next().await {
                    let Ok(delivery) = delivery else { continue };
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    let _ = sender.send(delivery.message().clone());
                    let _ = delivery.acknowledge().await;
                }
            };
            let _ = tokio::time::timeout(Duration::from_millis(stays_for), stay).await;
        });
    }
    drop(sender);
    let mut seen = Vec::new();
    let mut missing: BTreeSet<_> =
        (0..KEYS).flat_map(|key| (0..EACH).map(move |n| (format!("k{key}"), n))).collect();
    while !missing.is_empty() {
        let next = tokio::time::timeout(Duration::from_secs(60), receiver.recv()).await;
        let message = next.expect("no message is lost").expect("some members stay");
        missing.remove(&(message.key.clone(), number(&message)));
        seen.push(message);
    }
    writer.await.unwrap();
    for (_, numbers) in by_key(&seen) {
        assert_complete(&numbers, EACH);
    }
}

/// Takes deliveries until none has arrived for two seconds.
async fn take_until_silence(deliveries: &mut RedpandaDeliveries) -> Vec<RedpandaDelivery> {
    let mut taken = vec![next(deliveries).await];
    while let Ok(next) = tokio::time::timeout(Duration::from_secs(2), deliveries.next()).await {
        taken.extend(next.expect("the stream does not end"));
    }
    taken
}

/// Acknowledges deliveries until all of `missing` have arrived.
async fn take_all(deliveries: &mut RedpandaDeliveries, missing: &mut BTreeSet<(String, usize)>) {
    while !missing.is_empty() {
        let next = tokio::time::timeout(Duration::from_secs(30), deliveries.next()).await;
        let Ok(next) = next else { panic!("never delivered: {missing:?}") };
        let Ok(delivery) = next.expect("the stream does not end") else { continue };
        let message = delivery.message();
        missing.remove(&(message.key.clone(), number(message)));
        let _ = delivery.acknowledge().await;
    }
}

/// Publishes 100 messages under each of several keys, which map to both partitions of the topic.
async fn publish_to_both_partitions(
    bus: &RedpandaEventBus,
    topic: &str,
) -> BTreeSet<(String, usize)> {
    let keys = (0..6).map(|key| format!("k{key}"));
    let all: BTreeSet<_> = keys.flat_map(|key| (0..100).map(move |n| (key.clone(), n))).collect();
    publish(bus, all.iter().map(|(key, n)| message(topic, key, *n)).collect()).await;
    all
}

/// The broker is down for longer than the session timeout, while a subscription is full. The member
/// loses its partitions, is assigned them again, and reads them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_partitions_lost_with_the_session_are_read_again() {
    let mut broker = TestBroker::start().await;
    let settings = builder(&broker.brokers()).partitions(2).max_outstanding(10);
    let bus = settings.connect().await.unwrap();
    let (topic, group) = (unique("orders"), unique("billing"));
    let mut missing = publish_to_both_partitions(&bus, &topic).await;
    let mut deliveries = subscribe(&bus, &group, &topic).await;
    let outstanding = take_until_silence(&mut deliveries).await;
    assert_eq!(outstanding.len(), 20, "both partitions are full");

    broker.kill().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    broker.start_again().await;
    for delivery in outstanding {
        missing.remove(&(delivery.message().key.clone(), number(delivery.message())));
        drop(delivery);
    }
    take_all(&mut deliveries, &mut missing).await;
    broker.stop().await;
}
