//! Following the log: catching up, failures and shutdown.

use std::sync::atomic::Ordering;
use std::time::Duration;

use composable_rust_core::StreamId;
use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::environment::Clock;
use composable_rust_core::event::NewEvent;
use composable_rust_core::prelude::*;
use composable_rust_core::projection::ProjectionState;
use composable_rust_core::store::{Append, EventStore, ExpectedVersion};
use composable_rust_runtime::App;
use composable_rust_runtime::operations::ProjectionWaitError;
use composable_rust_runtime::settings::PoisonPolicy;
use composable_rust_testing::{Fault, FaultyEventStore, InMemoryEventStore};

use super::{
    AddUp, Model, Totals, assert_exact, clock, deposit, failure, handle, pass, process, settle,
    state, store,
};
use crate::account::{Account, AccountCommand as In, Process};
use crate::worker::node::NodeProcess;

#[tokio::test(start_paused = true)]
async fn a_projection_catches_up_and_then_follows() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let writer = crate::account::app(&store);
    for n in 0..2_000_i64 {
        let account = writer.handle(&Account::id((n % 7).to_string()));
        account.send(In::Split(vec![1, 2])).await.unwrap();
    }
    let app = process(&store, &add_up, &model);
    settle(&app).await;
    assert_exact(&store, &model);
    let status = handle(&app).status().await.unwrap();
    assert_eq!((status.done, status.of, status.state), (4_000, 4_000, ProjectionState::Running));
    for n in 1..=20 {
        let position = deposit(&app, "8", n).await;
        handle(&app).wait_for(position, Duration::from_secs(1)).await.unwrap();
        assert_eq!(model.get().cents["8"], n * (n + 1) / 2, "a caller reads its own writes");
    }
    assert_exact(&store, &model);
    assert!(app.shutdown(Duration::from_secs(5)).await);
}

#[tokio::test(start_paused = true)]
async fn a_projection_skips_other_categories() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process(&store, &add_up, &model);
    let other: StreamId = "parcel-1".parse().unwrap();
    let closing = store.close_stream(&other, composable_rust_core::Version::ZERO, event_id(7));
    closing.await.unwrap();
    deposit(&app, "1", 5).await;
    settle(&app).await;
    assert_eq!(model.get().seen.len(), 1);
    assert_eq!(handle(&app).status().await.unwrap().done, 2);
}

fn event_id(n: u128) -> composable_rust_core::EventId {
    composable_rust_core::EventId(uuid::Uuid::from_u128(n))
}

#[tokio::test(start_paused = true)]
async fn a_commit_with_a_lost_response_is_not_repeated() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process(&store, &add_up, &model);
    for n in 0..30_usize {
        let faults = [Fault::FailAfter, Fault::FailBefore, Fault::None, Fault::FailAfter];
        model.next_commits([faults[n % 4], faults[n / 2 % 4]]);
        deposit(&app, &(n % 3).to_string(), 1).await;
        settle(&app).await;
    }
    assert_exact(&store, &model);
    assert_eq!(state(&app).await, ProjectionState::Running, "no attempts were spent");
}

#[tokio::test(start_paused = true)]
async fn a_projection_waits_for_a_failing_store() {
    let (memory, model, add_up) = (store(), Model::default(), AddUp::default());
    let store = FaultyEventStore::new(memory.clone());
    let writer = crate::account::app(&memory);
    let app = process(&store, &add_up, &model);
    for n in 0..100 {
        store.next_reads([Fault::FailBefore, Fault::FailAfter, Fault::FailBefore]);
        store.next_writes([Fault::FailAfter]);
        deposit(&writer, &(n % 3).to_string(), 1).await;
        pass(n % 3).await;
    }
    store.recover();
    settle(&app).await;
    assert_exact(&memory, &model);
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_proceeds_while_events_arrive() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process(&store, &add_up, &model);
    for n in 0..600 {
        deposit(&app, &(n % 5).to_string(), 1).await;
    }
    settle(&app).await;
    let (first, asked) = (model.get(), add_up.0.asked.lock().unwrap().len());
    add_up.takes(Duration::from_millis(20));
    handle(&app).rebuild().await.unwrap();
    assert_eq!(model.get(), Totals::default());
    let status = handle(&app).status().await.unwrap();
    assert_eq!((status.state, status.done), (ProjectionState::Rebuilding, 0));
    let last = deposit(&app, "0", 1).await;
    let waited = handle(&app).wait_for(last, Duration::from_secs(60)).await;
    let rebuilding = ProjectionState::Rebuilding;
    assert!(
        matches!(&waited, Err(ProjectionWaitError::NotRunning { state }) if *state == rebuilding),
        "{waited:?}"
    );
    let mut progress = Vec::new();
    while state(&app).await == ProjectionState::Rebuilding {
        progress.push(handle(&app).status().await.unwrap().done);
        if progress.len() < 50 {
            deposit(&app, &(progress.len() % 5).to_string(), 1).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(progress.is_sorted() && progress.iter().filter(|p| **p > 0 && **p < 600).count() > 5);
    settle(&app).await;
    assert_exact(&store, &model);
    assert!(model.get().seen.len() > first.seen.len());
    assert!(add_up.0.asked.lock().unwrap().len() > asked + 600, "all of them again");
    assert_eq!(state(&app).await, ProjectionState::Running);
}

#[tokio::test(start_paused = true)]
async fn a_projection_stopped_by_poison_resumes_once_fixed() {
    for panics in [false, true] {
        let (store, model, add_up) = (store(), Model::default(), AddUp::default());
        let app = process(&store, &add_up, &model);
        deposit(&app, "1", 1).await;
        settle(&app).await;
        add_up.poison(&["bad"]);
        add_up.0.panics.store(panics, Ordering::SeqCst);
        let before = deposit(&app, "1", 2).await;
        let bad = deposit(&app, "bad", 4).await;
        let reason = failure(&app).await;
        assert!(reason.contains(&bad.to_string()) && reason.contains("like"), "{reason}");
        let asked = add_up.0.asked.lock().unwrap().iter().filter(|(s, _)| s.id() == "bad").count();
        assert!((5..=6).contains(&asked), "{asked} attempts");
        if before.partition == bad.partition {
            assert_eq!(model.get().cents["1"], 3, "earlier events are projected");
        }
        let started = clock().monotonic();
        let waited = handle(&app).wait_for(bad, Duration::from_secs(60)).await;
        assert!(
            matches!(&waited, Err(ProjectionWaitError::NotRunning { state })
                if matches!(state, ProjectionState::Failed { .. })),
            "{waited:?}"
        );
        assert_eq!(clock().monotonic(), started, "the wait fails at once");
        deposit(&app, "1", 8).await;
        pass(300).await;
        assert!(
            matches!(state(&app).await, ProjectionState::Failed { .. }),
            "the projection stays failed"
        );

        add_up.poison(&[]);
        handle(&app).resume().await.unwrap();
        settle(&app).await;
        assert_exact(&store, &model);
        assert_eq!((model.get().cents["1"], model.get().cents["bad"]), (11, 4));
    }
}

#[tokio::test(start_paused = true)]
async fn occasional_failures_do_not_accumulate() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process(&store, &add_up, &model);
    for n in 0..10 {
        add_up.poison(&["bad"]);
        let position = deposit(&app, "bad", 1).await;
        pass(1).await;
        add_up.poison(&[]);
        handle(&app).wait_for(position, Duration::from_secs(20)).await.unwrap();
        assert_eq!(model.get().cents["bad"], n + 1);
    }
    assert_exact(&store, &model);
}

/// A stream with events of `bytes` bytes in every partition.
async fn long_events(store: &InMemoryEventStore, bytes: usize, count: u64) {
    for partition in 0..store.log().partitions {
        let of = |n: &u64| -> StreamId { format!("parcel-{n}").parse().unwrap() };
        let stream = (0..10_000).map(|n| of(&n)).find(|s| store.log().partition_of(s) == partition);
        let event = |n: u64| NewEvent {
            id: event_id(u128::from(partition) << 64 | u128::from(n)),
            content: EncodedMessage {
                name: "parcel.packed".into(),
                version: 1,
                codec: "json".into(),
                bytes: vec![b' '; bytes],
            },
            metadata: "{}".to_owned(),
        };
        let append = Append::new(stream.unwrap(), ExpectedVersion::EMPTY);
        let append = append.with_events((0..count).map(event).collect());
        store.append_events(partition, &[append]).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn pages_are_bounded_in_bytes() {
    let memory = InMemoryEventStore::with_partitions(64).with_clock(clock());
    let (store, model, add_up) =
        (NodeProcess::start(memory.clone()), Model::default(), AddUp::default());
    long_events(&memory, 16 << 10, 100).await;
    let writer = crate::account::app(&memory);
    for n in 0..100 {
        deposit(&writer, &n.to_string(), 1).await;
    }
    let app = process(&store, &add_up, &model);
    settle(&app).await;
    assert_eq!(model.get().seen.len(), 100);
    let read = store.largest_page();
    assert!(read <= 32 << 20, "{} MiB of events were read at a time", read >> 20);
}

#[test]
fn two_projections_of_one_name_are_rejected() {
    let build = |first: AddUp, second: AddUp| {
        App::builder(InMemoryEventStore::new())
            .projection(first, Model::default())
            .projection(second, Model::default())
            .build()
    };
    let error = build(AddUp::default(), AddUp::default()).unwrap_err();
    assert_eq!(error.problems(), ["two projections are called `totals`"]);
}

/// Processes are killed at random moments, projections fail at random, responses are lost: every
/// event is projected once, parked ones included.
#[test]
fn projected_totals_are_exact_after_crashes() {
    use composable_rust_runtime::environment::SystemClock;
    for (seed, poison) in
        [(1_u64, PoisonPolicy::Stop), (2, PoisonPolicy::Park), (3, PoisonPolicy::Park)]
    {
        let store = InMemoryEventStore::new().with_clock(SystemClock);
        let (model, add_up) = (Model::default(), AddUp::default());
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let start = || {
            let app = App::builder(store.clone())
                .aggregate::<Account>(Process::new())
                .settings(|settings| {
                    settings.lease_ttl = Duration::from_millis(100);
                    settings.retry.initial_backoff = Duration::from_millis(2);
                    settings.retry.max_attempts = 1_000;
                })
                .projection_with(add_up.clone(), model.clone(), |own| own.poison = poison)
                .build()
                .unwrap();
            app.start();
            app
        };
        let runtime = || {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap()
        };
        for round in 0..25 {
            let threads = runtime();
            let (bad, faulty) = (draw(8).to_string(), draw(2) == 0);
            threads.block_on(async {
                let app = start();
                let bad = [bad.as_str()];
                add_up.poison(if round % 3 == 0 { &[] } else { &bad });
                if faulty {
                    model.next_commits([Fault::FailAfter, Fault::None, Fault::FailBefore]);
                }
                for n in 0..20 {
                    deposit(&app, &(n % 8).to_string(), 1).await;
                }
                let until = Duration::from_micros(5_000 + draw(150_000));
                tokio::time::sleep(until).await;
                std::mem::forget(app);
            });
            threads.shutdown_background();
        }
        let threads = runtime();
        threads.block_on(async {
            add_up.poison(&[]);
            let app = start();
            settle(&app).await;
            // Events that failed before wait for their next attempt.
            for _ in 0..600 {
                if model.get().seen.len() < 500 {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            assert_exact(&store, &model);
            assert_eq!(model.get().cents.values().sum::<i64>(), 500, "seed {seed}");
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_a_slow_event() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process(&store, &add_up, &model);
    add_up.takes(Duration::from_secs(25));
    deposit(&app, "1", 1).await;
    pass(5).await;
    assert!(app.shutdown(Duration::from_secs(10)).await);
    assert_eq!(model.get(), Totals::default());
    add_up.takes(Duration::ZERO);
    let next = process(&store, &add_up, &model);
    settle(&next).await;
    assert_exact(&store, &model);
}
