//! Starting and stopping the workers of an app.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{Clock, EventBus, OutboxKind, ReplySource, SharedEventBus};
use futures_util::FutureExt as _;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::context::AppContext;
use crate::app::registry::Registry;
use crate::error::panic_text;
use crate::instance::effects::BUS_TARGET;
use crate::worker::bus::cloud_event::{commands_topic, events_topic};
use crate::worker::bus::consumer::{Consumer, ConsumerSource};
use crate::worker::bus::published_topic::PublishedTopic;
use crate::worker::bus::publishers::Publishers;
use crate::worker::bus::received::{RECEIVED, serve_worker};
use crate::worker::bus::relay::Relay;
use crate::worker::bus::relay_lag::report_lag;
use crate::worker::bus::subscriptions::{SubscriptionStatus, Subscriptions};
use crate::worker::context::{RegisteredGateway, WorkerContext, wake};
use crate::worker::follower::Follower;
use crate::worker::inbox_pruner::{PRUNER_WORKER, prune};
use crate::worker::leases::{Leases, worker_of};
use crate::worker::outbox::dispatcher::Dispatcher;
use crate::worker::policy::follower::{PolicyFollower, policy_worker};
use crate::worker::policy::policy::{PolicySource, RegisteredPolicy};
use crate::worker::projection::gauges;
use crate::worker::projection::registered::{self, ErasedProjection, projection_worker};
use crate::worker::queue_bounds::QueueBounds;
use crate::worker::timers::Timers;
use crate::worker::unserved_queues::{retry_overridden, watch};

/// What the workers of an app do.
pub(crate) struct WorkerSet {
    pub(crate) gateways: BTreeMap<&'static str, RegisteredGateway>,
    pub(crate) policies: Vec<RegisteredPolicy>,
    pub(crate) projections: BTreeMap<&'static str, Arc<dyn ErasedProjection>>,
    pub(crate) published: Vec<Arc<PublishedTopic>>,
    /// Aggregates whose commands other services may send.
    pub(crate) served: BTreeSet<&'static str>,
    pub(crate) bus: Option<SharedEventBus>,
}

/// How long giving up the leases may take once the grace is over.
const GIVE_UP_LIMIT: Duration = Duration::from_secs(1);

/// The workers of an app, at work.
pub(crate) struct RunningWorkers {
    stop: CancellationToken,
    stop_keeping: CancellationToken,
    workers: TaskTracker,
    keeper: TaskTracker,
    bus: Option<SharedEventBus>,
    subscriptions: Arc<Subscriptions>,
    leases: Leases,
    clock: Arc<dyn Clock>,
}

impl RunningWorkers {
    /// Lets what is under way end and gives up the leases.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.workers.close();
        self.workers.wait().await;
        self.stop_keeping.cancel();
        self.keeper.close();
        self.keeper.wait().await;
    }

    pub(crate) fn subscriptions(&self) -> Vec<SubscriptionStatus> {
        self.bus.as_ref().map(|bus| self.subscriptions.status(bus)).unwrap_or_default()
    }

    /// Ends everything at once, and gives up the leases so that another process need not wait until
    /// they lapse.
    pub(crate) async fn give_up(&self) {
        self.abandon();
        tokio::select! {
            biased;
            given_up = self.leases.give_up() => if let Err(error) = given_up {
                tracing::warn!(%error, "failed to give up the leases; they lapse");
            },
            () = self.clock.sleep(GIVE_UP_LIMIT) => {
                tracing::warn!("failed to give up the leases in time; they lapse");
            }
        }
    }

    /// Ends everything at once, as a crash would.
    pub(crate) fn abandon(&self) {
        self.stop.cancel();
        self.stop_keeping.cancel();
    }
}

impl WorkerSet {
    /// What is done of each worker's kind, and in how many partitions there is work of it.
    fn workers(&self, shared: &AppContext, registry: &Registry) -> BTreeMap<String, u16> {
        let mut workers = BTreeMap::new();
        let mut add = |worker: String| workers.insert(worker, shared.log.partitions);
        for (kind, target) in self.queues(shared, registry) {
            add(worker_of(kind, &target));
        }
        for name in registry.names() {
            add(worker_of(OutboxKind::Timer, name));
        }
        add(PRUNER_WORKER.to_owned());
        for policy in &self.policies {
            if followed(policy, registry).is_some() {
                add(policy_worker(&policy.name));
            }
        }
        let projections: Vec<_> = self.projections.keys().map(|p| projection_worker(p)).collect();
        if self.bus.is_some() {
            for published in &self.published {
                add(published.worker());
            }
        }
        // One worker over all partitions: two would wait for each other's locks on shared rows.
        workers.extend(projections.into_iter().map(|worker| (worker, 1)));
        // Announced so that the others know; there is nothing to hold.
        workers.extend(self.served.iter().map(|name| (serve_worker(name), 0)));
        workers
    }

    /// The queues that the dispatcher works.
    fn queues(&self, shared: &AppContext, registry: &Registry) -> Vec<(OutboxKind, String)> {
        // What was queued for a target before it moved to another service is forwarded.
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
        let leases = Leases::new(
            shared.ids.new_id(),
            self.workers(shared, registry),
            shared.settings.lease_ttl,
            shared.store.clone(),
            Arc::clone(&shared.clock),
        );
        let (ring, ringing) = watch::channel(0);
        let policies = self.policies.iter().map(|p| (p.name.clone(), Arc::clone(&p.policy)));
        let work = Arc::new(WorkerContext {
            shared: Arc::clone(shared),
            registry: registry.clone(),
            gateways: self.gateways.clone(),
            policies: policies.collect(),
            projections: self.projections.clone(),
            bus: self.bus.clone(),
            publishers: Publishers::new(self.bus.as_ref().and_then(EventBus::max_publishers)),
            subscriptions: Arc::default(),
            log_limit: std::sync::Mutex::default(),
            queue_bounds: QueueBounds::default(),
            served: self.served.clone(),
            leases: leases.clone(),
            wake: ringing,
            stop: stop.clone(),
        });
        keeper.spawn({
            let (leases, stop) = (leases.clone(), stop_keeping.clone());
            async move { leases.keep(stop).await }
        });
        let (store, clock) = (shared.store.clone(), Arc::clone(&shared.clock));
        workers.spawn(wake(store, clock, ring, stop.clone()));
        let queues = self.queues(shared, registry);
        spawn(&workers, &work, "dispatcher", move |work| {
            Dispatcher::new(work, queues.clone()).run()
        });
        let names: Vec<_> = registry.names().collect();
        spawn(&workers, &work, "timers", move |work| Timers::new(work, names.clone()).run());
        spawn(&workers, &work, "pruner", prune);
        spawn(&workers, &work, "watch", watch);
        spawn(&workers, &work, "overrides", retry_overridden);
        for policy in &self.policies {
            start_policy(policy, &work, &workers);
        }
        for projection in self.projections.values() {
            let (projection, measured) = (Arc::clone(projection), Arc::clone(projection));
            spawn(&workers, &work, projection.name(), move |work| {
                registered::run(&projection, &work)
            });
            spawn(&workers, &work, measured.name(), move |work| {
                gauges::measure(Arc::clone(&measured), work)
            });
        }
        if self.bus.is_some() {
            self.start_bus(&work, &workers);
        }
        let (bus, subscriptions) = (work.bus.clone(), Arc::clone(&work.subscriptions));
        let clock = Arc::clone(&shared.clock);
        RunningWorkers { stop, stop_keeping, workers, keeper, bus, subscriptions, leases, clock }
    }

    fn start_bus(&self, work: &Arc<WorkerContext>, workers: &TaskTracker) {
        for published in &self.published {
            let of = Arc::clone(published);
            spawn(workers, work, "relay lag", move |work| report_lag(work, Arc::clone(&of)));
            for partition in 0..work.shared.log.partitions {
                let published = Arc::clone(published);
                let name = published.worker();
                spawn(workers, work, &name, move |work| {
                    let relay = Relay::new(Arc::clone(&work), Arc::clone(&published), partition);
                    Follower::new(work, relay).of_partition(partition).run()
                });
            }
        }
        let asks_elsewhere = |name: &&str| {
            let replies = work.registry.replies(name);
            replies.iter().any(|source| match source {
                ReplySource::Target(target) => work.shared.remote.contains(target),
                ReplySource::Gateway(_) => false,
            })
        };
        let is_read = |name: &&str| self.served.contains(name) || asks_elsewhere(name);
        let (read, others): (Vec<_>, Vec<_>) = work.registry.names().partition(is_read);
        let topics = |names: Vec<&str>| names.into_iter().map(commands_topic).collect();
        let consumer = Consumer {
            work: Arc::clone(work),
            group: format!("{}-commands", work.shared.log.id),
            topics: topics(read),
            once_read: topics(others),
            consumes: ConsumerSource::Messages,
            lanes: Mutex::default(),
        };
        consume(consumer, workers);
    }
}

/// Runs a worker. One that panics is reported and begun anew: its leases stay this process's.
fn spawn<F>(
    workers: &TaskTracker,
    work: &Arc<WorkerContext>,
    name: &str,
    worker: impl Fn(Arc<WorkerContext>) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let (work, name) = (Arc::clone(work), name.to_owned());
    workers.spawn(async move {
        loop {
            let running = AssertUnwindSafe(worker(Arc::clone(&work))).catch_unwind();
            let Err(panic) = running.await else { return };
            tracing::error!(name, panic = panic_text(&*panic), "a worker panicked and begins anew");
            if !work.pause(Duration::from_secs(1)).await {
                return;
            }
        }
    });
}

fn consume(consumer: Consumer, workers: &TaskTracker) {
    let (work, name) = (Arc::clone(&consumer.work), consumer.group.clone());
    let consumer = Arc::new(consumer);
    spawn(workers, &work, &name, move |_| Arc::clone(&consumer).run());
}

impl WorkerSet {
    /// `true` if a policy of this name follows the log of this service.
    pub(crate) fn follows_log(&self, policy: &str, registry: &Registry) -> bool {
        let mut named = self.policies.iter().filter(|own| own.name == policy);
        named.any(|own| followed(own, registry).is_some())
    }
}

fn start_policy(policy: &RegisteredPolicy, work: &Arc<WorkerContext>, workers: &TaskTracker) {
    if let Some(category) = followed(policy, &work.registry) {
        let of = policy.clone();
        spawn(workers, work, &policy.name, move |work| {
            let follow = PolicyFollower::new(Arc::clone(&work), of.clone(), category);
            Follower::new(work, follow).run()
        });
        return;
    }
    let topic = match &policy.source {
        PolicySource::Topic(topic) => topic.clone(),
        PolicySource::Target(name) => events_topic(name),
    };
    let consumer = Consumer {
        work: Arc::clone(work),
        group: format!("{}-{}", work.shared.log.id, policy.name),
        topics: vec![topic],
        once_read: Vec::new(),
        consumes: ConsumerSource::Policy(Box::new(policy.clone())),
        lanes: Mutex::default(),
    };
    consume(consumer, workers);
}

/// The category that a policy follows in this service's log.
fn followed(policy: &RegisteredPolicy, registry: &Registry) -> Option<&'static str> {
    match &policy.source {
        PolicySource::Target(name) => registry.names().find(|own| own == name),
        PolicySource::Topic(_) => None,
    }
}
