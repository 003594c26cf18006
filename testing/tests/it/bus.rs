//! The in-memory bus beyond the port's contract.

use std::time::Duration;

use composable_rust_core::bus::{
    BusMessage, Delivery as _, EventBus, GroupTopic, PublishError, Publisher as _, ResumePosition,
    TopicOffset, TopicState,
};
use composable_rust_testing::{InMemoryDeliveries, InMemoryDelivery, InMemoryEventBus};
use futures_util::{FutureExt as _, StreamExt as _};

const TOPIC: &str = "order-events";

fn at(offset: u64) -> ResumePosition {
    ResumePosition { offset, event_id: None }
}

fn message(key: &str, n: usize) -> BusMessage {
    let (topic, key) = (TOPIC.to_owned(), key.to_owned());
    BusMessage { topic, key, headers: Vec::new(), payload: n.to_string().into_bytes() }
}

async fn published(bus: &InMemoryEventBus, key: &str, count: usize) {
    for n in 0..count {
        bus.publish(message(key, n)).await.unwrap();
    }
}

async fn joined(bus: &InMemoryEventBus) -> InMemoryDeliveries {
    bus.subscribe("billing", &[TOPIC.to_owned()], &[]).await.unwrap()
}

/// The deliveries that are ready now.
fn ready(deliveries: &mut InMemoryDeliveries) -> Vec<InMemoryDelivery> {
    std::iter::from_fn(|| deliveries.next().now_or_never().flatten().map(Result::unwrap)).collect()
}

fn numbers(deliveries: &[InMemoryDelivery]) -> Vec<String> {
    let text = |d: &InMemoryDelivery| String::from_utf8_lossy(&d.message().payload).into_owned();
    deliveries.iter().map(text).collect()
}

#[tokio::test(start_paused = true)]
async fn a_waiting_member_is_woken() {
    let bus = InMemoryEventBus::new();
    let mut deliveries = joined(&bus).await;
    let waiting = tokio::spawn(async move { deliveries.next().await.unwrap().unwrap() });
    tokio::time::sleep(Duration::from_secs(1)).await;
    published(&bus, "a", 1).await;
    assert_eq!(waiting.await.unwrap().message(), &message("a", 0));
}

#[tokio::test]
async fn a_new_member_takes_over_unfinished_deliveries() {
    let bus = InMemoryEventBus::new().with_partitions(2);
    for key in ["a", "b", "c", "d"] {
        published(&bus, key, 2).await;
    }
    let mut first = joined(&bus).await;
    let held = ready(&mut first);
    assert_eq!((held.len(), bus.unfinished("billing")), (8, 8));

    let mut second = joined(&bus).await;
    let again = ready(&mut second);
    assert!(!again.is_empty() && again.len() < 8, "half of the partitions moved");
    for delivery in held {
        let moved = again.iter().any(|other| other.offset() == delivery.offset());
        assert_eq!(delivery.acknowledge().await.is_err(), moved, "what moved no longer counts");
    }
    assert_eq!(bus.unfinished("billing"), again.len());
    drop(first);
    assert_eq!(bus.members("billing"), 1);
    assert!(ready(&mut second).is_empty(), "the first had finished its own");
}

#[tokio::test]
async fn dropped_deliveries_free_capacity_but_hold_the_offset() {
    let bus = InMemoryEventBus::new().with_max_outstanding(3);
    published(&bus, "a", 5).await;
    let mut deliveries = joined(&bus).await;
    let held = ready(&mut deliveries);
    assert_eq!(numbers(&held), ["0", "1", "2"]);
    let mut held = held.into_iter();
    drop(held.next());
    for delivery in held {
        delivery.acknowledge().await.unwrap();
    }
    assert_eq!(numbers(&ready(&mut deliveries)), ["3", "4"]);
    assert_eq!(bus.unfinished("billing"), 5);

    drop(deliveries);
    assert_eq!(numbers(&ready(&mut joined(&bus).await)), ["0", "1", "2"]);
}

#[tokio::test]
async fn a_group_whose_position_is_removed_reads_nothing_until_it_is_moved() {
    let bus = InMemoryEventBus::new().with_partitions(1);
    published(&bus, "a", 2).await;
    let mut deliveries = joined(&bus).await;
    ready(&mut deliveries).into_iter().next().unwrap().acknowledge().await.unwrap();
    drop(deliveries);
    bus.remove_messages(TOPIC);
    published(&bus, "a", 3).await;
    assert_eq!((bus.messages(TOPIC).len(), bus.unfinished("billing")), (3, 3));

    let mut deliveries = joined(&bus).await;
    assert!(ready(&mut deliveries).is_empty());
    let state = bus.topic_status("billing").remove(0).state;
    assert!(matches!(&state, TopicState::LostPosition { reason } if reason.contains("position 1")));
    let (group, topic) = ("billing".to_owned(), TOPIC.to_owned());
    let of = GroupTopic { group, topic, is_external: false };
    let at = bus.group_partitions(&of, None).await.unwrap().remove(0);
    assert_eq!((at.next, at.first, at.end), (Some(1), 2, 5));

    drop(deliveries);
    bus.move_group(&of, &[TopicOffset { partition: 0, offset: at.first }]).await.unwrap();
    let mut deliveries = joined(&bus).await;
    assert_eq!(numbers(&ready(&mut deliveries)), ["0", "1", "2"]);
    assert_eq!(bus.topic_status("billing")[0].state, TopicState::Reading);
    // A group that begins has lost nothing.
    bus.forget("billing");
    bus.remove_messages(TOPIC);
    published(&bus, "a", 1).await;
    assert_eq!(numbers(&ready(&mut joined(&bus).await)), ["0"]);
}

#[tokio::test]
async fn partitions_take_turns() {
    let bus = InMemoryEventBus::new();
    for key in ["a", "b", "c", "d", "e", "f"] {
        published(&bus, key, 50).await;
    }
    let mut deliveries = joined(&bus).await;
    let partitions: Vec<_> = ready(&mut deliveries).iter().map(|d| d.offset().partition).collect();
    let used: std::collections::BTreeSet<_> = partitions.iter().copied().collect();
    let first: std::collections::BTreeSet<_> = partitions[..used.len()].iter().copied().collect();
    assert!(used.len() > 1 && first == used, "{partitions:?}");
}

#[tokio::test]
async fn published_messages_can_be_inspected() {
    let bus = InMemoryEventBus::new();
    published(&bus, "a", 2).await;
    published(&bus, "b", 1).await;
    assert_eq!(bus.topics(), [TOPIC]);
    assert_eq!(bus.messages(TOPIC), [message("a", 0), message("a", 1), message("b", 0)]);
    assert!(bus.messages("other").is_empty());
    let places: Vec<_> = bus.placed_messages(TOPIC).iter().map(|(place, _)| place.offset).collect();
    assert_eq!(places[..2], [0, 1]);
}

#[tokio::test]
async fn clones_are_the_same_bus() {
    let bus = InMemoryEventBus::new();
    let name = composable_rust_core::bus::PublisherName {
        log: uuid::Uuid::from_u128(1),
        purpose: "relay/order-events/order".to_owned(),
        partition: 0,
        partitions: 1,
    };
    let mut first = bus.publisher(&name).await.unwrap();
    let mut second = bus.clone().publisher(&name).await.unwrap();
    let fenced = first.publish_batch(vec![message("a", 0)], Some(at(1))).await;
    assert!(matches!(fenced, Err(PublishError::Fenced)));
    second.publish_batch(vec![message("a", 1)], Some(at(1))).await.unwrap();
    assert_eq!(bus.messages(TOPIC), [message("a", 1)]);
}
