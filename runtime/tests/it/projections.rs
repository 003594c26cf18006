//! Projections: following, rebuilding, poison, waiting, taking over.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use composable_rust_core::prelude::*;
use composable_rust_core::{
    Append, Checkpoint, Clock, DeadLetter, Encoded, EventStore, ExpectedVersion, NewEvent,
    Position, Projection, ProjectionError, ProjectionRecord, ProjectionState, ReadModel, Recorded,
    StoreError, StoredContent, StreamId, Timestamp, WaitingStream,
};
use composable_rust_runtime::{App, Poison, ProjectionHandle, ProjectionWaitError};
use composable_rust_testing::{Fault, FaultyEventStore, InMemoryEventStore, InMemoryReadModel};
use futures_util::TryStreamExt as _;
use futures_util::future::BoxFuture;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Recorder, SharedString, Unit};
use uuid::Uuid;

use crate::account::{Account, AccountCommand as In, AccountEvent, Process};
use crate::work::node::Node;

/// What is written: the cents of each account, and every event that was projected.
#[derive(Debug, Clone, Default, PartialEq)]
struct Totals {
    cents: BTreeMap<String, i64>,
    seen: Vec<(StreamId, u64)>,
    erased: Vec<StreamId>,
    /// Of a transaction: an error was ignored.
    aborted: bool,
}

type Model = InMemoryReadModel<Totals>;

/// Adds up, and can be told to misbehave.
#[derive(Clone, Default)]
struct AddUp(Arc<Faults>);

#[derive(Default)]
struct Faults {
    /// Accounts of which no event can be projected.
    poison: Mutex<Vec<String>>,
    /// Accounts whose events meet an error that is ignored.
    ignores: Mutex<Vec<String>>,
    panics: AtomicBool,
    erase_fails: AtomicBool,
    /// How long each event takes.
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
    const CATEGORIES: &'static [&'static str] = &[Account::CATEGORY];
    type Event = AccountEvent;
    type Connection = Totals;

    async fn project(
        &self,
        recorded: &Recorded<AccountEvent>,
        totals: &mut Totals,
    ) -> Result<(), ProjectionError> {
        let (stream, version) = (recorded.stream.clone(), recorded.version.get());
        self.0.asked.lock().unwrap().push((stream.clone(), version));
        // Half of it is written before it fails.
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

/// The time of tokio, which tests pause.
#[derive(Debug, Clone, Copy)]
struct TokioClock;

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_735_689_600_000_000) + self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        thread_local! {
            static START: tokio::time::Instant = tokio::time::Instant::now();
        }
        START.with(tokio::time::Instant::elapsed)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

fn store() -> InMemoryEventStore {
    InMemoryEventStore::new().with_clock(TokioClock)
}

/// A process: an app with the projection, whose workers run.
fn process(store: &(impl EventStore + Clone), projection: &AddUp, model: &Model) -> App {
    process_with(store, projection, model, Poison::Stop)
}

fn process_with(
    store: &(impl EventStore + Clone),
    projection: &AddUp,
    model: &Model,
    poison: Poison,
) -> App {
    let app = App::builder(store.clone())
        .aggregate::<Account>(Process::new())
        .clock(TokioClock)
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

/// Waits for everything that is in the log now.
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

/// Waits until it has failed; gives why.
async fn failure(app: &App) -> String {
    for _ in 0..1_000 {
        if let ProjectionState::Failed { reason } = state(app).await {
            return reason;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("it has not failed: {:?}", state(app).await)
}

/// Every event of the log is projected once, those of each stream in order.
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

#[tokio::test(start_paused = true)]
async fn it_catches_up_and_then_follows() {
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
        assert_eq!(model.get().cents["8"], n * (n + 1) / 2, "it reads its own writes");
    }
    assert_exact(&store, &model);
    assert!(app.shutdown(Duration::from_secs(5)).await);
}

#[tokio::test(start_paused = true)]
async fn other_categories_are_passed_by() {
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
async fn a_commit_whose_answer_is_lost_is_not_repeated() {
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
async fn a_store_that_fails_is_waited_for() {
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
async fn rebuilding_goes_on_while_events_come() {
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
async fn poison_stops_it_and_it_goes_on_when_mended() {
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
            assert_eq!(model.get().cents["1"], 3, "what comes before it is projected");
        }
        let started = TokioClock.monotonic();
        let waited = handle(&app).wait_for(bad, Duration::from_secs(60)).await;
        assert!(
            matches!(&waited, Err(ProjectionWaitError::NotRunning { state })
                if matches!(state, ProjectionState::Failed { .. })),
            "{waited:?}"
        );
        assert_eq!(TokioClock.monotonic(), started, "it is said at once");
        deposit(&app, "1", 8).await;
        pass(300).await;
        assert!(matches!(state(&app).await, ProjectionState::Failed { .. }), "it stays so");

        add_up.poison(&[]);
        handle(&app).resume().await.unwrap();
        settle(&app).await;
        assert_exact(&store, &model);
        assert_eq!((model.get().cents["1"], model.get().cents["bad"]), (11, 4));
    }
}

#[tokio::test(start_paused = true)]
async fn events_that_fail_once_in_a_while_do_not_add_up() {
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

async fn dead_letters(app: &App) -> Vec<DeadLetter> {
    app.dead_letters().all().try_collect().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn poison_is_parked_with_what_follows_it_and_redriven_in_order() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process_with(&store, &add_up, &model, Poison::Park);
    deposit(&app, "bad", 1).await;
    settle(&app).await;
    add_up.poison(&["bad"]);
    let bad = deposit(&app, "bad", 2).await;
    for cents in [4, 8] {
        deposit(&app, "bad", cents).await;
        let other = deposit(&app, "1", cents).await;
        handle(&app).wait_for(other, Duration::from_secs(5)).await.unwrap();
    }
    assert_eq!(model.get().cents, BTreeMap::from([("1".to_owned(), 12), ("bad".to_owned(), 1)]));
    assert_eq!(state(&app).await, ProjectionState::Running);
    let waited = handle(&app).wait_for(bad, Duration::from_secs(1)).await;
    assert!(matches!(waited, Err(ProjectionWaitError::DeadlinePassed { .. })), "{waited:?}");

    pass(60).await;
    let letters = dead_letters(&app).await;
    assert_eq!(letters.len(), 3, "{letters:#?}");
    let heads: Vec<_> = letters.iter().filter(|letter| letter.error.is_some()).collect();
    assert_eq!((heads.len(), heads[0].attempts), (1, 5));
    assert!(heads[0].error.as_deref().unwrap().contains("not liked"));
    // What comes later is parked behind it.
    deposit(&app, "bad", 16).await;
    pass(10).await;
    assert_eq!(dead_letters(&app).await.len(), 4);

    add_up.poison(&[]);
    app.dead_letters().redrive(heads[0]).await.unwrap();
    settle(&app).await;
    assert_eq!(model.get().cents["bad"], 31);
    assert_eq!(dead_letters(&app).await, []);
    // From then on it is as if nothing had been.
    let position = deposit(&app, "bad", 32).await;
    handle(&app).wait_for(position, Duration::from_secs(5)).await.unwrap();
    assert_eq!(model.get().cents["bad"], 63);
    assert_eq!(model.waiting(AddUp::NAME).await.unwrap(), []);
    assert_exact(&store, &model);
}

/// As PostgreSQL: after an error that the projection ignored, no statement of the transaction
/// succeeds.
struct Aborts(Model);

impl Aborts {
    fn check(totals: &Totals) -> Result<(), StoreError> {
        if totals.aborted { Err(StoreError::Invalid("it is aborted".to_owned())) } else { Ok(()) }
    }
}

impl ReadModel for Aborts {
    type Connection = Totals;
    type Transaction = <Model as ReadModel>::Transaction;

    async fn begin(&self) -> Result<Self::Transaction, StoreError> {
        self.0.begin().await
    }

    async fn commit(&self, of: Self::Transaction) -> Result<(), StoreError> {
        Self::check(&of)?;
        self.0.commit(of).await
    }

    async fn load(&self, name: &str) -> Result<Option<ProjectionRecord>, StoreError> {
        self.0.load(name).await
    }

    async fn lock(
        &self,
        of: &mut Self::Transaction,
        name: &str,
        log: Uuid,
    ) -> Result<ProjectionRecord, StoreError> {
        Self::check(of)?;
        self.0.lock(of, name, log).await
    }

    async fn advance(
        &self,
        of: &mut Self::Transaction,
        name: &str,
        epoch: u64,
        to: &[Checkpoint],
    ) -> Result<(), StoreError> {
        Self::check(of)?;
        self.0.advance(of, name, epoch, to).await
    }

    async fn set_state(
        &self,
        of: &mut Self::Transaction,
        name: &str,
        to: &ProjectionState,
    ) -> Result<(), StoreError> {
        Self::check(of)?;
        self.0.set_state(of, name, to).await
    }

    async fn forget(
        &self,
        of: &mut Self::Transaction,
        name: &str,
        log: Uuid,
    ) -> Result<(), StoreError> {
        Self::check(of)?;
        self.0.forget(of, name, log).await
    }

    async fn waiting(&self, name: &str) -> Result<Vec<WaitingStream>, StoreError> {
        self.0.waiting(name).await
    }

    async fn find_waiting(
        &self,
        of: &mut Self::Transaction,
        name: &str,
        stream: &StreamId,
    ) -> Result<Option<WaitingStream>, StoreError> {
        Self::check(of)?;
        self.0.find_waiting(of, name, stream).await
    }

    async fn set_waiting(
        &self,
        of: &mut Self::Transaction,
        name: &str,
        waiting: &WaitingStream,
    ) -> Result<(), StoreError> {
        Self::check(of)?;
        self.0.set_waiting(of, name, waiting).await
    }

    async fn end_waiting(
        &self,
        of: &mut Self::Transaction,
        name: &str,
        stream: &StreamId,
    ) -> Result<(), StoreError> {
        Self::check(of)?;
        self.0.end_waiting(of, name, stream).await
    }
}

#[tokio::test(start_paused = true)]
async fn an_ignored_error_is_parked_also_before_a_stream_that_has_waited() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = App::builder(store.clone())
        .aggregate::<Account>(Process::new())
        .clock(TokioClock)
        .projection_with(add_up.clone(), Aborts(model.clone()), |own| own.poison = Poison::Park)
        .build()
        .unwrap();
    app.start();
    // What waited is done, and nothing has come of the stream since.
    add_up.poison(&["bad"]);
    deposit(&app, "bad", 1).await;
    pass(1).await;
    add_up.poison(&[]);
    pass(10).await;
    assert_eq!(model.get().cents["bad"], 1);
    assert_eq!(model.waiting(AddUp::NAME).await.unwrap().len(), 1);

    // One batch of both, in this order.
    handle(&app).pause().await.unwrap();
    let partition = |id: &str| store.log().partition_of(&Account::id(id).stream());
    let odd = (0..100).map(|n| format!("odd{n}")).find(|id| partition(id) == partition("bad"));
    let odd = odd.unwrap();
    add_up.ignores(&[&odd]);
    deposit(&app, &odd, 2).await;
    let bad = deposit(&app, "bad", 4).await;
    handle(&app).resume().await.unwrap();
    handle(&app).wait_for(bad, Duration::from_secs(60)).await.unwrap();
    assert_eq!(model.get().cents, BTreeMap::from([("bad".to_owned(), 5)]));
    pass(60).await;
    assert_eq!(dead_letters(&app).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn other_streams_do_not_pay_for_what_is_parked() {
    let (memory, model, add_up) = (store(), Model::default(), AddUp::default());
    let store = Node::new(memory.clone());
    let app = process_with(&store, &add_up, &model, Poison::Park);
    add_up.poison(&["bad"]);
    deposit(&app, "bad", 1).await;
    pass(60).await;
    let looked = || store.counts().get("queued_streams").copied();
    let before = looked();
    for n in 0..20 {
        let position = deposit(&app, &n.to_string(), 1).await;
        handle(&app).wait_for(position, Duration::from_secs(5)).await.unwrap();
    }
    assert_eq!(looked(), before);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_left_out() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process_with(&store, &add_up, &model, Poison::Park);
    add_up.poison(&["bad"]);
    deposit(&app, "bad", 1).await;
    deposit(&app, "bad", 2).await;
    pass(60).await;
    let letters = dead_letters(&app).await;
    let head = letters.iter().find(|letter| letter.error.is_some()).unwrap();
    app.dead_letters().refuse(head).await.unwrap();
    pass(5).await;
    add_up.poison(&[]);
    let letters = dead_letters(&app).await;
    assert_eq!(letters.len(), 1);
    app.dead_letters().redrive(&letters[0]).await.unwrap();
    pass(5).await;
    assert_eq!(model.get().cents["bad"], 2);
    let position = deposit(&app, "bad", 4).await;
    handle(&app).wait_for(position, Duration::from_secs(5)).await.unwrap();
    assert_eq!(model.get().cents["bad"], 6);
    assert_eq!(store.all_events().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_waited_before_a_rebuild_is_projected_once_after_it() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process_with(&store, &add_up, &model, Poison::Park);
    for cents in [1, 2] {
        deposit(&app, "bad", cents).await;
    }
    settle(&app).await;
    add_up.poison(&["bad"]);
    for cents in [4, 8] {
        deposit(&app, "bad", cents).await;
    }
    pass(60).await;
    assert_eq!(dead_letters(&app).await.len(), 2);
    // Mended, everything is there, and the dead letters are void.
    add_up.poison(&[]);
    handle(&app).rebuild().await.unwrap();
    pass(5).await;
    settle(&app).await;
    assert_eq!(model.get().cents["bad"], 15);
    // And again while it fails, from another event on.
    add_up.poison(&["bad"]);
    handle(&app).rebuild().await.unwrap();
    pass(60).await;
    assert_eq!(model.get().cents.get("bad"), None);
    add_up.poison(&[]);
    while let Some(head) = dead_letters(&app).await.into_iter().find(|l| l.error.is_some()) {
        app.dead_letters().redrive(&head).await.unwrap();
        pass(5).await;
    }
    settle(&app).await;
    assert_exact(&store, &model);
    assert_eq!(dead_letters(&app).await, []);
}

#[tokio::test(start_paused = true)]
async fn it_pauses_and_resumes() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process(&store, &add_up, &model);
    deposit(&app, "1", 1).await;
    settle(&app).await;
    handle(&app).resume().await.unwrap();
    handle(&app).pause().await.unwrap();
    pass(2).await;
    let position = deposit(&app, "1", 2).await;
    pass(60).await;
    assert_eq!(model.get().cents["1"], 1);
    let waited = handle(&app).wait_for(position, Duration::from_secs(5)).await;
    let paused = ProjectionState::Paused;
    assert!(
        matches!(&waited, Err(ProjectionWaitError::NotRunning { state }) if *state == paused),
        "{waited:?}"
    );
    // So does one that starts.
    drop(app);
    let app = process(&store, &add_up, &model);
    pass(60).await;
    assert_eq!(model.get().cents["1"], 1);
    handle(&app).resume().await.unwrap();
    handle(&app).wait_for(position, Duration::from_secs(5)).await.unwrap();
    assert_exact(&store, &model);
}

#[tokio::test(start_paused = true)]
async fn a_pause_while_it_is_rebuilt_is_kept() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process(&store, &add_up, &model);
    for _ in 0..50 {
        deposit(&app, "1", 1).await;
    }
    settle(&app).await;
    add_up.takes(Duration::from_millis(100));
    handle(&app).rebuild().await.unwrap();
    pass(2).await;
    handle(&app).pause().await.unwrap();
    pass(60).await;
    assert_eq!(state(&app).await, ProjectionState::Paused);
    handle(&app).rebuild().await.unwrap();
    pass(60).await;
    assert_eq!(state(&app).await, ProjectionState::Running, "rebuilding goes on");
    assert_exact(&store, &model);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_not_projected_while_it_is_paused() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process_with(&store, &add_up, &model, Poison::Park);
    add_up.poison(&["bad"]);
    deposit(&app, "bad", 1).await;
    pass(60).await;
    handle(&app).pause().await.unwrap();
    add_up.poison(&[]);
    app.dead_letters().redrive(&dead_letters(&app).await[0]).await.unwrap();
    pass(60).await;
    assert_eq!(model.get(), Totals::default());
    handle(&app).resume().await.unwrap();
    settle(&app).await;
    assert_exact(&store, &model);
    assert_eq!(dead_letters(&app).await, [], "a pause is no attempt");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_after_a_pause() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process(&store, &add_up, &model);
    add_up.takes(Duration::from_millis(50));
    let amounts = (1..=300).collect();
    app.handle(&Account::id("1")).send(In::Split(amounts)).await.unwrap();
    while model.get().seen.is_empty() {
        pass(1).await;
    }
    handle(&app).pause().await.unwrap();
    let paused = model.get();
    assert!(paused.seen.len() < 300);
    pass(60).await;
    assert_eq!(model.get(), paused);
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_that_is_resumed_is_still_one() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process(&store, &add_up, &model);
    for _ in 0..50 {
        deposit(&app, "1", 1).await;
    }
    let last = deposit(&app, "bad", 1).await;
    settle(&app).await;
    add_up.takes(Duration::from_millis(100));
    handle(&app).rebuild().await.unwrap();
    for is_paused in [true, false] {
        if is_paused {
            pass(1).await;
            handle(&app).pause().await.unwrap();
        } else {
            add_up.poison(&["bad"]);
            failure(&app).await;
        }
        handle(&app).resume().await.unwrap();
        assert_eq!(state(&app).await, ProjectionState::Rebuilding, "paused: {is_paused}");
        let waited = handle(&app).wait_for(last, Duration::from_secs(60)).await;
        assert!(matches!(waited, Err(ProjectionWaitError::NotRunning { .. })), "{waited:?}");
    }
    add_up.poison(&[]);
    pass(60).await;
    assert_eq!(state(&app).await, ProjectionState::Running);
    assert_exact(&store, &model);
    handle(&app).pause().await.unwrap();
    handle(&app).resume().await.unwrap();
    assert_eq!(state(&app).await, ProjectionState::Running, "it is rebuilt");
}

/// A rebuild in the instant after an event was set aside, when there is no checkpoint yet.
#[tokio::test(start_paused = true)]
async fn an_event_that_was_set_aside_before_a_rebuild_is_projected() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process_with(&store, &add_up, &model, Poison::Park);
    pass(5).await;
    add_up.poison(&["bad"]);
    // That it is set aside commits after a second, and the rebuild begins before anything else does.
    model.next_commits([Fault::Delay(Duration::from_secs(1))]);
    deposit(&app, "bad", 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    handle(&app).rebuild().await.unwrap();
    add_up.poison(&[]);
    pass(60).await;
    settle(&app).await;
    assert_exact(&store, &model);
}

/// A stream whose events are `bytes` long, in every partition.
async fn long_events(store: &InMemoryEventStore, bytes: usize, count: u64) {
    for partition in 0..store.log().partitions {
        let of = |n: &u64| -> StreamId { format!("parcel-{n}").parse().unwrap() };
        let stream = (0..10_000).map(|n| of(&n)).find(|s| store.log().partition_of(s) == partition);
        let event = |n: u64| NewEvent {
            id: event_id(u128::from(partition) << 64 | u128::from(n)),
            content: Encoded {
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
    let memory = InMemoryEventStore::with_partitions(64).with_clock(TokioClock);
    let (store, model, add_up) = (Node::new(memory.clone()), Model::default(), AddUp::default());
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

#[tokio::test(start_paused = true)]
async fn another_process_takes_over() {
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

/// Whoever slept through its lease writes nothing more.
#[tokio::test(start_paused = true)]
async fn who_is_late_writes_nothing() {
    let (memory, model) = (store(), Model::default());
    let (slow, quick) = (AddUp::default(), AddUp::default());
    let store = FaultyEventStore::new(memory.clone());
    let first = process(&store, &slow, &model);
    deposit(&first, "1", 1).await;
    settle(&first).await;
    // Its leases lapse while it reads.
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

/// Writes the checkpoints that are there again, under another epoch.
async fn written_under(model: &Model, epoch: u64) {
    let mut transaction = model.begin().await.unwrap();
    let log = InMemoryEventStore::new().log().id;
    let record = model.lock(&mut transaction, AddUp::NAME, log).await.unwrap();
    model.advance(&mut transaction, AddUp::NAME, epoch, &record.checkpoints).await.unwrap();
    model.commit(transaction).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_outranked_is_claimed_anew() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process(&store, &add_up, &model);
    deposit(&app, "1", 1).await;
    settle(&app).await;
    let soon = TokioClock.now() + Duration::from_secs(2);
    written_under(&model, u64::try_from(soon.as_micros()).unwrap()).await;
    let position = deposit(&app, "1", 2).await;
    handle(&app).wait_for(position, Duration::from_secs(30)).await.unwrap();
    assert_eq!(state(&app).await, ProjectionState::Running);
    assert_exact(&store, &model);
}

#[tokio::test(start_paused = true)]
async fn one_that_stays_outranked_fails() {
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
async fn one_that_is_rebuilt_runs_only_when_it_has_caught_up() {
    let (memory, model, add_up) = (store(), Model::default(), AddUp::default());
    let store = FaultyEventStore::new(memory.clone());
    let app = process(&store, &add_up, &model);
    for n in 1..=3 {
        deposit(&app, "1", n).await;
    }
    settle(&app).await;
    for n in 0..40 {
        // A second one begins while the end of the first is found.
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
async fn one_that_belongs_to_another_log_is_left_alone() {
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
async fn a_log_that_went_back_stops_it() {
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
        assert_eq!(model.get().cents["1"] % 100, 5, "it writes nothing");
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

#[tokio::test(start_paused = true)]
async fn erased_events_are_told() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process(&store, &add_up, &model);
    for id in ["1", "2"] {
        deposit(&app, id, 5).await;
        deposit(&app, id, 5).await;
    }
    settle(&app).await;
    let account = app.handle(&Account::id("1"));
    assert_eq!(account.erase().await.unwrap(), 2);
    settle(&app).await;
    let totals = model.get();
    assert_eq!(totals.cents, BTreeMap::from([("2".to_owned(), 10)]), "it was past them");
    assert_eq!(totals.erased, [account.id().stream()]);

    deposit(&app, "1", 1).await;
    handle(&app).rebuild().await.unwrap();
    pass(5).await;
    settle(&app).await;
    let totals = model.get();
    assert_eq!(totals.cents, BTreeMap::from([("1".to_owned(), 1), ("2".to_owned(), 10)]));
    assert_eq!(totals.erased, vec![account.id().stream(); 3]);
}

#[tokio::test(start_paused = true)]
async fn erased_events_are_told_in_their_turn() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process_with(&store, &add_up, &model, Poison::Park);
    deposit(&app, "bad", 1).await;
    settle(&app).await;
    add_up.poison(&["bad"]);
    deposit(&app, "bad", 2).await;
    pass(1).await;
    app.handle(&Account::id("bad")).erase().await.unwrap();
    deposit(&app, "bad", 4).await;
    pass(1).await;
    add_up.poison(&[]);
    settle(&app).await;
    assert_eq!(model.get().cents["bad"], 4, "what failed is gone, what comes after it goes on");
    assert!(!model.get().erased.is_empty());
}

#[tokio::test(start_paused = true)]
async fn erasing_a_stream_that_has_dead_letters_reaches_the_read_model() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process_with(&store, &add_up, &model, Poison::Park);
    deposit(&app, "bad", 1).await;
    settle(&app).await;
    add_up.poison(&["bad"]);
    deposit(&app, "bad", 2).await;
    deposit(&app, "bad", 4).await;
    pass(60).await;
    assert_eq!(dead_letters(&app).await.len(), 2);

    let bad = app.handle(&Account::id("bad"));
    bad.erase().await.unwrap();
    settle(&app).await;
    assert_eq!(model.get().cents.get("bad"), None);
    assert_eq!(model.get().erased, [bad.id().stream()]);
    // What comes after it waits for nothing, and the dead letters are void.
    add_up.poison(&[]);
    let position = deposit(&app, "bad", 8).await;
    handle(&app).wait_for(position, Duration::from_secs(5)).await.unwrap();
    for letter in dead_letters(&app).await {
        // What stood behind another went back into the queue with it.
        let _ = app.dead_letters().redrive(&letter).await;
        pass(5).await;
    }
    assert_eq!(dead_letters(&app).await, []);
    assert_eq!(model.get().cents["bad"], 8);
    assert_eq!(model.get().erased.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_erasure_that_fails_is_parked_too() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process_with(&store, &add_up, &model, Poison::Park);
    add_up.poison(&["bad"]);
    deposit(&app, "bad", 1).await;
    pass(60).await;
    add_up.0.erase_fails.store(true, Ordering::SeqCst);
    app.handle(&Account::id("bad")).erase().await.unwrap();
    let other = deposit(&app, "1", 2).await;
    handle(&app).wait_for(other, Duration::from_secs(60)).await.unwrap();
    assert!(model.get().erased.is_empty());

    add_up.0.erase_fails.store(false, Ordering::SeqCst);
    for letter in dead_letters(&app).await {
        // What stood behind another went back into the queue with it.
        let _ = app.dead_letters().redrive(&letter).await;
        pass(5).await;
    }
    assert_eq!(dead_letters(&app).await, []);
    assert_eq!(model.get().erased, [Account::id("bad").stream()]);
}

#[test]
fn two_of_one_name_are_refused() {
    let build = |first: AddUp, second: AddUp| {
        App::builder(InMemoryEventStore::new())
            .projection(first, Model::default())
            .projection(second, Model::default())
            .build()
    };
    let error = build(AddUp::default(), AddUp::default()).unwrap_err();
    assert_eq!(error.problems(), ["two projections are called `totals`"]);
}

/// Code of an earlier release: it knows fewer events.
mod earlier {
    use composable_rust_core::prelude::*;
    use composable_rust_core::{Projection, ProjectionError, Recorded};

    use super::Totals;
    use crate::account::Seen;

    #[derive(Debug, Clone, PartialEq, Message)]
    pub(super) enum AccountEvent {
        Deposited { cents: i64, seen: Seen },
    }

    pub(super) struct AddUp;

    impl Projection for AddUp {
        const NAME: &'static str = "totals";
        const CATEGORIES: &'static [&'static str] = &["account"];
        type Event = AccountEvent;
        type Connection = Totals;

        async fn project(
            &self,
            recorded: &Recorded<AccountEvent>,
            totals: &mut Totals,
        ) -> Result<(), ProjectionError> {
            let AccountEvent::Deposited { cents, .. } = recorded.event;
            let id = recorded.stream.id().to_owned();
            *totals.cents.entry(id).or_default() += cents;
            totals.seen.push((recorded.stream.clone(), recorded.version.get()));
            Ok(())
        }

        async fn clear(&self, totals: &mut Totals) -> Result<(), ProjectionError> {
            *totals = Totals::default();
            Ok(())
        }
    }
}

#[tokio::test(start_paused = true)]
async fn newer_events_are_left_to_newer_code() {
    let (store, model) = (store(), Model::default());
    let old = App::builder(store.clone())
        .clock(TokioClock)
        .projection(earlier::AddUp, model.clone())
        .build()
        .unwrap();
    old.start();
    let writer = crate::account::app(&store);
    deposit(&writer, "1", 1).await;
    pass(5).await;
    assert_eq!(model.get().cents["1"], 1);
    writer.handle(&Account::id("1")).send(In::Withdraw { cents: 1 }).await.unwrap();
    deposit(&writer, "1", 2).await;
    pass(120).await;
    assert_eq!(model.get().cents["1"], 1, "it stops before what it does not know");
    let state = old.projection::<earlier::AddUp>().status().await.unwrap().state;
    assert_eq!(state, ProjectionState::Running, "nothing is wrong");
    let new = process(&store, &AddUp::default(), &model);
    settle(&new).await;
    assert_exact(&store, &model);
    drop(old);
}

/// Code that lacks a variant stops only where there is an event of it, and fails when no other comes.
#[tokio::test(start_paused = true)]
async fn what_no_running_code_knows_fails_the_projection_in_time() {
    let (store, model) = (store(), Model::default());
    let old = App::builder(store.clone())
        .clock(TokioClock)
        .settings(|settings| settings.unknown_after = Duration::from_secs(60))
        .projection(earlier::AddUp, model.clone())
        .build()
        .unwrap();
    old.start();
    let writer = crate::account::app(&store);
    deposit(&writer, "1", 1).await;
    let account = writer.handle(&Account::id("1"));
    let withdrawn = account.send(In::Withdraw { cents: 1 }).await.unwrap();
    let (version, at) = (withdrawn.version, withdrawn.position.unwrap());
    deposit(&writer, "1", 2).await;
    let other = (2..100)
        .map(|n| n.to_string())
        .find(|id| store.log().partition_of(&Account::id(id).stream()) != at.partition);
    let other = other.unwrap();
    pass(5).await;
    for cents in 1..=3 {
        let position = deposit(&writer, &other, cents).await;
        handle(&old).wait_for(position, Duration::from_secs(5)).await.unwrap();
    }
    assert_eq!(model.get().cents, BTreeMap::from([("1".into(), 1), (other, 6)]));
    assert_eq!(state(&old).await, ProjectionState::Running, "newer code may come");
    let unknown = old.unknown();
    let shown = |of: &composable_rust_runtime::Unknown| {
        (of.what.clone(), of.worker.clone(), of.waiting, of.example.clone(), of.is_overdue)
    };
    let worker = "project/totals".to_owned();
    let expected = ("`account.withdrawn`".to_owned(), worker, 1, at.to_string(), false);
    assert_eq!(unknown.iter().map(shown).collect::<Vec<_>>(), [expected]);

    let reason = failure(&old).await;
    assert!(reason.contains("no running code knows `account.withdrawn`"), "{reason}");
    assert!(reason.contains(&at.to_string()), "{reason}");
    assert!(old.unknown()[0].is_overdue);
    // Resumed in vain, it fails at once.
    handle(&old).resume().await.unwrap();
    pass(5).await;
    assert!(matches!(state(&old).await, ProjectionState::Failed { .. }));

    let stream = Account::id("1").stream();
    let first = store.all_events().into_iter().find(|event| event.stream == stream).unwrap();
    let StoredContent::Present(deposit) = first.content else { panic!("it has content") };
    store.override_event(&stream, version, &deposit).await.unwrap();
    handle(&old).resume().await.unwrap();
    settle(&old).await;
    assert_eq!(model.get().cents["1"], 4);
    assert_eq!(old.unknown(), []);
}

/// Processes that are killed at any moment, projections that fail at times, answers that are lost:
/// everything is projected once, also what waited.
#[test]
fn totals_are_exact_after_crashes() {
    use composable_rust_runtime::SystemClock;
    for (seed, poison) in [(1_u64, Poison::Stop), (2, Poison::Park), (3, Poison::Park)] {
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
                    settings.lease = Duration::from_millis(100);
                    settings.attempts.first_wait = Duration::from_millis(2);
                    settings.attempts.most = 1_000;
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
            // What failed before waits for its next attempt.
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

/// Gauges as they were set last.
#[derive(Default)]
struct Gauges(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Gauges {
    fn get(&self, name: &str) -> f64 {
        let gauges = self.0.lock().unwrap();
        let bits = gauges.get(name).unwrap_or_else(|| panic!("no {name}: {:?}", gauges.keys()));
        f64::from_bits(bits.load(Ordering::SeqCst))
    }

    fn lag(&self) -> (f64, f64) {
        let seconds = self.get("composable_rust_projection_lag_seconds projection=totals");
        (seconds, self.get("composable_rust_projection_lag_events projection=totals"))
    }

    fn is(&self, state: &str) -> bool {
        let states = ["running", "rebuilding", "paused", "failed"].map(|state| {
            let gauge = "composable_rust_projection_state projection=totals,state=";
            (state, self.get(&format!("{gauge}{state}")) > 0.0)
        });
        states.iter().all(|(name, is)| (*name == state) == *is)
    }
}

impl Recorder for Gauges {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &metrics::Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &metrics::Metadata<'_>) -> Gauge {
        let labels: Vec<_> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{} {}", key.name(), labels.join(","));
        Gauge::from_arc(Arc::clone(self.0.lock().unwrap().entry(name).or_default()))
    }

    fn register_histogram(&self, _: &Key, _: &metrics::Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn its_gauges_rise_while_it_does_not_get_on() {
    let gauges = Gauges::default();
    let _recording = metrics::set_default_local_recorder(&gauges);
    let (memory, model, add_up) = (store(), Model::default(), AddUp::default());
    let store = FaultyEventStore::new(memory.clone());
    let app = process(&store, &add_up, &model);
    deposit(&app, "1", 1).await;
    settle(&app).await;
    pass(10).await;
    assert!(gauges.lag() == (0.0, 0.0) && gauges.is("running"), "{:?}", gauges.lag());

    add_up.poison(&["bad"]);
    deposit(&app, "bad", 1).await;
    failure(&app).await;
    for seconds in [100.0, 1_000.0] {
        pass(1_000).await;
        let lag = gauges.lag();
        assert!(lag.0 >= seconds && lag.1 >= 1.0 && gauges.is("failed"), "{lag:?}");
    }
    add_up.poison(&[]);
    handle(&app).resume().await.unwrap();
    settle(&app).await;
    pass(10).await;
    assert!(gauges.lag() == (0.0, 0.0) && gauges.is("running"), "{:?}", gauges.lag());

    handle(&app).pause().await.unwrap();
    pass(10).await;
    deposit(&app, "1", 1).await;
    pass(100).await;
    assert!(gauges.lag().0 >= 90.0 && gauges.lag().1 >= 1.0 && gauges.is("paused"));
    handle(&app).resume().await.unwrap();
    pass(10).await;
    assert_eq!(gauges.lag(), (0.0, 0.0));

    // Nothing is known of the log, so it may be behind.
    store.next_reads(std::iter::repeat_n(Fault::FailBefore, 10_000));
    pass(100).await;
    assert!(gauges.lag().0 >= 90.0, "{:?}", gauges.lag());
    store.recover();
    pass(10).await;
    assert_eq!(gauges.lag(), (0.0, 0.0));

    add_up.poison(&["bad"]);
    deposit(&app, "bad", 1).await;
    pass(10).await;
    assert!(gauges.lag().0 > 0.0);
    assert!(app.shutdown(Duration::from_secs(20)).await);
    assert!(gauges.lag() == (0.0, 0.0) && gauges.is(""), "another process tells");
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

/// One of several projections; it counts the events that its process is asked for.
struct Counts<const N: usize>(Arc<AtomicU64>);

impl<const N: usize> Projection for Counts<N> {
    const NAME: &'static str = ["a", "b", "c", "d"][N];
    const CATEGORIES: &'static [&'static str] = &[Account::CATEGORY];
    type Event = AccountEvent;
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
            .clock(TokioClock)
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
