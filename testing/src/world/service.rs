//! A service of a world: its log, and the process that works on it.

use std::fmt;
use std::sync::Arc;

use composable_rust_core::environment::{IdGenerator, Rng};
use composable_rust_core::store::EventStore;
use composable_rust_runtime::{App, AppBuilder};
use uuid::Uuid;

use super::process::{Calls, Process, ProcessClock};
use crate::intercept::Intercepted;
use crate::{FaultyEventStore, MockClock, SeededRng, SequentialIds};

/// The configuration of an app, which is made again at each restart.
type Build = Box<dyn Fn(AppBuilder) -> AppBuilder + Send + Sync>;

/// The clock, ids and random numbers that all services of a world share.
#[derive(Debug, Clone)]
pub(super) struct Environment {
    pub(super) clock: MockClock,
    ids: Arc<SequentialIds>,
    rng: Arc<SeededRng>,
}

impl Environment {
    pub(super) fn new(clock: MockClock) -> Self {
        Self { clock, ids: Arc::default(), rng: Arc::new(SeededRng::new(1)) }
    }
}

#[derive(Debug)]
struct SharedIds(Arc<SequentialIds>);

impl IdGenerator for SharedIds {
    fn new_id(&self) -> Uuid {
        self.0.new_id()
    }
}

#[derive(Debug)]
struct SharedRng(Arc<SeededRng>);

impl Rng for SharedRng {
    fn next_u64(&self) -> u64 {
        self.0.next_u64()
    }
}

/// A log, and the app that works on it until the next restart.
pub(super) struct Service<S> {
    /// The store, with its faults.
    pub(super) store: FaultyEventStore<Intercepted<S, Calls>>,
    /// The running process.
    process: Arc<Process>,
    pub(super) app: App,
    build: Build,
}

impl<S: fmt::Debug> fmt::Debug for Service<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("store", &self.store)
            .field("app", &self.app)
            .finish_non_exhaustive()
    }
}

impl<S: EventStore + Clone> Service<S> {
    /// Starts a service.
    ///
    /// # Panics
    ///
    /// If the app cannot be built.
    pub(super) fn start(
        store: S,
        environment: &Environment,
        build: impl Fn(AppBuilder) -> AppBuilder + Send + Sync + 'static,
    ) -> Self {
        let store = FaultyEventStore::new(Intercepted::layered(store, Calls::default()));
        let store = store.with_clock(environment.clock.clone());
        let process = Arc::new(Process::default());
        let app = start(&store, &process, environment, &build);
        Self { store, process, app, build: Box::new(build) }
    }

    /// Returns the counts of the store's calls.
    pub(super) fn calls(&self) -> &Calls {
        self.store.inner()
    }

    /// Ends the process as a crash does.
    pub(super) fn crash(&mut self) {
        self.process.crash();
    }

    /// Starts the next process, and drops the app of the last one.
    pub(super) fn start_again(&mut self, environment: &Environment) {
        self.process = Arc::default();
        self.app = start(&self.store, &self.process, environment, &self.build);
    }
}

/// Starts the app of a process, which reaches store and clock only while the process lives.
fn start<S: EventStore + Clone>(
    store: &S,
    process: &Arc<Process>,
    environment: &Environment,
    build: &dyn Fn(AppBuilder) -> AppBuilder,
) -> App {
    let Environment { clock, ids, rng } = environment.clone();
    let store: Intercepted<S, Process> = Intercepted::layered(store.clone(), Arc::clone(process));
    let builder = App::builder(store).clock(ProcessClock { clock, process: Arc::clone(process) });
    let builder = builder.ids(SharedIds(ids)).rng(SharedRng(rng));
    let app = build(builder).build().unwrap_or_else(|error| panic!("{error}"));
    app.start();
    app
}
