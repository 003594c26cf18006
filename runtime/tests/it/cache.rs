//! Snapshots, eviction, building and shutting down.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use composable_rust_core::Version;
use composable_rust_core::prelude::*;
use composable_rust_core::store::{EventStore as _, Snapshot};
use composable_rust_runtime::{App, SendError};
use composable_rust_testing::{InMemoryEventStore, MockClock};
use serde::{Deserialize, Serialize, Serializer};

use crate::account::{Account, AccountCommand as In, Process, app};

#[tokio::test]
async fn a_snapshot_is_saved_every_hundred_events_and_loaded() {
    let store = InMemoryEventStore::new();
    let app = app(&store);
    let account = app.handle(&Account::id("1"));
    for _ in 0..205 {
        account.send(In::Deposit { cents: 1 }).await.unwrap();
    }
    assert!(app.shutdown(Duration::from_secs(60)).await);
    let snapshots = store.snapshots(&account.id().stream());
    assert_eq!(snapshots.len(), 1);
    assert_eq!(snapshots[0].1.version, Version::new(200));

    let fresh = crate::account::app(&store).handle(&Account::id("1"));
    assert_eq!(fresh.state_with_version(|own, v| (own.cents, v.get())).await.unwrap(), (205, 205));
}

#[tokio::test]
async fn a_snapshot_that_does_not_decode_is_ignored() {
    let store = InMemoryEventStore::new();
    let first = app(&store);
    let account = first.handle(&Account::id("1"));
    account.send(In::Split(vec![1; 100])).await.unwrap();
    assert!(first.shutdown(Duration::from_secs(60)).await);
    let stream = account.id().stream();
    let (fingerprint, snapshot) = store.snapshots(&stream)[0].clone();
    account_is_now(&store, 100).await;
    let version = snapshot.version.next();
    account.state(|_| ()).await.unwrap();
    let broken = Snapshot { version, fingerprint, bytes: vec![255; 3], ..snapshot };
    app(&store).handle(&Account::id("1")).send(In::Deposit { cents: 1 }).await.unwrap();
    let last = store.events(&stream).last().unwrap().id;
    store.save_snapshot(&stream, &broken, last).await.unwrap();
    account_is_now(&store, 101).await;
}

async fn account_is_now(store: &InMemoryEventStore, cents: i64) {
    let fresh = app(store).handle(&Account::id("1"));
    assert_eq!(fresh.state(|own| own.cents).await.unwrap(), cents);
}

#[tokio::test]
async fn the_cache_keeps_at_most_the_allowed_instances() {
    let store = InMemoryEventStore::new();
    let app = App::builder(store)
        .aggregate::<Account>(Process::new())
        .settings(|settings| settings.max_live_instances = 10)
        .build()
        .unwrap();
    for round in 1..=2 {
        for id in 0..50 {
            let account = app.handle(&Account::id(id.to_string()));
            account.send(In::Deposit { cents: 1 }).await.unwrap();
            assert_eq!(account.cached(|own| own.cents).await.unwrap(), round);
        }
        assert!(app.live_instances::<Account>() <= 11, "{}", app.live_instances::<Account>());
    }
}

/// Eviction needs no access to an instance.
#[tokio::test]
async fn idle_instances_are_evicted() {
    let clock = MockClock::new();
    let app = App::builder(InMemoryEventStore::new()).aggregate::<Account>(Process::new());
    let app = app.clock(clock.clone()).build().unwrap();
    for round in 1..=2 {
        for id in 0..50 {
            let account = app.handle(&Account::id(id.to_string()));
            account.send(In::Deposit { cents: 1 }).await.unwrap();
        }
        assert_eq!(app.live_instances::<Account>(), 50);
        clock.elapse(Duration::from_secs(500)).await;
        assert_eq!(app.live_instances::<Account>(), 50, "round {round}: not yet");
        clock.elapse(Duration::from_secs(110)).await;
        assert_eq!(app.live_instances::<Account>(), 0, "round {round}");
    }
    assert_eq!(clock.sleepers(), 0, "nothing is left to be swept");
    let account = app.handle(&Account::id("7"));
    assert_eq!(account.state(|own| own.cents).await.unwrap(), 2);
}

#[tokio::test]
async fn cached_states_stay_within_the_byte_limit() {
    let store = InMemoryEventStore::new();
    let clock = MockClock::new();
    let start = || {
        let app = App::builder(store.clone()).aggregate::<Account>(Process::new());
        let app = app.settings(|settings| settings.max_live_bytes = 1_000_000).clock(clock.clone());
        app.build().unwrap()
    };
    let app = start();
    for id in 0..50 {
        let account = app.handle(&Account::id(id.to_string()));
        account.send(In::Keep("x".repeat(100_000))).await.unwrap();
    }
    clock.elapse(Duration::from_secs(10)).await;
    assert!(app.live_instances::<Account>() < 10, "{}", app.live_instances::<Account>());
    // Loaded states are measured at once.
    let app = start();
    for id in 0..50 {
        app.handle(&Account::id(id.to_string())).state(|_| ()).await.unwrap();
        assert!(app.live_instances::<Account>() < 12, "{}", app.live_instances::<Account>());
    }
}

#[test]
fn an_invalid_app_lists_all_its_problems() {
    let error = App::builder(InMemoryEventStore::new())
        .aggregate::<Account>(Process::new())
        .aggregate::<Account>(Process::new())
        .settings(|settings| {
            settings.mailbox_capacity = 0;
            settings.inbox_retention = Duration::from_secs(60);
        })
        .build()
        .unwrap_err();
    assert_eq!(error.problems().len(), 3, "{error}");
    assert!(error.to_string().contains("`inbox_retention` must be at least 3600s"), "{error}");
    assert!(error.to_string().contains("`account` is registered twice"), "{error}");
}

#[tokio::test]
async fn an_app_rejects_commands_during_shutdown() {
    let store = InMemoryEventStore::new();
    let app = app(&store);
    let account = app.handle(&Account::id("1"));
    account.send(In::Deposit { cents: 1 }).await.unwrap();
    assert!(app.run_until(async {}, Duration::from_secs(1)).await);
    let refused = account.send(In::Deposit { cents: 1 }).await.unwrap_err();
    assert!(matches!(refused, SendError::ShuttingDown), "{refused:?}");
    assert_eq!(account.state(|own| own.cents).await.unwrap(), 1);
}

/// Counts the encodings of states.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
struct Encoded(u8);

static ENCODED: AtomicUsize = AtomicUsize::new(0);

impl Serialize for Encoded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ENCODED.fetch_add(1, Ordering::Relaxed);
        serializer.serialize_newtype_struct("Encoded", &self.0)
    }
}

#[derive(Debug, Clone, PartialEq, Message)]
enum Count {
    One,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum Counted {
    One,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum Uncounted {}

impl Aggregate for Encoded {
    const NAME: &'static str = "encoded";
    type Command = Count;
    type Event = Counted;
    type Rejection = Uncounted;
    type Environment = ();

    fn decide(&self, _: Count, _: &Context<Self>) -> Decision<Self> {
        record(Counted::One)
    }

    fn apply(&mut self, _: Counted) {
        self.0 += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn other_tasks_run_while_many_states_are_measured() {
    const INSTANCES: usize = 500;
    let app = App::builder(InMemoryEventStore::new()).aggregate::<Encoded>(()).build().unwrap();
    for n in 0..INSTANCES {
        app.handle(&Encoded::id(n.to_string())).send(Count::One).await.unwrap();
    }
    let encoded = || ENCODED.load(Ordering::Relaxed);
    let before = encoded();
    // All states are measured within the longest pause between two sweeps.
    tokio::time::advance(Duration::from_secs(11)).await;
    let (mut at, mut most) = (encoded(), encoded() - before);
    while at < before + INSTANCES {
        tokio::task::yield_now().await;
        most = most.max(encoded() - at);
        at = encoded();
    }
    assert!(most < INSTANCES / 2, "{most} of {INSTANCES} at a time");
}
