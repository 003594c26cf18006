//! Outages: a broker that is killed and started again.

use std::collections::BTreeSet;
use std::time::Duration;

use composable_rust_core::bus::{BusMessage, Delivery as _, EventBus as _, Publisher as _};
use composable_rust_testing::TestBroker;
use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::brokers::builder;
use crate::fixtures::{
    assert_complete, at, by_key, message, next, number, relay, subscribe, unique,
};

const KEYS: usize = 8;
const BATCHES: usize = 60;
const PER_BATCH: usize = 10;

/// Publishes all batches as a relay does: after an error it opens the publisher again and resumes.
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

/// Returns the next message that the reading task received.
async fn receive(receiver: &mut mpsc::UnboundedReceiver<BusMessage>) -> BusMessage {
    let message = tokio::time::timeout(Duration::from_secs(60), receiver.recv()).await;
    message.expect("no message is lost").unwrap()
}

/// The broker is killed twice while a relay publishes and a group reads. Every message arrives,
/// each key is in order, and the topic holds each message once, because the batches are
/// transactions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_lost_when_the_broker_is_killed() {
    let mut broker = TestBroker::start().await;
    let settings = builder(&broker.brokers()).transaction_timeout(Duration::from_secs(5));
    let bus = settings.connect().await.unwrap();
    let (topic, group, log) = (unique("orders"), unique("billing"), Uuid::new_v4());
    let relaying = tokio::spawn(relay_all(bus.clone(), topic.clone(), log));
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let reading = {
        let (bus, topic, group) = (bus.clone(), topic.clone(), group.clone());
        tokio::spawn(async move {
            let mut deliveries = subscribe(&bus, &group, &topic).await;
            loop {
                let delivery = next(&mut deliveries).await;
                if sender.send(delivery.message().clone()).is_err() {
                    return;
                }
                let _ = delivery.acknowledge().await;
            }
        })
    };
    let mut seen = Vec::new();
    for round in 1..=2 {
        // Messages flow before each kill.
        while seen.len() < round * KEYS * BATCHES * PER_BATCH / 4 {
            seen.push(receive(&mut receiver).await);
        }
        broker.kill().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        broker.start_again().await;
    }
    tokio::time::timeout(Duration::from_secs(90), relaying)
        .await
        .expect("the relay publishes all batches")
        .unwrap();

    // The last message of a key may arrive again.
    let is_last = |message: &&BusMessage| number(message) == BATCHES * PER_BATCH - 1;
    let mut finished: BTreeSet<_> =
        seen.iter().filter(is_last).map(|message| message.key.clone()).collect();
    while finished.len() < KEYS {
        let message = receive(&mut receiver).await;
        finished.extend(Some(&message).filter(is_last).map(|message| message.key.clone()));
        seen.push(message);
    }
    for numbers in by_key(&seen).values() {
        assert_complete(numbers, BATCHES * PER_BATCH);
    }
    reading.abort();
    let _ = reading.await;

    // The topic itself holds each message once.
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

/// Messages acknowledged by `publish` survive the broker's death. A message in flight is published
/// once the broker is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_messages_survive_an_outage_and_wait_for_its_end() {
    let mut broker = TestBroker::start().await;
    // On a busy machine, the broker takes long to start again.
    let settings = builder(&broker.brokers()).publish_timeout(Duration::from_secs(120));
    let bus = settings.connect().await.unwrap();
    let topic = unique("orders");
    bus.publish(message(&topic, "k", 0)).await.unwrap();
    broker.kill().await;
    let mut publishing = Box::pin(bus.publish(message(&topic, "k", 1)));
    assert!((&mut publishing).now_or_never().is_none(), "the call waits for the broker");
    broker.start_again().await;
    publishing.await.unwrap();
    let mut reader = subscribe(&bus, &unique("billing"), &topic).await;
    for n in 0..2 {
        assert_eq!(number(next(&mut reader).await.message()), n);
    }
    broker.stop().await;
}

/// A bus opens while no broker is reachable. Calls fail meanwhile and succeed once the broker is
/// up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_opens_before_its_broker_starts() {
    let mut broker = TestBroker::start().await;
    broker.kill().await;
    let settings = builder(&broker.brokers()).connect_timeout(Duration::from_secs(1));
    let bus = settings.publish_timeout(Duration::from_secs(120)).connect().await.unwrap();
    let topic = unique("orders");
    assert!(bus.subscribe(&unique("billing"), std::slice::from_ref(&topic), &[]).await.is_err());
    assert!(bus.publisher(&relay(Uuid::new_v4())).await.is_err());
    broker.start_again().await;
    let publishing = async { while bus.publish(message(&topic, "k", 0)).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(120), publishing)
        .await
        .expect("the message is published");
    let mut reader = subscribe(&bus, &unique("billing"), &topic).await;
    assert_eq!(number(next(&mut reader).await.message()), 0);
    broker.stop().await;
}
