//! Starting and stopping the workers of an app.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::bus::{GroupTopic, SharedEventBus};
use composable_rust_core::environment::Clock;
use composable_rust_core::message::ReplySource;
use composable_rust_core::queue::{Leases as _, OutboxKind};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::app::context::AppContext;
use crate::app::registry::Registry;
use crate::instance::effects::BUS_TARGET;
use crate::panic::guarded_future;
use crate::worker::bus::commands::CommandHandler;
use crate::worker::bus::connection::BusConnection;
use crate::worker::bus::consumer::{Consumer, DeliveryHandler};
use crate::worker::bus::envelope::commands_topic;
use crate::worker::bus::published_topic::PublishedTopic;
use crate::worker::bus::received::RECEIVED;
use crate::worker::bus::relay::Relay;
use crate::worker::bus::relay_lag::report_lag;
use crate::worker::bus::subscriptions::SubscriptionStatus;
use crate::worker::cloud_event::events_topic;
use crate::worker::context::WorkerContext;
use crate::worker::executor::Executor;
use crate::worker::follower::Follower;
use crate::worker::inbox_pruner::prune;
use crate::worker::leases::Leases;
use crate::worker::log_gauges::report_log;
use crate::worker::outbox::dispatcher::Dispatcher;
use crate::worker::outbox::gateway::RegisteredGateway;
use crate::worker::policy::consumer::PolicyHandler;
use crate::worker::policy::follower::PolicyFollower;
use crate::worker::policy::registered::{PolicySource, RegisteredPolicy};
use crate::worker::projection::gauges;
use crate::worker::projection::registered::{self, ErasedProjection};
use crate::worker::store_gauges::report_store;
use crate::worker::timers::Timers;
use crate::worker::unserved_queues::{report_unserved, retry_overridden};
use crate::worker::wakeup::wake;
use crate::worker::worker_id::WorkerId;

/// The workers that this process runs.
pub(crate) struct WorkerSet {
    pub(crate) gateways: BTreeMap<&'static str, RegisteredGateway>,
    pub(crate) policies: Vec<RegisteredPolicy>,
    pub(crate) projections: BTreeMap<&'static str, Arc<dyn ErasedProjection>>,
    pub(crate) published: Vec<Arc<PublishedTopic>>,
    /// Aggregates whose commands other services may send.
    pub(crate) served: BTreeSet<&'static str>,
    pub(crate) bus: Option<SharedEventBus>,
}

/// Timeout for releasing the leases after the grace period.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

/// The running workers of an app.
pub(crate) struct RunningWorkers {
    stop: CancellationToken,
    stop_keeping: CancellationToken,
    workers: TaskTracker,
    keeper: TaskTracker,
    bus: Option<Arc<BusConnection>>,
    leases: Leases,
    clock: Arc<dyn Clock>,
}

impl RunningWorkers {
    /// Lets the work under way end, and releases the leases.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.workers.close();
        self.workers.wait().await;
        self.stop_keeping.cancel();
        self.keeper.close();
        self.keeper.wait().await;
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    pub(crate) fn subscriptions(&self) -> Vec<SubscriptionStatus> {
        self.bus.as_ref().map(|of| of.subscriptions.status(&of.bus)).unwrap_or_default()
    }

    /// Stops all workers at once, and releases the leases, so that other processes need not wait
    /// until they lapse.
    pub(crate) async fn give_up(&self) {
        self.cancel();
        tokio::select! {
            biased;
            released = self.leases.release_all() => if let Err(error) = released {
                tracing::warn!(%error, "failed to release the leases; they lapse");
            },
            () = self.clock.sleep(RELEASE_TIMEOUT) => {
                tracing::warn!("failed to release the leases in time; they lapse");
            }
        }
        self.leases.depart();
    }

    /// Stops all workers at once, as a crash would.
    pub(crate) fn abandon(&self) {
        self.cancel();
        self.leases.depart();
    }

    fn cancel(&self) {
        self.stop.cancel();
        self.stop_keeping.cancel();
    }
}

impl WorkerSet {
    /// Returns the workers that this process runs, with the number of partitions of each.
    fn workers(&self, shared: &AppContext, registry: &Registry) -> BTreeMap<WorkerId, u16> {
        let mut workers = BTreeMap::new();
        let mut add = |worker| workers.insert(worker, shared.log.partitions);
        for (kind, target) in self.queues(shared, registry) {
            add(WorkerId::of_queue(kind, &target));
        }
        for name in registry.names() {
            add(WorkerId::of_queue(OutboxKind::Timer, name));
        }
        add(WorkerId::InboxPruner);
        for policy in &self.policies {
            if followed(policy, registry).is_some() {
                add(WorkerId::Policy(policy.name.clone()));
            }
        }
        if self.bus.is_some() {
            for published in &self.published {
                add(published.worker());
            }
        }
        // One worker for all partitions: two would wait for each other's locks on shared rows.
        let projections = self.projections.keys();
        workers.extend(projections.map(|name| (WorkerId::Projection((*name).to_owned()), 1)));
        // Announced so that other processes know, without a lease.
        let served = self.served.iter();
        workers.extend(served.map(|name| (WorkerId::Service((*name).to_owned()), 0)));
        workers
    }

    /// Returns the kinds and targets of the queues that the dispatcher works.
    pub(crate) fn queues(
        &self,
        shared: &AppContext,
        registry: &Registry,
    ) -> Vec<(OutboxKind, String)> {
        // Messages that were queued before their target moved to another service are forwarded.
        let targets = registry.names().chain(shared.remote.iter().copied());
        let kinds = [OutboxKind::Dispatch, OutboxKind::Bulk];
        let dispatches = targets.flat_map(|name| kinds.map(|kind| (kind, name.to_owned())));
        let calls = self.gateways.keys().map(|name| (OutboxKind::Call, (*name).to_owned()));
        let policies = self.policies.iter().map(|p| (OutboxKind::Policy, p.name.clone()));
        let projections = self.projections.keys();
        let projections = projections.map(|p| (OutboxKind::Projection, (*p).to_owned()));
        let of_bus = [(OutboxKind::Policy, RECEIVED), (OutboxKind::Send, BUS_TARGET)];
        let of_bus = of_bus.into_iter().filter(|_| self.bus.is_some());
        let of_bus = of_bus.map(|(kind, target)| (kind, target.to_owned()));
        dispatches.chain(calls).chain(policies).chain(projections).chain(of_bus).collect()
    }

    pub(crate) fn start(&self, shared: &Arc<AppContext>, registry: &Registry) -> RunningWorkers {
        let (stop, stop_keeping) = (CancellationToken::new(), CancellationToken::new());
        let (workers, keeper) = (TaskTracker::new(), TaskTracker::new());
        let holder = shared.ids.new_id();
        let leases = Leases::new(
            holder,
            self.workers(shared, registry),
            shared.settings.lease_ttl,
            shared.store.clone(),
            Arc::clone(&shared.clock),
        );
        let (waker, woken) = watch::channel(0);
        let context =
            Arc::new(WorkerContext::new(Arc::clone(shared), leases.clone(), woken, stop.clone()));
        let bus = self.bus.clone().map(|bus| BusConnection::new(bus, self.served.clone()));
        let bus = bus.map(Arc::new);
        keeper.spawn({
            let (leases, stop) = (leases.clone(), stop_keeping.clone());
            async move { leases.keep(stop).await }
        });
        let (store, clock) = (shared.store.clone(), Arc::clone(&shared.clock));
        workers.spawn(wake(store, clock, waker, stop.clone()));
        spawn(&workers, &context, "introduction", move |context| introduce(context, holder));
        self.start_dispatcher(&context, registry, bus.as_ref(), &workers);
        let aggregates = registry.clone();
        spawn(&workers, &context, "timers", move |context| {
            Timers::new(context, aggregates.clone()).run()
        });
        spawn(&workers, &context, "inbox pruner", prune);
        spawn(&workers, &context, "unserved queues", report_unserved);
        spawn(&workers, &context, "overridden events", retry_overridden);
        spawn(&workers, &context, "store gauges", report_store);
        let followed = self.policies_of_log(registry);
        let followed: Vec<String> = followed.map(|(name, ..)| name.to_owned()).collect();
        spawn(&workers, &context, "log gauges", move |context| {
            report_log(context, followed.clone())
        });
        for policy in &self.policies {
            start_policy(policy, registry, &context, bus.as_ref(), &workers);
        }
        for projection in self.projections.values() {
            let (projection, measured) = (Arc::clone(projection), Arc::clone(projection));
            spawn(&workers, &context, projection.name(), move |context| {
                registered::run(&projection, &context)
            });
            spawn(&workers, &context, measured.name(), move |context| {
                gauges::measure(Arc::clone(&measured), context)
            });
        }
        if let Some(bus) = &bus {
            self.start_bus(registry, &context, bus, &workers);
        }
        let clock = Arc::clone(&shared.clock);
        RunningWorkers { stop, stop_keeping, workers, keeper, bus, leases, clock }
    }

    fn start_dispatcher(
        &self,
        context: &Arc<WorkerContext>,
        registry: &Registry,
        bus: Option<&Arc<BusConnection>>,
        workers: &TaskTracker,
    ) {
        let policies = self.policies.iter().map(|p| (p.name.clone(), Arc::clone(&p.policy)));
        let executor = Arc::new(Executor {
            context: Arc::clone(context),
            registry: registry.clone(),
            gateways: self.gateways.clone(),
            policies: policies.collect(),
            projections: self.projections.clone(),
            bus: bus.map(Arc::clone),
        });
        let gateways = self.gateways.clone();
        let queues = self.queues(&context.shared, registry);
        spawn(workers, context, "dispatcher", move |context| {
            let executor = Arc::clone(&executor);
            Dispatcher::new(context, executor, gateways.clone(), queues.clone()).run()
        });
    }

    fn start_bus(
        &self,
        registry: &Registry,
        context: &Arc<WorkerContext>,
        bus: &Arc<BusConnection>,
        workers: &TaskTracker,
    ) {
        for published in &self.published {
            let of = Arc::clone(published);
            spawn(workers, context, "relay lag", move |context| {
                report_lag(context, Arc::clone(&of))
            });
            for partition in 0..context.shared.log.partitions {
                let (bus, published) = (Arc::clone(bus), Arc::clone(published));
                let name = published.worker().to_string();
                spawn(workers, context, &name, move |context| {
                    let (bus, published) = (Arc::clone(&bus), Arc::clone(&published));
                    let relay = Relay::new(Arc::clone(&context), bus, published, partition);
                    Follower::new(context, relay).of_partition(partition).run()
                });
            }
        }
        let (read, others) = self.commands_topics(&context.shared, registry);
        let handler = CommandHandler {
            context: Arc::clone(context),
            bus: Arc::clone(bus),
            names: registry.names().collect(),
        };
        let group = group(&context.shared, COMMANDS);
        let (context, bus) = (Arc::clone(context), Arc::clone(bus));
        let consumer = Consumer::new(context.clone(), bus, group, read, handler);
        consume(consumer.with_once_read(others), &context, workers);
    }

    /// Returns the topics of commands and replies that are read, and those that are read if they
    /// ever were.
    fn commands_topics(
        &self,
        shared: &AppContext,
        registry: &Registry,
    ) -> (Vec<String>, Vec<String>) {
        let expects_replies = |name: &&str| {
            registry.replies(name).iter().any(|source| match source {
                ReplySource::Target(target) => shared.remote.contains(target),
                ReplySource::Gateway(_) => false,
            })
        };
        let is_read = |name: &&str| self.served.contains(name) || expects_replies(name);
        let (read, others): (Vec<_>, Vec<_>) = registry.names().partition(is_read);
        let topics = |names: Vec<&str>| names.into_iter().map(commands_topic).collect();
        (topics(read), topics(others))
    }

    /// Returns the consumers by name, with the topics that they read.
    pub(crate) fn consumed(
        &self,
        shared: &AppContext,
        registry: &Registry,
    ) -> Vec<(String, GroupTopic)> {
        let mut found = Vec::new();
        let mut add = |name: &str, topics: Vec<String>, is_external| {
            found.extend(topics.into_iter().map(|topic| {
                (name.to_owned(), GroupTopic { group: group(shared, name), topic, is_external })
            }));
        };
        add(COMMANDS, self.commands_topics(shared, registry).0, false);
        for policy in self.policies.iter().filter(|policy| followed(policy, registry).is_none()) {
            let is_external = matches!(policy.source, PolicySource::Topic(_));
            add(&policy.name, topics_of(policy), is_external);
        }
        found
    }
}

/// Pause before a worker that panicked is restarted.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Runs a worker. A worker that panics is restarted; its leases remain this process's.
fn spawn<F>(
    workers: &TaskTracker,
    context: &Arc<WorkerContext>,
    name: &str,
    worker: impl Fn(Arc<WorkerContext>) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let (context, name) = (Arc::clone(context), name.to_owned());
    workers.spawn(async move {
        loop {
            let Err(panic) = guarded_future(worker(Arc::clone(&context))).await else { return };
            tracing::error!(name, panic, "worker panicked; restarting");
            if !context.pause(RESTART_PAUSE).await {
                return;
            }
        }
    });
}

/// Tells operators who this process is. While the store is away, it tries again.
async fn introduce(context: Arc<WorkerContext>, holder: Uuid) {
    let AppContext { store, program, settings, .. } = &*context.shared;
    let process = program.process(holder);
    while let Err(error) = store.introduce(&process).await {
        if error.is_transient() {
            tracing::debug!(%error, "failed to tell operators who this process is; retrying");
        } else {
            tracing::warn!(%error, "failed to tell operators who this process is");
            return;
        }
        if !context.pause(settings.lease_ttl).await {
            return;
        }
    }
}

fn consume<H: DeliveryHandler>(
    consumer: Consumer<H>,
    context: &Arc<WorkerContext>,
    workers: &TaskTracker,
) {
    let consumer = Arc::new(consumer);
    let name = consumer.group().to_owned();
    spawn(workers, context, &name, move |_| Arc::clone(&consumer).run());
}

impl WorkerSet {
    /// Returns the policies over the log of this service: their names, the categories that they
    /// follow, and `true` for those that start at the beginning of the log.
    pub(crate) fn policies_of_log<'a>(
        &'a self,
        registry: &'a Registry,
    ) -> impl Iterator<Item = (&'a str, &'static [&'static str], bool)> {
        self.policies.iter().filter_map(|policy| {
            Some((&*policy.name, followed(policy, registry)?, policy.settings.from_start))
        })
    }

    /// Returns `true` if a policy of this name follows the log of this service.
    pub(crate) fn follows_log(&self, policy: &str, registry: &Registry) -> bool {
        let mut named = self.policies.iter().filter(|own| own.name == policy);
        named.any(|own| followed(own, registry).is_some())
    }
}

fn start_policy(
    policy: &RegisteredPolicy,
    registry: &Registry,
    context: &Arc<WorkerContext>,
    bus: Option<&Arc<BusConnection>>,
    workers: &TaskTracker,
) {
    if let Some(categories) = followed(policy, registry) {
        let of = policy.clone();
        spawn(workers, context, &policy.name, move |context| {
            let follower = PolicyFollower::new(Arc::clone(&context), of.clone(), categories);
            Follower::new(context, follower).run()
        });
        return;
    }
    let Some(bus) = bus else { return };
    let handler = PolicyHandler { context: Arc::clone(context), policy: policy.clone() };
    let group = group(&context.shared, &policy.name);
    let (of, bus) = (Arc::clone(context), Arc::clone(bus));
    consume(Consumer::new(of, bus, group, topics_of(policy), handler), context, workers);
}

/// The name of the consumer of commands and replies.
const COMMANDS: &str = "commands";

/// Returns the group of a consumer.
fn group(shared: &AppContext, consumer: &str) -> String {
    format!("{}-{consumer}", shared.log.id)
}

/// Returns the topics that a policy reads.
fn topics_of(policy: &RegisteredPolicy) -> Vec<String> {
    match &policy.source {
        PolicySource::Topic(topic) => vec![topic.clone()],
        PolicySource::Events(names) => names.iter().map(|name| events_topic(name)).collect(),
    }
}

/// Returns the aggregate types whose events a policy follows in this service's log.
fn followed(policy: &RegisteredPolicy, registry: &Registry) -> Option<&'static [&'static str]> {
    match &policy.source {
        PolicySource::Events(names) => {
            registry.names().any(|own| names.contains(&own)).then_some(*names)
        }
        PolicySource::Topic(_) => None,
    }
}
