//! Configuring an app.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use composable_rust_core::bus::{EventBus, SharedEventBus};
use composable_rust_core::codec::{Codec, Codecs, Format};
use composable_rust_core::environment::{Clock, IdGenerator, Rng};
use composable_rust_core::message::{Hears, ReplySource};
use composable_rust_core::projection::ReadModel;
use composable_rust_core::store::{EventStore, MAX_PAYLOAD_BYTES, SharedEventStore};
use composable_rust_core::{
    Aggregate, EventSet, Gateway, Id, Message, Projection, Recorded, Target, schema,
};
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::task::TaskTracker;

use crate::app::app::App;
use crate::app::context::AppContext;
use crate::app::program::Program;
use crate::app::registry::{AggregateRuntimeRef, ErasedAggregate, Registry};
use crate::app::stuck_instances::StuckInstances;
use crate::app::unknown_messages::UnknownMessages;
use crate::environment::{SystemClock, SystemIds, SystemRng};
use crate::instance::cache::Instances;
use crate::instance::group_commit::GroupCommit;
use crate::instance::in_progress::SendsInProgress;
use crate::instance::measure::AggregateMetrics;
use crate::instance::runtime::AggregateRuntime;
use crate::settings::Settings;
use crate::worker::bus::published_topic::{MapWith, PublishedTopic, Verbatim};
use crate::worker::external_record::ExternalRecord;
use crate::worker::outbox::gateway::RegisteredGateway;
use crate::worker::outbox::gateway_settings::GatewaySettings;
use crate::worker::policy::registered::{
    ErasedPolicy, ErasurePolicy, EventFollower, EventPolicy, PolicySettings, PolicySource,
    RecordPolicy, RegisteredPolicy,
};
use crate::worker::projection::registered::{
    ErasedProjection, ProjectionSettings, RegisteredProjection,
};
use crate::worker::supervisor::WorkerSet;

/// The configuration of an app, started by [`App::builder`].
pub struct AppBuilder {
    pub(super) store: SharedEventStore,
    pub(super) settings: Settings,
    pub(super) codecs: Codecs,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<dyn IdGenerator>,
    pub(super) rng: Arc<dyn Rng>,
    pub(super) aggregates: Vec<Registration>,
    pub(super) gateways: Vec<(&'static str, RegisteredGateway)>,
    pub(super) policies: Vec<RegisteredPolicy>,
    pub(super) projections: Vec<Arc<dyn ErasedProjection>>,
    pub(super) published: Vec<PublishedTopic>,
    /// The targets in another service.
    pub(super) remote: BTreeSet<&'static str>,
    /// The targets and gateways in another process on the same store.
    pub(super) elsewhere: BTreeSet<ReplySource>,
    pub(super) served: BTreeSet<&'static str>,
    pub(super) bus: Option<SharedEventBus>,
    program: Program,
}

type BuiltAggregate = (TypeId, Arc<dyn Any + Send + Sync>, Arc<dyn ErasedAggregate>);

pub(super) struct Registration {
    pub(super) name: &'static str,
    pub(super) replies: &'static [ReplySource],
    pub(super) type_name: &'static str,
    /// The messages of the aggregate that have a variant `#[message(other)]`.
    pub(super) partial: Vec<&'static str>,
    pub(super) make: Box<dyn FnOnce(Arc<AppContext>) -> BuiltAggregate + Send>,
}

/// Returns the messages of an aggregate that have a variant `#[message(other)]`.
fn partial<A: Aggregate>() -> Vec<&'static str> {
    let messages = [
        ("commands", A::Command::HAS_OTHER),
        ("events", A::Event::HAS_OTHER),
        ("rejections", A::Rejection::HAS_OTHER),
    ];
    messages.into_iter().filter_map(|(name, has_other)| has_other.then_some(name)).collect()
}

impl fmt::Debug for AppBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.aggregates.iter().map(|aggregate| aggregate.name).collect();
        f.debug_struct("AppBuilder").field("aggregates", &names).finish_non_exhaustive()
    }
}

/// The error of [`AppBuilder::build`]: all problems of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the app cannot be built: {}", .problems.join("; "))]
pub struct BuildError {
    problems: Vec<String>,
}

impl BuildError {
    /// Returns a description of each problem.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl App {
    /// Starts the configuration of an app on `store`.
    pub fn builder(store: impl EventStore) -> AppBuilder {
        AppBuilder::new(store)
    }
}

impl AppBuilder {
    fn new(store: impl EventStore) -> Self {
        Self {
            store: SharedEventStore::new(store),
            settings: Settings::default(),
            codecs: Codecs::default(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            rng: Arc::new(SystemRng),
            aggregates: Vec::new(),
            gateways: Vec::new(),
            policies: Vec::new(),
            projections: Vec::new(),
            published: Vec::new(),
            remote: BTreeSet::new(),
            elsewhere: BTreeSet::new(),
            served: BTreeSet::new(),
            bus: None,
            program: Program::default(),
        }
    }

    /// Sets the name and version of the program, by which operators tell processes apart. Default:
    /// the name of the executable, without a version.
    ///
    /// ```
    /// # use composable_rust_runtime::App;
    /// # use composable_rust_testing::InMemoryEventStore;
    /// let app = App::builder(InMemoryEventStore::new());
    /// let app = app.program("orders", env!("CARGO_PKG_VERSION"));
    /// ```
    #[must_use]
    pub fn program(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.program = Program { name: name.into(), version: version.into() };
        self
    }

    /// Registers an aggregate with its environment.
    #[must_use]
    pub fn aggregate<A: Aggregate>(mut self, env: A::Environment) -> Self {
        let make = Box::new(move |shared: Arc<AppContext>| -> BuiltAggregate {
            let (fingerprint, problem) = schema::fingerprint::<A>();
            if let Some(problem) = problem {
                tracing::warn!(
                    aggregate = A::NAME, %problem,
                    "snapshots of the aggregate are versioned by name and SNAPSHOT_VERSION only; increment SNAPSHOT_VERSION when the state changes"
                );
            }
            let instances = Arc::new(Instances::new(&shared.settings, Arc::clone(&shared.clock)));
            let runtime = Arc::new(AggregateRuntime::<A> {
                shared,
                env,
                fingerprint,
                instances,
                metrics: AggregateMetrics::new::<A>(),
            });
            let erased = Arc::new(AggregateRuntimeRef(Arc::clone(&runtime)));
            (TypeId::of::<A>(), runtime as _, erased as _)
        });
        let type_name = std::any::type_name::<A>();
        self.aggregates.push(Registration {
            name: A::NAME,
            replies: A::Command::REPLIES,
            type_name,
            partial: partial::<A>(),
            make,
        });
        self
    }

    /// Registers a gateway with the default settings.
    #[must_use]
    pub fn gateway<G: Gateway>(self, gateway: G) -> Self {
        self.gateway_with(gateway, |_| {})
    }

    /// Registers a gateway with changed settings.
    #[must_use]
    pub fn gateway_with<G: Gateway>(
        mut self,
        gateway: G,
        change: impl FnOnce(&mut GatewaySettings<G>),
    ) -> Self {
        let mut settings = GatewaySettings::default();
        change(&mut settings);
        self.gateways.push((G::NAME, RegisteredGateway::new(gateway, settings)));
        self
    }

    /// Sets the event bus, which connects the app with other services.
    #[must_use]
    pub fn event_bus(mut self, bus: impl EventBus) -> Self {
        self.bus = Some(SharedEventBus::new(bus));
        self
    }

    /// Declares that the instances of `T` live in another service on the bus, which
    /// [serves](Self::serve) them: dispatched commands go to the topic `NAME-commands`, and
    /// policies read the events from `NAME-events`.
    #[must_use]
    pub fn remote<T: Target>(mut self) -> Self {
        self.remote.insert(T::NAME);
        self
    }

    /// Declares that the instances of `T` live in another process on the same store, which
    /// registers the aggregate.
    #[must_use]
    pub fn elsewhere<T: Target>(mut self) -> Self {
        self.elsewhere.insert(ReplySource::Target(T::NAME));
        self
    }

    /// Declares that another process on the same store registers the gateway `G` and calls it.
    #[must_use]
    pub fn gateway_elsewhere<G: Gateway>(mut self) -> Self {
        self.elsewhere.insert(ReplySource::Gateway(G::NAME));
        self
    }

    /// Accepts the commands that other services send to instances of `A` over the bus, from the
    /// topic `NAME-commands`. Every producer with write access to the topic may send commands, but
    /// neither internal commands nor unrequested replies. The reply to a command for a type that no
    /// process of this service serves is [`Undelivered`](composable_rust_core::Reply::Undelivered).
    #[must_use]
    pub fn serve<A: Aggregate>(mut self) -> Self {
        self.served.insert(A::NAME);
        self
    }

    /// Publishes the events of `A` unchanged to the topic `NAME-events`, from the beginning of the
    /// log. An erased event is published with the type `$erased` and without content.
    ///
    /// A command fails with [`SendError::Unstorable`](crate::SendError::Unstorable) if one of its
    /// events cannot be encoded in this format or is then larger than the bus allows. An event that
    /// is already in the log parks its stream on the topic: see
    /// [`App::dead_letters`](crate::App::dead_letters).
    #[must_use]
    pub fn publish<A: Aggregate>(mut self, format: Format) -> Self {
        let map = Box::new(Verbatim::<A::Event>(PhantomData));
        let topic = format!("{}-events", A::NAME);
        let published = PublishedTopic { category: A::NAME, topic, format, map, limit: None };
        self.published.push(published);
        self
    }

    /// Publishes the events of `A`, mapped by `map`, to `topic`. Events that `map` maps to `None`
    /// are left out. `map` must be pure: it runs again when a publication is retried.
    #[must_use]
    pub fn publish_as<A: Aggregate, M: Message>(
        mut self,
        topic: impl Into<String>,
        format: Format,
        map: impl Fn(&Recorded<A::Event>) -> Option<M> + Send + Sync + 'static,
    ) -> Self {
        let map = Box::new(MapWith::<A::Event, M, _>(map, PhantomData));
        let (category, topic) = (A::NAME, topic.into());
        self.published.push(PublishedTopic { category, topic, format, map, limit: None });
        self
    }

    /// Registers a policy: it sends commands to instances of `T` for events of `S`, which it reads
    /// from this service's log or, if `S` is [`remote`](Self::remote), from the topic
    /// `NAME-events`. Each event leads to its commands exactly once.
    ///
    /// `S` is an aggregate, or an [`EventSet`] of several aggregates of this service. A remote
    /// target needs a policy of its own: a set of several targets with a remote one does not build.
    ///
    /// `name` identifies the policy's checkpoint and must never change. A new policy starts at the
    /// end of the log; [`on_with`](Self::on_with) can start it at the beginning. A new policy that
    /// reads a topic starts at the topic's beginning.
    #[must_use]
    pub fn on<S: EventSet, T: Target, C>(
        self,
        name: impl Into<String>,
        policy: impl Fn(&Recorded<S::Event>) -> C + Send + Sync + 'static,
    ) -> Self
    where
        C: IntoIterator<Item = (Id<T>, T::Command)> + 'static,
    {
        self.on_with::<S, T, C>(name, |_| {}, policy)
    }

    /// Registers a policy as [`on`](Self::on) does, with changed settings.
    #[must_use]
    pub fn on_with<S: EventSet, T: Target, C>(
        self,
        name: impl Into<String>,
        change: impl FnOnce(&mut PolicySettings),
        policy: impl Fn(&Recorded<S::Event>) -> C + Send + Sync + 'static,
    ) -> Self
    where
        C: IntoIterator<Item = (Id<T>, T::Command)> + 'static,
    {
        let (name, types) = (name.into(), PhantomData::<fn() -> (S, T)>);
        let erased = Arc::new(EventPolicy { name: name.clone(), policy, types });
        self.policy::<T>(name, PolicySource::Events(S::CATEGORIES), change, erased)
    }

    /// Registers a follower: it hands the events of `S` to instances of `T`, whose command enum has
    /// a variant `SomeName(Heard<S>)`. `recipient` returns the instance that hears an event; `None`
    /// if no instance does. [`follows_with`](Self::follows_with) hands an event to several.
    ///
    /// The events are read and handed over as by a [policy](Self::on): each exactly once, those of
    /// an instance in order, from this service's log or, if `S` is [`remote`](Self::remote), from
    /// the topic `NAME-events`. Unlike a policy, a new follower starts at the beginning of the log,
    /// since its recipients are to know all events. `T` is an aggregate of this service. If the
    /// recipient rejects the event, nothing is recorded and the rejection goes to no sender: `S`
    /// has asked nothing.
    ///
    /// `name` identifies the follower's checkpoint, must never change, and must differ from the
    /// names of policies.
    #[must_use]
    pub fn follows<S: Target, T: Target<Command: Hears<S>>>(
        self,
        name: impl Into<String>,
        recipient: impl Fn(&Recorded<S::Event>) -> Option<Id<T>> + Send + Sync + 'static,
    ) -> Self {
        self.follows_with::<S, T, _>(name, |_| {}, recipient)
    }

    /// Registers a follower as [`follows`](Self::follows) does, with changed settings.
    /// `recipients` may return several instances: `Some(id)`, an array, a `Vec`.
    #[must_use]
    pub fn follows_with<S: Target, T: Target<Command: Hears<S>>, C>(
        self,
        name: impl Into<String>,
        change: impl FnOnce(&mut PolicySettings),
        recipients: impl Fn(&Recorded<S::Event>) -> C + Send + Sync + 'static,
    ) -> Self
    where
        C: IntoIterator<Item = Id<T>> + 'static,
    {
        let (name, types) = (name.into(), PhantomData::<fn() -> (S, T)>);
        let erased = Arc::new(EventFollower { name: name.clone(), recipients, types });
        let mut app = self.policy::<T>(
            name,
            PolicySource::Events(<S as EventSet>::CATEGORIES),
            |settings| {
                settings.from_start = true;
                change(settings);
            },
            erased,
        );
        if let Some(follower) = app.policies.last_mut() {
            follower.is_follower = true;
        }
        app
    }

    /// Registers a policy for erasures: it sends commands to instances of `T` when the events of a
    /// stream of `S` are erased, in this service's log or, if `S` is [`remote`](Self::remote), in
    /// the log of the service that publishes them. A service can thereby forget a person together
    /// with the service that owns the person's data.
    ///
    /// `policy` must expect several calls for one stream: a policy that starts at the beginning of
    /// the log is called once for each erased event of the stream. Its commands have no order
    /// relative to those of other policies, so the recipient must remember that the stream is to be
    /// forgotten. If a stream was closed before it was erased, only a policy that starts at the
    /// beginning is called for it. `name` identifies the policy's checkpoint, as in
    /// [`on`](Self::on), and must differ from the names of other policies.
    #[must_use]
    pub fn on_erased<S: Target, T: Target, C>(
        self,
        name: impl Into<String>,
        policy: impl Fn(&Id<S>) -> C + Send + Sync + 'static,
    ) -> Self
    where
        C: IntoIterator<Item = (Id<T>, T::Command)> + 'static,
    {
        self.on_erased_with::<S, T, C>(name, |_| {}, policy)
    }

    /// Registers a policy for erasures as [`on_erased`](Self::on_erased) does, with changed
    /// settings.
    #[must_use]
    pub fn on_erased_with<S: Target, T: Target, C>(
        self,
        name: impl Into<String>,
        change: impl FnOnce(&mut PolicySettings),
        policy: impl Fn(&Id<S>) -> C + Send + Sync + 'static,
    ) -> Self
    where
        C: IntoIterator<Item = (Id<T>, T::Command)> + 'static,
    {
        let (name, types) = (name.into(), PhantomData::<fn() -> (S, T)>);
        let erased = Arc::new(ErasurePolicy { name: name.clone(), policy, types });
        self.policy::<T>(name, PolicySource::Events(<S as EventSet>::CATEGORIES), change, erased)
    }

    /// Registers a policy for a topic of any producer: it sends commands to instances of `T` for
    /// the topic's messages. A message is identified by its CloudEvents source and id or, without
    /// them, by its partition and offset. A new policy starts at the topic's beginning.
    #[must_use]
    pub fn on_topic<T: Target, C>(
        self,
        topic: impl Into<String>,
        name: impl Into<String>,
        policy: impl Fn(&ExternalRecord) -> C + Send + Sync + 'static,
    ) -> Self
    where
        C: IntoIterator<Item = (Id<T>, T::Command)> + 'static,
    {
        let (name, types) = (name.into(), PhantomData::<fn() -> T>);
        let erased = Arc::new(RecordPolicy { name: name.clone(), policy, types });
        self.policy::<T>(name, PolicySource::Topic(topic.into()), |_| {}, erased)
    }

    fn policy<T: Target>(
        mut self,
        name: String,
        source: PolicySource,
        change: impl FnOnce(&mut PolicySettings),
        policy: Arc<dyn ErasedPolicy>,
    ) -> Self {
        let mut settings = PolicySettings::default();
        change(&mut settings);
        let target = T::NAME;
        let is_follower = false;
        self.policies.push(RegisteredPolicy {
            name,
            source,
            target,
            is_follower,
            settings,
            policy,
        });
        self
    }

    /// Registers a projection into `model`, from the beginning of the log.
    #[must_use]
    pub fn projection<P, M>(self, projection: P, model: M) -> Self
    where
        P: Projection,
        M: ReadModel<Connection = P::Connection>,
    {
        self.projection_with(projection, model, |_| {})
    }

    /// Registers a projection into `model` with changed settings.
    #[must_use]
    pub fn projection_with<P, M>(
        mut self,
        projection: P,
        model: M,
        change: impl FnOnce(&mut ProjectionSettings),
    ) -> Self
    where
        P: Projection,
        M: ReadModel<Connection = P::Connection>,
    {
        let mut settings = ProjectionSettings::default();
        change(&mut settings);
        self.projections.push(Arc::new(RegisteredProjection::new(projection, model, settings)));
        self
    }

    /// Changes the settings.
    #[must_use]
    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Sets the codec for writing. Default: bincode. The app also reads bincode, JSON and the
    /// codecs registered with [`AppBuilder::reading`].
    #[must_use]
    pub fn codec(mut self, codec: impl Codec) -> Self {
        self.codecs = self.codecs.writing(codec);
        self
    }

    /// Registers a codec for reading.
    #[must_use]
    pub fn reading(mut self, codec: impl Codec) -> Self {
        self.codecs = self.codecs.reading(codec);
        self
    }

    /// Sets the clock. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the source of message ids. Default: version 7 UUIDs.
    #[must_use]
    pub fn ids(mut self, ids: impl IdGenerator) -> Self {
        self.ids = Arc::new(ids);
        self
    }

    /// Sets the source of random numbers. Default: the thread's random generator.
    #[must_use]
    pub fn rng(mut self, rng: impl Rng) -> Self {
        self.rng = Arc::new(rng);
        self
    }

    /// Checks the configuration and builds the app.
    ///
    /// # Errors
    ///
    /// [`BuildError`] lists every problem: duplicate names, expected replies that no registered
    /// component sends, commands for an unknown type, a limit of 0, a use of the bus without a bus.
    pub fn build(self) -> Result<App, BuildError> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(BuildError { problems });
        }
        crate::metrics::describe();
        let Self { store, mut settings, codecs, clock, ids, rng, aggregates, .. } = self;
        let bus_limit = self.bus.as_ref().and_then(EventBus::max_payload_bytes);
        if settings.max_payload_bytes == MAX_PAYLOAD_BYTES {
            settings.max_payload_bytes =
                bus_limit.map_or(MAX_PAYLOAD_BYTES, |limit| limit.min(MAX_PAYLOAD_BYTES));
        }
        for (_, registered) in &self.gateways {
            registered.gateway.use_clock(Arc::clone(&clock));
        }
        let targets = aggregates.iter().map(|aggregate| ReplySource::Target(aggregate.name));
        let gateways = self.gateways.iter().map(|(name, _)| ReplySource::Gateway(name));
        let known = targets.chain(gateways).chain(self.elsewhere).collect();
        let writer = GroupCommit::with(
            store.clone(),
            settings.clone(),
            Arc::clone(&clock),
            Arc::clone(&rng),
        );
        let published = self.published.into_iter();
        let published: Vec<_> =
            published.map(|topic| Arc::new(PublishedTopic { limit: bus_limit, ..topic })).collect();
        let log = store.log();
        let tasks = TaskTracker::new();
        let loads = Semaphore::new(settings.max_concurrent_loads);
        let shared = Arc::new(AppContext {
            store,
            log,
            writer,
            codecs,
            remote: self.remote,
            known,
            unknowns: UnknownMessages::default(),
            stuck: StuckInstances::default(),
            published: published.clone(),
            duplicates_ignored: AtomicU64::new(0),
            in_progress: SendsInProgress::default(),
            settings,
            program: self.program,
            clock,
            ids,
            rng,
            tasks,
            loads,
            first_ends: OnceCell::new(),
            has_policy_from_end: self.policies.iter().any(|policy| !policy.settings.from_start),
        });
        let mut by_type = BTreeMap::new();
        let mut by_name = BTreeMap::new();
        for Registration { name, make, .. } in aggregates {
            let (type_id, runtime, erased) = make(Arc::clone(&shared));
            by_type.insert(type_id, runtime);
            by_name.insert(name, erased);
        }
        let registry = Registry::new(by_name);
        let workers = WorkerSet {
            gateways: self.gateways.into_iter().collect(),
            policies: self.policies,
            projections: self.projections.into_iter().map(|p| (p.name(), p)).collect(),
            published,
            served: self.served,
            bus: self.bus,
        };
        Ok(App::new(shared, by_type, registry, workers))
    }
}
