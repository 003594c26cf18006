//! A batch is one transaction of independent appends.

use composable_rust_core::Version;
use composable_rust_core::store::{
    Append, AppendOutcome, EventStore as _, ExpectedVersion, MAX_PAYLOAD_BYTES, StoreError,
};

use super::builders::{append, content, event, events, exact, fresh_id, inbox_entry, stream};
use super::subject::{StoreUnderTest, committed, duplicates};

pub(super) async fn a_batch_is_answered_in_order(on: StoreUnderTest) {
    let streams = on.streams_of(0, "thing", 6);
    let repeated = append(&streams[1], 0, 1).with_inbox(vec![inbox_entry(0, 1)]);
    on.commit(&repeated).await;
    on.commit(&append(&streams[2], 0, 2)).await;
    let closing = composable_rust_core::EventId(fresh_id());
    on.store
        .close_stream(&streams[3], Version::ZERO, closing)
        .await
        .expect("the stream should close");
    let handled = inbox_entry(0, 1);
    on.commit(&append(&streams[4], 0, 1).with_inbox(vec![handled.clone()])).await;

    let mut outcomes = on
        .batch(
            0,
            &[
                append(&streams[0], 0, 1),
                repeated,
                append(&streams[2], 1, 1),
                append(&streams[3], 1, 1),
                append(&streams[4], 1, 1).with_inbox(vec![handled.clone()]),
                append(&streams[5], 0, 2),
            ],
        )
        .await;
    assert_eq!(committed(&outcomes[0]).0, Version::new(1));
    assert_eq!(committed(&outcomes[1]).0, Version::new(1));
    assert_eq!(outcomes[2], AppendOutcome::Conflict { actual: Version::new(2) });
    assert_eq!(outcomes[3], AppendOutcome::Closed);
    assert_eq!(committed(&outcomes[5]).0, Version::new(2));
    assert_eq!(duplicates(outcomes.swap_remove(4))[0].message_id, handled.message_id);
}

pub(super) async fn a_batch_numbers_its_events_without_gaps(on: StoreUnderTest) {
    let streams = on.streams_of(0, "thing", 12);
    on.commit(&append(&streams[0], 0, 1)).await;
    let batch: Vec<Append> = streams
        .iter()
        .enumerate()
        .map(|(n, stream)| append(stream, u64::from(n == 0 || n % 3 == 1), n % 4))
        .collect();
    let outcomes = on.batch(0, &batch).await;
    let mut events = 1;
    for (n, (append, outcome)) in batch.iter().zip(&outcomes).enumerate() {
        if n % 3 == 1 {
            assert_eq!(*outcome, AppendOutcome::Conflict { actual: Version::ZERO });
        } else {
            let (_, position) = committed(outcome);
            assert_eq!(position.is_some(), !append.events.is_empty());
            events += append.events.len();
        }
    }
    on.commit(&append(&streams[0], 1, 1)).await;
    assert_eq!(on.partition(0).await.len(), events + 1, "also after what lost");
}

pub(super) async fn a_conflict_leaves_the_rest_of_its_batch_alone(on: StoreUnderTest) {
    let streams = on.streams_of(0, "thing", 3);
    on.commit(&append(&streams[1], 0, 1)).await;
    let losing = append(&streams[1], 0, 2).with_inbox(vec![inbox_entry(0, 2)]);
    let batch = [append(&streams[0], 0, 2), losing, append(&streams[2], 0, 3)];
    let outcomes = on.batch(0, &batch).await;
    assert_eq!(committed(&outcomes[0]).0, Version::new(2));
    assert_eq!(outcomes[1], AppendOutcome::Conflict { actual: Version::new(1) });
    assert_eq!(committed(&outcomes[2]).0, Version::new(3));
    let mut stored = Vec::new();
    for stream in &streams {
        stored.push(on.events(stream).await.len());
    }
    assert_eq!(stored, [2, 1, 3]);
}

pub(super) async fn a_faulty_append_is_found_one_by_one(on: StoreUnderTest) {
    let streams = on.streams_of(0, "thing", 3);
    let mut guilty = append(&streams[1], 0, 2);
    guilty.events[1].content = content(vec![7; MAX_PAYLOAD_BYTES + 1]);
    let batch = [append(&streams[0], 0, 1), guilty, append(&streams[2], 0, 1)];
    let refused = on.store.append_events(0, &batch).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    assert_eq!(on.whole_log().await, [], "a refused batch leaves nothing behind");

    committed(&on.append(&batch[0]).await);
    on.refuse(&batch[1], "a payload beyond the limit").await;
    committed(&on.append(&batch[2]).await);
}

pub(super) async fn a_batch_is_of_one_partition_and_distinct_streams(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let own = on.log().partition_of(&thing);
    let one = [append(&thing, 0, 1)];
    let mut wrong = vec![on.partitions(), u16::MAX];
    wrong.extend((0..on.partitions()).filter(|partition| *partition != own));
    for partition in wrong {
        let refused = on.store.append_events(partition, &one).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "in {partition}: {refused:?}");
    }
    let two = [append(&thing, 0, 1), append(&thing, 1, 1)];
    let refused = on.store.append_events(own, &two).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "twice a stream: {refused:?}");
    assert_eq!(on.whole_log().await, []);
}

pub(super) async fn a_batch_may_be_empty(on: StoreUnderTest) {
    assert_eq!(on.batch(0, &[]).await, []);
}

pub(super) async fn a_batch_may_be_large(on: StoreUnderTest) {
    let streams = on.streams_of(0, "thing", 250);
    let batch: Vec<Append> = streams.iter().map(|stream| append(stream, 0, 4)).collect();
    for outcome in on.batch(0, &batch).await {
        assert_eq!(committed(&outcome).0, Version::new(4));
    }
    let log = on.partition(0).await;
    assert_eq!(log.len(), 1_000);
    for (append, stream) in batch.iter().zip(&streams) {
        let appended: Vec<_> = append.events.iter().map(|event| event.id).collect();
        let stored: Vec<_> =
            log.iter().filter(|event| event.stream == *stream).map(|event| event.id).collect();
        assert_eq!(stored, appended, "the log holds {stream} in order");
    }
}

pub(super) async fn an_append_is_read_whole_or_not_at_all(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let writer = {
        let (on, thing) = (on.clone(), thing.clone());
        tokio::spawn(async move {
            for version in (0..100).step_by(5) {
                on.commit(&append(&thing, version, 5)).await;
            }
            for _ in 0..4 {
                let mut last = Append::new(thing.clone(), ExpectedVersion::Exists);
                last.events = vec![event(), event(), event(), event(), event()];
                on.commit(&last).await;
            }
        })
    };
    let there = on.another_process().await;
    let mut before = 0;
    while before < 120 {
        let seen = there.events(&thing).await.len();
        assert_eq!(
            seen % 5,
            0,
            "a reader sees five events of an append or none, not {seen} in all"
        );
        assert!(seen >= before, "what was seen stays");
        before = seen;
        // A store that answers without waiting would keep the writer from running.
        tokio::task::yield_now().await;
    }
    writer.await.expect("the writer does not panic");
    let stale = Append::new(thing, exact(119)).with_events(events(5));
    assert_eq!(on.append(&stale).await, AppendOutcome::Conflict { actual: Version::new(120) });
}
