//! Outbox rows and timers commit with their append, or not at all.
//!
//! Where a test cannot read them ([`StoreBackend::outbox`](super::StoreBackend::outbox) is `None`),
//! the outcomes are still compared.

use std::time::Duration;

use composable_rust_core::queue::OutboxKind;
use composable_rust_core::store::{
    Append, AppendOutcome, Due, EventStore as _, NewOutboxRow, NewTimer, TimerArming, TimerChange,
};
use composable_rust_core::{EventId, MessageId, StreamId, Timestamp, Version};

use super::builders::{append, content, fresh_id, inbox_entry, json, metadata, stream};
use super::subject::{StoreUnderTest, committed, moved_on};
use crate::StoredTimer;

fn effect(kind: OutboxKind) -> NewOutboxRow {
    let id = fresh_id();
    let (target, recipient) = match kind {
        OutboxKind::Bulk | OutboxKind::Dispatch => ("other", "other-it's \"ä\""),
        OutboxKind::Call => ("gateway", ""),
        OutboxKind::Send => ("bus", "topic"),
        OutboxKind::Policy | OutboxKind::Projection | OutboxKind::Timer => ("name", "thing-1"),
    };
    NewOutboxRow {
        id,
        kind,
        target: target.to_owned(),
        recipient: recipient.to_owned(),
        content: content(id.as_bytes()),
        metadata: metadata(),
    }
}

fn timer(id: &str, due: Due) -> NewTimer {
    NewTimer {
        id: id.to_owned(),
        arming: TimerArming { armed_by: MessageId(fresh_id()), effect_index: u32::MAX },
        due,
        content: content(id),
        metadata: metadata(),
    }
}

fn arm(id: &str) -> TimerChange {
    TimerChange::Arm(timer(id, Due::After(Duration::from_secs(60))))
}

fn cancel(id: &str) -> TimerChange {
    TimerChange::Cancel { id: id.to_owned() }
}

fn changing(stream: &StreamId, version: u64, changes: Vec<TimerChange>) -> Append {
    let mut append = append(stream, version, 1);
    append.timers = changes;
    append
}

/// Compares the outbox rows of one stream with the appended ones.
async fn assert_outbox(on: &StoreUnderTest, stream: &StreamId, expected: &[NewOutboxRow]) {
    let Some(rows) = on.outbox().await else { return };
    let essence = |row: &NewOutboxRow| {
        let addressed = (row.kind, row.target.clone(), row.recipient.clone());
        (row.id, addressed, row.content.clone(), json(&row.metadata))
    };
    let found: Vec<_> =
        rows.iter().filter(|row| row.stream == *stream).map(|row| essence(&row.row)).collect();
    assert_eq!(found, expected.iter().map(essence).collect::<Vec<_>>());
}

/// The armed timers of one stream, in order of ids.
async fn timers(on: &StoreUnderTest, stream: &StreamId) -> Option<Vec<StoredTimer>> {
    let mut timers = on.timers().await?;
    timers.retain(|timer| timer.stream == *stream);
    timers.sort_by(|a, b| a.id.cmp(&b.id));
    Some(timers)
}

async fn assert_timers(on: &StoreUnderTest, stream: &StreamId, expected: &[&str]) {
    let Some(timers) = timers(on, stream).await else { return };
    let ids: Vec<_> = timers.iter().map(|timer| &*timer.id).collect();
    assert_eq!(ids, expected, "timers of {stream}");
}

pub(super) async fn outbox_rows_are_stored_in_order(on: StoreUnderTest) {
    let streams = on.streams_of(0, "thing", 2);
    let effects: Vec<_> = [OutboxKind::Call, OutboxKind::Dispatch, OutboxKind::Dispatch]
        .into_iter()
        .cycle()
        .take(9)
        .map(effect)
        .collect();
    for (version, chunk) in effects.chunks(3).enumerate() {
        let mut first = append(&streams[0], version as u64, 1);
        first.outbox = chunk.to_vec();
        let mut second = append(&streams[1], version as u64, 1);
        second.outbox = chunk.iter().rev().map(|row| effect(row.kind)).collect();
        on.batch(0, &[first, second]).await;
    }
    assert_outbox(&on, &streams[0], &effects).await;
}

pub(super) async fn outbox_rows_without_events_are_stored(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let mut append = append(&thing, 0, 0).with_inbox(vec![inbox_entry(0, 0)]);
    append.outbox = vec![effect(OutboxKind::Dispatch)];
    append.timers = vec![arm("t")];
    let outcome = on.append(&append).await;
    assert_eq!(committed(&outcome), (Version::ZERO, None));
    for _ in 0..2 {
        assert_outbox(&on, &thing, &append.outbox).await;
        assert_timers(&on, &thing, &["t"]).await;
        assert_eq!(on.append(&append).await, outcome, "sent again");
    }
}

pub(super) async fn a_repeated_append_stores_its_outbox_rows_once(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let mut append = append(&thing, 0, 2).with_inbox(vec![inbox_entry(0, 2)]);
    append.outbox = vec![effect(OutboxKind::Call), effect(OutboxKind::Dispatch)];
    append.timers = vec![arm("t")];
    let first = on.append(&append).await;
    let (actual, _) = on.commit(&changing(&thing, 2, vec![cancel("t")])).await;
    assert_eq!(on.append(&append).await, moved_on(&first, actual.get()));
    assert_outbox(&on, &thing, &append.outbox).await;
    assert_timers(&on, &thing, &[]).await;
}

pub(super) async fn a_conflict_stores_no_outbox_rows(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let handled = inbox_entry(0, 1);
    let first = changing(&thing, 0, vec![arm("a"), arm("b")]);
    on.commit(&first.with_inbox(vec![handled.clone()])).await;
    let before = timers(&on, &thing).await;

    let mut losing = changing(&thing, 0, vec![arm("a"), cancel("b"), arm("c")]);
    losing.outbox = vec![effect(OutboxKind::Call)];
    losing.cancels_timers = true;
    assert_eq!(on.append(&losing).await, AppendOutcome::Conflict { actual: Version::new(1) });
    let duplicate = losing.clone().with_inbox(vec![handled]);
    assert!(matches!(on.append(&duplicate).await, AppendOutcome::Duplicate(_)));
    assert_outbox(&on, &thing, &[]).await;
    assert_eq!(timers(&on, &thing).await, before);

    let closing = EventId(fresh_id());
    on.store.close_stream(&thing, Version::new(1), closing).await.expect("the stream should close");
    assert_eq!(on.append(&losing).await, AppendOutcome::Closed);
    assert_outbox(&on, &thing, &[]).await;
    assert_timers(&on, &thing, &[]).await;
}

pub(super) async fn timers_are_due_by_the_clock_of_the_store(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let moment: Timestamp = "2031-02-03T04:05:06.789012Z".parse().expect("a moment");
    let after = Duration::from_micros(90_000_001);
    let (fixed, relative) = (timer("fixed", Due::At(moment)), timer("relative", Due::After(after)));
    let changes = [&fixed, &relative].map(|timer| TimerChange::Arm(timer.clone()));
    let earlier = on.store.now().await.expect("the clock is read");
    on.commit(&changing(&thing, 0, changes.to_vec())).await;
    let later = on.store.now().await.expect("the clock is read");

    let Some(timers) = timers(&on, &thing).await else { return };
    for (stored, armed) in timers.iter().zip([&fixed, &relative]) {
        assert_eq!((&stored.id, stored.arming), (&armed.id, armed.arming));
        assert_eq!(stored.content, armed.content);
        assert_eq!(json(&stored.metadata), json(&armed.metadata));
    }
    assert_eq!(timers[0].due, moment);
    let due = timers[1].due;
    assert!((earlier + after..=later + after).contains(&due), "{due}, {after:?} after {earlier}");
}

pub(super) async fn arming_replaces_and_cancelling_removes_a_timer(on: StoreUnderTest) {
    let thing = stream("thing-1");
    on.commit(&changing(&thing, 0, vec![arm("a"), arm("b"), arm("c")])).await;
    assert_timers(&on, &thing, &["a", "b", "c"]).await;
    let replacing = timer("a", Due::After(Duration::from_secs(5)));
    let changes = vec![TimerChange::Arm(replacing.clone()), cancel("b"), cancel("unknown")];
    on.commit(&changing(&thing, 1, changes)).await;
    assert_timers(&on, &thing, &["a", "c"]).await;
    if let Some(timers) = timers(&on, &thing).await {
        assert_eq!(timers[0].arming, replacing.arming);
    }
}

pub(super) async fn timer_changes_of_one_append_apply_in_order(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let last = timer("twice", Due::After(Duration::from_secs(5)));
    let changes = vec![
        arm("gone"),
        cancel("gone"),
        cancel("there"),
        arm("there"),
        arm("twice"),
        TimerChange::Arm(last.clone()),
        arm("again"),
        cancel("again"),
        arm("again"),
    ];
    on.commit(&changing(&thing, 0, changes)).await;
    assert_timers(&on, &thing, &["again", "there", "twice"]).await;
    if let Some(timers) = timers(&on, &thing).await {
        assert_eq!(timers[2].arming, last.arming);
    }
}

pub(super) async fn timers_belong_to_one_stream(on: StoreUnderTest) {
    let streams = on.streams_of(0, "thing", 2);
    let batch = [0, 1].map(|n| changing(&streams[n], 0, vec![arm("t"), arm("u")]));
    on.batch(0, &batch).await;
    on.commit(&changing(&streams[0], 1, vec![cancel("t")])).await;
    assert_timers(&on, &streams[0], &["u"]).await;
    assert_timers(&on, &streams[1], &["t", "u"]).await;
}

pub(super) async fn completing_a_stream_cancels_its_timers(on: StoreUnderTest) {
    let streams = on.streams_of(0, "thing", 2);
    for stream in &streams {
        on.commit(&changing(stream, 0, vec![arm("t"), arm("u")])).await;
    }
    let mut finishing = changing(&streams[0], 1, vec![]);
    finishing.cancels_timers = true;
    on.commit(&finishing).await;
    assert_timers(&on, &streams[0], &[]).await;
    assert_timers(&on, &streams[1], &["t", "u"]).await;
    on.commit(&changing(&streams[0], 2, vec![arm("u"), arm("w")])).await;
    assert_timers(&on, &streams[0], &["u", "w"]).await;
    // A stream that continues after its end keeps the timers armed since.
    let mut reopened = changing(&streams[0], 3, vec![arm("v"), arm("u"), cancel("v")]);
    reopened.cancels_timers = true;
    on.commit(&reopened).await;
    assert_timers(&on, &streams[0], &["u"]).await;
}

pub(super) async fn closing_cancels_all_timers(on: StoreUnderTest) {
    let streams = on.streams_of(0, "thing", 2);
    for stream in &streams {
        on.commit(&changing(stream, 0, vec![arm("t")])).await;
    }
    let closing = EventId(fresh_id());
    on.store
        .close_stream(&streams[0], Version::new(1), closing)
        .await
        .expect("the stream should close");
    assert_timers(&on, &streams[0], &[]).await;
    assert_timers(&on, &streams[1], &["t"]).await;
}

pub(super) async fn erasing_clears_content_of_rows_and_timers(on: StoreUnderTest) {
    let streams = on.streams_of(0, "thing", 2);
    for stream in &streams {
        let mut append = changing(stream, 0, vec![arm("t")]);
        append.outbox = vec![effect(OutboxKind::Call)];
        on.commit(&append).await;
    }
    on.store.erase_stream(&streams[0]).await.expect("the stream should be erased");
    for row in on.outbox().await.unwrap_or_default() {
        assert_eq!(row.row.content.bytes.is_empty(), row.stream == streams[0], "{row:?}");
        assert_eq!(row.row.metadata.contains("user"), row.stream != streams[0], "{row:?}");
    }
    for timer in on.timers().await.unwrap_or_default() {
        assert_eq!(timer.content.bytes.is_empty(), timer.stream == streams[0], "{timer:?}");
        assert_eq!(timer.metadata.contains("user"), timer.stream != streams[0], "{timer:?}");
    }
}
