//! Checkpoints of followers: a checkpoint and the rows queued with it commit together.

use composable_rust_core::EventId;
use composable_rust_core::queue::{
    Checkpoint, CheckpointAdvance, Checkpoints as _, Lease, Outbox as _, OutboxMessage,
};
use composable_rust_core::store::StoreError;

use super::builders::{fresh_id, stream};
use super::subject::StoreUnderTest;
use super::workers::{essences, ids, queue, queued};

fn at(partition: u16, offset: u64) -> Checkpoint {
    Checkpoint { partition, offset, event_id: Some(EventId(fresh_id())) }
}

fn advance(lease: &Lease, to: Checkpoint) -> CheckpointAdvance {
    CheckpointAdvance { name: "follower".to_owned(), lease: lease.clone(), to }
}

async fn queue_and_move(
    on: &StoreUnderTest,
    rows: &[OutboxMessage],
    advance: &CheckpointAdvance,
) -> bool {
    let partition = advance.to.partition;
    on.store.enqueue(partition, rows, Some(advance)).await.expect("the store is available")
}

async fn checkpoints(on: &StoreUnderTest, name: &str) -> Vec<Checkpoint> {
    on.store.load_checkpoints(name).await.expect("the checkpoints are read")
}

pub(super) async fn checkpoints_are_ordered_by_partition(on: StoreUnderTest) {
    let mut expected = Vec::new();
    for partition in (0..on.partitions()).rev() {
        let worker = on.worker("follow", partition).await;
        let to = Checkpoint { event_id: None, ..at(partition, 7) };
        assert!(queue_and_move(&on, &[], &advance(&worker.lease, to)).await);
        assert_eq!(checkpoints(&on, "another").await, [], "it never began");
        let to = at(partition, 9 + u64::from(partition));
        assert!(queue_and_move(&on, &[], &advance(&worker.lease, to)).await);
        expected.insert(0, to);
        assert_eq!(checkpoints(&on, "follower").await, expected);
    }
    assert_eq!(checkpoints(&on.another_process().await, "follower").await, expected);
}

pub(super) async fn checkpoints_advance_together_with_queued_rows(on: StoreUnderTest) {
    let worker = on.worker("follow", 0).await;
    let thing = on.streams_of(0, "thing", 1).remove(0);
    let mut expected = Vec::new();
    for round in 1..4 {
        let rows = [queued(&thing, "a"), queued(&stream("thing-9"), "b"), queued(&thing, "a")];
        let to = at(0, round * 10);
        assert!(queue_and_move(&on, &rows, &advance(&worker.lease, to)).await);
        expected.extend(rows);
        assert_eq!(checkpoints(&on, "follower").await, [to]);
        let waiting = on.waiting(&queue(0)).await;
        assert_eq!(essences(waiting.iter().map(|row| &row.message)), essences(&expected));
    }
}

pub(super) async fn checkpoints_are_fenced(on: StoreUnderTest) {
    let first = on.worker("follow", 0).await;
    let row = [queued(&stream("thing-1"), "a")];
    let unleased = Lease { epoch: 0, worker: "nobody".to_owned(), ..first.lease.clone() };
    let second = on.successor(&first).await;
    for lease in [&unleased, &first.lease] {
        assert!(!queue_and_move(&on, &row, &advance(lease, at(0, 1))).await, "{lease:?}");
    }
    assert_eq!(on.waiting(&queue(0)).await, [], "nothing is written");
    assert_eq!(checkpoints(&on, "follower").await, []);
    let to = at(0, 3);
    assert!(queue_and_move(&on, &row, &advance(&second.lease, to)).await);
    for offset in [2, 3, 4] {
        let late = advance(&first.lease, at(0, offset));
        assert!(!queue_and_move(&on, &row, &late).await, "whatever it says");
    }
    assert_eq!(on.waiting(&queue(0)).await.len(), 1);
    assert_eq!(checkpoints(&on, "follower").await, [to]);
}

pub(super) async fn a_repeated_checkpoint_advance_queues_nothing(on: StoreUnderTest) {
    let worker = on.worker("follow", 0).await;
    let rows = [queued(&stream("thing-1"), "a"), queued(&stream("thing-1"), "b")];
    let to = at(0, 5);
    for _ in 0..3 {
        assert!(queue_and_move(&on, &rows, &advance(&worker.lease, to)).await);
    }
    let behind = advance(&worker.lease, at(0, 4));
    assert!(queue_and_move(&on, &[queued(&stream("thing-1"), "c")], &behind).await);
    assert_eq!(checkpoints(&on, "follower").await, [to], "it never goes back");
    let waiting = on.waiting(&queue(0)).await;
    assert_eq!(ids(waiting.iter().map(|row| &row.message)), ids(&rows));
}

pub(super) async fn checkpoints_without_a_lease_only_move_forward(on: StoreUnderTest) {
    let keep = async |name: &str, to: &[Checkpoint]| {
        on.store.save_checkpoints(name, to).await.expect("the checkpoints should be saved");
    };
    // The partitions of this checkpoint are not the log's.
    let (first, far) = (at(0, 0), at(3_000, 5));
    keep("bus", &[far, first]).await;
    assert_eq!(checkpoints(&on, "bus").await, [first, far]);
    let further = at(0, 9);
    keep("bus", &[further, at(3_000, 4)]).await;
    keep("bus", &[at(0, 8), at(3_000, 5)]).await;
    keep("another", &[at(0, 1)]).await;
    assert_eq!(checkpoints(&on, "bus").await, [further, far], "none went back");
    assert_eq!(checkpoints(&on.another_process().await, "bus").await, [further, far]);
    keep("bus", &[]).await;
}

pub(super) async fn a_rewound_checkpoint_gets_a_new_epoch(on: StoreUnderTest) {
    let first = on.worker("follow", 0).await;
    let moves = async |lease: &Lease, offset| {
        let (name, lease, to) = (lease.worker.clone(), lease.clone(), at(0, offset));
        queue_and_move(&on, &[], &CheckpointAdvance { name, lease, to }).await
    };
    let start = Checkpoint { event_id: None, ..at(0, 0) };
    let rewind = async |name: &str| {
        on.store.rewind(name, start).await.expect("the checkpoint should be rewound");
    };
    assert!(moves(&first.lease, 7).await);
    rewind("follow").await;
    assert_eq!(checkpoints(&on, "follow").await, [start]);
    assert!(!moves(&first.lease, 8).await, "its holder is fenced");
    assert_eq!(checkpoints(&on, "follow").await, [start]);
    let second = on.worker("follow", 0).await;
    assert!(second.lease.epoch > first.lease.epoch);
    assert!(moves(&second.lease, 3).await);
    assert_eq!(checkpoints(&on, "follow").await[0].offset, 3);
    // Rewinding moves a checkpoint to any place, backward and forward.
    for to in [at(0, 2), at(0, 9)] {
        on.store.rewind("follow", to).await.expect("the checkpoint should be rewound");
        assert_eq!(checkpoints(&on, "follow").await, [to], "it is where it was moved to");
    }
    assert!(!moves(&second.lease, 10).await, "its holder is fenced");
    // Rewinding creates a missing checkpoint.
    rewind("never").await;
    assert_eq!(checkpoints(&on, "never").await, [start]);
    on.worker("never", 0).await;
}

pub(super) async fn queued_rows_belong_to_the_checkpoint_partition(on: StoreUnderTest) {
    let worker = on.worker("follow", 0).await;
    let elsewhere = Lease { partition: 1, ..worker.lease.clone() };
    for (partition, lease, to) in [
        (on.partitions(), &worker.lease, at(0, 1)),
        (0, &elsewhere, at(0, 1)),
        (0, &worker.lease, at(1, 1)),
    ] {
        let advance = advance(lease, to);
        let rows = [queued(&stream("thing-1"), "a")];
        let refused = on.store.enqueue(partition, &rows, Some(&advance)).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    }
    assert_eq!(checkpoints(&on, "follower").await, []);
    assert_eq!(on.waiting(&queue(0)).await, []);
}
