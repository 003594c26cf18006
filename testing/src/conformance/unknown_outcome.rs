//! An unknown outcome is resolved by repeating the same append.

use std::time::Duration;

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::StoredContent;
use composable_rust_core::store::{Append, AppendOutcome, EventStore as _, ExpectedVersion};
use composable_rust_core::{StreamId, Version};
use rand::Rng as _;

use super::builders::{append, event, inbox_entry, stream};
use super::random::{self, joined};
use super::subject::{StoreUnderTest, committed, duplicates, moved_on};

/// Appends of every kind that is recognised when repeated, at `version` of a stream.
fn recognisable(stream: &StreamId, version: u64) -> Vec<Append> {
    let with_inbox =
        append(stream, version, 3).with_inbox(vec![inbox_entry(0, 2), inbox_entry(2, 1)]);
    let any = Append { expected: ExpectedVersion::Any, ..with_inbox.clone() };
    let of_no_event = append(stream, version, 0).with_inbox(vec![inbox_entry(0, 0)]);
    let mut appends = vec![append(stream, version, 1), append(stream, version, 3), with_inbox];
    appends.extend([any, of_no_event.clone()]);
    appends.push(Append { expected: ExpectedVersion::Any, ..of_no_event });
    if version > 0 {
        let exists =
            append(stream, version, 2).with_inbox(vec![inbox_entry(1, 1), inbox_entry(0, 0)]);
        appends.push(Append { expected: ExpectedVersion::Exists, ..exists });
    }
    appends
}

pub(super) async fn a_repeated_append_is_committed_once(on: StoreUnderTest) {
    for version in [0, 2] {
        for n in 0..recognisable(&stream("thing-0"), version).len() {
            let thing = stream(&format!("thing-{version}-{n}"));
            if version > 0 {
                on.commit(&append(&thing, 0, 2)).await;
            }
            let append = recognisable(&thing, version).swap_remove(n);
            let first = on.append(&append).await;
            let (after, _) = committed(&first);
            assert_eq!(after, Version::new(version + append.events.len() as u64));
            let there = on.another_process().await;
            assert_eq!(on.append(&append).await, first, "{append:?}");
            assert_eq!(there.append(&append).await, first, "{append:?}");
            assert_eq!(on.events(&thing).await.len() as u64, after.get(), "{append:?}");
        }
    }
}

pub(super) async fn a_repeated_append_is_recognised_after_later_events(on: StoreUnderTest) {
    for n in 0..recognisable(&stream("thing-0"), 2).len() {
        let thing = stream(&format!("thing-{n}"));
        on.commit(&append(&thing, 0, 2)).await;
        let append = recognisable(&thing, 2).swap_remove(n);
        let first = on.append(&append).await;
        let (after, _) = committed(&first);
        assert_eq!(first, moved_on(&first, after.get()), "the stream stands where it ends");
        on.commit(&super::builders::append(&thing, after.get(), 4)).await;
        let moved = moved_on(&first, after.get() + 4);
        let there = on.another_process().await;
        assert_eq!(on.append(&append).await, moved, "{append:?}");
        assert_eq!(there.append(&append).await, moved, "{append:?}");
        assert_eq!(on.events(&thing).await.len() as u64, after.get() + 4);
    }
}

pub(super) async fn other_events_at_the_same_version_are_a_conflict(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let first = append(&thing, 0, 2);
    on.commit(&first).await;
    let conflict = AppendOutcome::Conflict { actual: Version::new(2) };
    let mut half = first.clone();
    half.events[1] = event();
    assert_eq!(on.append(&half).await, conflict, "only its first event is there");
    let mut longer = first.clone();
    longer.events.push(event());
    assert_eq!(on.append(&longer).await, conflict, "its last event is not there");
    let mut turned = first.clone();
    turned.events.reverse();
    assert_eq!(on.append(&turned).await, conflict, "its events are there in another order");
    let unmarked = first.clone().with_inbox(vec![inbox_entry(0, 2)]);
    assert_eq!(
        on.append(&unmarked).await,
        conflict,
        "its events are there, its inbox entry is not"
    );
    let elsewhere = Append { expected: super::builders::exact(1), ..first };
    assert_eq!(on.append(&elsewhere).await, conflict, "its events are there, at other versions");
    assert_eq!(on.events(&thing).await.len(), 2);
}

pub(super) async fn inbox_entries_with_other_events_are_a_duplicate(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let entry = inbox_entry(0, 1);
    let first = append(&thing, 0, 1).with_inbox(vec![entry.clone()]);
    on.commit(&first).await;
    let mut decided_again = first.clone();
    decided_again.events = vec![event()];
    let mut later = first.clone();
    later.expected = super::builders::exact(1);
    let mut more = first.clone();
    more.events.push(event());
    for append in [decided_again, later, more] {
        let standing = duplicates(on.append(&append).await);
        assert_eq!(standing[0].message_id, entry.message_id);
        assert_eq!(standing[0].receipt.version, Version::new(1));
    }
    assert_eq!(on.events(&thing).await.len(), 1);
}

/// A message that is decided again has the same ids, and may lead to other content.
pub(super) async fn other_content_under_the_same_ids_is_another_append(on: StoreUnderTest) {
    let changes: [fn(&mut EncodedMessage); 4] = [
        |content| content.name = "thing.expired".into(),
        |content| content.version += 1,
        |content| content.codec = "other".into(),
        |content| content.bytes[0] ^= 1,
    ];
    let there = on.another_process().await;
    for (n, change) in changes.into_iter().enumerate() {
        for expected in [super::builders::exact(2), ExpectedVersion::Any] {
            let thing = stream(&format!("thing-{n}-{}", expected == ExpectedVersion::Any));
            on.commit(&append(&thing, 0, 2)).await;
            let keyed = append(&thing, 2, 2).with_inbox(vec![inbox_entry(0, 2)]);
            let keyed = Append { expected, ..keyed };
            let first = on.append(&keyed).await;
            let mut decided_again = keyed.clone();
            change(&mut decided_again.events[1].content);
            let standing = duplicates(there.append(&decided_again).await);
            assert_eq!(standing[0].message_id, keyed.inbox[0].message_id);
            assert_eq!(on.append(&keyed).await, first, "the first is still recognised");
            assert_eq!(on.events(&thing).await.len(), 4);
        }
        let thing = stream(&format!("bare-{n}"));
        let bare = append(&thing, 0, 2);
        let first = on.append(&bare).await;
        let mut decided_again = bare.clone();
        change(&mut decided_again.events[0].content);
        let conflict = AppendOutcome::Conflict { actual: Version::new(2) };
        assert_eq!(there.append(&decided_again).await, conflict);
        let mut told_otherwise = bare.clone();
        told_otherwise.events[0].metadata = super::builders::metadata();
        assert_eq!(there.append(&told_otherwise).await, first, "metadata is not compared");
    }
}

/// Each append of a batch is compared separately.
pub(super) async fn other_content_is_detected_within_a_batch(on: StoreUnderTest) {
    let streams = on.streams_of(0, "thing", 4);
    let batch: Vec<_> =
        streams.iter().map(|s| append(s, 0, 2).with_inbox(vec![inbox_entry(0, 2)])).collect();
    let first = on.batch(0, &batch[..3]).await;
    let mut again = batch.clone();
    again[1].events[1].content.bytes.push(0);
    let outcomes = on.batch(0, &again).await;
    assert_eq!((&outcomes[0], &outcomes[2]), (&first[0], &first[2]));
    assert_eq!(duplicates(outcomes[1].clone())[0].message_id, batch[1].inbox[0].message_id);
    assert_eq!(committed(&outcomes[3]).0, Version::new(2));
    let stored = on.events(&streams[1]).await;
    let contents = batch[1].events.iter().map(|e| StoredContent::Present(e.content.clone()));
    assert!(stored.iter().map(|event| event.content.clone()).eq(contents));
}

pub(super) async fn concurrent_identical_appends_take_effect_once(on: StoreUnderTest) {
    let there = on.another_process().await;
    for round in 0..12 {
        let thing = stream(&format!("thing-{round}"));
        let kinds = recognisable(&thing, 0);
        let append = kinds[round % kinds.len()].clone();
        let senders = [&on, &there, &on, &there].map(|process| {
            let (process, append) = (process.clone(), append.clone());
            tokio::spawn(async move { process.append(&append).await })
        });
        let mut outcomes = Vec::new();
        for sender in senders {
            outcomes.push(joined(sender).await);
        }
        committed(&outcomes[0]);
        assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{outcomes:?}");
        let stored: Vec<_> = on.events(&thing).await.iter().map(|event| event.id).collect();
        assert_eq!(stored, append.events.iter().map(|event| event.id).collect::<Vec<_>>());
    }
}

pub(super) async fn a_dropped_append_is_resolved_by_repeating_it(on: StoreUnderTest) {
    let mut rng = random::rng("a_dropped_append_is_resolved", 0);
    let thing = stream("thing-1");
    let mut sent = Vec::new();
    for _ in 0..40 {
        let version = sent.len() as u64;
        let kinds = recognisable(&thing, version);
        let append = kinds[rng.random_range(0..kinds.len())].clone();
        let task = {
            let (on, append) = (on.clone(), append.clone());
            tokio::spawn(async move { on.append(&append).await })
        };
        random::moment(&mut rng, Duration::from_millis(4)).await;
        task.abort();

        let (after, _) = committed(&on.append(&append).await);
        sent.extend(append.events.iter().map(|event| event.id));
        assert_eq!(after, Version::new(sent.len() as u64));
    }
    let stored: Vec<_> = on.events(&thing).await.iter().map(|event| event.id).collect();
    assert_eq!(stored, sent);
    assert_eq!(on.whole_log().await.len(), sent.len());
}

pub(super) async fn a_dropped_batch_is_resolved_by_repeating_it(on: StoreUnderTest) {
    let mut rng = random::rng("a_dropped_batch_is_resolved", 0);
    let streams = on.streams_of(0, "thing", 6);
    for round in 0..20 {
        let batch: Vec<Append> = streams
            .iter()
            .map(|s| append(s, round * 2, 2).with_inbox(vec![inbox_entry(0, 1), inbox_entry(1, 1)]))
            .collect();
        let task = {
            let (on, batch) = (on.clone(), batch.clone());
            tokio::spawn(async move { on.store.append_events(0, &batch).await })
        };
        random::moment(&mut rng, Duration::from_millis(6)).await;
        task.abort();
        for outcome in on.batch(0, &batch).await {
            assert_eq!(committed(&outcome).0, Version::new(round * 2 + 2));
        }
    }
    assert_eq!(on.partition(0).await.len(), 20 * 12);
}
