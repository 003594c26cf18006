//! The composition root.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use composable_rust_core::bus::{GroupTopic, SharedEventBus};
use composable_rust_core::codec::Codecs;
use composable_rust_core::event::StoredEvent;
use composable_rust_core::queue::{Leases as _, OutboxKind, Pause};
use composable_rust_core::store::{EventStore as _, LogInfo, SharedEventStore, StoreError};
use composable_rust_core::{
    Aggregate, EventSet, Gateway, Id, Position, Projection, Recorded, Version,
};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};

use crate::app::context::AppContext;
use crate::app::dead_letters::DeadLetters;
use crate::app::gateway_handle::GatewayHandle;
use crate::app::queues::Queues;
use crate::app::registry::Registry;
use crate::app::stuck_instances::StuckInstance;
use crate::app::unknown_messages::UnknownMessage;
use crate::error::LoadError;
use crate::instance::handle::Handle;
use crate::instance::load::{recorded, size};
use crate::instance::runtime::AggregateRuntime;
use crate::panic::lock;
use crate::worker::bus::subscriptions::SubscriptionStatus;
use crate::worker::page_size::PageSize;
use crate::worker::policy::registered::ErasedPolicy;
use crate::worker::projection::handle::ProjectionHandle;
use crate::worker::supervisor::{RunningWorkers, WorkerSet};

/// The composition root: an event store, its aggregates, and the workers that process their events.
/// Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<AppInner>);

struct AppInner {
    shared: Arc<AppContext>,
    aggregates: BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>,
    registry: Registry,
    workers: WorkerSet,
    /// The running workers, once they are started.
    running: Mutex<Option<Arc<RunningWorkers>>>,
}

impl Drop for AppInner {
    fn drop(&mut self) {
        if let Some(running) = self.running() {
            running.abandon();
        }
    }
}

impl AppInner {
    fn running(&self) -> Option<Arc<RunningWorkers>> {
        lock(&self.running).clone()
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("registry", &self.0.registry).finish_non_exhaustive()
    }
}

impl App {
    pub(crate) fn new(
        shared: Arc<AppContext>,
        aggregates: BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>,
        registry: Registry,
        workers: WorkerSet,
    ) -> Self {
        let running = Mutex::new(None);
        Self(Arc::new(AppInner { shared, aggregates, registry, workers, running }))
    }

    /// `true` if a policy of this name follows the log of this service.
    pub(crate) fn follows_log(&self, policy: &str) -> bool {
        self.0.workers.follows_log(policy, &self.0.registry)
    }

    /// The bus.
    pub(crate) fn event_bus(&self) -> Option<&SharedEventBus> {
        self.0.workers.bus.as_ref()
    }

    /// The consumers of this process by name, with the topics that they read.
    pub(crate) fn consumed(&self) -> Vec<(String, GroupTopic)> {
        self.0.workers.consumed(&self.0.shared, &self.0.registry)
    }

    pub(crate) fn shared(&self) -> &AppContext {
        &self.0.shared
    }

    pub(crate) fn context(&self) -> &Arc<AppContext> {
        &self.0.shared
    }

    /// The policies over the log of this service: their names, the categories that they follow, and
    /// `true` for those that start at the beginning of the log.
    pub(crate) fn policies_of_log(
        &self,
    ) -> impl Iterator<Item = (&str, &'static [&'static str], bool)> {
        self.0.workers.policies_of_log(&self.0.registry)
    }

    /// The policy of this name.
    pub(crate) fn policy(&self, name: &str) -> Option<&dyn ErasedPolicy> {
        let mut policies = self.0.workers.policies.iter();
        policies.find(|policy| policy.name == name).map(|policy| &*policy.policy)
    }

    /// The kinds and targets of the queues that this process works.
    pub(crate) fn queues_of_workers(&self) -> Vec<(OutboxKind, String)> {
        self.0.workers.queues(&self.0.shared, &self.0.registry)
    }

    /// Returns a handle of the durable instance `id`, which need not have any event yet.
    ///
    /// # Panics
    ///
    /// If the aggregate is not registered: add `.aggregate::<A>(…)` to the builder.
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

    /// Returns the number of duplicate messages ignored by this process since it started:
    /// redeliveries, and commands with a key that was used before. A duplicate that is rejected
    /// again on an unchanged state is not counted, because it is not looked up.
    pub fn duplicates_ignored(&self) -> u64 {
        self.0.shared.duplicates_ignored.load(Ordering::Relaxed)
    }

    /// Pauses the log for all processes: no worker takes rows, timers, events or messages of the
    /// bus any more, and work under way is finished. Commands are still handled; their effects
    /// wait. Each process notices within a third of
    /// [`Settings::lease_ttl`](crate::settings::Settings::lease_ttl).
    ///
    /// # Errors
    ///
    /// The store is unavailable. Calling it again is safe.
    pub async fn pause(&self) -> Result<(), StoreError> {
        self.0.shared.store.pause(Pause::LOG, None).await
    }

    /// Ends a [`pause`](Self::pause), also the pause of a copy that was
    /// [adopted](composable_rust_core::store::Adoption::Copy).
    ///
    /// # Errors
    ///
    /// The store is unavailable. Calling it again is safe.
    pub async fn resume(&self) -> Result<(), StoreError> {
        self.0.shared.store.resume(Pause::LOG).await
    }

    /// Returns the handle of the gateway `G`, whose calls this process makes or another: its
    /// status, and its pause.
    pub fn gateway<G: Gateway>(&self) -> GatewayHandle {
        self.gateway_named(G::NAME)
    }

    fn gateway_named(&self, name: &'static str) -> GatewayHandle {
        let inner = &self.0;
        GatewayHandle {
            name,
            shared: Arc::clone(&inner.shared),
            registered: inner.workers.gateways.get(name).cloned(),
            leases: inner.running().map(|running| running.leases().clone()),
        }
    }

    /// Returns the dead letters: messages that could not be handled, and those that wait behind
    /// them.
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters::new(&self.0.shared)
    }

    /// Returns the queues of effects and timers, with the messages that wait in them.
    pub fn queues(&self) -> Queues {
        Queues::new(&self.0.shared)
    }

    /// Returns the status of the app's subscriptions to topics of the bus: missing topics, missing
    /// rights, lost positions. Empty before [`App::start`], and without a bus.
    pub fn subscriptions(&self) -> Vec<SubscriptionStatus> {
        self.0.running().map(|running| running.subscriptions()).unwrap_or_default()
    }

    /// Returns the names, versions, tags and targets that this process has met and does not know,
    /// in order of workers. Their messages wait for newer code. The process also logs them and
    /// counts them in the gauge `composable_rust_unknown_messages`.
    pub fn unknown_messages(&self) -> Vec<UnknownMessage> {
        self.0.shared.unknowns.all()
    }

    /// Returns the instances whose streams this process cannot load, in order of streams: an event
    /// cannot be decoded or applied, or is missing. Their messages and timers wait in the store.
    /// Each load is retried after 5 seconds, then after twice as long each time, up to 5 minutes,
    /// less a random part of up to a half. The gauge `composable_rust_stuck_instances` counts the
    /// instances.
    pub fn stuck_instances(&self) -> Vec<StuckInstance> {
        self.0.shared.stuck.all(&*self.0.shared.clock)
    }

    /// Returns the handle of a projection.
    ///
    /// # Panics
    ///
    /// If the projection is not registered: add `.projection(…)` to the builder.
    #[track_caller]
    pub fn projection<P: Projection>(&self) -> ProjectionHandle {
        match self.0.workers.projections.get(P::NAME) {
            Some(projection) => {
                ProjectionHandle::new(Arc::clone(projection), Arc::clone(&self.0.shared))
            }
            None => panic!("no projection `{}` is registered: add `.projection(…)`", P::NAME),
        }
    }

    /// Returns the handles of all projections, in order of names.
    pub fn projections(&self) -> Vec<ProjectionHandle> {
        let all = self.0.workers.projections.values();
        all.map(|of| ProjectionHandle::new(Arc::clone(of), Arc::clone(&self.0.shared))).collect()
    }

    /// Returns the handles of the gateways whose calls this process makes, in order of names.
    pub fn gateways(&self) -> Vec<GatewayHandle> {
        self.0.workers.gateways.keys().map(|name| self.gateway_named(name)).collect()
    }

    /// Returns the number of operations on read models that the projections of this process have
    /// under way, for test harnesses that wait until everything is at rest.
    pub fn read_model_operations(&self) -> u64 {
        self.0.workers.projections.values().map(|projection| projection.operations()).sum()
    }

    /// Returns the event store.
    pub fn store(&self) -> &SharedEventStore {
        &self.0.shared.store
    }

    /// Returns the id and the number of partitions of the log, which never change.
    pub fn log(&self) -> LogInfo {
        self.0.shared.log
    }

    /// Returns the aggregates by name, for operators' tools.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Returns the number of instances of `A` in memory.
    ///
    /// # Panics
    ///
    /// If the aggregate is not registered.
    #[track_caller]
    pub fn live_instances<A: Aggregate>(&self) -> usize {
        self.runtime::<A>().instances.len()
    }

    /// Returns clones of all states of `A` in memory, each with its version, for tests and
    /// operators' tools. A state may lack events that other processes have appended.
    ///
    /// # Panics
    ///
    /// If the aggregate is not registered.
    #[track_caller]
    pub fn cached_states<A: Aggregate>(&self) -> Vec<(Id<A>, A, Version)> {
        self.runtime::<A>().instances.states()
    }

    /// Returns the codecs of messages and states.
    pub fn codecs(&self) -> &Codecs {
        &self.0.shared.codecs
    }

    /// Returns the events of all instances of `S`, an aggregate or an [`EventSet`] of several,
    /// after the given positions (`app.log().start_positions()` for all events), up to the present
    /// end of the log. The events of one instance are in order; those of different instances in no
    /// particular order. Erased events are left out.
    ///
    /// # Errors
    ///
    /// The stream ends with a [`LoadError`] at the first event that cannot be loaded.
    pub fn events<S: EventSet>(
        &self,
        after: Vec<Position>,
    ) -> impl Stream<Item = Result<Recorded<S::Event>, LoadError>> + Send + use<S> {
        let shared = Arc::clone(&self.0.shared);
        let codecs = shared.codecs.clone();
        log(shared, after).try_filter_map(move |event| {
            let is_own = S::CATEGORIES.contains(&event.stream.category());
            let decoded =
                if is_own { recorded::<S>(&codecs, &event).map(present) } else { Ok(None) };
            std::future::ready(decoded)
        })
    }

    /// Returns the ids of all instances of `A` that have events.
    ///
    /// # Errors
    ///
    /// The stream ends with a [`LoadError`] if the log cannot be read.
    pub fn ids<A: Aggregate>(
        &self,
    ) -> impl Stream<Item = Result<Id<A>, LoadError>> + Send + use<A> {
        let shared = Arc::clone(&self.0.shared);
        let start = Position::start_positions(shared.log.partitions);
        log(shared, start).try_filter_map(|event| {
            let first = event.version.get() == 1;
            std::future::ready(Ok(if first { Id::of_stream(&event.stream) } else { None }))
        })
    }

    /// Starts the workers: dispatching, timers, policies, projections, the relay. Before, effects
    /// are stored and wait, unless another process on the same store executes them. A second call
    /// does nothing.
    ///
    /// The workers end with [`App::shutdown`], or at once when the last clone of the app is
    /// dropped; the next process continues the work that was under way.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start(&self) {
        let mut running = lock(&self.0.running);
        if running.is_none() && !self.0.shared.tasks.is_closed() {
            let started = self.0.workers.start(&self.0.shared, &self.0.registry);
            *running = Some(Arc::new(started));
        }
    }

    /// Starts the workers (see [`App::start`]), runs until `signal` completes, then shuts down as
    /// [`App::shutdown`] does. Returns `true` if all accepted commands were finished within
    /// `grace`.
    pub async fn run_until(&self, signal: impl Future<Output = ()>, grace: Duration) -> bool {
        self.start();
        signal.await;
        self.shutdown(grace).await
    }

    /// Rejects new commands at once and lets those that were accepted finish, for at most `grace`.
    /// Returns `true` if all of them did; the others may or may not be recorded. A projection rolls
    /// its transaction back: the next process projects those events. When `grace` is over, the
    /// leases are released, which takes up to a second more.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        let shared = &self.0.shared;
        let timeout = shared.clock.sleep(grace);
        let running = self.0.running();
        // Rejects commands of callers; the instances still handle the messages that workers
        // deliver.
        shared.tasks.close();
        let done = async {
            if let Some(running) = &running {
                running.stop().await;
            }
            shared.tasks.wait().await;
        };
        let has_finished = tokio::select! {
            biased;
            () = done => true,
            () = timeout => false,
        };
        match running {
            Some(running) if !has_finished => running.give_up().await,
            _ => {}
        }
        has_finished
    }
}

/// The maximum number of partitions of one page of the log.
const PAGE_PARTITIONS: usize = 16;
/// The number of events of the first page.
const FIRST_PAGE: usize = 32;
/// The maximum number of events of a page.
const LARGEST_PAGE: usize = 1_000;

/// Reads the log after the given positions, up to its present end.
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

fn present<E>(recorded: Recorded<Option<E>>) -> Option<Recorded<E>> {
    let Recorded { event, id, stream, version, position, metadata, recorded_at } = recorded;
    event.map(|event| Recorded { event, id, stream, version, position, metadata, recorded_at })
}
