//! Messages, unique names, and checks of deliveries.

use std::collections::BTreeMap;
use std::time::Duration;

use composable_rust_core::bus::{
    BusMessage, Delivery as _, EventBus as _, PublisherName, ResumePosition,
};
use composable_rust_redpanda::{RedpandaDeliveries, RedpandaDelivery, RedpandaEventBus};
use futures_util::StreamExt as _;
use uuid::Uuid;

/// Returns a unique name.
pub(crate) fn unique(name: &str) -> String {
    format!("{name}-{}", Uuid::new_v4().simple())
}

pub(crate) fn at(offset: u64) -> ResumePosition {
    ResumePosition { offset, event_id: None }
}

pub(crate) fn message(topic: &str, key: &str, n: usize) -> BusMessage {
    BusMessage {
        topic: topic.to_owned(),
        key: key.to_owned(),
        headers: vec![("n".to_owned(), n.to_string())],
        payload: n.to_string().into_bytes(),
    }
}

pub(crate) fn messages(topic: &str, key: &str, count: usize) -> Vec<BusMessage> {
    (0..count).map(|n| message(topic, key, n)).collect()
}

pub(crate) fn relay(log: Uuid) -> PublisherName {
    PublisherName {
        log,
        purpose: "relay/order-events/order".to_owned(),
        partition: 0,
        partitions: 1,
    }
}

pub(crate) async fn publish(bus: &RedpandaEventBus, messages: Vec<BusMessage>) {
    for message in messages {
        bus.publish(message).await.unwrap();
    }
}

pub(crate) async fn subscribe(
    bus: &RedpandaEventBus,
    group: &str,
    topic: &str,
) -> RedpandaDeliveries {
    bus.subscribe(group, &[topic.to_owned()], &[]).await.unwrap()
}

/// Returns the next delivery, skipping errors before it.
pub(crate) async fn next(deliveries: &mut RedpandaDeliveries) -> RedpandaDelivery {
    let next = async {
        loop {
            match deliveries.next().await {
                Some(Ok(delivery)) => return delivery,
                Some(Err(_)) => {}
                None => panic!("the deliveries ended"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), next)
        .await
        .expect("a delivery arrives within a minute")
}

/// Takes and acknowledges `count` deliveries.
pub(crate) async fn take(deliveries: &mut RedpandaDeliveries, count: usize) -> Vec<BusMessage> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let delivery = next(deliveries).await;
        taken.push(delivery.message().clone());
        let _ = delivery.acknowledge().await;
    }
    taken
}

pub(crate) fn number(message: &BusMessage) -> usize {
    message.header("n").unwrap().parse().unwrap()
}

/// Groups the messages' numbers by key, in the order of arrival.
pub(crate) fn by_key(messages: &[BusMessage]) -> BTreeMap<String, Vec<usize>> {
    let mut keys = BTreeMap::<_, Vec<_>>::new();
    for message in messages {
        keys.entry(message.key.clone()).or_default().push(number(message));
    }
    keys
}

/// Asserts that no number is missing and none precedes its predecessor; redeliveries are allowed.
pub(crate) fn assert_complete(numbers: &[usize], count: usize) {
    let mut expected = 0;
    for &n in numbers {
        assert!(n <= expected, "{n} arrived before {expected}: {numbers:?}");
        expected = expected.max(n + 1);
    }
    assert_eq!(expected, count, "{numbers:?}");
}
