//! The composition root.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{
    Aggregate, Clock, Codec, Codecs, EventStore, Id, IdGenerator, LogInfo, Position, Recorded,
    RecordedEvent, Rng, SharedEventStore, StoreError, schema,
};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::aggregate::{AggregateRuntime, Shared};
use crate::error::LoadError;
use crate::group_commit::GroupCommit;
use crate::handle::{Handle, content_of};
use crate::instances::Instances;
use crate::registry::{AggregateRuntimeRef, ErasedAggregate, Registry};
use crate::{Settings, SystemClock, SystemIds, SystemRng};

/// The composition root: an event store, and the aggregates that live in it. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

struct Parts {
    shared: Arc<Shared>,
    aggregates: BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>,
    registry: Registry,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("registry", &self.0.registry).finish_non_exhaustive()
    }
}

/// An app being put together; made by [`App::builder`].
pub struct AppBuilder {
    store: SharedEventStore,
    settings: Settings,
    codecs: Codecs,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGenerator>,
    rng: Arc<dyn Rng>,
    aggregates: Vec<Registration>,
}

type Made = (TypeId, Arc<dyn Any + Send + Sync>, Arc<dyn ErasedAggregate>);

struct Registration {
    name: &'static str,
    type_name: &'static str,
    make: Box<dyn FnOnce(Arc<Shared>) -> Made + Send>,
}

impl fmt::Debug for AppBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.aggregates.iter().map(|aggregate| aggregate.name).collect();
        f.debug_struct("AppBuilder").field("aggregates", &names).finish_non_exhaustive()
    }
}

/// What is wrong with an app, all of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the app cannot be built: {}", .problems.join("; "))]
pub struct BuildError {
    problems: Vec<String>,
}

impl BuildError {
    /// Each problem, in words.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl AppBuilder {
    /// Registers an aggregate with its environment.
    #[must_use]
    pub fn aggregate<A: Aggregate>(mut self, env: A::Environment) -> Self {
        let make = Box::new(move |shared: Arc<Shared>| -> Made {
            let (fingerprint, problem) = schema::fingerprint::<A>();
            if let Some(problem) = problem {
                tracing::warn!(
                    aggregate = A::NAME, %problem,
                    "its snapshots are told apart by name and FOLD only; raise FOLD when the state changes"
                );
            }
            let settings = &shared.settings;
            let instances =
                Instances::new(settings.live_instances, settings.idle, settings.mailbox);
            let runtime = Arc::new(AggregateRuntime::<A> { shared, env, fingerprint, instances });
            let erased = Arc::new(AggregateRuntimeRef(Arc::clone(&runtime)));
            (TypeId::of::<A>(), runtime as _, erased as _)
        });
        let type_name = std::any::type_name::<A>();
        self.aggregates.push(Registration { name: A::NAME, type_name, make });
        self
    }

    /// Changes limits and habits.
    #[must_use]
    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Writes with `codec` instead of bincode; what others wrote stays readable if they are
    /// bincode, JSON or registered with [`AppBuilder::reading`].
    #[must_use]
    pub fn codec(mut self, codec: impl Codec) -> Self {
        self.codecs = self.codecs.writing(codec);
        self
    }

    /// Reads what `codec` wrote.
    #[must_use]
    pub fn reading(mut self, codec: impl Codec) -> Self {
        self.codecs = self.codecs.reading(codec);
        self
    }

    /// Replaces the system's clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Replaces the source of message ids.
    #[must_use]
    pub fn ids(mut self, ids: impl IdGenerator) -> Self {
        self.ids = Arc::new(ids);
        self
    }

    /// Replaces the source of chance.
    #[must_use]
    pub fn rng(mut self, rng: impl Rng) -> Self {
        self.rng = Arc::new(rng);
        self
    }

    /// Checks everything and builds the app.
    ///
    /// # Errors
    ///
    /// [`BuildError`] lists every problem: two aggregates of one name, a limit of 0.
    pub fn build(self) -> Result<App, BuildError> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(BuildError { problems });
        }
        let Self { store, settings, codecs, clock, ids, rng, aggregates } = self;
        let writer = GroupCommit::with(
            store.clone(),
            settings.clone(),
            Arc::clone(&clock),
            Arc::clone(&rng),
        );
        let log = store.log();
        let tasks = TaskTracker::new();
        let loads = Semaphore::new(settings.loads);
        let shared = Arc::new(Shared {
            store,
            log,
            writer,
            codecs,
            settings,
            clock,
            ids,
            rng,
            tasks,
            loads,
        });
        let mut by_type = BTreeMap::new();
        let mut by_name = BTreeMap::new();
        for Registration { name, make, .. } in aggregates {
            let (type_id, runtime, erased) = make(Arc::clone(&shared));
            by_type.insert(type_id, runtime);
            by_name.insert(name, erased);
        }
        let registry = Registry::new(by_name);
        Ok(App(Arc::new(Parts { shared, aggregates: by_type, registry })))
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut names = BTreeMap::new();
        for Registration { name, type_name, .. } in &self.aggregates {
            if let Some(other) = names.insert(*name, *type_name) {
                problems.push(if other == *type_name {
                    format!("`{name}` is registered twice")
                } else {
                    format!("`{other}` and `{type_name}` are both called `{name}`")
                });
            }
        }
        let Settings { mailbox, drain, live_instances, loads, writer_queue, batch_appends, .. } =
            self.settings;
        let limits = [
            ("mailbox", mailbox),
            ("drain", drain),
            ("live_instances", live_instances),
            ("loads", loads),
            ("writer_queue", writer_queue),
            ("batch_appends", batch_appends),
        ];
        for (name, limit) in limits {
            if limit == 0 {
                problems.push(format!("the setting `{name}` must be at least 1"));
            }
        }
        problems
    }
}

impl App {
    /// Begins an app on `store`.
    pub fn builder(store: impl EventStore) -> AppBuilder {
        AppBuilder {
            store: SharedEventStore::new(store),
            settings: Settings::default(),
            codecs: Codecs::default(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            rng: Arc::new(SystemRng),
            aggregates: Vec::new(),
        }
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
        let beginnings = Position::beginnings(shared.log.partitions);
        log(shared, beginnings).try_filter_map(|event| {
            let first = event.version.get() == 1;
            std::future::ready(Ok(if first { Id::of_stream(&event.stream) } else { None }))
        })
    }

    /// Runs until `signal` completes, then lets everything that was accepted finish, for at most
    /// `grace`. Returns whether all of it did.
    pub async fn run_until(&self, signal: impl Future<Output = ()>, grace: Duration) -> bool {
        signal.await;
        self.shutdown(grace).await
    }

    /// Refuses new commands and lets those that were accepted finish, for at most `grace`. Returns
    /// whether all of them did; what did not may or may not be recorded.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        let shared = &self.0.shared;
        shared.tasks.close();
        let late = shared.clock.sleep(grace);
        tokio::select! {
            biased;
            () = shared.tasks.wait() => true,
            () = late => false,
        }
    }
}

/// How many events of each partition one page of the log has.
const PAGE: usize = 1_000;

/// The log after the given positions, up to where it stands now.
fn log(
    shared: Arc<Shared>,
    after: Vec<Position>,
) -> impl Stream<Item = Result<RecordedEvent, LoadError>> + Send {
    let pages =
        stream::try_unfold((shared, after, None), |(shared, mut after, heads)| async move {
            let heads = match heads {
                Some(heads) => heads,
                None => shared.store.heads().await.map_err(log_unavailable)?,
            };
            after.retain(|at| at.offset < head_of(&heads, at.partition));
            if after.is_empty() {
                return Ok(None);
            }
            let mut events = shared.store.read_log(&after, PAGE).await.map_err(log_unavailable)?;
            for at in &mut after {
                let seen = events.iter().filter(|event| event.position.partition == at.partition);
                at.offset = seen.map(|event| event.position.offset).max().unwrap_or(u64::MAX);
            }
            events
                .retain(|event| event.position.offset <= head_of(&heads, event.position.partition));
            Ok(Some((stream::iter(events.into_iter().map(Ok)), (shared, after, Some(heads)))))
        });
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
    event: &RecordedEvent,
) -> Result<Recorded<Option<A::Event>>, LoadError> {
    let decoded = content_of(&event.content)
        .map(|content| codecs.decode::<A::Event>(&event.stream, content))
        .transpose()
        .map_err(|source| crate::load::undecodable(event, source))?;
    Ok(Recorded {
        event: decoded,
        id: event.id,
        stream: event.stream.clone(),
        version: event.version,
        position: event.position,
        metadata: event.metadata(),
        recorded_at: event.recorded_at,
    })
}

fn present<E>(recorded: Recorded<Option<E>>) -> Option<Recorded<E>> {
    let Recorded { event, id, stream, version, position, metadata, recorded_at } = recorded;
    event.map(|event| Recorded { event, id, stream, version, position, metadata, recorded_at })
}
