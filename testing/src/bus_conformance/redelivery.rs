//! Messages that are not acknowledged are redelivered.

use composable_rust_core::bus::Delivery as _;

use super::groups::{keys, settle};
use super::subject::{BusUnderTest, acknowledge, by_key, numbers, texts};

pub(super) async fn redelivery_starts_at_the_lowest_unacknowledged(on: BusUnderTest) {
    on.publish(on.numbered("k", 0, 10)).await;
    let mut reader = on.join("readers").await;
    let mut held: Vec<_> = reader.take(10).await.into_iter().map(Some).collect();
    for n in [4, 1, 7, 0, 3] {
        acknowledge(held[n].take().into_iter().collect()).await;
    }
    drop((reader, held));
    let mut next = on.another_process().await.join("readers").await;
    assert_eq!(texts(&next.take(8).await), numbers(2, 10), "0 and 1 are finished, 2 is not");
}

pub(super) async fn redelivery_goes_to_another_member(on: BusUnderTest) {
    let mut one = on.join("readers").await;
    let there = on.another_process().await;
    let mut other = there.join("readers").await;
    // As many as fit into one partition.
    let some = |mut keys: Vec<String>| {
        keys.truncate(3);
        keys
    };
    let keys = settle(&on, &mut one, &mut other).await.map(some).concat();

    for n in ["a", "b"] {
        on.publish(on.of_each(&keys, n)).await;
    }
    let (mut stays, mut leaves) = (Vec::new(), Vec::new());
    while stays.len() + leaves.len() < 2 * keys.len() {
        tokio::select! {
            delivery = one.next() => stays.push(delivery),
            delivery = other.next() => leaves.push(delivery),
        }
    }
    assert!(!leaves.is_empty(), "both members get some");
    let left: Vec<_> = leaves.iter().map(|delivery| delivery.message().clone()).collect();
    drop((other, leaves));

    // Messages outstanding at the remaining member may be redelivered too.
    let mut again = Vec::new();
    while left.iter().any(|message| !again.contains(message)) {
        let delivery = one.next().await;
        again.push(delivery.message().clone());
        acknowledge(vec![delivery]).await;
    }
    again.retain(|message| left.contains(message));
    assert_eq!(by_key(&again), by_key(&left), "in order, and once");
}

pub(super) async fn acknowledged_messages_are_not_redelivered(on: BusUnderTest) {
    for round in 0..3 {
        on.publish(on.of_each(&keys(), &round.to_string())).await;
        let mut reader = on.join("readers").await;
        for _ in keys() {
            let delivery = reader.next().await;
            assert_eq!(texts(std::slice::from_ref(&delivery)), [round.to_string()]);
            acknowledge(vec![delivery]).await;
        }
    }
}

pub(super) async fn dropped_deliveries_are_redelivered(on: BusUnderTest) {
    on.publish(on.numbered("k", 0, 5)).await;
    let mut reader = on.join("readers").await;
    let mut held = reader.take(5).await;
    drop(held.remove(2));
    acknowledge(held).await;
    reader.silence().await;
    drop(reader);
    let mut next = on.join("readers").await;
    assert_eq!(texts(&next.take(3).await), numbers(2, 5));
}

pub(super) async fn late_acknowledgements_do_not_prevent_redelivery(on: BusUnderTest) {
    on.publish(on.numbered("k", 0, 3)).await;
    let mut reader = on.join("readers").await;
    let late = reader.take(3).await;
    drop(reader);
    let mut second = on.join("readers").await;
    let held = second.take(3).await;
    for delivery in late {
        // A bus may or may not report that an acknowledgement comes too late.
        let _ = delivery.acknowledge().await;
    }
    drop((held, second));
    let mut third = on.join("readers").await;
    assert_eq!(texts(&third.take(3).await), numbers(0, 3));
}
