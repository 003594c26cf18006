//! All kinds of writes at the same time.

use std::time::Duration;

use composable_rust_core::queue::{
    DeadLetterDecision, DeadLetters as _, Inbox as _, Lease, LeaseAction, Leases as _, Outbox as _,
    OutboxMessage, OutboxRow, Queue, QueueChange, TimerSettlement, Timers as _,
};
use composable_rust_core::store::{Append, Due, EventStore as _, ExpectedVersion};
use composable_rust_postgres::PostgresEventStore;
use tokio::time::Instant;

use crate::database::Database;
use crate::fixtures::{append, mark, stream};
use crate::work::{arm, done, hold, parked, queued, read, round, row, settlement, timer_queue};

/// All kinds of writes at the same time, on the same few rows, from two pools.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writes_do_not_deadlock() {
    let database = Database::create().await;
    let stores = [database.store(2).await, database.store(2).await];
    let lease = hold(&stores[0]).await;
    let end = Instant::now() + Duration::from_secs(4);
    let tasks = (0..8_usize).map(|task| {
        let store = stores[task % 2].clone();
        let worker = Worker { store, lease: lease.clone(), task: task as u128 };
        tokio::spawn(async move {
            let mut n = 0;
            while Instant::now() < end {
                n += 1;
                match task {
                    0 | 1 => worker.append(n).await,
                    2 | 3 => worker.settle(n).await,
                    4 => worker.settle_timers(n).await,
                    5 => worker.resolve().await,
                    6 => worker.erase(n).await,
                    _ => worker.renew_and_prune().await,
                }
            }
            n
        })
    });
    let rounds: Vec<u128> = futures_util::future::join_all(tasks.collect::<Vec<_>>())
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(rounds.iter().all(|rounds| *rounds > 5), "{rounds:?}");
    drop(stores);
    let mut connection = database.connection().await;
    database.wait_for_end_of_others(&mut connection).await;
    let deadlocks: i64 = sqlx::query_scalar(
        "select deadlocks from pg_stat_database where datname = current_database()",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(deadlocks, 0);
}

struct Worker {
    store: PostgresEventStore,
    lease: Lease,
    task: u128,
}

impl Worker {
    /// The streams of partition 0 that all tasks write to.
    fn streams(&self) -> Vec<String> {
        let names = (0..).map(|n| format!("order-{n}"));
        names.filter(|n| self.store.log().partition_of(&stream(n)) == 0).take(6).collect()
    }

    async fn append(&self, n: u128) {
        let id = (self.task + 1) << 64 | n << 8;
        let mut batch: Vec<Append> = (0..)
            .zip(self.streams())
            .map(|(index, name)| Append {
                outbox: vec![row(id + index), row(id + index + 100)],
                timers: vec![arm(id + index, Due::After(Duration::ZERO))],
                inbox: vec![mark(id + index, 0, 0)],
                ..append(&name, ExpectedVersion::Any, &[])
            })
            .collect();
        if self.task % 2 == 0 {
            batch.reverse();
        }
        self.store.append_events(0, &batch).await.unwrap();
    }

    /// Settles with rows that need the partition's lock only sometimes; the two settling tasks lock
    /// the rows in opposite orders.
    async fn settle(&self, n: u128) {
        let mut rows = read(&self.store).await;
        rows.truncate(60);
        if self.task % 2 == 0 {
            rows.reverse();
        }
        let instead =
            |row: &OutboxRow| OutboxMessage { sender: row.message.sender.clone(), ..queued(n) };
        let settlements = rows.iter().map(|row| {
            let change = match (row.position.index + u32::try_from(n).unwrap()) % 4 {
                0 if n % 5 == 0 => QueueChange::Done(vec![instead(row)]),
                0 => done(),
                1 => parked(Some("no")),
                _ => QueueChange::Failed {
                    attempts: 1,
                    retry_after: Duration::ZERO,
                    error: String::new(),
                },
            };
            settlement(&self.lease, row, change)
        });
        self.store.settle(0, &settlements.collect::<Vec<_>>()).await.unwrap();
    }

    async fn settle_timers(&self, n: u128) {
        let mut due = self.store.due_timers(&[timer_queue()], 10).await.unwrap().timers;
        due.reverse();
        let settlements = due.into_iter().zip(n..).map(|(timer, n)| TimerSettlement {
            lease: self.lease.clone(),
            stream: timer.stream,
            timer: timer.timer,
            change: if n % 3 == 0 { done() } else { parked(Some("no")) },
        });
        self.store.settle_timers(0, &settlements.collect::<Vec<_>>()).await.unwrap();
    }

    async fn resolve(&self) {
        let letters = self.store.dead_letters(None, 20).await.unwrap();
        let mut queues: Vec<Queue> = letters.iter().map(|letter| letter.queue.clone()).collect();
        queues.dedup();
        for (letter, n) in letters.iter().zip(0..) {
            let decision =
                [DeadLetterDecision::Redrive, DeadLetterDecision::Discard][usize::from(n % 4 == 0)];
            self.store.decide_dead_letter(0, letter.message.row.id, decision).await.unwrap();
        }
        for letter in self.store.decided_dead_letters(&queues, 100).await.unwrap() {
            self.store.resolve_dead_letter(&self.lease, &letter, &[queued(1)]).await.unwrap();
        }
    }

    async fn erase(&self, n: u128) {
        let streams = self.streams();
        let name = &streams[usize::try_from(n).unwrap() % streams.len()];
        self.store.erase_stream(&stream(name)).await.unwrap();
    }

    async fn renew_and_prune(&self) {
        let renew = vec![(self.lease.clone(), LeaseAction::Renew)];
        let made = self.store.change_leases(&round(1, Duration::from_secs(60), renew)).await;
        assert_eq!(made.unwrap(), [true]);
        self.store.prune_inbox(0, Duration::ZERO, 20).await.unwrap();
    }
}
