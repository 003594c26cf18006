//! Timers that are fired, replaced and parked at the same time.

use composable_rust_core::Timestamp;
use composable_rust_core::queue::{DeadLetters as _, TimerSettlement, Timers as _};
use composable_rust_core::store::{Append, AppendOutcome, Due, ExpectedVersion};
use sqlx::Executor as _;

use crate::database::Database;
use crate::fixtures::{append, commit, stream};
use crate::work::{arm, arming, fires, firing, hold, parked, timer_queue};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_fires_once_or_is_replaced() {
    let database = Database::create().await;
    let stores = [database.store(1).await, database.store(1).await];
    commit(&stores[0], &arming(1)).await;
    let (mut fired, mut void) = (0, 0);
    for n in 1..=60 {
        let one = fires(n, 1_000 + n);
        let other = fires(n, 2_000 + n);
        let next = arming(n + 1);
        let (one, other, next) =
            tokio::join!(commit(&stores[0], &one), commit(&stores[1], &other), async {
                if n % 2 == 0 {
                    tokio::task::yield_now().await;
                }
                commit(&stores[usize::from(n % 3 == 0)], &next).await
            });
        assert!(matches!(next, AppendOutcome::Committed { .. }), "{next:?}");
        match (&one, &other) {
            (AppendOutcome::Committed { .. }, AppendOutcome::StaleTimers(which))
            | (AppendOutcome::StaleTimers(which), AppendOutcome::Committed { .. }) => {
                assert_eq!(which, &[0]);
                fired += 1;
            }
            (AppendOutcome::StaleTimers(_), AppendOutcome::StaleTimers(_)) => void += 1,
            both => panic!("{both:?}"),
        }
        let due = stores[0].due_timers(&[timer_queue()], 10).await.unwrap();
        let firings: Vec<_> = due.timers.into_iter().map(|timer| timer.timer).collect();
        assert_eq!(firings, [firing(n + 1)]);
    }
    println!("{fired} fired, {void} were replaced");
}

/// A fired timer is not parked, and a parked one is not fired.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_fires_or_is_parked() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let other = database.store(1).await;
    let lease = hold(&store).await;
    for n in 1..=40 {
        commit(&store, &arming(n)).await;
        let firing_append = fires(n, 1_000 + n);
        let park = TimerSettlement {
            lease: lease.clone(),
            stream: stream("order-1"),
            timer: firing(n),
            change: parked(Some("no")),
        };
        let before = store.dead_letters(None, 1_000).await.unwrap().len();
        let park = [park];
        let (fired, parked) =
            tokio::join!(commit(&other, &firing_append), store.settle_timers(0, &park));
        parked.unwrap();
        let letters = store.dead_letters(None, 1_000).await.unwrap();
        let is_parked = letters.len() > before;
        match fired {
            AppendOutcome::Committed { .. } => assert!(!is_parked, "both"),
            AppendOutcome::StaleTimers(_) => assert!(is_parked, "neither"),
            other => panic!("{other:?}"),
        }
        assert_eq!(store.due_timers(&[timer_queue()], 10).await.unwrap().timers, []);
    }
}

/// As long as any transaction holds an older snapshot, timers that have fired stay in the index.
#[tokio::test]
async fn fired_timers_are_not_read_again() {
    const COUNT: i64 = 3_000;
    let database = Database::create().await;
    let store = database.store(1).await;
    let mut own = database.connection().await;
    let fill = format!(
        "insert into timers select now() - interval '1 minute', now(), gen_random_uuid(), \
         gen_random_uuid(), 0, 0, 1, 0, 'order', 'order-' || n, 't', 'x', 'c', '' \
         from generate_series(1, {COUNT}) n"
    );
    own.execute(fill.as_str()).await.unwrap();
    let mut foreign = database.connection().await;
    foreign.execute("begin isolation level repeatable read; select from timers").await.unwrap();
    own.execute("delete from timers").await.unwrap();
    for _ in 0..20 {
        assert_eq!(store.due_timers(&[timer_queue()], 10).await.unwrap().timers, []);
    }
    // A timer that is armed for the past is due at once.
    let past = Due::At(Timestamp::from_micros(1));
    let arm_late =
        Append { timers: vec![arm(1, past)], ..append("order-1", ExpectedVersion::Any, &[]) };
    commit(&store, &arm_late).await;
    let due = store.due_timers(&[timer_queue()], 10).await.unwrap().timers;
    assert_eq!(due.len(), 1);
    drop((store, foreign));
    database.wait_for_end_of_others(&mut own).await;
    let read: i64 = sqlx::query_scalar(
        "select idx_tup_read from pg_stat_user_indexes where indexrelname = 'timers_due'",
    )
    .fetch_one(&mut own)
    .await
    .unwrap();
    assert!(read < 10 * COUNT, "{read} entries were read");
}
