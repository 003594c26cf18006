//! Takeovers between processes, and logs that were replaced or rewound.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use composable_rust_core::environment::Clock;
use composable_rust_core::projection::{ProjectionState, ReadModel};
use composable_rust_core::store::{EventStore, StoreError};
use composable_rust_core::{Projection, ProjectionError, Recorded};
use composable_rust_runtime::App;
use composable_rust_testing::{Fault, FaultyEventStore, InMemoryEventStore};

use crate::account::{Account, AccountEvent, Process};

use super::{
    AddUp, Model, Totals, assert_exact, clock, deposit, failure, handle, pass, process, settle,
    state, store,
};

#[tokio::test(start_paused = true)]
async fn another_process_takes_over_a_projection() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let first = process(&store, &add_up, &model);
    pass(1).await;
    let second = process(&store, &add_up, &model);
    for n in 0..20 {
        let position = deposit(&second, &(n % 3).to_string(), 1).await;
        handle(&second).wait_for(position, Duration::from_secs(5)).await.unwrap();
    }
    drop(first);
    for n in 0..20 {
        deposit(&second, &(n % 3).to_string(), 1).await;
    }
    pass(20).await;
    settle(&second).await;
    assert_exact(&store, &model);
}

/// A process that slept through its lease writes nothing more.
#[tokio::test(start_paused = true)]
async fn a_process_that_lost_the_lease_writes_nothing() {
    let (memory, model) = (store(), Model::default());
    let (slow, quick) = (AddUp::default(), AddUp::default());
    let store = FaultyEventStore::new(memory.clone());
    let first = process(&store, &slow, &model);
    deposit(&first, "1", 1).await;
    settle(&first).await;
    // Its leases expire while it reads.
    store.next_reads([Fault::Delay(Duration::from_secs(120)); 8]);
    store.next_writes([Fault::Delay(Duration::from_secs(120)); 8]);
    let second = process(&memory, &quick, &model);
    pass(60).await;
    for _ in 0..10 {
        deposit(&second, "1", 1).await;
    }
    settle(&second).await;
    assert_eq!(model.get().cents["1"], 11);
    let asked = slow.0.asked.lock().unwrap().len();
    pass(600).await;
    for _ in 0..10 {
        deposit(&second, "1", 1).await;
    }
    settle(&second).await;
    assert_exact(&memory, &model);
    println!("the first was asked for {asked} events");
    drop(first);
}

/// Rewrites the existing checkpoints under another epoch.
async fn written_under(model: &Model, epoch: u64) {
    let mut transaction = model.begin().await.unwrap();
    let log = InMemoryEventStore::new().log().id;
    let record = model.lock(&mut transaction, AddUp::NAME, log).await.unwrap();
    model.advance(&mut transaction, AddUp::NAME, epoch, &record.checkpoints).await.unwrap();
    model.commit(transaction).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lease_with_too_low_an_epoch_is_claimed_again() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process(&store, &add_up, &model);
    deposit(&app, "1", 1).await;
    settle(&app).await;
    let soon = clock().now() + Duration::from_secs(2);
    written_under(&model, u64::try_from(soon.as_micros()).unwrap()).await;
    let position = deposit(&app, "1", 2).await;
    handle(&app).wait_for(position, Duration::from_secs(30)).await.unwrap();
    assert_eq!(state(&app).await, ProjectionState::Running);
    assert_exact(&store, &model);
}

#[tokio::test(start_paused = true)]
async fn a_projection_whose_epoch_stays_too_low_fails() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process(&store, &add_up, &model);
    deposit(&app, "1", 1).await;
    settle(&app).await;
    for _ in 0..2 {
        written_under(&model, u64::MAX / 2).await;
        deposit(&app, "1", 2).await;
        let reason = failure(&app).await;
        assert!(reason.contains("epoch") && reason.contains("rebuild"), "{reason}");
        assert_eq!(model.get().cents["1"], 1, "a higher epoch was here");
        handle(&app).resume().await.unwrap();
    }
    failure(&app).await;
    handle(&app).rebuild().await.unwrap();
    pass(5).await;
    settle(&app).await;
    assert_exact(&store, &model);
}

#[tokio::test(start_paused = true)]
async fn a_rebuilt_projection_runs_once_it_has_caught_up() {
    let (memory, model, add_up) = (store(), Model::default(), AddUp::default());
    let store = FaultyEventStore::new(memory.clone());
    let app = process(&store, &add_up, &model);
    for n in 1..=3 {
        deposit(&app, "1", n).await;
    }
    settle(&app).await;
    for n in 0..40 {
        // A second rebuild starts while the first looks for its end.
        store.next_reads([Fault::Delay(Duration::from_millis(300)); 8]);
        handle(&app).rebuild().await.unwrap();
        tokio::time::sleep(Duration::from_millis(n * 50)).await;
        handle(&app).rebuild().await.unwrap();
        while state(&app).await == ProjectionState::Rebuilding {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(model.get().seen.len(), 3, "after {n}");
        store.recover();
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_model_of_another_log_is_left_alone() {
    let (one, model, add_up) = (store(), Model::default(), AddUp::default());
    let two = store().with_log_id(uuid::Uuid::from_u128(2));
    let first = process(&one, &add_up, &model);
    deposit(&first, "1", 1).await;
    settle(&first).await;
    let second = process(&two, &add_up, &model);
    deposit(&second, "2", 2).await;
    let reason = failure(&second).await;
    assert!(reason.contains("belongs to the log"), "{reason}");
    let others = handle(&second);
    let refused = [others.rebuild().await, others.pause().await, others.resume().await];
    assert!(refused.iter().all(|r| matches!(r, Err(StoreError::Invalid(_)))), "{refused:?}");
    deposit(&first, "1", 4).await;
    settle(&first).await;
    assert_exact(&one, &model);
    drop(first);
    // Its log is gone.
    others.adopt().await.unwrap();
    pass(5).await;
    settle(&second).await;
    assert_exact(&two, &model);
    let first = process(&one, &add_up, &model);
    assert!(failure(&first).await.contains("belongs to the log"));
}

#[tokio::test(start_paused = true)]
async fn a_rewound_log_stops_the_projection() {
    let (full, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process(&full, &add_up, &model);
    for _ in 0..5 {
        deposit(&app, "1", 1).await;
    }
    settle(&app).await;
    drop(app);
    pass(60).await;
    for events in [2, 5, 9] {
        // A log of other events, shorter or longer.
        let restored = store();
        let app = process(&restored, &add_up, &model);
        for _ in 0..events {
            deposit(&app, "1", 100).await;
        }
        let reason = failure(&app).await;
        assert!(reason.contains("rebuild"), "{reason}");
        assert_eq!(model.get().cents["1"] % 100, 5, "the late process writes nothing");
        handle(&app).resume().await.unwrap();
        pass(10).await;
        assert!(matches!(state(&app).await, ProjectionState::Failed { .. }), "nothing is better");
        if events == 9 {
            handle(&app).rebuild().await.unwrap();
            pass(10).await;
            settle(&app).await;
            assert_exact(&restored, &model);
        }
        drop(app);
        pass(60).await;
        if events != 9 {
            let mut transaction = model.begin().await.unwrap();
            let running = ProjectionState::Running;
            model.set_state(&mut transaction, AddUp::NAME, &running).await.unwrap();
            model.commit(transaction).await.unwrap();
        }
    }
}

/// One of several projections; it counts the events that its process projects.
struct Counts<const N: usize>(Arc<AtomicU64>);

impl<const N: usize> Projection for Counts<N> {
    const NAME: &'static str = ["a", "b", "c", "d"][N];
    type Events = Account;
    type Connection = Totals;

    async fn project(
        &self,
        _: &Recorded<AccountEvent>,
        _: &mut Totals,
    ) -> Result<(), ProjectionError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn clear(&self, _: &mut Totals) -> Result<(), ProjectionError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn processes_share_the_projections() {
    let (store, model) = (store(), Model::default());
    let process = |count: &Arc<AtomicU64>| {
        let app = App::builder(store.clone())
            .aggregate::<Account>(Process::new())
            .clock(clock())
            .projection(Counts::<0>(Arc::clone(count)), model.clone())
            .projection(Counts::<1>(Arc::clone(count)), model.clone())
            .projection(Counts::<2>(Arc::clone(count)), model.clone())
            .projection(Counts::<3>(Arc::clone(count)), model.clone())
            .build()
            .unwrap();
        app.start();
        app
    };
    let counts = [(); 3].map(|()| Arc::new(AtomicU64::new(0)));
    let first = process(&counts[0]);
    pass(10).await;
    let second = process(&counts[1]);
    pass(30).await;
    deposit(&first, "1", 1).await;
    pass(5).await;
    let counted = || counts.each_ref().map(|count| count.swap(0, Ordering::SeqCst));
    assert_eq!(counted(), [2, 2, 0]);
    let third = process(&counts[2]);
    pass(30).await;
    deposit(&first, "1", 1).await;
    pass(5).await;
    let shares = counted();
    assert!(shares.iter().all(|share| (1..=2).contains(share)), "{shares:?}");
    assert!(first.shutdown(Duration::from_secs(20)).await);
    pass(30).await;
    deposit(&second, "1", 1).await;
    pass(5).await;
    assert_eq!(counted(), [0, 2, 2]);
    drop((second, third));
}
