//! Projections: following the log, and their writes.

mod erasure;
mod following;
mod gauges;
mod lost_news;
mod newer_events;
mod parking;
mod states;
mod takeover;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use composable_rust_core::prelude::*;
use composable_rust_core::projection::ProjectionState;
use composable_rust_core::store::EventStore;
use composable_rust_core::{Position, Projection, ProjectionError, Recorded, StreamId};
use composable_rust_runtime::App;
use composable_rust_runtime::operations::ProjectionHandle;
use composable_rust_runtime::settings::PoisonPolicy;
use composable_rust_testing::{InMemoryEventStore, InMemoryReadModel, TokioClock};

use crate::account::{Account, AccountCommand as In, AccountEvent, Process};

/// The written data: the cents of each account, and every projected event.
#[derive(Debug, Clone, Default, PartialEq)]
struct Totals {
    cents: BTreeMap<String, i64>,
    seen: Vec<(StreamId, u64)>,
    erased: Vec<StreamId>,
    /// Of a transaction: `true` once an error was ignored.
    aborted: bool,
}

type Model = InMemoryReadModel<Totals>;

/// A projection that sums deposits, and can be made to fail.
#[derive(Clone, Default)]
struct AddUp(Arc<Faults>);

#[derive(Default)]
struct Faults {
    /// Accounts whose events cannot be projected.
    poison: Mutex<Vec<String>>,
    /// Accounts whose events cause an error that the projection ignores.
    ignores: Mutex<Vec<String>>,
    panics: AtomicBool,
    erase_fails: AtomicBool,
    /// The time that each event takes.
    takes: Mutex<Duration>,
    asked: Mutex<Vec<(StreamId, u64)>>,
}

impl AddUp {
    fn poison(&self, accounts: &[&str]) {
        *self.0.poison.lock().unwrap() = accounts.iter().map(|id| (*id).to_owned()).collect();
    }

    fn ignores(&self, accounts: &[&str]) {
        *self.0.ignores.lock().unwrap() = accounts.iter().map(|id| (*id).to_owned()).collect();
    }

    fn takes(&self, duration: Duration) {
        *self.0.takes.lock().unwrap() = duration;
    }
}

impl Projection for AddUp {
    const NAME: &'static str = "totals";
    type Events = Account;
    type Connection = Totals;

    async fn project(
        &self,
        recorded: &Recorded<AccountEvent>,
        totals: &mut Totals,
    ) -> Result<(), ProjectionError> {
        let (stream, version) = (recorded.stream.clone(), recorded.version.get());
        self.0.asked.lock().unwrap().push((stream.clone(), version));
        // Writes half of the data before it fails.
        totals.seen.push((stream.clone(), version));
        let takes = *self.0.takes.lock().unwrap();
        if takes > Duration::ZERO {
            tokio::time::sleep(takes).await;
        } else {
            tokio::task::yield_now().await;
        }
        if self.0.poison.lock().unwrap().iter().any(|id| id == stream.id()) {
            assert!(!self.0.panics.load(Ordering::SeqCst), "project does not like this");
            return Err("this account is not liked".into());
        }
        totals.aborted |= self.0.ignores.lock().unwrap().iter().any(|id| id == stream.id());
        if let AccountEvent::Deposited { cents, .. } = recorded.event {
            *totals.cents.entry(stream.id().to_owned()).or_default() += cents;
        }
        Ok(())
    }

    async fn clear(&self, totals: &mut Totals) -> Result<(), ProjectionError> {
        *totals = Totals::default();
        Ok(())
    }

    async fn erase(&self, stream: &StreamId, totals: &mut Totals) -> Result<(), ProjectionError> {
        if self.0.erase_fails.load(Ordering::SeqCst) {
            return Err("not now".into());
        }
        totals.cents.remove(stream.id());
        totals.erased.push(stream.clone());
        Ok(())
    }
}

/// The clock of a test, shared by its processes.
fn clock() -> TokioClock {
    thread_local! {
        static CLOCK: TokioClock = TokioClock::at("2025-01-01T00:00:00Z".parse().unwrap());
    }
    CLOCK.with(|clock| *clock)
}

fn store() -> InMemoryEventStore {
    InMemoryEventStore::new().with_clock(clock())
}

/// A process: an app with the projection and running workers.
fn process(store: &(impl EventStore + Clone), projection: &AddUp, model: &Model) -> App {
    process_with(store, projection, model, PoisonPolicy::Stop)
}

fn process_with(
    store: &(impl EventStore + Clone),
    projection: &AddUp,
    model: &Model,
    poison: PoisonPolicy,
) -> App {
    let app = App::builder(store.clone())
        .aggregate::<Account>(Process::new())
        .clock(clock())
        .projection_with(projection.clone(), model.clone(), |own| own.poison = poison)
        .build()
        .unwrap();
    app.start();
    app
}

async fn deposit(app: &App, id: &str, cents: i64) -> Position {
    let account = app.handle(&Account::id(id));
    account.send(In::Deposit { cents }).await.unwrap().position.unwrap()
}

/// Waits until every event of the log is projected.
async fn settle(app: &App) {
    for head in app.store().heads().await.unwrap() {
        if head.offset > 0 {
            let waited = handle(app).wait_for(head, Duration::from_secs(120)).await;
            waited.unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

fn handle(app: &App) -> ProjectionHandle {
    app.projection::<AddUp>()
}

async fn state(app: &App) -> ProjectionState {
    handle(app).status().await.unwrap().state
}

/// Waits until the projection has failed, and returns the reason.
async fn failure(app: &App) -> String {
    for _ in 0..1_000 {
        if let ProjectionState::Failed { reason } = state(app).await {
            return reason;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("the projection has not failed: {:?}", state(app).await)
}

/// Asserts that every event of the log is projected once, those of each stream in order.
fn assert_exact(store: &InMemoryEventStore, model: &Model) {
    let totals = model.get();
    let mut expected = BTreeMap::<_, Vec<_>>::new();
    for event in store.all_events() {
        expected.entry(event.stream.clone()).or_default().push(event.version.get());
    }
    let mut seen = BTreeMap::<_, Vec<_>>::new();
    for (stream, version) in totals.seen {
        seen.entry(stream).or_default().push(version);
    }
    assert_eq!(seen, expected);
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}
