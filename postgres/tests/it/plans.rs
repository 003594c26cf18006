//! Every statement finds its rows by an index, also if its plan was made for empty tables.

use std::time::Duration;

use composable_rust_core::queue::{
    ArmedTimer, Checkpoint, CheckpointAdvance, Checkpoints as _, DeadLetterDecision,
    DeadLetters as _, Inbox as _, Lease, LeaseAction, LeaseRequest, Leases as _, Outbox as _,
    OutboxKind, OutboxMessage, Queue, QueueChange, QueuePosition, Settlement, TimerQueue,
    TimerSettlement, Timers as _,
};
use composable_rust_core::store::{
    AppendOutcome, Due, EventStore as _, ExpectedVersion, Fingerprint, NewOutboxRow, NewTimer,
    Snapshot, TimerArming, TimerChange,
};
use composable_rust_core::{EventId, MessageId, Position, Version};
use composable_rust_postgres::PostgresEventStore;
use futures_util::TryStreamExt as _;
use uuid::Uuid;

use crate::database::Database;
use crate::fixtures::{append, commit, content, exact, mark, stream};

/// The number of sequential scans of each table, once all backends have ended and reported.
async fn scans(database: &Database, store: PostgresEventStore) -> Vec<(String, i64)> {
    drop(store);
    let mut connection = database.connection().await;
    database.wait_for_end_of_others(&mut connection).await;
    // These are small, and read whole.
    sqlx::query_as(
        "select relname::text, seq_scan from pg_stat_user_tables \
         where relname not in ('log', 'partitions', 'pauses') order by relname",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap()
}

async fn use_everything(store: &PostgresEventStore, round: u128) {
    let order = stream(&format!("order-{round}"));
    let timer = |id: &str| {
        TimerChange::Arm(NewTimer {
            id: id.to_owned(),
            arming: TimerArming { armed_by: MessageId(Uuid::from_u128(round)), effect_index: 0 },
            due: Due::After(Duration::from_secs(60)),
            content: content("order.late", b""),
            metadata: String::new(),
        })
    };
    let mut first =
        append(order.as_str(), exact(0), &[round, round + 1]).with_inbox(vec![mark(round, 0, 2)]);
    first.timers = vec![timer("t"), timer("u")];
    let outcome = commit(store, &first).await;
    assert_eq!(commit(store, &first).await, outcome);
    let duplicate = append(order.as_str(), exact(2), &[1]).with_inbox(vec![mark(round, 0, 1)]);
    assert!(matches!(commit(store, &duplicate).await, AppendOutcome::Duplicate(_)));
    let mut second = append(order.as_str(), ExpectedVersion::Exists, &[]);
    second.timers = vec![TimerChange::Cancel { id: "t".to_owned() }];
    commit(store, &second).await;
    commit(store, &append(order.as_str(), exact(2), &[round + 2])).await;
    let saved = Snapshot {
        version: Version::new(1),
        fingerprint: Fingerprint(1),
        codec: "json".to_owned(),
        bytes: Vec::new(),
    };
    let events = store.load_events(&order, Version::ZERO).try_collect::<Vec<_>>().await.unwrap();
    store.save_snapshot(&order, &saved, events[0].id).await.unwrap();
    store.override_event(&order, Version::new(1), &content("order.placed", b"")).await.unwrap();
    store.load_events(&order, Version::ZERO).try_collect::<Vec<_>>().await.unwrap();
    store.load_with_snapshot(&order, Fingerprint(1)).try_collect::<Vec<_>>().await.unwrap();
    store.read_log(&Position::start_positions(3), 10).await.unwrap();
    store.heads().await.unwrap();
    store.load_inbox_entry(&order, MessageId(Uuid::from_u128(round))).await.unwrap();
    store.erase_stream(&order).await.unwrap();
    let end = EventId(Uuid::from_u128(round + 3));
    store.close_stream(&order, Version::new(4), end).await.unwrap();
}

async fn work_on_everything(store: &PostgresEventStore, round: u128) {
    let worker = "dispatch/payment".to_owned();
    let holder = Uuid::from_u128(1);
    let claim = Lease { worker: worker.clone(), partition: 0, epoch: 0 };
    let lease = Lease { epoch: 1, ..claim.clone() };
    let changes = [LeaseAction::Claim, LeaseAction::Renew].map(|action| match action {
        LeaseAction::Claim => (claim.clone(), action),
        _ => (lease.clone(), action),
    });
    let ttl = Duration::from_secs(60);
    let turn = LeaseRequest {
        holder,
        workers: vec![worker.clone()],
        ttl,
        min_epoch: 0,
        changes: changes.to_vec(),
    };
    store.change_leases(&turn).await.unwrap();
    store.load_leases(&[worker]).await.unwrap();

    let queue = Queue { partition: 0, kind: OutboxKind::Dispatch, target: "payment".to_owned() };
    let order = (0..).map(|n| stream(&format!("late-{round}-{n}")));
    let order = order.into_iter().find(|order| store.log().partition_of(order) == 0).unwrap();
    let queued = |n: u128| OutboxMessage {
        sender: order.clone(),
        row: NewOutboxRow {
            id: Uuid::from_u128(round + n),
            kind: OutboxKind::Dispatch,
            target: "payment".to_owned(),
            recipient: "payment-1".to_owned(),
            content: content("payment.charge", b""),
            metadata: String::new(),
        },
    };
    let to = Checkpoint { partition: 0, offset: u64::try_from(round).unwrap(), event_id: None };
    let advance = CheckpointAdvance { name: "policy".to_owned(), lease: lease.clone(), to };
    let rows = [queued(0), queued(1), queued(2), queued(3)];
    assert!(store.enqueue(0, &rows, Some(&advance)).await.unwrap());
    store.load_checkpoints("policy").await.unwrap();
    let rows = store.read_outbox(&[(queue.clone(), QueuePosition::default())], 10).await.unwrap();
    store.queued_streams(&queue).await.unwrap();
    store.count_waiting(std::slice::from_ref(&queue), 10).await.unwrap();
    store.summarize_queues(10).await.unwrap();
    let parked =
        |error: Option<&str>| QueueChange::Parked { attempts: 1, error: error.map(str::to_owned) };
    let retry_after = Duration::from_secs(60);
    let failed = || QueueChange::Failed { attempts: 1, retry_after, error: "no".to_owned() };
    let changes = [QueueChange::Done(vec![queued(4)]), failed(), parked(Some("no")), parked(None)];
    let settlements = rows.iter().rev().zip(changes).map(|(row, change)| Settlement {
        lease: lease.clone(),
        queue: queue.clone(),
        position: row.position,
        change,
    });
    store.settle(0, &settlements.collect::<Vec<_>>()).await.unwrap();

    let firing = |id: &str| ArmedTimer {
        id: id.to_owned(),
        arming: TimerArming { armed_by: MessageId(Uuid::from_u128(round)), effect_index: 0 },
    };
    let mut armed = append(order.as_str(), exact(0), &[round + 50]);
    armed.timers = ["t", "u", "v"]
        .map(|id| {
            TimerChange::Arm(NewTimer {
                id: id.to_owned(),
                arming: firing(id).arming,
                due: Due::After(Duration::ZERO),
                content: content("late.late", b""),
                metadata: String::new(),
            })
        })
        .to_vec();
    commit(store, &armed).await;
    let mut fired = append(order.as_str(), exact(1), &[]).with_inbox(vec![mark(round + 60, 0, 0)]);
    fired.fired_timers = vec![firing("t")];
    commit(store, &fired).await;
    fired.inbox[0].message_id = MessageId(Uuid::from_u128(round + 61));
    assert_eq!(commit(store, &fired).await, AppendOutcome::StaleTimers(vec![0]));
    let timers = TimerQueue { partition: 0, category: "late".to_owned() };
    assert!(!store.due_timers(&[timers], 10).await.unwrap().timers.is_empty());
    let settlements = [("u", failed()), ("v", parked(Some("no")))].map(|(id, change)| {
        TimerSettlement { lease: lease.clone(), stream: order.clone(), timer: firing(id), change }
    });
    store.settle_timers(0, &settlements).await.unwrap();

    let letters = store.dead_letters(None, 10).await.unwrap();
    let first = &letters[0];
    store.dead_letters(Some((first.queue.clone(), first.position)), 10).await.unwrap();
    let all = letters.iter().map(|letter| letter.queue.clone()).collect::<Vec<_>>();
    for (letter, decision) in letters
        .iter()
        .zip([DeadLetterDecision::Redrive, DeadLetterDecision::Discard].iter().cycle())
    {
        store.decide_dead_letter(0, letter.message.row.id, *decision).await.unwrap();
    }
    for letter in store.decided_dead_letters(&all, 100).await.unwrap() {
        store.resolve_dead_letter(&lease, &letter, &[queued(5)]).await.unwrap();
    }
    store.prune_inbox(0, Duration::ZERO, 1).await.unwrap();
    store.erase_stream(&order).await.unwrap();
}

#[tokio::test]
async fn no_statement_scans_a_table_sequentially() {
    let database = Database::create().await;
    let before = scans(&database, database.store(3).await).await;
    let store = database.store(3).await;
    for round in 1..=10 {
        use_everything(&store, round * 100).await;
        work_on_everything(&store, round * 1_000).await;
    }
    assert_eq!(scans(&database, store).await, before);
}
