//! Timers that are due by the store's clock, and timers that failed to fire.

use std::time::Duration;

use composable_rust_core::StreamId;
use composable_rust_core::queue::{Lease, QueueChange, TimerQueue, TimerSettlement, Timers as _};
use composable_rust_core::store::{
    Append, Due, EventStore as _, ExpectedVersion, StoreError, TimerChange,
};

use super::builders::{exact, inbox_entry, json, stream};
use super::firing::{arming, at_once, firing_of, timer};
use super::subject::StoreUnderTest;
use super::workers::{
    HOUR, SOON, Worker, armed, essences, eventually, failed, parked, queue, queued, timers_of,
};

fn settlement(
    worker: &Worker,
    stream: &StreamId,
    timer: &composable_rust_core::store::NewTimer,
    change: QueueChange,
) -> TimerSettlement {
    let (lease, stream) = (worker.lease.clone(), stream.clone());
    TimerSettlement { lease, stream, timer: firing_of(timer), change }
}

async fn settle(on: &StoreUnderTest, settlements: &[TimerSettlement]) {
    let settled = on.store.settle_timers(0, settlements).await;
    settled.expect("the store is available");
}

/// A timer that has been due for `seconds`.
fn overdue(id: &str, seconds: u64, now: composable_rust_core::Timestamp) -> TimerChange {
    TimerChange::Arm(timer(id, Due::At(now - Duration::from_secs(seconds))))
}

pub(super) async fn due_timers_are_read_earliest_first(on: StoreUnderTest) {
    let now = on.store.now().await.expect("the clock is read");
    let streams = on.streams_of(0, "thing", 3);
    let mut append = arming(&streams[1], 0, &[]);
    append.timers = vec![overdue("e", 10, now), overdue("a", 50, now)];
    on.commit(&append).await;
    let mut append = arming(&streams[0], 0, &[]);
    append.timers = vec![
        overdue("d", 20, now),
        overdue("b", 40, now),
        TimerChange::Arm(timer("f", Due::After(HOUR))),
    ];
    on.commit(&append).await;
    let mut append = arming(&streams[2], 0, &[]);
    append.timers = vec![overdue("c", 30, now)];
    on.commit(&append).await;
    let queues = [timers_of(&on, &streams[0])];
    let later = on.store.now().await.expect("the clock is read");
    for limit in [1, 2, 4, 5, 6, 100] {
        let due = on.due(&queues, limit).await;
        let armed_in_time = due.timers.iter().all(|of| (now..=later).contains(&of.armed_at));
        assert!(armed_in_time, "{:?}", due.timers);
        let ids: Vec<_> = due.timers.iter().map(|timer| &*timer.timer.id).collect();
        assert_eq!(ids, ["a", "b", "c", "d", "e"][..limit.min(5)], "limit {limit}");
        let ago = due.timers.iter().map(|timer| now.since(timer.due).as_secs());
        assert!(ago.eq([50, 40, 30, 20, 10].into_iter().take(limit)), "{:?}", due.timers);
        match due.next {
            Some(Duration::ZERO) => assert!(limit < 5, "more are due: limit {limit}"),
            Some(next) => assert!(limit >= 5 && next <= HOUR && next > HOUR / 2, "{next:?}"),
            None => panic!("more timers are due"),
        }
    }
}

pub(super) async fn timers_round_trip(on: StoreUnderTest) {
    let thing = on.streams_of(0, "thing", 1).remove(0);
    let timers = ["it's \"ä\"", "b"].map(at_once);
    on.commit(&arming(&thing, 0, &timers.each_ref())).await;
    let mut found = armed(&on, &thing).await;
    assert_eq!(found, armed(&on.another_process().await, &thing).await);
    found.reverse();
    assert_eq!(found.len(), 2);
    for (found, timer) in found.iter().zip(&timers) {
        assert_eq!((found.partition, &found.stream), (0, &thing));
        assert_eq!(found.timer, firing_of(timer));
        assert_eq!((&found.content, found.attempts), (&timer.content, 0));
        assert_eq!(json(&found.metadata), json(&timer.metadata));
    }
}

pub(super) async fn timers_become_due_in_time(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let queues = [timers_of(&on, &thing)];
    assert_eq!(on.due(&queues, 9).await.next, None, "nothing is armed");
    let (soon, later) = (timer("soon", Due::After(SOON)), timer("later", Due::After(HOUR)));
    on.commit(&arming(&thing, 0, &[&later])).await;
    assert_eq!(on.due(&queues, 9).await.timers, []);
    on.commit(&arming(&thing, 1, &[&soon])).await;
    let due = on.due(&queues, 9).await;
    assert!(due.next.is_some_and(|next| next <= if due.timers.is_empty() { SOON } else { HOUR }));
    eventually("the deadline", async || !on.due(&queues, 9).await.timers.is_empty()).await;
    let due = on.due(&queues, 9).await;
    assert_eq!(due.timers.len(), 1);
    assert_eq!(due.timers[0].timer, firing_of(&soon));
    assert!(due.next.is_some_and(|next| next > HOUR / 2), "{:?}", due.next);
}

pub(super) async fn timer_queues_are_separate(on: StoreUnderTest) {
    let mut queues = Vec::new();
    for partition in 0..on.partitions() {
        for category in ["one", "two", "one_more"] {
            let thing = on.streams_of(partition, category, 1).remove(0);
            on.commit(&arming(&thing, 0, &[&at_once("t")])).await;
            queues.push((thing.clone(), timers_of(&on, &thing)));
        }
    }
    for (thing, queue) in &queues {
        let due = on.due(std::slice::from_ref(queue), 9).await;
        let found: Vec<_> = due.timers.iter().map(|timer| &timer.stream).collect();
        assert_eq!((found, due.next), (vec![thing], None), "{queue:?}");
    }
    let all: Vec<TimerQueue> = queues.iter().map(|(_, queue)| queue.clone()).collect();
    let mut found: Vec<_> = on.due(&all, 99).await.timers.into_iter().map(|t| t.stream).collect();
    found.sort();
    let mut expected: Vec<_> = queues.into_iter().map(|(thing, _)| thing).collect();
    expected.sort();
    assert_eq!(found, expected);
    let some = on.due(&all, 2).await;
    assert_eq!((some.timers.len(), some.next), (2, Some(Duration::ZERO)), "two in all");
    let none = on.due(&[], 9).await;
    assert_eq!(none, composable_rust_core::queue::DueTimers::default());
}

pub(super) async fn ten_thousand_waiting_timers_do_not_hide_a_due_one(on: StoreUnderTest) {
    let streams = on.streams_of(0, "thing", 20);
    let far: Vec<_> = (0..500).map(|n| timer(&format!("far-{n}"), Due::After(HOUR))).collect();
    let far: Vec<_> = far.iter().collect();
    let batch: Vec<_> = streams.iter().map(|stream| arming(stream, 0, &far)).collect();
    for appends in batch.chunks(5) {
        on.batch(0, appends).await;
    }
    let queues = [timers_of(&on, &streams[0])];
    for round in 0..50 {
        assert_eq!(on.due(&queues, 10).await.timers, []);
        let timer = at_once("near");
        on.commit(&arming(&streams[7], 1 + round * 2, &[&timer])).await;
        let due = on.due(&queues, 10).await;
        assert_eq!(due.timers.len(), 1);
        assert!(due.next.is_some_and(|next| next > HOUR / 2));
        let mut firing = Append::new(streams[7].clone(), exact(2 + round * 2))
            .with_events(super::builders::events(1))
            .with_inbox(vec![inbox_entry(0, 1)]);
        firing.fired_timers = vec![due.timers[0].timer.clone()];
        on.commit(&firing).await;
    }
}

pub(super) async fn many_timer_queues_are_read_and_settled_at_once(on: StoreUnderTest) {
    let worker = on.worker("timers", 0).await;
    let streams: Vec<_> =
        (0..300).map(|n| on.streams_of(0, &format!("thing{n}"), 1).remove(0)).collect();
    let timers: Vec<_> = streams.iter().map(|_| at_once("t")).collect();
    let armed = streams.iter().zip(&timers).map(|(stream, timer)| arming(stream, 0, &[timer]));
    on.batch(0, &armed.collect::<Vec<_>>()).await;
    let queues: Vec<_> = streams.iter().map(|stream| timers_of(&on, stream)).collect();
    let due = on.due(&queues, 299).await;
    assert_eq!((due.timers.len(), due.next), (299, Some(Duration::ZERO)));
    let due = on.due(&queues, 300).await;
    assert_eq!((due.timers.len(), due.next), (300, None));
    let change = |n: usize| match n % 3 {
        0 => QueueChange::Done(Vec::new()),
        1 => failed(2, HOUR),
        _ => parked(3, Some("no")),
    };
    let settlements: Vec<_> =
        (0..300).map(|n| settlement(&worker, &streams[n], &timers[n], change(n))).collect();
    settle(&on, &settlements).await;
    let due = on.due(&queues, 300).await;
    assert_eq!(due.timers, []);
    assert!(due.next.is_some_and(|next| next > HOUR / 2), "a hundred are due again");
    assert_eq!(on.dead_letters(1_000).await.len(), 100);
}

pub(super) async fn failed_timers_are_due_again(on: StoreUnderTest) {
    let thing = on.streams_of(0, "thing", 1).remove(0);
    let worker = on.worker("timers", 0).await;
    let timers = ["a", "b", "c"].map(at_once);
    on.commit(&arming(&thing, 0, &timers.each_ref())).await;
    let settlements = [
        settlement(&worker, &thing, &timers[0], failed(1, HOUR)),
        settlement(&worker, &thing, &timers[1], failed(4, SOON)),
    ];
    settle(&on, &settlements).await;
    eventually("the second attempt", async || armed(&on, &thing).await.len() == 2).await;
    let due = on.due(&[timers_of(&on, &thing)], 9).await;
    let attempts: Vec<_> =
        due.timers.iter().map(|timer| (&*timer.timer.id, timer.attempts)).collect();
    assert_eq!(attempts, [("c", 0), ("b", 4)]);
    assert!(due.next.is_some_and(|next| next > HOUR / 2 && next <= HOUR), "{:?}", due.next);

    on.commit(&arming(&thing, 1, &[&at_once("b")])).await;
    assert_eq!(armed(&on, &thing).await[0].attempts, 0, "it is another arming");
}

pub(super) async fn started_timers_are_recorded(on: StoreUnderTest) {
    let thing = on.streams_of(0, "thing", 1).remove(0);
    let worker = on.worker("timers", 0).await;
    let timers = ["a", "b", "c"].map(at_once);
    on.commit(&arming(&thing, 0, &timers.each_ref())).await;
    let begun = |n: usize, attempts| {
        settlement(&worker, &thing, &timers[n], QueueChange::Begun { attempts })
    };
    settle(&on, &[begun(0, 1), begun(1, 4)]).await;
    let known = async || -> Vec<_> {
        let timers = armed(&on, &thing).await;
        timers.iter().map(|timer| (timer.attempts, timer.begun)).collect()
    };
    assert_eq!(known().await, [(1, true), (4, true), (0, false)]);
    settle(&on, &[settlement(&worker, &thing, &timers[1], failed(4, Duration::ZERO))]).await;
    assert_eq!(known().await, [(1, true), (4, false), (0, false)]);
    on.commit(&arming(&thing, 1, &[&at_once("a")])).await;
    assert_eq!(known().await[0], (0, false), "it is another arming");
}

pub(super) async fn handled_timers_are_deleted(on: StoreUnderTest) {
    let thing = on.streams_of(0, "thing", 1).remove(0);
    let worker = on.worker("timers", 0).await;
    let timers = ["a", "b"].map(at_once);
    on.commit(&arming(&thing, 0, &timers.each_ref())).await;
    let answer = queued(&thing, "a");
    let settlements = [
        settlement(&worker, &thing, &timers[0], QueueChange::Done(Vec::new())),
        settlement(&worker, &thing, &timers[1], QueueChange::Done(vec![answer.clone()])),
    ];
    for _ in 0..2 {
        settle(&on, &settlements).await;
        assert_eq!(armed(&on, &thing).await, []);
        let waiting = on.waiting(&queue(0)).await;
        assert_eq!(essences(waiting.iter().map(|row| &row.message)), essences([&answer]));
    }
}

pub(super) async fn settling_timers_is_fenced_and_of_one_arming(on: StoreUnderTest) {
    let thing = on.streams_of(0, "thing", 1).remove(0);
    let first = on.worker("timers", 0).await;
    let (old, unknown) = (at_once("t"), at_once("unknown"));
    on.commit(&arming(&thing, 0, &[&old])).await;
    let second = on.successor(&first).await;
    let never = Lease { worker: "never".to_owned(), epoch: 0, ..first.lease.clone() };
    let never = Worker { lease: never, ..first.clone() };
    let before = armed(&on, &thing).await;
    let changes = [QueueChange::Done(vec![]), failed(3, HOUR), parked(3, Some("no"))];
    for change in &changes {
        for worker in [&first, &never] {
            settle(&on, &[settlement(worker, &thing, &old, change.clone())]).await;
        }
        settle(&on, &[settlement(&second, &thing, &unknown, change.clone())]).await;
        assert_eq!(armed(&on, &thing).await, before, "it is not the lease's any more");
    }
    let new = at_once("t");
    on.commit(&arming(&thing, 1, &[&new])).await;
    for change in &changes {
        settle(&on, &[settlement(&second, &thing, &old, change.clone())]).await;
        let found = armed(&on, &thing).await;
        assert_eq!((found[0].timer.clone(), found[0].attempts), (firing_of(&new), 0));
    }
    assert_eq!(on.dead_letters(9).await, []);
    settle(&on, &[settlement(&second, &thing, &new, QueueChange::Done(vec![]))]).await;
    assert_eq!(armed(&on, &thing).await, []);
}

pub(super) async fn a_timer_settlement_is_of_one_partition(on: StoreUnderTest) {
    let thing = on.streams_of(0, "thing", 1).remove(0);
    let worker = on.worker("timers", 0).await;
    let timer = at_once("t");
    on.commit(&arming(&thing, 0, &[&timer])).await;
    let sound = settlement(&worker, &thing, &timer, QueueChange::Done(vec![]));
    let mut elsewhere = sound.clone();
    elsewhere.lease.partition = 1;
    let mut wrong = vec![(0, elsewhere), (on.partitions(), sound.clone())];
    if on.partitions() > 1 {
        let stream = on.streams_of(1, "thing", 1).remove(0);
        wrong.push((0, TimerSettlement { stream, ..sound }));
    }
    for (partition, wrong) in wrong {
        let refused = on.store.settle_timers(partition, &[wrong]).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    }
    assert_eq!(armed(&on, &thing).await.len(), 1);
}

pub(super) async fn timers_of_completed_or_closed_streams_are_not_due(on: StoreUnderTest) {
    let streams = on.streams_of(0, "thing", 3);
    for stream in &streams {
        on.commit(&arming(stream, 0, &[&at_once("t"), &timer("u", Due::After(HOUR))])).await;
    }
    let mut finishing = Append::new(streams[0].clone(), ExpectedVersion::Any);
    finishing.cancels_timers = true;
    on.commit(&finishing).await;
    let id = composable_rust_core::EventId(super::builders::fresh_id());
    let closed = on.store.close_stream(&streams[1], composable_rust_core::Version::new(1), id);
    closed.await.expect("the stream should close");
    let due = on.due(&[timers_of(&on, &streams[0])], 9).await;
    let found: Vec<_> = due.timers.iter().map(|timer| &timer.stream).collect();
    assert_eq!(found, [&streams[2]]);
    assert!(due.next.is_some());
}
