//! The inbox: its entries, and that duplicates take precedence over every other outcome.

use composable_rust_core::queue::InboxEntry;
use composable_rust_core::store::{
    Append, AppendOutcome, EventStore as _, ExpectedVersion, NewInboxEntry,
};
use composable_rust_core::{EventId, Position, Receipt, StreamId, Version};

use super::builders::{append, exact, fresh_id, inbox_entry, stream};
use super::subject::{StoreUnderTest, committed, duplicates, moved_on};

/// The stored form of `entry`.
fn kept(entry: &NewInboxEntry, version: u64, position: Option<Position>) -> InboxEntry {
    InboxEntry {
        message_id: entry.message_id,
        digest: entry.digest,
        receipt: Receipt { version: Version::new(version), position },
        outcome: entry.outcome.clone(),
    }
}

fn without_events(stream: &StreamId, version: u64, entry: NewInboxEntry) -> Append {
    Append::new(stream.clone(), exact(version)).with_inbox(vec![entry])
}

pub(super) async fn inbox_entries_keep_the_version_after_each_message(on: StoreUnderTest) {
    let thing = stream("thing-1");
    on.commit(&append(&thing, 0, 2)).await;
    let entries = vec![inbox_entry(0, 2), inbox_entry(2, 0), inbox_entry(2, 1)];
    on.commit(&append(&thing, 2, 3).with_inbox(entries.clone())).await;
    let positions: Vec<_> = on.events(&thing).await.iter().map(|e| Some(e.position)).collect();
    let expected = [
        kept(&entries[0], 4, positions[3]),
        kept(&entries[1], 4, None),
        kept(&entries[2], 5, positions[4]),
    ];
    for (entry, expected) in entries.iter().zip(expected) {
        assert_eq!(on.inbox_entry(&thing, entry.message_id).await, Some(expected));
    }
}

pub(super) async fn inbox_entries_of_rejections_have_no_position(on: StoreUnderTest) {
    let (new, thing) = (stream("thing-0"), stream("thing-1"));
    on.commit(&append(&thing, 0, 3)).await;
    for (stream, version, expected) in [
        (&new, 0, exact(0)),
        (&thing, 3, exact(3)),
        (&thing, 3, ExpectedVersion::Any),
        (&thing, 3, ExpectedVersion::Exists),
    ] {
        let entry = inbox_entry(0, 0);
        let refusal = Append::new(stream.clone(), expected).with_inbox(vec![entry.clone()]);
        assert_eq!(on.commit(&refusal).await, (Version::new(version), None));
        assert_eq!(
            on.inbox_entry(stream, entry.message_id).await,
            Some(kept(&entry, version, None))
        );
    }
    assert_eq!(on.events(&new).await, []);
}

pub(super) async fn an_unknown_message_has_no_inbox_entry(on: StoreUnderTest) {
    let thing = stream("thing-1");
    assert_eq!(on.inbox_entry(&thing, inbox_entry(0, 0).message_id).await, None);
    on.commit(&append(&thing, 0, 1).with_inbox(vec![inbox_entry(0, 1)])).await;
    assert_eq!(on.inbox_entry(&thing, inbox_entry(0, 0).message_id).await, None);
}

pub(super) async fn duplicates_are_checked_before_versions(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let entry = inbox_entry(0, 1);
    let (_, position) = on.commit(&append(&thing, 0, 1).with_inbox(vec![entry.clone()])).await;
    on.commit(&append(&thing, 1, 4)).await;
    let expected = vec![kept(&entry, 1, position)];
    for version in [0, 1, 3, 5, 9] {
        let again = append(&thing, version, 1).with_inbox(vec![entry.clone()]);
        assert_eq!(duplicates(on.append(&again).await), expected, "expecting version {version}");
    }
    assert_eq!(on.events(&thing).await.len(), 5);
}

pub(super) async fn duplicates_are_checked_before_closing(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let entry = inbox_entry(0, 1);
    let (_, position) = on.commit(&append(&thing, 0, 1).with_inbox(vec![entry.clone()])).await;
    let closing = EventId(fresh_id());
    on.store.close_stream(&thing, Version::new(1), closing).await.expect("the stream should close");
    let again = append(&thing, 2, 1).with_inbox(vec![entry.clone()]);
    assert_eq!(duplicates(on.append(&again).await), [kept(&entry, 1, position)]);
}

pub(super) async fn one_duplicate_fails_the_whole_append(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let handled = inbox_entry(0, 1);
    let (_, position) = on.commit(&append(&thing, 0, 1).with_inbox(vec![handled.clone()])).await;
    let (before, after) = (inbox_entry(0, 1), inbox_entry(2, 1));
    let again = NewInboxEntry { first_event: 1, ..handled.clone() };
    let drain = append(&thing, 1, 3).with_inbox(vec![before.clone(), again, after.clone()]);
    assert_eq!(duplicates(on.append(&drain).await), [kept(&handled, 1, position)]);
    assert_eq!(on.events(&thing).await.len(), 1);
    assert_eq!(on.inbox_entry(&thing, before.message_id).await, None);
    assert_eq!(on.inbox_entry(&thing, after.message_id).await, None);
}

pub(super) async fn all_duplicates_are_reported(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let (first, second) = (inbox_entry(0, 1), inbox_entry(0, 0));
    let (_, position) = on.commit(&append(&thing, 0, 1).with_inbox(vec![first.clone()])).await;
    on.commit(&without_events(&thing, 1, second.clone())).await;
    let entries = vec![inbox_entry(0, 1), second.clone(), first.clone(), inbox_entry(0, 0)];
    let drain = append(&thing, 1, 1).with_inbox(entries);
    let mut expected = vec![kept(&first, 1, position), kept(&second, 1, None)];
    expected.sort_by_key(|entry| entry.message_id);
    assert_eq!(duplicates(on.append(&drain).await), expected);
}

pub(super) async fn a_duplicate_keeps_the_digest_of_the_first_message(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let entry = inbox_entry(0, 1);
    let first = append(&thing, 0, 1).with_inbox(vec![entry.clone()]);
    let (_, position) = on.commit(&first).await;
    let mut other = first.clone();
    other.inbox[0].digest ^= 1 << 127;
    let standing = duplicates(on.append(&other).await);
    assert_eq!(standing, [kept(&entry, 1, position)], "with the digest of the first");
}

pub(super) async fn the_first_outcome_of_a_message_stays(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let entry = inbox_entry(0, 1);
    let (_, position) = on.commit(&append(&thing, 0, 1).with_inbox(vec![entry.clone()])).await;
    let refused = NewInboxEntry { event_count: 0, ..entry.clone() };
    let standing = duplicates(on.append(&without_events(&thing, 1, refused)).await);
    assert_eq!(standing, [kept(&entry, 1, position)], "the message once recorded an event");
}

pub(super) async fn another_outcome_of_a_message_is_a_duplicate(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let entry = inbox_entry(0, 0);
    on.commit(&without_events(&thing, 0, entry.clone())).await;
    let other = NewInboxEntry { outcome: b"another".to_vec(), ..entry.clone() };
    let standing = duplicates(on.append(&without_events(&thing, 0, other)).await);
    assert_eq!(standing, [kept(&entry, 0, None)]);
}

pub(super) async fn a_repeated_append_without_events_is_recognised(on: StoreUnderTest) {
    let thing = stream("thing-1");
    on.commit(&append(&thing, 0, 2)).await;
    let refusal = without_events(&thing, 2, inbox_entry(0, 0));
    let first = on.append(&refusal).await;
    assert_eq!(committed(&first), (Version::new(2), None));
    assert_eq!(on.append(&refusal).await, first);
    on.commit(&append(&thing, 2, 2)).await;
    assert_eq!(on.append(&refusal).await, moved_on(&first, 4), "also once the stream has moved on");
}

pub(super) async fn inbox_entries_belong_to_one_stream(on: StoreUnderTest) {
    let entry = inbox_entry(0, 1);
    for stream in on.streams_of(0, "thing", 3) {
        let append = append(&stream, 0, 1).with_inbox(vec![entry.clone()]);
        let (_, position) = on.commit(&append).await;
        assert_eq!(
            on.inbox_entry(&stream, entry.message_id).await,
            Some(kept(&entry, 1, position))
        );
    }
}

pub(super) async fn a_conflict_stores_no_inbox_entries(on: StoreUnderTest) {
    let thing = stream("thing-1");
    on.commit(&append(&thing, 0, 1)).await;
    let entry = inbox_entry(0, 0);
    let lost = on.append(&without_events(&thing, 0, entry.clone())).await;
    assert_eq!(lost, AppendOutcome::Conflict { actual: Version::new(1) });
    assert_eq!(on.inbox_entry(&thing, entry.message_id).await, None);
    on.commit(&without_events(&thing, 1, entry)).await;
}
