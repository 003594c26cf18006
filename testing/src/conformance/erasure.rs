//! Erasing, closing and overriding.

use composable_rust_core::event::{CLOSED, ERASED};
use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::store::{
    Append, AppendOutcome, EventStore as _, ExpectedVersion, Fingerprint, MAX_PAYLOAD_BYTES,
    StoreError,
};
use composable_rust_core::{EventId, StreamId, Version};

use super::builders::{append, content, events, exact, fresh_id, inbox_entry, snapshot, stream};
use super::subject::{StoreUnderTest, committed, moved_on};
use super::workers::{queue, queued};

async fn erase(on: &StoreUnderTest, stream: &StreamId) -> u64 {
    on.store.erase_stream(stream).await.expect("the stream is erased")
}

async fn close(on: &StoreUnderTest, stream: &StreamId, expected: u64) -> AppendOutcome {
    let closing = on.store.close_stream(stream, Version::new(expected), EventId(fresh_id()));
    closing.await.expect("the store is available")
}

/// Returns the event that an erasure has appended.
async fn assert_told(on: &StoreUnderTest, stream: &StreamId, version: u64) {
    let told = on.events(stream).await.pop().expect("the stream has events");
    assert_eq!((told.version, &told.content), (Version::new(version), &StoredContent::Erased));
    assert_eq!(told.metadata, "");
    let head = on.partition(on.log().partition_of(stream)).await.pop();
    assert_eq!(head, Some(told), "it is the last of its partition");
}

/// The expected form of an erased event.
fn erased(event: &StoredEvent) -> StoredEvent {
    StoredEvent { content: StoredContent::Erased, metadata: String::new(), ..event.clone() }
}

async fn assert_log_agrees(on: &StoreUnderTest, stream: &StreamId) {
    let log = on.partition(on.log().partition_of(stream)).await;
    let of_stream: Vec<_> = log.into_iter().filter(|event| event.stream == *stream).collect();
    assert_eq!(of_stream, on.events(stream).await, "the log and the load agree");
}

pub(super) async fn erasing_overwrites_content_and_nothing_else(on: StoreUnderTest) {
    let thing = stream("thing-1");
    on.commit(&append(&thing, 0, 3)).await;
    let before = on.events(&thing).await;
    assert_eq!(erase(&on, &thing).await, 3);
    assert_told(&on, &thing, 4).await;
    let after = on.events(&thing).await;
    assert_eq!(after[..3], before.iter().map(erased).collect::<Vec<_>>());
    assert!(after.iter().all(|event| event.name() == ERASED && event.metadata().is_none()));
    assert_log_agrees(&on, &thing).await;
}

pub(super) async fn erasing_deletes_snapshots_and_outcomes(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let entry = inbox_entry(0, 2);
    on.commit(&append(&thing, 0, 2).with_inbox(vec![entry.clone()])).await;
    let stood = on.inbox_entry(&thing, entry.message_id).await.expect("the inbox entry exists");
    for print in [1, 2].map(Fingerprint) {
        on.save(&thing, &snapshot(2, print)).await;
    }
    erase(&on, &thing).await;
    for print in [1, 2].map(Fingerprint) {
        assert_eq!(on.snapshot(&thing, print).await, None);
        let (found, events) = on.load(&thing, print).await;
        assert_eq!((found, events.len()), (None, 3));
    }
    let stands = on
        .inbox_entry(&thing, entry.message_id)
        .await
        .expect("the inbox entry outlives its outcome");
    assert_eq!(stands.outcome, b"");
    assert_eq!((stands.receipt, stands.digest), (stood.receipt, stood.digest));
    let print = Fingerprint(1);
    for version in [2, 3] {
        on.save(&thing, &snapshot(version, print)).await;
        assert_eq!(on.snapshot(&thing, print).await, None, "its save was under way");
    }
    on.commit(&append(&thing, 3, 1)).await;
    on.save(&thing, &snapshot(4, print)).await;
    assert_eq!(on.snapshot(&thing, print).await, Some(snapshot(4, print)), "it is a later one");
}

pub(super) async fn erasing_is_idempotent(on: StoreUnderTest) {
    let thing = stream("thing-1");
    assert_eq!(erase(&on, &thing).await, 0, "there is nothing yet");
    on.commit(&append(&thing, 0, 2)).await;
    assert_eq!(erase(&on, &thing).await, 2);
    assert_eq!(erase(&on, &thing).await, 0, "it is erased already");
    assert_eq!(on.events(&thing).await.len(), 3, "there is nothing to tell");
}

pub(super) async fn followers_see_an_erasure(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let other = on.another_process().await;
    on.commit(&append(&thing, 0, 2)).await;
    let heads = on.store.heads().await.expect("the store is available");
    let waiting = [&on, &other].map(|on| {
        let (store, heads) = (on.store.clone(), heads.clone());
        tokio::spawn(async move {
            store.wait_for_events(&heads).await.expect("the store is available");
            store.read_log(&heads, 10).await.expect("the store is available")
        })
    });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    erase(&on, &thing).await;
    let told = on.events(&thing).await.pop();
    for waiting in waiting {
        let mut seen = waiting.await.expect("the reader does not panic");
        // Waiting may end early.
        if seen.is_empty() {
            seen = other.store.read_log(&heads, 10).await.expect("the store is available");
        }
        assert_eq!(seen.len(), 1, "what comes after the erased events");
        assert_eq!(seen.pop(), told);
    }
}

pub(super) async fn erasing_makes_concurrent_appends_conflict(on: StoreUnderTest) {
    let thing = stream("thing-1");
    on.commit(&append(&thing, 0, 2)).await;
    erase(&on, &thing).await;
    let outcome = on.append(&append(&thing, 2, 1)).await;
    assert_eq!(outcome, AppendOutcome::Conflict { actual: Version::new(3) });
}

pub(super) async fn erasing_leaves_other_streams_alone(on: StoreUnderTest) {
    let print = Fingerprint(1);
    let streams = on.streams_of(0, "thing", 3);
    for stream in &streams {
        on.commit(&append(stream, 0, 2)).await;
        on.save(stream, &snapshot(1, print)).await;
    }
    let before = (on.load(&streams[0], print).await, on.load(&streams[2], print).await);
    erase(&on, &streams[1]).await;
    let after = (on.load(&streams[0], print).await, on.load(&streams[2], print).await);
    assert_eq!(after, before);
}

/// Senders in other services have no events in this log.
pub(super) async fn erasing_covers_queued_rows_of_a_sender_without_events(on: StoreUnderTest) {
    let sender = stream("bus_00000000000000000000000000000001-thing-1");
    let rows = [queued(&sender, "a"), queued(&stream("thing-1"), "a")];
    on.enqueue(0, &rows).await;
    assert_eq!(erase(&on, &sender).await, 0);
    let waiting = on.waiting(&queue(0)).await;
    let contents: Vec<_> = waiting.iter().map(|row| &row.message.row.content).collect();
    assert_eq!((waiting.len(), &*contents[0].name, contents[0].bytes.len()), (2, ERASED, 0));
    assert_eq!(*contents[1], rows[1].row.content);
    assert!(on.events(&sender).await.is_empty());
}

pub(super) async fn a_stream_continues_after_an_erasure(on: StoreUnderTest) {
    let thing = stream("thing-1");
    on.commit(&append(&thing, 0, 2)).await;
    erase(&on, &thing).await;
    let (version, _) = on.commit(&append(&thing, 3, 1)).await;
    assert_eq!(version, Version::new(4));
    let names: Vec<_> = on.events(&thing).await.iter().map(|e| e.name().to_owned()).collect();
    assert_eq!(names, [ERASED, ERASED, ERASED, "thing.happened"]);
    assert_eq!(erase(&on, &thing).await, 1, "only the last still had content");
    assert_told(&on, &thing, 5).await;
}

pub(super) async fn a_repeated_append_of_erased_events_appends_nothing(on: StoreUnderTest) {
    let (plain, marked) = (stream("thing-1"), stream("thing-2"));
    let first = append(&plain, 0, 2);
    let outcome = on.append(&first).await;
    erase(&on, &plain).await;
    assert_eq!(on.append(&first).await, moved_on(&outcome, 3), "event ids outlive their content");

    let first = append(&marked, 0, 2).with_inbox(vec![inbox_entry(0, 1), inbox_entry(1, 1)]);
    let without = Append::new(marked.clone(), exact(2)).with_inbox(vec![inbox_entry(0, 0)]);
    let outcome = on.append(&first).await;
    on.commit(&without).await;
    erase(&on, &marked).await;
    assert_eq!(on.append(&first).await, moved_on(&outcome, 3), "so they outlive the answers");
    let any = Append { expected: ExpectedVersion::Any, ..first.clone() };
    assert_eq!(on.append(&any).await, moved_on(&outcome, 3));
    for unproven in [without, Append { events: events(2), ..first }] {
        let again = on.append(&unproven).await;
        assert!(matches!(again, AppendOutcome::Duplicate(_)), "no event id tells: {again:?}");
    }
    assert_eq!(on.events(&marked).await.len(), 3);
}

pub(super) async fn closing_ends_a_stream(on: StoreUnderTest) {
    let thing = stream("thing-1");
    on.commit(&append(&thing, 0, 2)).await;
    let id = EventId(fresh_id());
    let outcome = on.store.close_stream(&thing, Version::new(2), id).await;
    let (version, position) = committed(&outcome.expect("the store is available"));
    let last = on.events(&thing).await.pop().expect("the stream has events");
    assert_eq!((last.id, last.name()), (id, CLOSED));
    assert_eq!(last.content, StoredContent::Closed);
    assert_eq!((last.version, Some(last.position)), (version, position));
    assert_eq!(version, Version::new(3));
    assert_log_agrees(&on, &thing).await;
    for expected in [ExpectedVersion::Any, ExpectedVersion::Exists, ExpectedVersion::Exact(version)]
    {
        let more = Append::new(thing.clone(), expected).with_events(events(1));
        assert_eq!(on.append(&more).await, AppendOutcome::Closed);
    }
    assert_eq!(
        on.append(&append(&thing, 0, 1)).await,
        AppendOutcome::Closed,
        "before any conflict"
    );
    assert_eq!(on.events(&thing).await.len(), 3);
}

pub(super) async fn closing_is_idempotent(on: StoreUnderTest) {
    let (thing, empty) = (stream("thing-1"), stream("thing-2"));
    on.commit(&append(&thing, 0, 2)).await;
    let first = close(&on, &thing, 2).await;
    for expected in [2, 3, 9] {
        assert_eq!(close(&on, &thing, expected).await, first);
    }
    assert_eq!(on.events(&thing).await.len(), 3);
    assert_eq!(committed(&close(&on, &empty, 0).await).0, Version::new(1));
}

pub(super) async fn closing_checks_the_version(on: StoreUnderTest) {
    let thing = stream("thing-1");
    on.commit(&append(&thing, 0, 2)).await;
    for expected in [0, 1, 3] {
        let outcome = close(&on, &thing, expected).await;
        assert_eq!(outcome, AppendOutcome::Conflict { actual: Version::new(2) });
    }
    on.commit(&append(&thing, 2, 1)).await;
}

pub(super) async fn a_closed_stream_rejects_appends_without_events(on: StoreUnderTest) {
    let thing = stream("thing-1");
    close(&on, &thing, 0).await;
    let check = Append::new(thing.clone(), ExpectedVersion::Any);
    assert_eq!(on.append(&check).await, AppendOutcome::Closed);
    let entry = inbox_entry(0, 0);
    assert_eq!(on.append(&check.with_inbox(vec![entry.clone()])).await, AppendOutcome::Closed);
    assert_eq!(on.inbox_entry(&thing, entry.message_id).await, None);
}

pub(super) async fn a_closed_stream_recognises_earlier_appends(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let appends = [
        append(&thing, 0, 2),
        append(&thing, 2, 1).with_inbox(vec![inbox_entry(0, 1), inbox_entry(1, 0)]),
    ];
    let mut outcomes = Vec::new();
    for append in &appends {
        outcomes.push(on.append(append).await);
    }
    close(&on, &thing, 3).await;
    for (append, outcome) in appends.iter().zip(outcomes) {
        assert_eq!(on.append(append).await, moved_on(&outcome, 4));
    }
}

pub(super) async fn erasing_keeps_a_stream_closed(on: StoreUnderTest) {
    let thing = stream("thing-1");
    on.commit(&append(&thing, 0, 2)).await;
    close(&on, &thing, 2).await;
    assert_eq!(erase(&on, &thing).await, 2, "the end of the stream has no content to erase");
    let names: Vec<_> = on.events(&thing).await.iter().map(|e| e.name().to_owned()).collect();
    assert_eq!(names, [ERASED, ERASED, CLOSED]);
    assert_eq!(on.append(&append(&thing, 3, 1)).await, AppendOutcome::Closed);
    on.save(&thing, &snapshot(3, Fingerprint(1))).await;
    assert_eq!(on.snapshot(&thing, Fingerprint(1)).await, None, "of what was before the end");
}

pub(super) async fn overriding_replaces_the_content_that_is_read(on: StoreUnderTest) {
    let thing = stream("thing-1");
    on.commit(&append(&thing, 0, 3)).await;
    let before = on.events(&thing).await;
    let (below, at, past) = (Fingerprint(2), Fingerprint(3), Fingerprint(4));
    for (count, text) in (1..).zip(["replaced", "replaced again"]) {
        for (version, print) in [(1, below), (2, at), (3, past)] {
            on.save(&thing, &snapshot(version, print)).await;
        }
        let mut replacement = content(text);
        (replacement.name, replacement.version) = ("thing.corrected".into(), 9);
        replacement.codec = "other".into();
        on.store
            .override_event(&thing, Version::new(2), &replacement)
            .await
            .expect("the event is overridden");
        assert_eq!(on.leases(&[]).await.overrides, count, "all processes notice");
        let mut expected = before.clone();
        expected[1].content = StoredContent::Present(replacement);
        assert_eq!(on.events(&thing).await, expected);
        for print in [Fingerprint(1), at, past] {
            assert_eq!(on.snapshot(&thing, print).await, None, "it held the original");
            assert_eq!(on.load(&thing, print).await, (None, expected.clone()));
        }
        assert_eq!(on.snapshot(&thing, below).await, Some(snapshot(1, below)));
        assert_log_agrees(&on, &thing).await;
    }
}

pub(super) async fn overriding_needs_content_to_replace(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let refuse = async |version: u64, size: usize, why: &str| {
        let replacement = content(vec![1; size]);
        let refused = on.store.override_event(&thing, Version::new(version), &replacement).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{why}: {refused:?}");
    };
    refuse(1, 1, "there is no stream").await;
    on.commit(&append(&thing, 0, 2)).await;
    refuse(0, 1, "no event has version 0").await;
    refuse(3, 1, "the third is not there yet").await;
    refuse(2, MAX_PAYLOAD_BYTES + 1, "the replacement is beyond the limit").await;
    erase(&on, &thing).await;
    refuse(2, 1, "the event is erased").await;
    refuse(3, 1, "what tells of it has no content").await;
    close(&on, &thing, 3).await;
    refuse(4, 1, "the end of a stream has no content").await;
}

pub(super) async fn erasing_deletes_overrides(on: StoreUnderTest) {
    let thing = stream("thing-1");
    on.commit(&append(&thing, 0, 2)).await;
    let before = on.events(&thing).await;
    on.store
        .override_event(&thing, Version::new(1), &content("replaced"))
        .await
        .expect("the event is overridden");
    assert_eq!(erase(&on, &thing).await, 2);
    assert_eq!(on.events(&thing).await[..2], before.iter().map(erased).collect::<Vec<_>>());
}
