//! Dead letters: parked rows, in order, until an operator decides.

use std::collections::BTreeSet;

use composable_rust_core::queue::{
    DeadLetter, DeadLetterDecision, DeadLetters as _, Lease, Outbox as _, OutboxKind,
    OutboxMessage, Queue, QueueChange, TimerSettlement, Timers as _,
};
use composable_rust_core::store::{
    EventStore as _, MAX_CATEGORY_BYTES, MAX_ID_BYTES, StoreError, TimerChange,
};
use composable_rust_core::{EventId, StreamId, Version};
use uuid::Uuid;

use super::builders::{append, fresh_id, json, stream};
use super::firing::{arming, at_once, firing_of};
use super::subject::StoreUnderTest;
use super::workers::{Worker, armed, essence, essences, failed, ids, parked, queue, queued};

const REDRIVE: DeadLetterDecision = DeadLetterDecision::Redrive;
const DISCARD: DeadLetterDecision = DeadLetterDecision::Discard;

/// Queues rows in partition 0 and parks them all, the first of each pair with a reason.
async fn park(on: &StoreUnderTest, worker: &Worker, rows: &[OutboxMessage]) {
    on.enqueue(0, rows).await;
    let (mut settlements, mut pairs) = (Vec::new(), BTreeSet::new());
    for row in on.waiting(&queue(0)).await {
        let pair = (row.message.sender.clone(), row.message.row.recipient.clone());
        let is_head = pairs.insert(pair) && !row.behind_parked;
        let change = parked(3, is_head.then_some("it's \"wrong\""));
        settlements.push(worker.settlement(&row, change));
    }
    assert!(on.settle(&settlements).await.iter().all(|settled| *settled));
}

async fn decide(on: &StoreUnderTest, id: Uuid, decision: DeadLetterDecision) -> bool {
    on.store.decide_dead_letter(0, id, decision).await.expect("the store is available")
}

async fn decided(on: &StoreUnderTest, queues: &[Queue]) -> Vec<DeadLetter> {
    on.store.decided_dead_letters(queues, 100).await.expect("the dead letters are read")
}

async fn resolve(
    on: &StoreUnderTest,
    worker: &Worker,
    letter: &DeadLetter,
    more: &[OutboxMessage],
) -> bool {
    on.store
        .resolve_dead_letter(&worker.lease, letter, more)
        .await
        .expect("the dead letter should be resolved")
}

/// Decides on a dead letter and resolves it.
async fn carry_out(
    on: &StoreUnderTest,
    worker: &Worker,
    id: Uuid,
    decision: DeadLetterDecision,
    answers: &[OutboxMessage],
) {
    assert!(decide(on, id, decision).await, "it is a head");
    let letter = decided(on, &[queue(0), timer_queue()]).await.remove(0);
    assert_eq!((letter.message.row.id, letter.decision), (id, Some(decision)));
    assert!(resolve(on, worker, &letter, answers).await);
    assert_eq!(decided(on, &[queue(0), timer_queue()]).await, [], "it is done");
}

fn timer_queue() -> Queue {
    Queue { partition: 0, kind: OutboxKind::Timer, target: "thing".to_owned() }
}

fn letter_ids(letters: &[DeadLetter]) -> Vec<Uuid> {
    ids(letters.iter().map(|letter| &letter.message))
}

pub(super) async fn dead_letters_hold_the_parked_rows(on: StoreUnderTest) {
    let worker = on.worker("work", 0).await;
    let rows = [queued(&stream("thing-1"), "a"), queued(&stream("thing-1"), "a")];
    on.enqueue(0, &rows).await;
    let waiting = on.waiting(&queue(0)).await;
    let earlier = on.store.now().await.expect("the clock is read");
    let changes = [parked(5, Some("it's \"wrong\"\nä")), parked(0, None)];
    for (row, change) in waiting.iter().zip(changes) {
        assert!(on.settle_one(&worker, row, change).await);
    }
    let later = on.store.now().await.expect("the clock is read");
    assert_eq!(on.waiting(&queue(0)).await, []);
    let letters = on.dead_letters(9).await;
    assert_eq!(on.another_process().await.dead_letters(1).await, letters);
    assert_eq!(letters.len(), 2);
    for (letter, row) in letters.iter().zip(&waiting) {
        assert_eq!((&letter.queue, letter.position), (&row.queue, row.position));
        assert_eq!(essence(&letter.message), essence(&row.message));
        assert_eq!((letter.arming, letter.decision), (None, None));
        assert_eq!(letter.is_head, letter.error.is_some());
        assert!((earlier..=later).contains(&letter.parked_at), "{}", letter.parked_at);
    }
    let errors = [(5, Some("it's \"wrong\"\nä".to_owned())), (0, None)];
    assert_eq!([0, 1].map(|n| (letters[n].attempts, letters[n].error.clone())), errors);
}

pub(super) async fn dead_letters_may_have_the_longest_names(on: StoreUnderTest) {
    // Random text, so that an index on both names has to hold it uncompressed.
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'!' + (state >> 24) as u8 % 90)
    };
    let mut longest = || {
        let id: String = (0..MAX_ID_BYTES).map(|_| next()).collect();
        StreamId::new(&"c".repeat(MAX_CATEGORY_BYTES), &id).expect("a permitted name")
    };
    let row = queued(&longest(), longest().as_str());
    let worker = on.worker("work", 0).await;
    park(&on, &worker, std::slice::from_ref(&row)).await;
    let letters = on.dead_letters(9).await;
    let [letter] = &*letters else { panic!("{letters:?}") };
    assert_eq!(essence(&letter.message), essence(&row));
    on.enqueue(0, &[queued(&row.sender, &row.row.recipient)]).await;
    assert!(on.waiting(&queue(0)).await[0].behind_parked);
}

pub(super) async fn rows_parked_without_an_attempt_are_listed_last(on: StoreUnderTest) {
    let park = async |partition: u16, rows: &[OutboxMessage]| {
        on.store.park(partition, rows, "it's \"late\"").await
    };
    let worker = on.worker("work", 0).await;
    let thing = stream("thing-1");
    let (first, other) = (queued(&thing, "a"), queued(&stream("thing-2"), "a"));
    let earlier = on.store.now().await.expect("the clock is read");
    for _ in 0..2 {
        let rows = [first.clone(), other.clone(), first.clone()];
        park(0, &rows).await.expect("the rows should be parked");
    }
    let later = on.store.now().await.expect("the clock is read");
    assert_eq!(on.waiting(&queue(0)).await, [], "none is to be executed");
    let letters = on.dead_letters(9).await;
    let rows = [first.clone(), other];
    assert_eq!(letters.len(), rows.len(), "what is parked twice is one message");
    for (letter, row) in letters.iter().zip(&rows) {
        assert_eq!((&letter.queue, letter.attempts), (&queue(0), 0));
        assert_eq!(essence(&letter.message), essence(row));
        assert_eq!(letter.error.as_deref(), Some("it's \"late\""));
        assert!((earlier..=later).contains(&letter.parked_at), "{}", letter.parked_at);
    }
    let next = queued(&thing, "a");
    on.enqueue(0, std::slice::from_ref(&next)).await;
    assert!(on.waiting(&queue(0)).await[0].behind_parked);
    carry_out(&on, &worker, first.row.id, REDRIVE, &[]).await;
    let waiting = on.waiting(&queue(0)).await;
    assert_eq!(ids(waiting.iter().map(|row| &row.message)), ids(&[first, next.clone()]));
    let nowhere = park(on.partitions(), &[next]).await;
    assert!(matches!(nowhere, Err(StoreError::Invalid(_))), "{nowhere:?}");
}

pub(super) async fn dead_letters_are_read_in_pages_and_in_order(on: StoreUnderTest) {
    let mut expected = 0;
    for partition in (0..on.partitions()).rev() {
        let worker = on.worker("work", partition).await;
        for target in ["b", "a", "b"] {
            let mut rows = ["x", "y", "x"].map(|to| queued(&stream("thing-1"), to));
            for queued in &mut rows {
                target.clone_into(&mut queued.row.target);
            }
            on.enqueue(partition, &rows).await;
            let from = Queue { target: target.to_owned(), ..queue(partition) };
            for row in on.waiting(&from).await.iter().rev() {
                assert!(on.settle_one(&worker, row, parked(1, None)).await);
                expected += 1;
            }
        }
    }
    let all = on.dead_letters(100).await;
    assert_eq!(all.len(), expected);
    for limit in [1, 2, 4] {
        assert_eq!(letter_ids(&on.dead_letters(limit).await), letter_ids(&all), "{limit}");
    }
    let places: Vec<_> = all.iter().map(|letter| (letter.queue.clone(), letter.position)).collect();
    assert!(places.is_sorted(), "{places:?}");
}

/// An operator decides while listing: listed dead letters disappear from under the reader.
pub(super) async fn a_page_may_start_after_a_deleted_dead_letter(on: StoreUnderTest) {
    let worker = on.worker("work", 0).await;
    let rows: Vec<_> = (0..6).map(|_| queued(&stream("thing-1"), "a")).collect();
    park(&on, &worker, &rows).await;
    let (mut seen, mut last) = (Vec::new(), None);
    loop {
        let page = on.store.dead_letters(last, 2).await.expect("the page is read");
        let Some(end) = page.last() else { break };
        last = Some((end.queue.clone(), end.position));
        seen.extend(letter_ids(&page));
        assert!(seen.len() <= rows.len(), "nothing comes twice");
        for id in letter_ids(&page) {
            carry_out(&on, &worker, id, DISCARD, &[]).await;
        }
    }
    assert_eq!(seen, ids(&rows));
    assert_eq!(on.dead_letters(9).await, []);
}

pub(super) async fn only_the_first_dead_letter_of_a_pair_is_decided(on: StoreUnderTest) {
    let worker = on.worker("work", 0).await;
    let (thing, other) = (stream("thing-1"), stream("thing-2"));
    let rows = [
        queued(&thing, "a"),
        queued(&thing, "b"),
        queued(&thing, "a"),
        queued(&other, "a"),
        queued(&thing, "a"),
    ];
    park(&on, &worker, &rows).await;
    let ids = ids(&rows);
    assert!(!decide(&on, fresh_id(), REDRIVE).await, "there is none");
    for behind in [2, 4] {
        for decision in [REDRIVE, DISCARD] {
            assert!(!decide(&on, ids[behind], decision).await, "it stands behind another");
        }
    }
    assert_eq!(decided(&on, &[queue(0)]).await, []);
    let heads: Vec<_> = on.dead_letters(9).await.iter().map(|letter| letter.is_head).collect();
    assert_eq!(heads, [true, true, false, true, false]);
    assert!(decide(&on, ids[3], DISCARD).await);
    assert!(decide(&on, ids[0], DISCARD).await);
    assert!(decide(&on, ids[0], REDRIVE).await, "a later decision replaces it");
    let elsewhere = Queue { target: "elsewhere".to_owned(), ..queue(0) };
    assert_eq!(decided(&on, std::slice::from_ref(&elsewhere)).await, []);
    let mut found: Vec<_> = decided(&on.another_process().await, &[elsewhere, queue(0)]).await;
    found.sort_by_key(|letter| letter.position);
    let found: Vec<_> = found.iter().map(|l| (l.message.row.id, l.decision)).collect();
    assert_eq!(found, [(ids[0], Some(REDRIVE)), (ids[3], Some(DISCARD))]);
    for (limit, count) in [(0, 0), (1, 1), (2, 2)] {
        let some = on.store.decided_dead_letters(&[queue(0)], limit).await;
        assert_eq!(some.expect("the dead letters are read").len(), count, "limit {limit}");
    }
    let shown: Vec<_> = on.dead_letters(9).await.iter().map(|letter| letter.decision).collect();
    assert_eq!(shown, [Some(REDRIVE), None, None, Some(DISCARD), None]);
}

pub(super) async fn redriven_rows_keep_their_place(on: StoreUnderTest) {
    let worker = on.worker("work", 0).await;
    let (thing, other) = (stream("thing-1"), stream("thing-2"));
    let rows = [
        queued(&thing, "a"),
        queued(&other, "a"),
        queued(&thing, "a"),
        queued(&thing, "b"),
        queued(&thing, "a"),
    ];
    on.enqueue(0, &rows).await;
    let before = on.waiting(&queue(0)).await;
    let later = [queued(&thing, "a"), queued(&thing, "c")];
    park(&on, &worker, &[]).await;
    on.enqueue(0, &later).await;
    carry_out(&on, &worker, rows[0].row.id, REDRIVE, &[]).await;
    let waiting = on.waiting(&queue(0)).await;
    let expected = [&rows[0], &rows[2], &rows[4], &later[0], &later[1]];
    assert_eq!(essences(waiting.iter().map(|row| &row.message)), essences(expected));
    for (row, before) in waiting.iter().zip([&before[0], &before[2], &before[4]]) {
        assert_eq!(row, before, "at its place, and as if it had never been tried");
    }
    assert!(!waiting[3].behind_parked, "nothing of its pair is parked any more");
    assert_eq!(letter_ids(&on.dead_letters(9).await), ids([&rows[1], &rows[3]]));

    assert!(on.settle_one(&worker, &waiting[0], parked(1, Some("again"))).await);
    let waiting = on.waiting(&queue(0)).await;
    assert!(waiting[0].behind_parked && waiting[2].behind_parked);
}

pub(super) async fn a_redrive_keeps_rows_with_their_own_errors_parked(on: StoreUnderTest) {
    let worker = on.worker("work", 0).await;
    let thing = stream("thing-1");
    let rows: Vec<_> = (0..6).map(|_| queued(&thing, "a")).collect();
    park(&on, &worker, &rows[..2]).await;
    on.store.park(0, &rows[2..3], "late").await.expect("the row should be parked");
    park(&on, &worker, &rows[3..4]).await;
    carry_out(&on, &worker, rows[0].row.id, REDRIVE, &[]).await;
    let waiting = on.waiting(&queue(0)).await;
    assert_eq!(ids(waiting.iter().map(|row| &row.message)), ids(&rows[..2]));
    assert!(waiting.iter().all(|row| !row.behind_parked), "what is parked stands behind them");
    assert_eq!(letter_ids(&on.dead_letters(9).await), ids(&rows[2..4]));
    on.enqueue(0, &rows[4..5]).await;
    let behind: Vec<_> = on.waiting(&queue(0)).await.iter().map(|r| r.behind_parked).collect();
    assert_eq!(behind, [false, false, true]);
    // Rows that are parked already are not parked twice.
    let again = [rows[4].clone(), rows[5].clone()];
    on.store.park(0, &again, "late").await.expect("the rows should be parked");
    assert_eq!(letter_ids(&on.dead_letters(9).await), ids([&rows[2], &rows[3], &rows[5]]));
    carry_out(&on, &worker, rows[2].row.id, REDRIVE, &[]).await;
    let waiting = on.waiting(&queue(0)).await;
    assert_eq!(ids(waiting.iter().map(|row| &row.message)), ids(&rows[..5]));
}

pub(super) async fn discarded_rows_are_deleted_and_answered(on: StoreUnderTest) {
    let worker = on.worker("work", 0).await;
    let (thing, other) = (stream("thing-1"), stream("thing-2"));
    let rows = [queued(&thing, "a"), queued(&thing, "a"), queued(&other, "a")];
    park(&on, &worker, &rows).await;
    let answers = [queued(&other, "sender"), queued(&other, "sender")];
    carry_out(&on, &worker, rows[0].row.id, DISCARD, &answers).await;
    let waiting = on.waiting(&queue(0)).await;
    assert_eq!(essences(waiting.iter().map(|row| &row.message)), essences(&answers));
    let left = on.dead_letters(9).await;
    assert_eq!(letter_ids(&left), ids(&rows[1..]), "those behind it stay");
    assert!(left.iter().all(|letter| letter.position < waiting[0].position));
    assert!(!decide(&on, rows[0].row.id, REDRIVE).await, "the dead letter is deleted");
    carry_out(&on, &worker, rows[1].row.id, REDRIVE, &[]).await;
    let found = on.waiting(&queue(0)).await;
    assert_eq!(found[0].message.row.id, rows[1].row.id, "the next one is the head");
    assert_eq!(found.len(), 3);
}

pub(super) async fn resolving_is_fenced_and_needs_a_decision(on: StoreUnderTest) {
    let first = on.worker("work", 0).await;
    let rows = [queued(&stream("thing-1"), "a"), queued(&stream("thing-1"), "b")];
    park(&on, &first, &rows).await;
    let second = on.successor(&first).await;
    let never = Lease { worker: "never".to_owned(), epoch: 0, ..first.lease.clone() };
    let never = Worker { lease: never, ..first.clone() };
    let undecided = on.dead_letters(9).await;
    let answer = [queued(&stream("thing-2"), "sender")];
    for decision in [None, Some(REDRIVE), Some(DISCARD)] {
        let claimed = DeadLetter { decision, ..undecided[0].clone() };
        assert!(!resolve(&on, &second, &claimed, &answer).await, "nothing was decided");
    }
    assert!(decide(&on, rows[0].row.id, DISCARD).await);
    let letter = decided(&on, &[queue(0)]).await.remove(0);
    for worker in [&first, &never] {
        assert!(!resolve(&on, worker, &letter, &answer).await);
    }
    let other = DeadLetter { decision: Some(REDRIVE), ..letter.clone() };
    assert!(!resolve(&on, &second, &other, &answer).await, "the other was decided");
    assert_eq!(on.dead_letters(9).await.len(), 2);
    assert_eq!(on.waiting(&queue(0)).await, []);
    assert!(resolve(&on, &second, &letter, &answer).await);
    assert!(!resolve(&on, &second, &letter, &answer).await, "it was done before");
    assert_eq!(on.waiting(&queue(0)).await.len(), 1);
}

/// Arms a timer of the stream and parks it.
async fn park_timer(
    on: &StoreUnderTest,
    worker: &Worker,
    thing: &StreamId,
    version: u64,
) -> DeadLetter {
    let timer = at_once("t");
    on.commit(&arming(thing, version, &[&timer])).await;
    let settlement = |change| TimerSettlement {
        lease: worker.lease.clone(),
        stream: thing.clone(),
        timer: firing_of(&timer),
        change,
    };
    for change in [failed(4, std::time::Duration::ZERO), parked(5, Some("no"))] {
        on.store.settle_timers(0, &[settlement(change)]).await.expect("the store is available");
    }
    assert_eq!(armed(on, thing).await, []);
    let letter = on.dead_letters(9).await.pop().expect("the timer is parked");
    assert_eq!(letter.queue, timer_queue());
    assert_eq!((letter.arming, letter.is_head), (Some(timer.arming), true));
    assert_eq!((letter.attempts, letter.error.as_deref()), (5, Some("no")));
    let OutboxMessage { sender: stream, row } = &letter.message;
    assert_eq!((stream, row.kind, &*row.target), (thing, OutboxKind::Timer, "thing"));
    assert_eq!((&*row.recipient, &row.content), ("t", &timer.content));
    assert_eq!(json(&row.metadata), json(&timer.metadata));
    assert_eq!(row.id, firing_of(&timer).message_id(on.log().id, thing).0);
    letter
}

pub(super) async fn parked_timers_are_due_again_when_redriven(on: StoreUnderTest) {
    let worker = on.worker("timers", 0).await;
    let streams = on.streams_of(0, "thing", 3);
    for (n, decision) in [REDRIVE, DISCARD].into_iter().enumerate() {
        let letter = park_timer(&on, &worker, &streams[n], 0).await;
        let answers =
            if decision == DISCARD { vec![queued(&streams[2], "sender")] } else { vec![] };
        carry_out(&on, &worker, letter.message.row.id, decision, &answers).await;
        let due = armed(&on, &streams[n]).await;
        if decision == REDRIVE {
            assert_eq!(due.len(), 1);
            assert_eq!(Some(due[0].timer.arming), letter.arming);
            assert_eq!((&*due[0].timer.id, due[0].attempts), ("t", 0));
            assert_eq!(due[0].content, letter.message.row.content);
            assert_eq!(json(&due[0].metadata), json(&letter.message.row.metadata));
        } else {
            assert_eq!(due, []);
            assert_eq!(on.waiting(&queue(0)).await.len(), 1, "the answer");
        }
        assert_eq!(on.dead_letters(9).await, []);
    }
}

pub(super) async fn parked_timers_are_cancelled_like_armed_ones(on: StoreUnderTest) {
    let worker = on.worker("timers", 0).await;
    let streams = on.streams_of(0, "thing", 5);
    let mut parked = Vec::new();
    for thing in &streams {
        parked.push(park_timer(&on, &worker, thing, 0).await);
    }
    let rearmed = at_once("t");
    on.commit(&arming(&streams[0], 1, &[&rearmed])).await;
    let mut cancelling = append(&streams[1], 1, 1);
    cancelling.timers = vec![TimerChange::Cancel { id: "t".to_owned() }];
    on.commit(&cancelling).await;
    let mut finishing = append(&streams[2], 1, 1);
    finishing.cancels_timers = true;
    on.commit(&finishing).await;
    let closing = on.store.close_stream(&streams[3], Version::new(1), EventId(fresh_id()));
    closing.await.expect("the stream should close");
    let mut other = append(&streams[4], 1, 1);
    other.timers = vec![TimerChange::Cancel { id: "other".to_owned() }];
    on.commit(&other).await;

    for letter in &parked[..4] {
        let stream = &letter.message.sender;
        assert!(!decide(&on, letter.message.row.id, REDRIVE).await, "that of {stream} is gone");
    }
    let left: Vec<_> = on.dead_letters(9).await.into_iter().map(|l| l.message.sender).collect();
    assert_eq!(left, streams[4..], "another timer's change leaves it alone");
    let due = armed(&on, &streams[0]).await;
    assert_eq!(due.iter().map(|due| due.timer.clone()).collect::<Vec<_>>(), [firing_of(&rearmed)]);
}

pub(super) async fn erasing_clears_content_of_all_queued_rows(on: StoreUnderTest) {
    let (thing, other) = (stream("thing-1"), stream("thing-2"));
    for partition in 0..on.partitions() {
        let worker = on.worker("work", partition).await;
        let rows = [&thing, &other, &thing, &other].map(|sender| queued(sender, "a"));
        on.enqueue(partition, &rows).await;
        for row in &on.waiting(&queue(partition)).await[..2] {
            assert!(on.settle_one(&worker, row, parked(1, Some("user 7"))).await);
        }
    }
    on.store.erase_stream(&thing).await.expect("the stream should be erased");
    let mut seen = Vec::new();
    for partition in 0..on.partitions() {
        seen.extend(on.waiting(&queue(partition)).await.into_iter().map(|row| row.message));
    }
    for letter in on.dead_letters(9).await {
        let error = letter.error.unwrap_or_default();
        assert_eq!(error.contains('7'), letter.message.sender == other, "{error}");
        seen.push(letter.message);
    }
    assert_eq!(seen.len(), 4 * usize::from(on.partitions()));
    for queued in seen {
        let is_erased = queued.sender == thing;
        assert_eq!(queued.row.content.bytes.is_empty(), is_erased, "{queued:?}");
        assert_eq!(queued.row.metadata.contains("user"), !is_erased, "{queued:?}");
    }
}

pub(super) async fn a_row_parked_twice_is_one_dead_letter(on: StoreUnderTest) {
    let worker = on.worker("work", 0).await;
    let rows = [queued(&stream("thing-1"), "a"), queued(&stream("thing-1"), "a")];
    // Queued twice, as after a lost response without a checkpoint.
    on.enqueue(0, &rows).await;
    on.enqueue(0, &rows).await;
    let waiting = on.waiting(&queue(0)).await;
    park(&on, &worker, &[]).await;
    assert_eq!(on.waiting(&queue(0)).await, []);
    let letters = on.dead_letters(1).await;
    assert_eq!(letter_ids(&letters), ids(&rows), "the same message, which the inbox absorbs");
    carry_out(&on, &worker, rows[0].row.id, REDRIVE, &[]).await;
    let again = on.waiting(&queue(0)).await;
    assert_eq!(ids(again.iter().map(|row| &row.message)), ids(&rows));
    assert!(again.iter().zip(&waiting).all(|(row, first)| row.position == first.position));
    assert!(on.settle_one(&worker, &again[0], QueueChange::Done(Vec::new())).await);
}
