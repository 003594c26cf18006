//! Reading a stream, and pages of the log.

use composable_rust_core::event::StoredEvent;
use composable_rust_core::store::{Append, EventStore as _, Fingerprint};
use composable_rust_core::{Position, StreamId, Version};
use futures_util::StreamExt as _;

use super::builders::{append, stream};
use super::subject::StoreUnderTest;

/// Appends 2 events to each of 12 streams, in turn, and returns the streams.
async fn fill(on: &StoreUnderTest) -> Vec<StreamId> {
    let streams: Vec<StreamId> = (0..12).map(|n| stream(&format!("thing-{n}"))).collect();
    for version in 0..2 {
        for stream in &streams {
            on.commit(&append(stream, version, 1)).await;
        }
    }
    streams
}

fn positions(events: &[StoredEvent], partition: u16) -> Vec<u64> {
    let here = events.iter().filter(|event| event.position.partition == partition);
    here.map(|event| event.position.offset).collect()
}

pub(super) async fn a_load_starts_after_a_version(on: StoreUnderTest) {
    let thing = stream("thing-1");
    on.commit(&append(&thing, 0, 5)).await;
    let all = on.events(&thing).await;
    for after in [0, 1, 4, 5, 6, 1_000_000] {
        let rest = on.events_after(&thing, Version::new(after)).await;
        let skipped = usize::try_from(after).expect("the version is small").min(5);
        assert_eq!(rest, all[skipped..], "after version {after}");
    }
}

pub(super) async fn an_unknown_stream_is_empty(on: StoreUnderTest) {
    on.commit(&append(&stream("thing-1"), 0, 1)).await;
    for name in ["thing-2", "thing-11", "thing-1 ", "other-1"] {
        let unknown = stream(name);
        assert_eq!(on.events(&unknown).await, []);
        assert_eq!(on.load(&unknown, Fingerprint(1)).await, (None, vec![]));
        assert_eq!(on.snapshot(&unknown, Fingerprint(1)).await, None);
    }
}

pub(super) async fn reads_leave_nothing_behind(on: StoreUnderTest) {
    let beginnings = Position::start_positions(on.partitions());
    assert_eq!(on.heads().await, beginnings);
    assert_eq!(on.page(&beginnings, 10).await, []);
    assert_eq!(on.events(&stream("thing-1")).await, []);
    assert_eq!(on.heads().await, beginnings);
}

pub(super) async fn the_page_limit_applies_to_each_partition(on: StoreUnderTest) {
    fill(&on).await;
    let heads = on.heads().await;
    for (after, limit) in [(0, 1), (0, 3), (1, 3), (2, 1), (0, 100), (1_000, 10)] {
        let from: Vec<_> =
            (0..on.partitions()).map(|partition| Position::new(partition, after)).collect();
        let page = on.page(&from, limit).await;
        for head in &heads {
            let expected: Vec<u64> = (after + 1..=head.offset).take(limit).collect();
            let found = positions(&page, head.partition);
            assert_eq!(found, expected, "{limit} after {after} of partition {}", head.partition);
        }
    }
}

pub(super) async fn a_page_holds_only_the_requested_partitions(on: StoreUnderTest) {
    fill(&on).await;
    assert_eq!(on.page(&[], 10).await, []);
    for head in on.heads().await {
        let page = on.page(&[Position::new(head.partition, 0)], 100).await;
        assert_eq!(page.len() as u64, head.offset);
        assert_eq!(positions(&page, head.partition), (1..=head.offset).collect::<Vec<_>>());
    }
}

pub(super) async fn concatenated_pages_are_the_log(on: StoreUnderTest) {
    let streams = fill(&on).await;
    let mut after = Position::start_positions(on.partitions());
    let mut read = Vec::new();
    loop {
        let page = on.page(&after, 2).await;
        if page.is_empty() {
            break;
        }
        for event in page {
            let seen = &mut after[usize::from(event.position.partition)];
            assert_eq!(event.position.offset, seen.offset + 1, "in order of offsets");
            seen.offset += 1;
            read.push(event);
        }
    }
    assert_eq!(after, on.heads().await);
    for stream in &streams {
        let of_stream: Vec<_> = read.iter().filter(|e| e.stream == *stream).cloned().collect();
        assert_eq!(of_stream, on.events(stream).await, "the log and the load agree on {stream}");
    }
    assert_eq!(read.len(), 24);
}

pub(super) async fn heads_are_the_highest_offsets(on: StoreUnderTest) {
    let mut expected = Position::start_positions(on.partitions());
    for n in 0..12 {
        let thing = stream(&format!("thing-{n}"));
        on.commit(&append(&thing, 0, 2)).await;
        expected[usize::from(on.log().partition_of(&thing))].offset += 2;
        assert_eq!(on.heads().await, expected);
    }
}

pub(super) async fn long_streams_load_in_order(on: StoreUnderTest) {
    let thing = stream("thing-1");
    for version in (0..3_000).step_by(500) {
        on.commit(&append(&thing, version, 500)).await;
    }
    for after in [0, 1_234] {
        let versions: Vec<u64> = on
            .events_after(&thing, Version::new(after))
            .await
            .iter()
            .map(|event| event.version.get())
            .collect();
        assert_eq!(versions, (after + 1..=3_000).collect::<Vec<_>>());
    }
}

pub(super) async fn abandoned_loads_block_nothing(on: StoreUnderTest) {
    let thing = stream("thing-1");
    on.commit(&append(&thing, 0, 500)).await;
    for _ in 0..40 {
        let mut load = std::pin::pin!(on.store.load_events(&thing, Version::ZERO));
        load.next().await.expect("there are events").expect("the stream loads");
    }
    on.commit(&Append::new(thing.clone(), super::builders::exact(500))).await;
    assert_eq!(on.events(&thing).await.len(), 500);
}

pub(super) async fn another_process_reads_the_same(on: StoreUnderTest) {
    let streams = fill(&on).await;
    let there = on.another_process().await;
    assert_eq!(there.log(), on.log());
    assert_eq!(there.heads().await, on.heads().await);
    for stream in &streams {
        assert_eq!(there.events(stream).await, on.events(stream).await);
    }
    there.commit(&append(&streams[0], 2, 1)).await;
    assert_eq!(on.events(&streams[0]).await.len(), 3);
}
