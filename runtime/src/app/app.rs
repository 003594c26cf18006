//! The composition root.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use composable_rust_core::{
    Aggregate, Codecs, EventStore, Id, LogInfo, Position, Projection, Recorded, SharedEventStore,
    StoreError, StoredEvent, Version, WorkQueues as _,
};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};

use crate::app::builder::AppBuilder;
use crate::app::dead_letters::DeadLetters;
use crate::app::queues::Queues;
use crate::app::registry::Registry;
use crate::app::stuck_instances::StuckInstance;
use crate::app::unknown_messages::UnknownMessage;
use crate::error::LoadError;
use crate::instance::handle::Handle;
use crate::instance::load::size;
use crate::instance::runtime::{AggregateRuntime, AppContext};
use crate::panic::lock;
use crate::worker::bus::subscriptions::SubscriptionStatus;
use crate::worker::page_size::PageSize;
use crate::worker::projection::handle::ProjectionHandle;
use crate::worker::supervisor::{RunningWorkers, WorkerSet};

/// The composition root: an event store, the aggregates that live in it, and what follows from their
/// events. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<AppInner>);

struct AppInner {
    shared: Arc<AppContext>,
    aggregates: BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>,
    registry: Registry,
    plans: WorkerSet,
    /// The workers, once they are started.
    working: Mutex<Option<Arc<RunningWorkers>>>,
}

impl Drop for AppInner {
    fn drop(&mut self) {
        if let Some(working) = self.working() {
            working.abandon();
        }
    }
}

impl AppInner {
    fn working(&self) -> Option<Arc<RunningWorkers>> {
        lock(&self.working).clone()
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("registry", &self.0.registry).finish_non_exhaustive()
    }
}

impl App {
    /// Begins an app on `store`.
    pub fn builder(store: impl EventStore) -> AppBuilder {
        AppBuilder::new(store)
    }

    pub(crate) fn new(
        shared: Arc<AppContext>,
        aggregates: BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>,
        registry: Registry,
        plans: WorkerSet,
    ) -> Self {
        let working = Mutex::new(None);
        Self(Arc::new(AppInner { shared, aggregates, registry, plans, working }))
    }

    /// `true` if a policy of this name follows the log of this service.
    pub(crate) fn follows_log(&self, policy: &str) -> bool {
        self.0.plans.follows_log(policy, &self.0.registry)
    }

    pub(crate) fn shared(&self) -> &AppContext {
        &self.0.shared
    }

    /// The durable instance `id`; it need not have any event yet.
    ///
    /// # Panics
    ///
    /// When the aggregate is not registered: add `.aggregate::<A>(…)` to the builder.
    #[track_caller]
    pub fn handle<A: Aggregate>(&self, id: &Id<A>) -> Handle<A> {
        Handle { id: id.clone(), runtime: self.runtime() }
    }

    #[track_caller]
    fn runtime<A: Aggregate>(&self) -> Arc<AggregateRuntime<A>> {
        let runtime = self.0.aggregates.get(&TypeId::of::<A>());
        match runtime.and_then(|runtime| Arc::clone(runtime).downcast().ok()) {
            Some(runtime) => runtime,
            None => panic!(
                "`{}` is not registered: add `.aggregate::<{}>(…)` to the app's builder",
                A::NAME,
                std::any::type_name::<A>()
            ),
        }
    }

    /// The number of messages since the app was built that have come again to instances here and
    /// changed nothing: redeliveries, and commands with a key that was used before. What would be
    /// refused again on an unchanged state is not counted, for nobody has to look it up.
    pub fn duplicates_ignored(&self) -> u64 {
        self.0.shared.duplicates_ignored.load(Ordering::Relaxed)
    }

    /// Pauses the log for all processes: queues, timers and followers rest, nothing is taken off the
    /// bus, and what is under way comes to its end. Commands are handled; what they set in motion
    /// waits. Each process notices within a third of [`Settings::lease`](crate::Settings::lease).
    ///
    /// # Errors
    ///
    /// When the store cannot be reached; calling it again is safe.
    pub async fn pause(&self) -> Result<(), StoreError> {
        self.0.shared.store.set_paused(true).await
    }

    /// Ends a [`pause`](Self::pause), also that of a copy that was
    /// [adopted](composable_rust_core::Adoption::Copy).
    ///
    /// # Errors
    ///
    /// When the store cannot be reached; calling it again is safe.
    pub async fn resume(&self) -> Result<(), StoreError> {
        self.0.shared.store.set_paused(false).await
    }

    /// What could not be handled, and what stands behind it.
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters::new(&self.0.shared)
    }

    /// The queues of effects and timers, with what waits in them.
    pub fn queues(&self) -> Queues {
        Queues::new(&self.0.shared)
    }

    /// The app's subscriptions to topics of the bus, and what they cannot read: missing topics, missing
    /// rights, lost positions. Empty until [`App::start`], and without a bus.
    pub fn subscriptions(&self) -> Vec<SubscriptionStatus> {
        self.0.working().map(|working| working.subscriptions()).unwrap_or_default()
    }

    /// What this process has come upon and does not know: names, versions, tags and targets that
    /// wait for newer code, in order of workers. In its logs, and the gauge `composable_rust_unknown`.
    pub fn unknown_messages(&self) -> Vec<UnknownMessage> {
        self.0.shared.unknowns.all()
    }

    /// The instances whose streams this process cannot load, in order of streams: an event cannot be
    /// decoded or applied, or is missing. Their messages and timers wait in the store. Each instance is
    /// tried again after 5 seconds at first, then after twice as long each time, up to 5 minutes, less
    /// a random part of up to a half. Also in the gauge `composable_rust_stuck_instances`.
    pub fn stuck_instances(&self) -> Vec<StuckInstance> {
        self.0.shared.stuck.all(&*self.0.shared.clock)
    }

    /// A projection of the app.
    ///
    /// # Panics
    ///
    /// When it is not registered: add `.projection(…)` to the builder.
    #[track_caller]
    pub fn projection<P: Projection>(&self) -> ProjectionHandle {
        match self.0.plans.projections.get(P::NAME) {
            Some(projection) => {
                ProjectionHandle::new(Arc::clone(projection), Arc::clone(&self.0.shared))
            }
            None => panic!("no projection `{}` is registered: add `.projection(…)`", P::NAME),
        }
    }

    /// The event store.
    pub fn store(&self) -> &SharedEventStore {
        &self.0.shared.store
    }

    /// What is fixed about the log: its id and how many partitions it has.
    pub fn log(&self) -> LogInfo {
        self.0.shared.log
    }

    /// Everything by name, for operators' tools.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// How many instances of `A` are in memory.
    ///
    /// # Panics
    ///
    /// When the aggregate is not registered.
    #[track_caller]
    pub fn live_instances<A: Aggregate>(&self) -> usize {
        self.runtime::<A>().instances.len()
    }

    /// The states of `A` that are in memory, each with the version that it belongs to: what this
    /// process decides on until it learns of newer events. For tests and operators' tools; all of
    /// them are cloned.
    ///
    /// # Panics
    ///
    /// When the aggregate is not registered.
    #[track_caller]
    pub fn cached_states<A: Aggregate>(&self) -> Vec<(Id<A>, A, Version)> {
        self.runtime::<A>().instances.states()
    }

    /// The codecs that messages and states are encoded with.
    pub fn codecs(&self) -> &Codecs {
        &self.0.shared.codecs
    }

    /// The events of all instances of `A` that are in the log after the given positions
    /// (`app.log().beginnings()` for all), up to where the log stands now. Each instance's come in
    /// order; between instances nothing is promised. Erased events are left out.
    ///
    /// # Errors
    ///
    /// The stream ends with a [`LoadError`] at the first event that cannot be had.
    pub fn events<A: Aggregate>(
        &self,
        after: Vec<Position>,
    ) -> impl Stream<Item = Result<Recorded<A::Event>, LoadError>> + Send + use<A> {
        let shared = Arc::clone(&self.0.shared);
        let codecs = shared.codecs.clone();
        log(shared, after).try_filter_map(move |event| {
            let own = event.stream.category() == A::NAME;
            let decoded = if own { recorded::<A>(&codecs, &event).map(present) } else { Ok(None) };
            std::future::ready(decoded)
        })
    }

    /// The ids of all instances of `A` that have events now.
    ///
    /// # Errors
    ///
    /// The stream ends with a [`LoadError`] when the log cannot be read on.
    pub fn ids<A: Aggregate>(
        &self,
    ) -> impl Stream<Item = Result<Id<A>, LoadError>> + Send + use<A> {
        let shared = Arc::clone(&self.0.shared);
        let beginnings = Position::start_positions(shared.log.partitions);
        log(shared, beginnings).try_filter_map(|event| {
            let first = event.version.get() == 1;
            std::future::ready(Ok(if first { Id::of_stream(&event.stream) } else { None }))
        })
    }

    /// Starts what follows from commits: dispatching, timers, policies, the relay. Until then it is
    /// stored and waits; another process on the same store may do it. Started once, it is not
    /// started again.
    ///
    /// It ends with [`App::shutdown`], or at once when the last clone of the app is dropped; whatever
    /// was under way then is taken up by the next process.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start(&self) {
        let mut working = lock(&self.0.working);
        if working.is_none() && !self.0.shared.tasks.is_closed() {
            let started = self.0.plans.start(&self.0.shared, &self.0.registry);
            *working = Some(Arc::new(started));
        }
    }

    /// Starts what follows from commits (see [`App::start`]) and runs until `signal` completes, then
    /// lets everything that was accepted finish, for at most `grace`. Returns whether all of it did.
    pub async fn run_until(&self, signal: impl Future<Output = ()>, grace: Duration) -> bool {
        self.start();
        signal.await;
        self.shutdown(grace).await
    }

    /// Refuses new commands at once and lets those that were accepted finish, for at most `grace`.
    /// Returns whether all of them did; what did not may or may not be recorded. A projection does
    /// not end its transaction: the next process projects those events. When the grace is over, the
    /// leases are given up, which takes up to a second more.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        let shared = &self.0.shared;
        let late = shared.clock.sleep(grace);
        let working = self.0.working();
        // From now on commands are refused; what the workers deliver still goes through the instances.
        shared.tasks.close();
        let done = async {
            if let Some(working) = &working {
                working.stop().await;
            }
            shared.tasks.wait().await;
        };
        let ended = tokio::select! {
            biased;
            () = done => true,
            () = late => false,
        };
        if !ended && let Some(working) = working {
            working.give_up().await;
        }
        ended
    }
}

/// Partitions that one page of the log is of, and its events of each, at first and at most.
const PAGE_PARTITIONS: usize = 16;
const FIRST_PAGE: usize = 32;
const LARGEST_PAGE: usize = 1_000;

/// The log after the given positions, up to where it stands now.
fn log(
    shared: Arc<AppContext>,
    after: Vec<Position>,
) -> impl Stream<Item = Result<StoredEvent, LoadError>> + Send {
    let pages = stream::try_unfold(
        (shared, after, None, PageSize::new(FIRST_PAGE, LARGEST_PAGE)),
        |state| async move {
            let (shared, mut after, heads, mut page) = state;
            let heads = match heads {
                Some(heads) => heads,
                None => shared.store.heads().await.map_err(log_unavailable)?,
            };
            after.retain(|at| at.offset < head_of(&heads, at.partition));
            if after.is_empty() {
                return Ok(None);
            }
            let some = after.len().min(PAGE_PARTITIONS);
            let events = shared.store.read_log(&after[..some], page.rows()).await;
            let mut events = events.map_err(log_unavailable)?;
            page.was_read(events.iter().map(size).sum(), events.len() >= page.rows());
            for at in &mut after[..some] {
                let seen = events.iter().filter(|event| event.position.partition == at.partition);
                at.offset = seen.map(|event| event.position.offset).max().unwrap_or(u64::MAX);
            }
            events
                .retain(|event| event.position.offset <= head_of(&heads, event.position.partition));
            Ok(Some((stream::iter(events.into_iter().map(Ok)), (shared, after, Some(heads), page))))
        },
    );
    pages.try_flatten().boxed()
}

fn head_of(heads: &[Position], partition: u16) -> u64 {
    heads.iter().find(|head| head.partition == partition).map_or(0, |head| head.offset)
}

fn log_unavailable(source: StoreError) -> LoadError {
    LoadError::Log { source }
}

/// Decodes a stored event; `None` stands for one that is erased, or for the end of the stream.
pub(crate) fn recorded<A: Aggregate>(
    codecs: &Codecs,
    event: &StoredEvent,
) -> Result<Recorded<Option<A::Event>>, LoadError> {
    let decoded = event
        .content
        .present()
        .map(|content| codecs.decode::<A::Event>(&event.stream, content))
        .transpose()
        .map_err(|source| crate::instance::load::undecodable(event, source))?;
    Ok(event.decoded(decoded))
}

fn present<E>(recorded: Recorded<Option<E>>) -> Option<Recorded<E>> {
    let Recorded { event, id, stream, version, position, metadata, recorded_at } = recorded;
    event.map(|event| Recorded { event, id, stream, version, position, metadata, recorded_at })
}
