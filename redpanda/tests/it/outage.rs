//! A broker that goes away and comes back.

use std::time::Duration;

use composable_rust_core::{Delivery as _, EventBus as _, Publisher as _};
use composable_rust_testing::TestBroker;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::brokers::builder;
use crate::fixtures::{
    assert_complete, at, by_key, message, next, number, relay, subscribe, unique,
};

const KEYS: usize = 8;
const BATCHES: usize = 60;
const PER_BATCH: usize = 10;

/// Publishes batches to the end as a relay does: opens anew and resumes whenever something fails.
async fn relay_all(bus: composable_rust_redpanda::RedpandaEventBus, topic: String, log: Uuid) {
    let total = (BATCHES * PER_BATCH) as u64;
    let mut position = 0;
    'open: while position < total {
        let Ok(mut publisher) = bus.publisher(&relay(log)).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(resumed) = publisher.resume_position().await else { continue };
        position = resumed.map_or(0, |resumed| resumed.offset);
        while position < total {
            let from = usize::try_from(position).unwrap();
            let numbers = from..from + PER_BATCH;
            let batch = numbers.flat_map(|n| {
                (0..KEYS).map(|key| message(&topic, &format!("k{key}"), n)).collect::<Vec<_>>()
            });
            let batch = batch.collect();
            let to = position + PER_BATCH as u64;
            if publisher.publish_batch(batch, Some(at(to))).await.is_err() {
                continue 'open;
            }
            position = to;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The broker is killed twice while a relay publishes and a group reads: every message arrives, each
/// key in order and, since the batches are transactions, once on the topic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_broker_is_killed() {
    let mut broker = TestBroker::start().await;
    let settings = builder(&broker.brokers()).transaction_timeout(Duration::from_secs(5));
    let bus = settings.connect().await.unwrap();
    let (topic, group, log) = (unique("orders"), unique("billing"), Uuid::new_v4());
    let relaying = tokio::spawn(relay_all(bus.clone(), topic.clone(), log));
    let (tell, mut told) = mpsc::unbounded_channel();
    let reading = {
        let (bus, topic, group) = (bus.clone(), topic.clone(), group.clone());
        tokio::spawn(async move {
            let mut deliveries = subscribe(&bus, &group, &topic).await;
            loop {
                let delivery = next(&mut deliveries).await;
                if tell.send(delivery.message().clone()).is_err() {
                    return;
                }
                let _ = delivery.acknowledge().await;
            }
        })
    };
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        broker.kill().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        broker.start_again().await;
    }
    tokio::time::timeout(Duration::from_secs(90), relaying)
        .await
        .expect("it comes to the end")
        .unwrap();

    let mut seen = Vec::new();
    let mut ends = 0;
    while ends < KEYS {
        let message = tokio::time::timeout(Duration::from_secs(60), told.recv()).await;
        let message = message.expect("nothing is lost").unwrap();
        ends += usize::from(number(&message) == BATCHES * PER_BATCH - 1);
        seen.push(message);
    }
    for numbers in by_key(&seen).values() {
        assert_complete(numbers, BATCHES * PER_BATCH);
    }
    reading.abort();
    let _ = reading.await;

    // On the topic itself each is there once.
    let mut reader = subscribe(&bus, &unique("audit"), &topic).await;
    let mut all = Vec::new();
    while all.len() < KEYS * BATCHES * PER_BATCH {
        let delivery = next(&mut reader).await;
        all.push(delivery.message().clone());
        delivery.acknowledge().await.unwrap();
    }
    for numbers in by_key(&all).values() {
        assert_eq!(*numbers, (0..BATCHES * PER_BATCH).collect::<Vec<_>>());
    }
}

/// What `publish` was answered for survives the broker's death, and what was under way is published
/// when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_messages_wait_for_the_broker() {
    let mut broker = TestBroker::start().await;
    // A busy machine takes its time to start the broker again.
    let settings = builder(&broker.brokers()).publish_timeout(Duration::from_secs(120));
    let bus = settings.connect().await.unwrap();
    let topic = unique("orders");
    bus.publish(message(&topic, "k", 0)).await.unwrap();
    broker.kill().await;
    let waiting = {
        let (bus, topic) = (bus.clone(), topic.clone());
        tokio::spawn(async move { bus.publish(message(&topic, "k", 1)).await })
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished());
    broker.start_again().await;
    waiting.await.unwrap().unwrap();
    let mut reader = subscribe(&bus, &unique("billing"), &topic).await;
    for n in 0..2 {
        assert_eq!(number(next(&mut reader).await.message()), n);
    }
    broker.stop().await;
}

/// A bus opens while no broker answers; what is published and subscribed meanwhile begins when one
/// does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_opens_before_its_broker() {
    let mut broker = TestBroker::start().await;
    broker.kill().await;
    let settings = builder(&broker.brokers()).connect_timeout(Duration::from_secs(1));
    let bus = settings.publish_timeout(Duration::from_secs(120)).connect().await.unwrap();
    let topic = unique("orders");
    assert!(bus.subscribe(&unique("billing"), std::slice::from_ref(&topic), &[]).await.is_err());
    assert!(bus.publisher(&relay(Uuid::new_v4())).await.is_err());
    broker.start_again().await;
    let publishing = async { while bus.publish(message(&topic, "k", 0)).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(120), publishing).await.expect("it is published");
    let mut reader = subscribe(&bus, &unique("billing"), &topic).await;
    assert_eq!(number(next(&mut reader).await.message()), 0);
    broker.stop().await;
}
