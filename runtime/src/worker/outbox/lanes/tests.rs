//! Tests of the lanes.

use composable_rust_core::Timestamp;
use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::queue::{OutboxKind, OutboxMessage};
use composable_rust_core::store::NewOutboxRow;

use super::*;

fn queue() -> Queue {
    Queue { partition: 0, kind: OutboxKind::Dispatch, target: "thing".to_owned() }
}

fn row(sequence: u64, recipient: &str) -> OutboxRow {
    let content =
        EncodedMessage { name: "x".into(), version: 1, codec: "none".into(), bytes: vec![0; 10] };
    let row = NewOutboxRow {
        id: uuid::Uuid::from_u128(sequence.into()),
        kind: OutboxKind::Dispatch,
        target: "thing".to_owned(),
        recipient: recipient.to_owned(),
        content,
        metadata: String::new(),
    };
    OutboxRow {
        queue: queue(),
        position: QueuePosition { sequence, index: 0 },
        message: OutboxMessage { sender: "sender-1".parse().unwrap(), row },
        attempts: 0,
        begun: false,
        wait: Duration::ZERO,
        behind_parked: false,
        queued_at: Timestamp::from_micros(0),
    }
}

/// Reads the rows after a position, as the dispatcher does.
fn read(lanes: &mut Lanes, store: &[OutboxRow], after: &mut QueuePosition, limit: usize) {
    if let Some(position) = lanes.take_rewind(&queue()) {
        *after = position.min(*after);
    }
    let behind = store.iter().filter(|row| row.position > *after).take(limit);
    for row in behind.cloned().collect::<Vec<_>>() {
        *after = row.position;
        lanes.push(row, Duration::ZERO);
    }
}

/// Reads the first row of a lane again, as the dispatcher does.
fn reread(lanes: &mut Lanes, key: LaneKey, store: &[OutboxRow]) {
    lanes.request_first(key);
    let after = lanes.requested_after(&queue()).unwrap();
    let rows = store.iter().filter(|row| row.position > after).take(3).cloned();
    lanes.restore(&queue(), rows.collect::<Vec<_>>(), 3, MINUTE);
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn evicted_rows_are_read_again_in_order() {
    let mut store: Vec<_> = (1..=100).map(|n| row(n, "thing-a")).collect();
    store.insert(50, row(1_000, "thing-b"));
    store.sort_by_key(|row| row.position);
    let (mut lanes, mut after) = (Lanes::default(), QueuePosition::default());
    read(&mut lanes, &store, &mut after, 60);
    let key = lanes.next(Duration::ZERO).unwrap();
    let (read_id, _) = lanes.first(&key).unwrap();
    lanes.evict(&queue());
    assert_eq!(lanes.rows(&queue()), 60, "the lane is not blocked");
    lanes.set_blocked(&key, true);
    lanes.evict(&queue());
    assert_eq!((lanes.rows(&queue()), lanes.bytes(&queue())), (1, 10), "the lane has its turn");
    lanes.back_off(&key, read_id, Duration::ZERO, |_| MINUTE);
    lanes.evict(&queue());
    assert_eq!((lanes.rows(&queue()), lanes.bytes(&queue())), (0, 0));
    assert_eq!((lanes.unblocked_rows(&queue()), lanes.unblocked_bytes(&queue())), (0, 0));
    assert!(lanes.has_evicted(&queue()));

    // Other lanes are read, and no row of the lane overtakes the evicted ones.
    read(&mut lanes, &store, &mut after, 200);
    assert_eq!((lanes.rows(&queue()), lanes.unblocked_rows(&queue())), (1, 1));
    let other = lanes.next(Duration::ZERO).unwrap();
    assert_eq!(other.recipient, "thing-b");
    let (read_id, _) = lanes.first(&other).unwrap();
    store.retain(|row| row.message.row.recipient != "thing-b");
    lanes.advance(&other, read_id, Duration::ZERO);

    let mut done = Vec::new();
    while !store.is_empty() {
        read(&mut lanes, &store, &mut after, 7);
        let Some(key) = lanes.next(MINUTE) else { continue };
        let Some((read_id, first)) = lanes.first(&key) else {
            reread(&mut lanes, key, &store);
            continue;
        };
        assert_eq!(store.remove(0).position, first.position);
        done.push(first.position.sequence);
        lanes.advance(&key, read_id, MINUTE);
    }
    assert_eq!(done, (1..=100).collect::<Vec<_>>());
    assert_eq!((lanes.rows(&queue()), lanes.bytes(&queue())), (0, 0));
    assert!(!lanes.has_evicted(&queue()));
}

#[test]
fn a_lane_that_is_removed_is_read_again() {
    let store: Vec<_> = (1..=30).map(|n| row(n, "thing-a")).collect();
    let (mut lanes, mut after) = (Lanes::default(), QueuePosition::default());
    read(&mut lanes, &store, &mut after, 30);
    let key = lanes.next(Duration::ZERO).unwrap();
    let (read_id, _) = lanes.first(&key).unwrap();
    lanes.retry(&key, read_id, 1, Duration::ZERO, MINUTE);
    lanes.evict(&queue());
    assert_eq!(lanes.remove(&key), []);
    read(&mut lanes, &store, &mut after, 30);
    let (_, first) = lanes.first(&key).unwrap();
    assert_eq!((first.position.sequence, lanes.rows(&queue())), (1, 30));
}

/// The evicted row is gone when its lane has its turn, as when an operator discards it.
#[test]
fn rows_behind_an_evicted_row_that_is_gone_are_read() {
    let mut store: Vec<_> = (1..=3).map(|n| row(n, "thing-a")).collect();
    let (mut lanes, mut after) = (Lanes::default(), QueuePosition::default());
    read(&mut lanes, &store, &mut after, 1);
    let key = lanes.next(Duration::ZERO).unwrap();
    let (read_id, _) = lanes.first(&key).unwrap();
    lanes.back_off(&key, read_id, Duration::ZERO, |_| MINUTE);
    lanes.evict(&queue());
    read(&mut lanes, &store, &mut after, 10);
    assert_eq!(
        (lanes.rows(&queue()), lanes.evicted_lanes(&queue())),
        (0, 1),
        "the second row waits for the first"
    );
    store.remove(0);
    let key = lanes.next(MINUTE).unwrap();
    reread(&mut lanes, key.clone(), &store);
    assert!(lanes.first(&key).is_none());
    read(&mut lanes, &store, &mut after, 10);
    assert_eq!((lanes.rows(&queue()), lanes.evicted_lanes(&queue())), (2, 0));
    assert!(!lanes.has_evicted(&queue()));
    assert_eq!(lanes.first(&key).unwrap().1.position.sequence, 2);
}

/// A lane has two turns: one to join the line, and one when the capacity admits it.
#[test]
fn lanes_wait_in_order_for_a_capacity() {
    let mut lanes = Lanes::default();
    for n in 1..=1_000 {
        lanes.push(row(n, &format!("thing-{n}")), Duration::ZERO);
    }
    let capacity =
        LaneCapacity { executor: (OutboxKind::Dispatch, "thing".to_owned()), class: Class::Plain };
    let mut turns = 0;
    while let Some(key) = lanes.next(Duration::ZERO) {
        lanes.wait_for_capacity(&key, capacity.clone());
        turns += 1;
    }
    assert_eq!((turns, lanes.next_in(Duration::ZERO)), (1_000, None));
    for n in 1..=1_000 {
        assert!(lanes.next(MINUTE).is_none(), "no lane has another turn");
        let key = lanes.next_waiting(&capacity).unwrap();
        assert_eq!(key.recipient, format!("thing-{n}"), "in order");
        let (read_id, _) = lanes.first(&key).unwrap();
        lanes.advance(&key, read_id, Duration::ZERO);
    }
    assert!(lanes.next_waiting(&capacity).is_none() && lanes.awaited_capacities().is_empty());
}
