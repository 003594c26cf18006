//! Firing a timer: an append that requires exactly its arming and removes it.

use std::time::Duration;

use composable_rust_core::queue::ArmedTimer;
use composable_rust_core::store::{
    Append, AppendOutcome, Due, EventStore as _, ExpectedVersion, NewTimer, TimerArming,
    TimerChange,
};
use composable_rust_core::{EventId, MessageId, StreamId, Version};

use super::builders::{append, content, fresh_id, inbox_entry, metadata, stream};
use super::random::joined;
use super::subject::{StoreUnderTest, committed, duplicates, moved_on};
use super::workers::{HOUR, armed, queue, row, timers_of};

pub(super) fn timer(id: &str, due: Due) -> NewTimer {
    NewTimer {
        id: id.to_owned(),
        arming: TimerArming { armed_by: MessageId(fresh_id()), effect_index: u32::MAX },
        due,
        content: content(id),
        metadata: metadata(),
    }
}

pub(super) fn at_once(id: &str) -> NewTimer {
    timer(id, Due::After(Duration::ZERO))
}

/// An append of one event that arms timers, in order.
pub(super) fn arming(stream: &StreamId, version: u64, timers: &[&NewTimer]) -> Append {
    let mut append = append(stream, version, 1);
    append.timers = timers.iter().map(|timer| TimerChange::Arm((*timer).clone())).collect();
    append
}

pub(super) fn firing_of(timer: &NewTimer) -> ArmedTimer {
    ArmedTimer { id: timer.id.clone(), arming: timer.arming }
}

/// An append of one event that fires timers, as the handling of a message.
fn firing(stream: &StreamId, version: u64, timers: &[&NewTimer]) -> Append {
    let mut append = append(stream, version, 1).with_inbox(vec![inbox_entry(0, 1)]);
    append.fired_timers = timers.iter().map(|timer| firing_of(timer)).collect();
    append
}

/// The armings of a stream's armed timers, in order of ids.
async fn assert_armed(on: &StoreUnderTest, stream: &StreamId, expected: &[&NewTimer]) {
    let found: Vec<_> = armed(on, stream).await.into_iter().map(|due| due.timer).collect();
    assert_eq!(found, expected.iter().map(|timer| firing_of(timer)).collect::<Vec<_>>());
}

pub(super) async fn firing_removes_exactly_its_arming(on: StoreUnderTest) {
    let streams = on.streams_of(0, "thing", 2);
    let timers = ["a", "b", "c"].map(at_once);
    let others = ["a", "b"].map(at_once);
    on.commit(&arming(&streams[0], 0, &timers.each_ref())).await;
    on.commit(&arming(&streams[1], 0, &others.each_ref())).await;
    let (version, _) = on.commit(&firing(&streams[0], 1, &[&timers[1]])).await;
    assert_eq!(version, Version::new(2), "with its event");
    assert_armed(&on, &streams[0], &[&timers[0], &timers[2]]).await;
    on.commit(&firing(&streams[0], 2, &[&timers[2], &timers[0]])).await;
    assert_armed(&on, &streams[0], &[]).await;
    assert_armed(&on, &streams[1], &others.each_ref()).await;
    assert_eq!(on.events(&streams[0]).await.len(), 3);
}

pub(super) async fn firing_works_before_the_deadline_and_without_events(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let timer = timer("t", Due::After(HOUR));
    on.commit(&arming(&thing, 0, &[&timer])).await;
    assert!(on.due(&[timers_of(&on, &thing)], 9).await.next.is_some());
    let mut refusal = Append::new(thing.clone(), ExpectedVersion::Any);
    refusal.fired_timers = vec![firing_of(&timer)];
    on.refuse(&refusal, "a firing without a entry").await;
    let refusal = refusal.with_inbox(vec![inbox_entry(0, 0)]);
    let outcome = on.append(&refusal).await;
    assert_eq!(committed(&outcome), (Version::new(1), None));
    assert_eq!(on.due(&[timers_of(&on, &thing)], 9).await.next, None, "nothing is armed");
    assert_eq!(on.append(&refusal).await, outcome, "sent again");
}

pub(super) async fn firing_keeps_a_timer_armed_under_the_same_id(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let (first, second, third) = (at_once("t"), at_once("t"), at_once("u"));
    on.commit(&arming(&thing, 0, &[&first])).await;
    let mut again = firing(&thing, 1, &[&first]);
    again.timers = vec![TimerChange::Arm(second.clone()), TimerChange::Arm(third.clone())];
    let outcome = on.append(&again).await;
    committed(&outcome);
    assert_armed(&on, &thing, &[&second, &third]).await;
    assert_eq!(on.append(&again).await, outcome, "sent again");
    assert_armed(&on, &thing, &[&second, &third]).await;
    let mut last = firing(&thing, 2, &[&second]);
    last.timers = vec![TimerChange::Cancel { id: "u".to_owned() }];
    on.commit(&last).await;
    assert_armed(&on, &thing, &[]).await;
}

pub(super) async fn a_fired_arming_may_be_armed_again_with_another_deadline(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let later = timer("t", Due::After(HOUR));
    on.commit(&arming(&thing, 0, &[&later])).await;
    let now = on.store.now().await.expect("the store's clock");
    let sooner = NewTimer { due: Due::At(now), ..later.clone() };
    let mut again = firing(&thing, 1, &[&later]);
    again.timers = vec![TimerChange::Arm(sooner)];
    let outcome = on.append(&again).await;
    committed(&outcome);
    assert_eq!(on.append(&again).await, outcome, "sent again");
    let due = on.due(&[timers_of(&on, &thing)], 9).await.timers;
    assert_eq!(due.len(), 1);
    assert_eq!((&due[0].timer, due[0].due), (&firing_of(&later), now));
}

pub(super) async fn firing_another_arming_is_stale(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let timers = ["replaced", "cancelled", "kept", "fired"].map(at_once);
    let replacing = at_once("replaced");
    on.commit(&arming(&thing, 0, &timers.each_ref())).await;
    let mut changes = arming(&thing, 1, &[&replacing]);
    changes.timers.push(TimerChange::Cancel { id: "cancelled".to_owned() });
    on.commit(&changes).await;
    on.commit(&firing(&thing, 2, &[&timers[3]])).await;
    let unknown = at_once("unknown");
    let [replaced, cancelled, kept, fired] = timers.each_ref();
    let mut moved = (*kept).clone();
    moved.arming.effect_index -= 1;
    for version in [3, 0, 9] {
        for (fires, void) in [
            (vec![replaced], vec![0]),
            (vec![cancelled], vec![0]),
            (vec![fired], vec![0]),
            (vec![&unknown], vec![0]),
            (vec![&moved], vec![0]),
            (vec![kept, cancelled], vec![1]),
            (vec![replaced, kept, fired, &unknown, cancelled], vec![0, 2, 3, 4]),
        ] {
            let outcome = on.append(&firing(&thing, version, &fires)).await;
            assert_eq!(outcome, AppendOutcome::StaleTimers(void), "expecting version {version}");
        }
    }
    let conflict = AppendOutcome::Conflict { actual: Version::new(3) };
    assert_eq!(on.append(&firing(&thing, 0, &[kept])).await, conflict, "it is armed so");
    assert_armed(&on, &thing, &[kept, &replacing]).await;
    on.commit(&firing(&thing, 3, &[&replacing, kept])).await;
    assert_armed(&on, &thing, &[]).await;
}

pub(super) async fn firing_a_timer_of_another_stream_is_stale(on: StoreUnderTest) {
    let streams = on.streams_of(0, "thing", 2);
    let timer = at_once("t");
    on.commit(&arming(&streams[0], 0, &[&timer])).await;
    assert_eq!(
        on.append(&firing(&streams[1], 0, &[&timer])).await,
        AppendOutcome::StaleTimers(vec![0])
    );
    assert_armed(&on, &streams[0], &[&timer]).await;
}

pub(super) async fn duplicates_and_closing_come_before_stale_timers(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let timer = at_once("t");
    on.commit(&arming(&thing, 0, &[&timer])).await;
    let first = firing(&thing, 1, &[&timer]);
    on.commit(&first).await;
    let mut decided_again = firing(&thing, 2, &[&timer]);
    decided_again.inbox.clone_from(&first.inbox);
    let standing = duplicates(on.append(&decided_again).await);
    assert_eq!(standing[0].message_id, first.inbox[0].message_id);
    let closing = EventId(fresh_id());
    on.store.close_stream(&thing, Version::new(2), closing).await.expect("the stream should close");
    assert_eq!(on.append(&firing(&thing, 3, &[&timer])).await, AppendOutcome::Closed);
    let outcome = on.append(&first).await;
    assert_eq!(committed(&outcome).0, Version::new(2), "it was committed earlier");
}

pub(super) async fn a_repeated_firing_is_committed(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let there = on.another_process().await;
    let timer = at_once("t");
    on.commit(&arming(&thing, 0, &[&timer])).await;
    let firing = firing(&thing, 1, &[&timer]);
    let outcome = on.append(&firing).await;
    committed(&outcome);
    // The timer is armed again under its id. Every arming is unique, so this is not the append's.
    let anew = at_once("t");
    on.commit(&arming(&thing, 2, &[&anew])).await;
    for process in [&on, &there] {
        assert_eq!(process.append(&firing).await, moved_on(&outcome, 3));
    }
    assert_eq!(on.events(&thing).await.len(), 3);
    assert_armed(&on, &thing, &[&anew]).await;
}

pub(super) async fn a_stale_firing_leaves_the_rest_of_its_batch_alone(on: StoreUnderTest) {
    let streams = on.streams_of(0, "thing", 4);
    let timers = ["a", "b", "c", "d"].map(at_once);
    for (stream, timer) in streams.iter().zip(&timers) {
        on.commit(&arming(stream, 0, &[timer])).await;
    }
    let anew = at_once("x");
    let mut void = firing(&streams[1], 1, &[&timers[1], &timers[0]]);
    void.outbox = vec![row("a")];
    void.timers = vec![TimerChange::Arm(anew.clone()), TimerChange::Cancel { id: "b".to_owned() }];
    void.cancels_timers = true;
    let mut sound = firing(&streams[0], 1, &[&timers[0]]);
    sound.outbox = vec![row("b")];
    let batch =
        [sound, void.clone(), append(&streams[2], 1, 2), firing(&streams[3], 1, &[&timers[3]])];
    let outcomes = on.batch(0, &batch).await;
    assert_eq!(committed(&outcomes[0]).0, Version::new(2));
    assert_eq!(outcomes[1], AppendOutcome::StaleTimers(vec![1]));
    assert_eq!(committed(&outcomes[2]).0, Version::new(3));
    assert_eq!(committed(&outcomes[3]).0, Version::new(2));
    assert_eq!(on.events(&streams[1]).await.len(), 1);
    assert_eq!(on.inbox_entry(&streams[1], void.inbox[0].message_id).await, None);
    assert_armed(&on, &streams[0], &[]).await;
    assert_armed(&on, &streams[1], &[&timers[1]]).await;
    assert_armed(&on, &streams[2], &[&timers[2]]).await;
    assert_armed(&on, &streams[3], &[]).await;
    let waiting = on.waiting(&queue(0)).await;
    assert_eq!(waiting.len(), 1, "the effect of what was committed");
    assert_eq!(waiting[0].message.row.id, batch[0].outbox[0].id);
}

pub(super) async fn concurrent_firings_take_effect_once(on: StoreUnderTest) {
    let there = on.another_process().await;
    for round in 0..12 {
        let thing = stream(&format!("thing-{round}"));
        let timer = at_once("t");
        on.commit(&arming(&thing, 0, &[&timer])).await;
        let firings = [&on, &there, &on, &there].map(|process| {
            let mut append = firing(&thing, 1, &[&timer]);
            append.expected = ExpectedVersion::Any;
            let process = process.clone();
            tokio::spawn(async move { process.append(&append).await })
        });
        let mut outcomes = Vec::new();
        for firing in firings {
            outcomes.push(joined(firing).await);
        }
        let fired =
            outcomes.iter().filter(|outcome| matches!(outcome, AppendOutcome::Committed { .. }));
        assert_eq!(fired.count(), 1, "{outcomes:?}");
        let void =
            outcomes.iter().filter(|outcome| **outcome == AppendOutcome::StaleTimers(vec![0]));
        assert_eq!(void.count(), 3, "{outcomes:?}");
        assert_eq!(on.events(&thing).await.len(), 2);
    }
}
