//! Following the log: existing events, then new ones.

use composable_rust_core::event::StoredEvent;
use composable_rust_core::store::{EventStore as _, subscribe};
use composable_rust_core::{Position, StreamId};
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::builders::{append, stream};
use super::random::{joined, others_go_on};
use super::subject::StoreUnderTest;

fn streams() -> Vec<StreamId> {
    (0..9).map(|n| stream(&format!("thing-{n}"))).collect()
}

/// Returns the next `count` events after `after`.
async fn follow(
    on: &StoreUnderTest,
    after: Vec<Position>,
    page: usize,
    count: usize,
) -> Vec<StoredEvent> {
    let events = subscribe(&on.store, after, page).take(count);
    events.try_collect().await.expect("the log is followed")
}

/// Compares the events of each partition, in order of offsets, with the log.
async fn assert_is_log(on: &StoreUnderTest, seen: &[StoredEvent], after: &[Position]) {
    for from in after {
        let of_partition = |event: &&StoredEvent| event.position.partition == from.partition;
        let seen: Vec<_> = seen.iter().filter(of_partition).cloned().collect();
        let log = on.partition(from.partition).await;
        let skipped = usize::try_from(from.offset).expect("the offset is small");
        assert_eq!(seen, log[skipped..], "partition {}", from.partition);
    }
}

pub(super) async fn a_subscription_yields_existing_then_new_events(on: StoreUnderTest) {
    let beginnings = Position::start_positions(on.partitions());
    for stream in streams() {
        on.commit(&append(&stream, 0, 2)).await;
    }
    let reader = {
        let (on, beginnings) = (on.clone(), beginnings.clone());
        tokio::spawn(async move { follow(&on, beginnings, 5, 45).await })
    };
    for stream in streams() {
        on.commit(&append(&stream, 2, 3)).await;
    }
    assert_is_log(&on, &joined(reader).await, &beginnings).await;
}

pub(super) async fn a_subscription_starts_after_the_given_positions(on: StoreUnderTest) {
    for stream in streams() {
        on.commit(&append(&stream, 0, 1)).await;
    }
    let heads = on.heads().await;
    for stream in streams() {
        on.commit(&append(&stream, 1, 2)).await;
    }
    assert_is_log(&on, &follow(&on, heads.clone(), 2, 18).await, &heads).await;
}

pub(super) async fn a_waiting_reader_sees_the_first_event(on: StoreUnderTest) {
    for version in 0..10 {
        let thing = stream("thing-1");
        let heads = on.heads().await;
        let reader = {
            let on = on.clone();
            tokio::spawn(async move { follow(&on, heads, 10, 1).await })
        };
        others_go_on().await;
        on.commit(&append(&thing, version, 1)).await;
        assert_eq!(
            joined(reader).await,
            on.events(&thing).await[usize::try_from(version).expect("the version is small")..]
        );
    }
}

pub(super) async fn a_subscription_sees_commits_of_another_process(on: StoreUnderTest) {
    let there = on.another_process().await;
    let beginnings = Position::start_positions(on.partitions());
    let reader = {
        let (there, beginnings) = (there.clone(), beginnings.clone());
        tokio::spawn(async move { follow(&there, beginnings, 3, 18).await })
    };
    for stream in streams() {
        on.commit(&append(&stream, 0, 2)).await;
    }
    assert_is_log(&on, &joined(reader).await, &beginnings).await;
}

pub(super) async fn many_readers_see_the_same_events(on: StoreUnderTest) {
    let beginnings = Position::start_positions(on.partitions());
    let readers: Vec<_> = (1..=6)
        .map(|page| {
            let (on, beginnings) = (on.clone(), beginnings.clone());
            tokio::spawn(async move { follow(&on, beginnings, page, 36).await })
        })
        .collect();
    for version in [0, 2] {
        for stream in streams() {
            on.commit(&append(&stream, version, 2)).await;
        }
    }
    for reader in readers {
        assert_is_log(&on, &joined(reader).await, &beginnings).await;
    }
}

pub(super) async fn waiting_ends_when_events_arrive(on: StoreUnderTest) {
    let thing = stream("thing-1");
    on.commit(&append(&thing, 0, 1)).await;
    let beginnings = Position::start_positions(on.partitions());
    on.store.wait_for_events(&beginnings).await.expect("events exist already");

    for partition in 0..on.partitions() {
        let heads = on.heads().await;
        let waiting = {
            let (on, heads) = (on.clone(), heads.clone());
            tokio::spawn(async move { on.store.wait_for_events(&heads).await })
        };
        others_go_on().await;
        let thing = on.streams_of(partition, "other", 1).remove(0);
        on.commit(&append(&thing, 0, 1)).await;
        joined(waiting).await.expect("an event exists");
    }
}
