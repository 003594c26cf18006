//! What the inbox remembers, and that it comes before everything else.

use composable_rust_core::{
    Append, AppendOutcome, EventId, EventStore as _, ExpectedVersion, InboxEntry, NewInboxEntry,
    Position, Receipt, StreamId, Version,
};

use super::make::{append, exact, fresh_id, mark, stream};
use super::subject::{StoreUnderTest, committed, duplicates, moved_on};

/// What `mark` must have become.
fn kept(mark: &NewInboxEntry, version: u64, position: Option<Position>) -> InboxEntry {
    InboxEntry {
        message_id: mark.message_id,
        digest: mark.digest,
        receipt: Receipt { version: Version::new(version), position },
        outcome: mark.outcome.clone(),
    }
}

fn without_events(stream: &StreamId, version: u64, mark: NewInboxEntry) -> Append {
    Append::new(stream.clone(), exact(version)).with_inbox(vec![mark])
}

pub(super) async fn keep_where_each_message_left_the_stream(on: StoreUnderTest) {
    let thing = stream("thing-1");
    on.commit(&append(&thing, 0, 2)).await;
    let marks = vec![mark(0, 2), mark(2, 0), mark(2, 1)];
    on.commit(&append(&thing, 2, 3).with_inbox(marks.clone())).await;
    let positions: Vec<_> = on.events(&thing).await.iter().map(|e| Some(e.position)).collect();
    let expected = [
        kept(&marks[0], 4, positions[3]),
        kept(&marks[1], 4, None),
        kept(&marks[2], 5, positions[4]),
    ];
    for (mark, expected) in marks.iter().zip(expected) {
        assert_eq!(on.mark(&thing, mark.message_id).await, Some(expected));
    }
}

pub(super) async fn of_refusals_have_no_position(on: StoreUnderTest) {
    let (new, thing) = (stream("thing-0"), stream("thing-1"));
    on.commit(&append(&thing, 0, 3)).await;
    for (stream, version, expected) in [
        (&new, 0, exact(0)),
        (&thing, 3, exact(3)),
        (&thing, 3, ExpectedVersion::Any),
        (&thing, 3, ExpectedVersion::Exists),
    ] {
        let mark = mark(0, 0);
        let refusal = Append::new(stream.clone(), expected).with_inbox(vec![mark.clone()]);
        assert_eq!(on.commit(&refusal).await, (Version::new(version), None));
        assert_eq!(on.mark(stream, mark.message_id).await, Some(kept(&mark, version, None)));
    }
    assert_eq!(on.events(&new).await, []);
}

pub(super) async fn unknown_ones_are_none(on: StoreUnderTest) {
    let thing = stream("thing-1");
    assert_eq!(on.mark(&thing, mark(0, 0).message_id).await, None);
    on.commit(&append(&thing, 0, 1).with_inbox(vec![mark(0, 1)])).await;
    assert_eq!(on.mark(&thing, mark(0, 0).message_id).await, None);
}

pub(super) async fn come_before_versions(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let mark = mark(0, 1);
    let (_, position) = on.commit(&append(&thing, 0, 1).with_inbox(vec![mark.clone()])).await;
    on.commit(&append(&thing, 1, 4)).await;
    let expected = vec![kept(&mark, 1, position)];
    for version in [0, 1, 3, 5, 9] {
        let again = append(&thing, version, 1).with_inbox(vec![mark.clone()]);
        assert_eq!(duplicates(on.append(&again).await), expected, "expecting version {version}");
    }
    assert_eq!(on.events(&thing).await.len(), 5);
}

pub(super) async fn come_before_closing(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let mark = mark(0, 1);
    let (_, position) = on.commit(&append(&thing, 0, 1).with_inbox(vec![mark.clone()])).await;
    let closing = EventId(fresh_id());
    on.store.close_stream(&thing, Version::new(1), closing).await.expect("it is closed");
    let again = append(&thing, 2, 1).with_inbox(vec![mark.clone()]);
    assert_eq!(duplicates(on.append(&again).await), [kept(&mark, 1, position)]);
}

pub(super) async fn one_duplicate_undoes_the_drain(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let handled = mark(0, 1);
    let (_, position) = on.commit(&append(&thing, 0, 1).with_inbox(vec![handled.clone()])).await;
    let (before, after) = (mark(0, 1), mark(2, 1));
    let again = NewInboxEntry { first_event: 1, ..handled.clone() };
    let drain = append(&thing, 1, 3).with_inbox(vec![before.clone(), again, after.clone()]);
    assert_eq!(duplicates(on.append(&drain).await), [kept(&handled, 1, position)]);
    assert_eq!(on.events(&thing).await.len(), 1);
    assert_eq!(on.mark(&thing, before.message_id).await, None);
    assert_eq!(on.mark(&thing, after.message_id).await, None);
}

pub(super) async fn all_duplicates_are_reported(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let (first, second) = (mark(0, 1), mark(0, 0));
    let (_, position) = on.commit(&append(&thing, 0, 1).with_inbox(vec![first.clone()])).await;
    on.commit(&without_events(&thing, 1, second.clone())).await;
    let marks = vec![mark(0, 1), second.clone(), first.clone(), mark(0, 0)];
    let drain = append(&thing, 1, 1).with_inbox(marks);
    let mut expected = vec![kept(&first, 1, position), kept(&second, 1, None)];
    expected.sort_by_key(|mark| mark.message_id);
    assert_eq!(duplicates(on.append(&drain).await), expected);
}

pub(super) async fn another_digest_is_another_message(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let mark = mark(0, 1);
    let first = append(&thing, 0, 1).with_inbox(vec![mark.clone()]);
    let (_, position) = on.commit(&first).await;
    let mut other = first.clone();
    other.inbox[0].digest ^= 1 << 127;
    let standing = duplicates(on.append(&other).await);
    assert_eq!(standing, [kept(&mark, 1, position)], "with the digest of the first");
}

pub(super) async fn the_first_answer_stays(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let mark = mark(0, 1);
    let (_, position) = on.commit(&append(&thing, 0, 1).with_inbox(vec![mark.clone()])).await;
    let refused = NewInboxEntry { event_count: 0, ..mark.clone() };
    let standing = duplicates(on.append(&without_events(&thing, 1, refused)).await);
    assert_eq!(standing, [kept(&mark, 1, position)], "the message once recorded an event");
}

pub(super) async fn another_answer_is_a_duplicate(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let mark = mark(0, 0);
    on.commit(&without_events(&thing, 0, mark.clone())).await;
    let other = NewInboxEntry { outcome: b"another".to_vec(), ..mark.clone() };
    let standing = duplicates(on.append(&without_events(&thing, 0, other)).await);
    assert_eq!(standing, [kept(&mark, 0, None)]);
}

pub(super) async fn without_events_are_recognised_again(on: StoreUnderTest) {
    let thing = stream("thing-1");
    on.commit(&append(&thing, 0, 2)).await;
    let refusal = without_events(&thing, 2, mark(0, 0));
    let first = on.append(&refusal).await;
    assert_eq!(committed(&first), (Version::new(2), None));
    assert_eq!(on.append(&refusal).await, first);
    on.commit(&append(&thing, 2, 2)).await;
    assert_eq!(on.append(&refusal).await, moved_on(&first, 4), "also once the stream has moved on");
}

pub(super) async fn belong_to_one_stream(on: StoreUnderTest) {
    let mark = mark(0, 1);
    for stream in on.streams_of(0, "thing", 3) {
        let append = append(&stream, 0, 1).with_inbox(vec![mark.clone()]);
        let (_, position) = on.commit(&append).await;
        assert_eq!(on.mark(&stream, mark.message_id).await, Some(kept(&mark, 1, position)));
    }
}

pub(super) async fn of_a_losing_append_are_not_kept(on: StoreUnderTest) {
    let thing = stream("thing-1");
    on.commit(&append(&thing, 0, 1)).await;
    let mark = mark(0, 0);
    let lost = on.append(&without_events(&thing, 0, mark.clone())).await;
    assert_eq!(lost, AppendOutcome::Conflict { actual: Version::new(1) });
    assert_eq!(on.mark(&thing, mark.message_id).await, None);
    on.commit(&without_events(&thing, 1, mark)).await;
}
