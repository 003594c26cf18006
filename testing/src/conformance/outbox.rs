//! The outbox: rows in order of their sequence, settled by the holder of the lease.

use std::time::Duration;

use composable_rust_core::StreamId;
use composable_rust_core::queue::{
    Lease, Outbox as _, OutboxKind, OutboxMessage, OutboxRow, Queue, QueueChange, QueuePosition,
    Settlement,
};
use composable_rust_core::store::{Append, EventStore as _, StoreError};

use super::builders::{append, fresh_id, stream};
use super::random::{self, joined};
use super::subject::StoreUnderTest;
use super::workers::{HOUR, SOON, essences, eventually, failed, ids, parked, queue, queued, row};

/// An append of one event that queues a row for each recipient, and the resulting outbox messages.
fn queueing(stream: &StreamId, version: u64, recipients: &[&str]) -> (Append, Vec<OutboxMessage>) {
    let mut append = append(stream, version, 1);
    append.outbox = recipients.iter().map(|recipient| row(recipient)).collect();
    let queued = |row: &_| OutboxMessage { sender: stream.clone(), row: Clone::clone(row) };
    let rows = append.outbox.iter().map(queued).collect();
    (append, rows)
}

async fn assert_waiting(on: &StoreUnderTest, expected: &[OutboxMessage]) -> Vec<OutboxRow> {
    let waiting = on.waiting(&queue(0)).await;
    assert_eq!(essences(waiting.iter().map(|row| &row.message)), essences(expected));
    waiting
}

pub(super) async fn outbox_rows_are_read_in_commit_order(on: StoreUnderTest) {
    let streams = on.streams_of(0, "thing", 3);
    let earlier = on.store.now().await.expect("the clock is read");
    let mut expected = Vec::new();
    for version in 0..3 {
        let batch = [["a", "b"], ["b", "a"], ["c", "c"]];
        let batch = batch.iter().zip(&streams).map(|(to, s)| queueing(s, version, to));
        let (batch, rows): (Vec<_>, Vec<_>) = batch.unzip();
        on.batch(0, &batch).await;
        expected.extend(rows.into_iter().flatten());
        let queued = [queued(&stream("thing-elsewhere"), "a"), queued(&streams[0], "b")];
        on.enqueue(0, &queued).await;
        expected.extend(queued);
    }
    let waiting = assert_waiting(&on, &expected).await;
    let later = on.store.now().await.expect("the clock is read");
    for row in &waiting {
        let untouched = (row.attempts, row.wait, row.behind_parked);
        assert_eq!(untouched, (0, Duration::ZERO, false), "{row:?}");
        assert!((earlier..=later).contains(&row.queued_at), "{row:?}");
    }
    assert_eq!(on.another_process().await.waiting(&queue(0)).await, waiting);
    for limit in [1, 2, 7, 100] {
        let (mut read, mut after) = (Vec::new(), QueuePosition::default());
        loop {
            let page = on.queue_page(&queue(0), after, limit).await;
            assert!(page.len() == limit || read.len() + page.len() == waiting.len());
            let Some(last) = page.last() else { break };
            after = last.position;
            read.extend(page);
        }
        assert_eq!(read, waiting, "in pages of {limit}");
    }
}

pub(super) async fn outbox_rows_of_a_conflict_are_not_read(on: StoreUnderTest) {
    let streams = on.streams_of(0, "thing", 3);
    on.commit(&append(&streams[1], 0, 1)).await;
    let sent = [0, 1, 2].map(|n| queueing(&streams[n], 0, &["a", "b"]));
    let batch: Vec<_> = sent.iter().map(|(append, _)| append.clone()).collect();
    on.batch(0, &batch).await;
    let expected = [&*sent[0].1, &*sent[2].1].concat();
    assert_waiting(&on, &expected).await;
}

pub(super) async fn outbox_queues_are_separate(on: StoreUnderTest) {
    let mut queues = Vec::new();
    let kinds = [
        OutboxKind::Dispatch,
        OutboxKind::Bulk,
        OutboxKind::Call,
        OutboxKind::Send,
        OutboxKind::Policy,
        OutboxKind::Projection,
    ];
    for partition in 0..on.partitions() {
        for kind in kinds {
            for target in ["one", "two"] {
                queues.push(Queue { partition, kind, target: target.to_owned() });
            }
        }
    }
    let mut expected = Vec::new();
    for queue in &queues {
        let rows: Vec<_> = (0..3)
            .map(|n| {
                let mut effect = queued(&stream("thing-1"), ["", "a", "b"][n]);
                (effect.row.kind, effect.row.target) = (queue.kind, queue.target.clone());
                effect
            })
            .collect();
        on.enqueue(queue.partition, &rows).await;
        expected.push(rows);
    }
    for (queue, rows) in queues.iter().zip(&expected) {
        let waiting = on.waiting(queue).await;
        assert_eq!(essences(waiting.iter().map(|row| &row.message)), essences(rows), "{queue:?}");
    }
    let first = on.queue_page(&queues[0], QueuePosition::default(), 1).await.remove(0).position;
    let mut after: Vec<_> = queues.iter().map(|q| (q.clone(), QueuePosition::default())).collect();
    after[0].1 = first;
    after.pop();
    let page = on.store.read_outbox(&after, 2).await.expect("the queues are read");
    for (n, (queue, rows)) in queues.iter().zip(&expected).enumerate() {
        let of_queue = page.iter().filter(|row| row.queue == *queue).map(|row| &row.message);
        let wanted = match n {
            0 => &rows[1..],
            n if n == queues.len() - 1 => &[],
            _ => &rows[..2],
        };
        assert_eq!(essences(of_queue), essences(wanted), "{queue:?}, two of each that is asked");
    }
    assert_eq!(on.store.read_outbox(&[], 9).await.expect("an empty request succeeds"), []);
}

pub(super) async fn no_row_commits_behind_a_readers_position(on: StoreUnderTest) {
    let there = on.another_process().await;
    let worker = on.worker("work", 0).await;
    let streams = on.streams_of(0, "thing", 4);
    let mut from = queue(0);
    "source".clone_into(&mut from.target);
    let mut tasks = Vec::new();
    for (n, sender) in streams.iter().enumerate() {
        let on = if n % 2 == 0 { on.clone() } else { there.clone() };
        let (sender, worker, from) = (sender.clone(), worker.clone(), from.clone());
        tasks.push(tokio::spawn(async move {
            let mut rng = random::rng("nothing_is_queued_behind_a_reader", n as u64);
            for version in 0..12 {
                on.commit(&queueing(&sender, version, &["a", "b", "c"]).0).await;
                on.enqueue(0, &[queued(&sender, "a"), queued(&sender, "b")]).await;
                let mut source = queued(&sender, "a");
                source.row.target.clone_from(&from.target);
                on.enqueue(0, std::slice::from_ref(&source)).await;
                let waiting = on.waiting(&from).await;
                let own = waiting.iter().find(|row| row.message.row.id == source.row.id);
                let done = QueueChange::Done(vec![queued(&sender, "c"), queued(&sender, "d")]);
                assert!(on.settle_one(&worker, own.expect("the row waits"), done).await);
                random::moment(&mut rng, Duration::from_millis(3)).await;
            }
        }));
    }
    let total = 4 * 12 * 7;
    let mut read: Vec<OutboxRow> = Vec::new();
    while read.len() < total {
        // Taken before the page is read, so that the page holds everything committed by then.
        let is_last = tasks.iter().all(tokio::task::JoinHandle::is_finished);
        let after = read.last().map(|row| row.position).unwrap_or_default();
        let page = on.queue_page(&queue(0), after, 5).await;
        if page.is_empty() {
            if is_last {
                break;
            }
            tokio::task::yield_now().await;
        }
        read.extend(page);
    }
    for task in tasks {
        joined(task).await;
    }
    let all = on.waiting(&queue(0)).await;
    assert_eq!(all.len(), total);
    let missed = all.iter().filter(|row| !read.contains(row)).count();
    assert_eq!(missed, 0, "rows appeared at or below a place that was read");
    assert_eq!(read, all);
}

pub(super) async fn settling_deletes_handled_rows_and_queues_new_ones_last(on: StoreUnderTest) {
    let worker = on.worker("work", 0).await;
    let thing = stream("thing-1");
    let rows = ["a", "b", "c", "d"].map(|to| queued(&thing, to));
    on.enqueue(0, &rows).await;
    let waiting = on.waiting(&queue(0)).await;
    let more = [queued(&thing, "e"), queued(&stream("thing-2"), "a"), queued(&thing, "e")];
    let settlements = [
        worker.settlement(&waiting[0], QueueChange::Done(more[..2].to_vec())),
        worker.settlement(&waiting[2], QueueChange::Done(Vec::new())),
        worker.settlement(&waiting[3], QueueChange::Done(more[2..].to_vec())),
    ];
    assert_eq!(on.settle(&settlements).await, [true; 3]);
    let expected = [&rows[1..2], &more[..]].concat();
    let after = assert_waiting(&on, &expected).await;
    assert!(after[1].position > waiting[3].position, "after all that was there");
}

pub(super) async fn settling_a_missing_row_has_no_effect(on: StoreUnderTest) {
    let worker = on.worker("work", 0).await;
    let rows = ["a", "b"].map(|to| queued(&stream("thing-1"), to));
    on.enqueue(0, &rows).await;
    let waiting = on.waiting(&queue(0)).await;
    let done = QueueChange::Done(vec![queued(&stream("thing-1"), "c")]);
    for _ in 0..3 {
        assert!(on.settle_one(&worker, &waiting[0], done.clone()).await);
        for change in [failed(1, HOUR), parked(1, Some("late"))] {
            assert!(on.settle_one(&worker, &waiting[0], change).await);
        }
    }
    let found = ids(on.waiting(&queue(0)).await.iter().map(|row| &row.message));
    assert_eq!((found.len(), found[0]), (2, rows[1].row.id), "the answer came once");
    assert_eq!(on.dead_letters(9).await, []);
}

pub(super) async fn settling_outbox_rows_is_fenced(on: StoreUnderTest) {
    let first = on.worker("work", 0).await;
    let other = on.worker("other", 0).await;
    let rows = ["a", "b", "c"].map(|to| queued(&stream("thing-1"), to));
    on.enqueue(0, &rows).await;
    let waiting = on.waiting(&queue(0)).await;
    let second = on.successor(&first).await;
    let more = QueueChange::Done(vec![queued(&stream("thing-1"), "d")]);
    for change in [more.clone(), failed(3, HOUR), parked(1, Some("late"))] {
        assert!(!on.settle_one(&first, &waiting[0], change).await);
    }
    let never = Lease { worker: "never".to_owned(), epoch: 0, ..first.lease.clone() };
    let never = Settlement { lease: never, ..first.settlement(&waiting[0], more.clone()) };
    assert_eq!(on.settle(&[never]).await, [false]);
    assert_eq!(on.waiting(&queue(0)).await, waiting, "all is as it was");
    assert_eq!(on.dead_letters(9).await, []);

    let settlements = [
        first.settlement(&waiting[0], more.clone()),
        second.settlement(&waiting[1], QueueChange::Done(Vec::new())),
        first.settlement(&waiting[2], more),
        other.settlement(&waiting[2], QueueChange::Done(Vec::new())),
    ];
    assert_eq!(on.settle(&settlements).await, [false, true, false, true]);
    assert_eq!(on.waiting(&queue(0)).await, waiting[..1]);
}

pub(super) async fn an_outbox_settlement_is_of_one_partition(on: StoreUnderTest) {
    let worker = on.worker("work", 0).await;
    on.enqueue(0, &[queued(&stream("thing-1"), "a")]).await;
    let waiting = on.waiting(&queue(0)).await;
    let sound = worker.settlement(&waiting[0], QueueChange::Done(Vec::new()));
    let mut lease = sound.clone();
    lease.lease.partition = 1;
    let mut queued_elsewhere = sound.clone();
    queued_elsewhere.queue.partition = 1;
    let mut timer = queued(&stream("thing-1"), "a");
    timer.row.kind = OutboxKind::Timer;
    let timer = Settlement { change: QueueChange::Done(vec![timer]), ..sound.clone() };
    for (partition, wrong) in
        [(0, lease), (0, queued_elsewhere), (0, timer), (on.partitions(), sound.clone())]
    {
        let refused = on.store.settle(partition, &[sound.clone(), wrong]).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    }
    assert_eq!(on.waiting(&queue(0)).await, waiting);
    let nothing = on.store.settle(0, &[]).await.expect("there is nothing to settle");
    assert!(nothing.is_empty());
}

pub(super) async fn many_outbox_rows_are_settled_at_once(on: StoreUnderTest) {
    let worker = on.worker("work", 0).await;
    let thing = stream("thing-1");
    let rows: Vec<_> = (0..900).map(|n| queued(&thing, &format!("other-{n}"))).collect();
    on.enqueue(0, &rows).await;
    let waiting = assert_waiting(&on, &rows).await;
    let answers: Vec<_> = (0..300).map(|_| queued(&thing, "answer")).collect();
    let change = |n: usize| match n % 3 {
        0 => QueueChange::Done(vec![answers[n / 3].clone()]),
        1 => failed(2, HOUR),
        _ => parked(3, Some("no")),
    };
    let settlements: Vec<_> = (0..).zip(&waiting).map(|(n, row)| (change(n), row)).collect();
    let settlements: Vec<_> =
        settlements.into_iter().map(|(change, row)| worker.settlement(row, change)).collect();
    assert!(on.settle(&settlements).await.iter().all(|settled| *settled));
    let failed: Vec<_> = rows.iter().skip(1).step_by(3).cloned().collect();
    let left = assert_waiting(&on, &[failed, answers.clone()].concat()).await;
    assert!(left[..300].iter().all(|row| row.attempts == 2 && row.wait > HOUR / 2));
    assert!(left[300..].iter().all(|row| row.attempts == 0 && row.wait.is_zero()));
    let parked = on.dead_letters(1_000).await;
    assert_eq!(ids(parked.iter().map(|l| &l.message)), ids(rows.iter().skip(2).step_by(3)));
}

pub(super) async fn many_outbox_queues_are_read_at_once(on: StoreUnderTest) {
    let rows: Vec<_> = (0..600)
        .map(|n| {
            let mut effect = queued(&stream("thing-1"), "a");
            effect.row.target = format!("target-{n}");
            effect
        })
        .collect();
    on.enqueue(0, &rows).await;
    on.enqueue(0, &rows[..1]).await;
    let all: Vec<_> = rows
        .iter()
        .map(|queued| Queue { target: queued.row.target.clone(), ..queue(0) })
        .map(|queue| (queue, QueuePosition::default()))
        .collect();
    let found = on.store.read_outbox(&all, 1).await.expect("the queues are read");
    let mut found: Vec<_> = found.iter().map(|row| &row.message).collect();
    found.sort_by_key(|queued| queued.row.id);
    assert_eq!(ids(found), ids(&rows), "one of each");
}

pub(super) async fn failed_outbox_rows_wait_for_their_retry(on: StoreUnderTest) {
    let worker = on.worker("work", 0).await;
    let rows = ["a", "b", "c"].map(|to| queued(&stream("thing-1"), to));
    on.enqueue(0, &rows).await;
    let before = on.waiting(&queue(0)).await;
    assert!(on.settle_one(&worker, &before[0], failed(1, HOUR)).await);
    assert!(on.settle_one(&worker, &before[1], failed(7, SOON)).await);
    let waiting = assert_waiting(&on, &rows).await;
    assert_eq!(waiting.iter().map(|row| row.attempts).collect::<Vec<_>>(), [1, 7, 0]);
    assert!(waiting.iter().zip(&before).all(|(row, before)| row.position == before.position));
    assert!((HOUR / 2..=HOUR).contains(&waiting[0].wait), "{:?}", waiting[0].wait);
    assert!(waiting[1].wait <= SOON, "{:?}", waiting[1].wait);
    assert_eq!(waiting[2].wait, Duration::ZERO);
    eventually("the second attempt", || async {
        on.waiting(&queue(0)).await[1].wait == Duration::ZERO
    })
    .await;
    assert!(on.settle_one(&worker, &waiting[0], failed(2, Duration::ZERO)).await);
    let again = on.waiting(&queue(0)).await;
    assert_eq!((again[0].attempts, again[0].wait), (2, Duration::ZERO));
}

pub(super) async fn started_outbox_rows_are_recorded(on: StoreUnderTest) {
    let worker = on.worker("work", 0).await;
    let rows = ["a", "b", "c"].map(|to| queued(&stream("thing-1"), to));
    on.enqueue(0, &rows).await;
    let before = on.waiting(&queue(0)).await;
    let begun = |attempts| QueueChange::Begun { attempts };
    assert!(on.settle_one(&worker, &before[0], failed(3, HOUR)).await);
    for (row, attempts) in [(&before[0], 4), (&before[1], 1)] {
        assert!(on.settle_one(&worker, row, begun(attempts)).await);
    }
    let waiting = assert_waiting(&on.another_process().await, &rows).await;
    let known = |row: &OutboxRow| (row.attempts, row.begun, row.wait);
    let none = Duration::ZERO;
    let all: Vec<_> = waiting.iter().map(known).collect();
    assert_eq!(all, [(4, true, none), (1, true, none), (0, false, none)]);
    assert!(on.settle_one(&worker, &before[0], failed(4, Duration::ZERO)).await);
    assert!(on.settle_one(&worker, &before[1], failed(0, Duration::ZERO)).await);
    let all: Vec<_> = on.waiting(&queue(0)).await.iter().map(known).collect();
    assert_eq!(all, [(4, false, none), (0, false, none), (0, false, none)]);
    assert!(on.settle_one(&worker, &before[0], begun(5)).await);
    assert!(on.settle_one(&worker, &before[0], QueueChange::Done(Vec::new())).await);
    assert_waiting(&on, &rows[1..]).await;
}

pub(super) async fn a_parked_row_blocks_its_sender_and_recipient(on: StoreUnderTest) {
    let worker = on.worker("work", 0).await;
    let (thing, other) = (stream("thing-1"), stream("thing-2"));
    let mut elsewhere = queued(&thing, "a");
    "elsewhere".clone_into(&mut elsewhere.row.target);
    let rows = [queued(&thing, "a"), queued(&thing, "b"), queued(&other, "a"), queued(&thing, "a")];
    on.enqueue(0, &rows).await;
    on.enqueue(0, std::slice::from_ref(&elsewhere)).await;
    let waiting = on.waiting(&queue(0)).await;
    assert!(on.settle_one(&worker, &waiting[0], parked(5, Some("no"))).await);
    let left = assert_waiting(&on, &rows[1..]).await;
    assert_eq!(left.iter().map(|row| row.behind_parked).collect::<Vec<_>>(), [false, false, true]);
    let elsewhere = Queue { target: elsewhere.row.target, ..queue(0) };
    assert!(!on.waiting(&elsewhere).await[0].behind_parked, "of another queue");
    on.enqueue(0, &[queued(&thing, "a")]).await;
    assert!(on.waiting(&queue(0)).await[3].behind_parked, "what comes later too");
}

pub(super) async fn blocked_streams_are_listed_once(on: StoreUnderTest) {
    let worker = on.worker("work", 0).await;
    let senders = ["thing-2", "thing-1", "thing-2", "thing-3", "other-1"].map(stream);
    let rows = senders.each_ref().map(|sender| queued(sender, "a"));
    on.enqueue(0, &rows).await;
    let mut elsewhere = queued(&stream("thing-4"), "a");
    "elsewhere".clone_into(&mut elsewhere.row.target);
    on.enqueue(0, &[elsewhere]).await;
    let listed = async || on.store.queued_streams(&queue(0)).await.expect("the streams are read");
    let all = ["other-1", "thing-1", "thing-2", "thing-3"].map(stream);
    assert_eq!(listed().await, all);
    let waiting = on.waiting(&queue(0)).await;
    for row in &waiting[1..3] {
        assert!(on.settle_one(&worker, row, parked(1, Some("no"))).await);
    }
    assert_eq!(listed().await, all, "among the dead letters too");
    assert!(on.settle_one(&worker, &waiting[3], QueueChange::Done(Vec::new())).await);
    assert_eq!(listed().await, all[..3]);
    let unknown = Queue { target: fresh_id().to_string(), ..queue(0) };
    assert_eq!(on.store.queued_streams(&unknown).await.expect("an unknown queue is empty"), []);
}

pub(super) async fn the_last_sequences_are_those_of_the_last_rows(on: StoreUnderTest) {
    let worker = on.worker("work", 0).await;
    let elsewhere = Queue { target: "elsewhere".to_owned(), ..queue(0) };
    let empty = Queue { kind: OutboxKind::Call, ..queue(0) };
    let mut queues = vec![queue(0), elsewhere.clone(), empty];
    queues.extend((1..on.partitions()).map(queue));
    let agree = async || {
        let places = on.store.last_positions(&queues).await.expect("the positions should be read");
        let mut expected = Vec::new();
        for queue in &queues {
            let waiting = on.waiting(queue).await;
            expected.push(waiting.last().map(|row| row.position).unwrap_or_default());
        }
        assert_eq!(places, expected);
    };
    agree().await;
    for n in 0..3 {
        let mut other = queued(&stream("thing-2"), "a");
        other.row.target.clone_from(&elsewhere.target);
        on.enqueue(0, &[queued(&stream("thing-1"), "a"), queued(&stream("thing-1"), "b")]).await;
        agree().await;
        on.enqueue(0, &[other]).await;
        if let Some(last) = on.partitions().checked_sub(1).filter(|last| *last > 0) {
            let rows: Vec<_> = (0..=n).map(|_| queued(&stream("thing-3"), "a")).collect();
            on.enqueue(last, &rows).await;
        }
        agree().await;
    }
    let last = on.waiting(&queue(0)).await.pop().expect("rows wait");
    assert!(on.settle_one(&worker, &last, QueueChange::Done(Vec::new())).await);
    agree().await;
    assert_eq!(on.store.last_positions(&[]).await.expect("an empty request succeeds"), []);
}

pub(super) async fn two_holders_settle_a_row_once(on: StoreUnderTest) {
    let there = on.another_process().await;
    let worker = on.worker("work", 0).await;
    let mut rng = random::rng("two_holders_settle_a_row_once", 0);
    for _ in 0..10 {
        on.enqueue(0, &[queued(&stream("thing-1"), "a")]).await;
        let waiting = on.waiting(&queue(0)).await;
        let last = waiting.last().expect("a row waits").clone();
        let settling = [&on, &there, &on, &there].map(|process| {
            let (process, worker, row) = (process.clone(), worker.clone(), last.clone());
            let answer = QueueChange::Done(vec![queued(&stream("thing-1"), "answer")]);
            tokio::spawn(async move { process.settle_one(&worker, &row, answer).await })
        });
        random::moment(&mut rng, Duration::from_millis(1)).await;
        for settling in settling {
            assert!(joined(settling).await);
        }
    }
    let waiting = on.waiting(&queue(0)).await;
    assert_eq!(waiting.len(), 10, "one answer for each row");
}
