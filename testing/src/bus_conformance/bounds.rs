//! The bound on outstanding deliveries.

use std::collections::BTreeSet;

use composable_rust_core::bus::{Delivery as _, SharedDelivery};

use super::groups::keys;
use super::subject::{BusUnderTest, acknowledge, numbers, text, texts};

pub(super) async fn outstanding_deliveries_are_bounded(on: BusUnderTest) {
    let bound = on.max_outstanding();
    on.publish(on.numbered("k", 0, bound * 3)).await;
    let mut reader = on.join("readers").await;
    for round in 0..3 {
        let held = reader.take_until_silence().await;
        assert_eq!(held.len(), bound, "outstanding deliveries");
        assert_eq!(texts(&held), numbers(round * bound, (round + 1) * bound));
        acknowledge(held).await;
    }
    reader.silence().await;
}

pub(super) async fn dropped_deliveries_do_not_count_as_outstanding(on: BusUnderTest) {
    let bound = on.max_outstanding();
    on.publish(on.numbered("k", 0, bound + 1)).await;
    let mut reader = on.join("readers").await;
    let mut held = reader.take_until_silence().await;
    assert_eq!(held.len(), bound, "outstanding deliveries");
    // A bus may wait until there is room for several messages.
    held.truncate(1);
    assert_eq!(texts(&reader.take(1).await), numbers(bound, bound + 1));
}

/// A member with full partitions loses some of them and gets them back.
pub(super) async fn outstanding_deliveries_end_with_a_rebalance(on: BusUnderTest) {
    let bound = on.max_outstanding();
    let keys = keys();
    for n in 0..bound {
        on.publish(on.of_each(&keys, &n.to_string())).await;
    }
    let mut stays = on.join("readers").await;
    let held = stays.take_until_silence().await;
    assert!(held.len() < bound * keys.len(), "its partitions are full");
    let mut leaves = on.another_process().await.join("readers").await;
    drop(leaves.next().await);
    drop(leaves);

    let number =
        |delivery: &SharedDelivery| (delivery.message().key.clone(), text(delivery.message()));
    let mut seen: BTreeSet<_> = held.iter().map(number).collect();
    drop(held);
    while seen.len() < bound * keys.len() {
        let delivery = stays.next().await;
        seen.insert(number(&delivery));
        // A late acknowledgement is rejected and its message redelivered.
        let _ = delivery.acknowledge().await;
    }
}
