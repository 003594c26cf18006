//! Pruning the inbox: entries are deleted once they are old and their message can no longer be
//! redelivered.

use std::time::Duration;

use composable_rust_core::queue::Inbox as _;
use composable_rust_core::store::AppendOutcome;
use composable_rust_core::{MessageId, StreamId};
use uuid::Uuid;

use super::builders::{append, inbox_entry, stream};
use super::subject::{StoreUnderTest, duplicates};
use super::workers::{HOUR, SOON, parked, queue, queued};

async fn prune(on: &StoreUnderTest, partition: u16, age: Duration, limit: usize) -> u64 {
    on.store.prune_inbox(partition, age, limit).await.expect("the inbox entries are pruned")
}

/// Handles a message on a stream.
async fn handle(on: &StoreUnderTest, stream: &StreamId, version: u64, message: Uuid) {
    let mut entry = inbox_entry(0, 1);
    entry.message_id = MessageId(message);
    on.commit(&append(stream, version, 1).with_inbox(vec![entry])).await;
}

pub(super) async fn old_inbox_entries_are_pruned_in_small_numbers(on: StoreUnderTest) {
    let streams = on.streams_of(0, "thing", 2);
    let mut entries = Vec::new();
    for version in 0..5 {
        for stream in &streams {
            let entry = inbox_entry(0, 1);
            on.commit(&append(stream, version, 1).with_inbox(vec![entry.clone()])).await;
            entries.push((stream, entry));
        }
    }
    assert_eq!(prune(&on, 0, HOUR, 100).await, 0, "none is so old");
    let again = append(&streams[0], 5, 1).with_inbox(vec![entries[0].1.clone()]);
    assert_eq!(duplicates(on.append(&again).await).len(), 1);
    for pruned in [4, 4, 2, 0] {
        assert_eq!(prune(&on, 0, Duration::ZERO, 0).await, 0);
        assert_eq!(prune(&on, 0, Duration::ZERO, 4).await, pruned);
    }
    for (stream, entry) in &entries {
        assert_eq!(on.inbox_entry(stream, entry.message_id).await, None);
    }
    let outcome = on.append(&again).await;
    assert!(matches!(outcome, AppendOutcome::Committed { .. }), "forgotten: {outcome:?}");
}

pub(super) async fn recent_inbox_entries_stay(on: StoreUnderTest) {
    let thing = on.streams_of(0, "thing", 1).remove(0);
    let (old, young) = (Uuid::from_u128(1), Uuid::from_u128(2));
    handle(&on, &thing, 0, old).await;
    tokio::time::sleep(SOON * 40).await;
    handle(&on, &thing, 1, young).await;
    assert_eq!(prune(&on, 0, SOON * 40, 100).await, 1);
    assert_eq!(on.inbox_entry(&thing, MessageId(old)).await, None);
    assert!(on.inbox_entry(&thing, MessageId(young)).await.is_some());
}

pub(super) async fn inbox_entries_of_other_partitions_stay(on: StoreUnderTest) {
    let entry = inbox_entry(0, 1);
    for partition in 0..on.partitions() {
        let thing = on.streams_of(partition, "thing", 1).remove(0);
        on.commit(&append(&thing, 0, 1).with_inbox(vec![entry.clone()])).await;
    }
    for partition in 0..on.partitions() {
        assert_eq!(prune(&on, partition, Duration::ZERO, 100).await, 1);
        for other in 0..on.partitions() {
            let thing = on.streams_of(other, "thing", 1).remove(0);
            let stands = on.inbox_entry(&thing, entry.message_id).await.is_some();
            assert_eq!(stands, other > partition, "in {other}");
        }
    }
}

pub(super) async fn inbox_entries_of_queued_rows_stay(on: StoreUnderTest) {
    let last = on.partitions() - 1;
    let worker = on.worker("work", last).await;
    let thing = on.streams_of(0, "thing", 1).remove(0);
    let rows = ["a", "b", "c"].map(|to| queued(&stream("sender-1"), to));
    on.enqueue(last, &rows).await;
    // The messages are handled, but the rows that brought them still wait, in another partition.
    for (version, queued) in rows.iter().enumerate() {
        handle(&on, &thing, version as u64, queued.row.id).await;
    }
    let unasked = inbox_entry(0, 1);
    on.commit(&append(&thing, 3, 1).with_inbox(vec![unasked.clone()])).await;
    let waiting = on.waiting(&queue(last)).await;
    let done = composable_rust_core::queue::QueueChange::Done(Vec::new());
    assert!(on.settle_one(&worker, &waiting[0], done.clone()).await);
    assert!(on.settle_one(&worker, &waiting[1], parked(1, Some("no"))).await);
    assert_eq!(prune(&on, 0, Duration::ZERO, 100).await, 2);
    let mut stand = Vec::new();
    for queued in &rows {
        stand.push(on.inbox_entry(&thing, MessageId(queued.row.id)).await.is_some());
    }
    assert_eq!(stand, [false, true, true], "of what is done; of what is parked; of what waits");
    assert!(on.settle_one(&worker, &waiting[2], done).await);
    assert_eq!(prune(&on, 0, Duration::ZERO, 100).await, 1);
}
