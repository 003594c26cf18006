//! Consuming topics: queueing what is delivered, and acknowledging it after the commit.

mod enqueue;
mod group_checkpoints;
mod lag;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::bus::{BusError, Delivery as _, EventBus as _, SharedDelivery};
use composable_rust_core::queue::{OutboxMessage, Queue};
use composable_rust_core::store::StoreError;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::Mutex;
use tracing::Instrument as _;

use crate::error::error_chain;
use crate::spans;
use crate::worker::bus::connection::BusConnection;
use crate::worker::context::WorkerContext;
use crate::worker::outcome::Failure;
use crate::worker::queue_bounds::{FULL_QUEUE_PAUSE, FullQueuePause};
use crate::worker::queued_input::{WaitingStreams, waiting_streams};
use crate::worker::retry::dependency_backoff;

/// Maximum messages that are queued at a time.
const MAX_BATCH: usize = 500;

/// The rows for a delivery.
pub(crate) enum Intake {
    /// Rows to be queued.
    Rows(Vec<OutboxMessage>),
    /// The row to be parked instead of a message that no process can handle, and the reason.
    Rejected(OutboxMessage, String),
}

/// Turns deliveries into rows of the outbox.
pub(crate) trait DeliveryHandler: Send + Sync + 'static {
    /// Returns `true` if the topics hold records of other programs.
    fn reads_external_records(&self) -> bool {
        false
    }

    /// Returns the queues that rows for a topic are added to: the topic waits while one of them is
    /// full.
    fn queues(&self, topic: &str) -> Vec<Queue>;

    /// Called before each subscription.
    fn before_subscribing(&self) -> impl Future<Output = Result<(), StoreError>> + Send {
        std::future::ready(Ok(()))
    }

    /// Returns the rows for a delivery, which `is_first` in its batch or not.
    ///
    /// # Errors
    ///
    /// [`Failure`]: the batch ends before this delivery, which is handled again.
    fn handle(
        &self,
        delivery: &SharedDelivery,
        is_first: bool,
        lanes: &mut ConsumerLanes,
    ) -> impl Future<Output = Result<Intake, Failure>> + Send;

    /// Returns the row that holds a delivery as it was received, in a queue whose worker can try it
    /// again.
    fn as_received(&self, delivery: &SharedDelivery) -> OutboxMessage;
}

/// A member of a consumer group. It queues messages and acknowledges them after the commit, so that
/// some are queued twice; the recipient's inbox ignores the duplicate, unless the entry may have
/// been pruned by then.
///
/// The group's checkpoints are stored beside the log too: the broker forgets a group that is away
/// for long, and redeliveries from below a checkpoint are known as such.
pub(crate) struct Consumer<H> {
    context: Arc<WorkerContext>,
    bus: Arc<BusConnection>,
    group: String,
    topics: Vec<String>,
    /// Topics that may still get replies, though no request is sent any more that is replied to
    /// there: they are read if they ever were.
    once_read: Vec<String>,
    handler: H,
    lanes: Mutex<ConsumerLanes>,
}

/// The lanes that have an input in a queue, by partition, cached for a second.
#[derive(Default)]
pub(crate) struct ConsumerLanes {
    looked_up: Duration,
    waiting: BTreeMap<u16, WaitingStreams>,
    /// The topics' partitions that were read since.
    read: BTreeSet<(String, i32)>,
}

/// The time for which cached lanes are used.
const LANE_REFRESH_INTERVAL: Duration = Duration::from_secs(1);

impl ConsumerLanes {
    /// Empties the cache once it is old, or if this process reads a topic partition that another
    /// may have read until now, and added lanes for.
    fn refresh(&mut self, now: Duration, batch: &[SharedDelivery]) {
        if now.saturating_sub(self.looked_up) >= LANE_REFRESH_INTERVAL {
            *self = Self { looked_up: now, ..Self::default() };
        }
        for delivery in batch {
            let of = (delivery.message().topic.clone(), delivery.offset().partition);
            if self.read.insert(of) {
                self.waiting.clear();
            }
        }
    }

    /// Returns the streams that have an input in a partition of `queue`, which must always be the
    /// same.
    pub(crate) async fn waiting(
        &mut self,
        context: &WorkerContext,
        queue: &str,
        partition: u16,
    ) -> Result<&mut WaitingStreams, StoreError> {
        Ok(match self.waiting.entry(partition) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                unknown.insert(waiting_streams(context.store(), queue, partition).await?)
            }
        })
    }
}

/// Deliveries of a topic that are not queued yet, at most as many as the bus gives unacknowledged.
#[derive(Default)]
struct PendingDeliveries {
    deliveries: VecDeque<SharedDelivery>,
    pause: FullQueuePause,
    /// The time of the next look at the queues.
    until: Duration,
}

impl<H: DeliveryHandler> Consumer<H> {
    pub(crate) fn new(
        context: Arc<WorkerContext>,
        bus: Arc<BusConnection>,
        group: String,
        topics: Vec<String>,
        handler: H,
    ) -> Self {
        let (once_read, lanes) = (Vec::new(), Mutex::default());
        Self { context, bus, group, topics, once_read, handler, lanes }
    }

    /// Reads these topics too, if the group ever read them.
    pub(crate) fn with_once_read(mut self, topics: Vec<String>) -> Self {
        self.once_read = topics;
        self
    }

    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    pub(crate) async fn run(self: Arc<Self>) {
        let mut failures = 0;
        while !self.context.stop.is_cancelled() {
            self.while_paused(true).await;
            let consumed = tokio::select! {
                biased;
                () = self.while_paused(false) => {
                    self.bus.subscriptions.left(&self.group);
                    continue;
                }
                consumed = self.consume(&mut failures) => consumed,
            };
            match consumed {
                Ok(()) => return,
                Err(reason) => {
                    let (time, now) = (self.context.shared.clock.now(), self.context.now());
                    self.bus.subscriptions.ended(&self.group, time, now, reason);
                    failures += 1;
                    if !self.context.pause(dependency_backoff(failures)).await {
                        return;
                    }
                }
            }
        }
    }

    /// Waits while the log is paused, or while it is not; before the first look at the leases it
    /// counts as paused.
    async fn while_paused(&self, paused: bool) {
        let mut changes = self.context.leases.changes();
        while self.context.leases.may_take() != paused && !self.context.stop.is_cancelled() {
            tokio::select! {
                biased;
                () = self.context.stop.cancelled() => {}
                _ = changes.changed() => {}
            }
        }
    }

    /// Subscribes and queues what is delivered, until the workers stop or the subscription ends.
    async fn consume(&self, failures: &mut u32) -> Result<(), String> {
        let text = |error: BusError| error_chain(&error);
        let store_text = |error: StoreError| error_chain(&error);
        let offsets = self.group_offsets().await.map_err(store_text)?;
        let mut counts = self.partition_counts().await.map_err(store_text)?;
        let topics = self.topics_to_read().await.map_err(store_text)?;
        if topics.is_empty() {
            return Ok(());
        }
        let bus = &self.bus.bus;
        self.bus.subscriptions.set_subscribed(&self.group, false);
        let subscribed = if self.handler.reads_external_records() {
            bus.subscribe_external(&self.group, &topics, &offsets).await
        } else {
            bus.subscribe(&self.group, &topics, &offsets).await
        };
        let mut deliveries = subscribed.map_err(text)?;
        self.bus.subscriptions.set_subscribed(&self.group, true);
        let mut last_error = None;
        let mut pending = BTreeMap::new();
        loop {
            let until = pending.values().map(|of: &PendingDeliveries| of.until).min();
            let pause =
                until.map_or(FULL_QUEUE_PAUSE, |until| until.saturating_sub(self.context.now()));
            let mut next = tokio::select! {
                biased;
                () = self.context.stop.cancelled() => return Ok(()),
                next = deliveries.next() => Some(next),
                () = self.context.clock().sleep(pause), if until.is_some() => None,
            };
            let mut batch = Vec::new();
            while let Some(delivery) = next.take() {
                match delivery {
                    None if batch.is_empty() => {
                        let ended = || "the subscription ended".to_owned();
                        return Err(last_error.map_or_else(ended, text));
                    }
                    None => break,
                    Some(Err(error)) => {
                        let (time, now) = (self.context.shared.clock.now(), self.context.now());
                        self.bus.subscriptions.failed(&self.group, time, now, &error);
                        last_error = Some(error);
                    }
                    Some(Ok(delivery)) => {
                        last_error = None;
                        batch.push(delivery);
                    }
                }
                if batch.len() < MAX_BATCH {
                    next = deliveries.next().now_or_never();
                }
            }
            let has_all = batch.len() < MAX_BATCH;
            let batch = self.admitted(batch, &mut pending).await.map_err(store_text)?;
            if !batch.is_empty() {
                self.report_lag(&batch);
                self.count_partitions(&batch, &mut counts).await.map_err(store_text)?;
                let span = spans::poll(&self.group, &batch);
                self.queue(batch).instrument(span).await;
                *failures = 0;
            }
            let waiting = pending.values().filter_map(|of| of.deliveries.front());
            let late = self.report_lag(waiting);
            if has_all {
                self.report_no_lag(&topics, &late);
            }
        }
    }

    /// Adds deliveries to the pending ones, and returns those that may be queued now. A topic waits
    /// while one of its queues is full, and its later deliveries wait behind the earlier ones.
    async fn admitted(
        &self,
        batch: Vec<SharedDelivery>,
        pending: &mut BTreeMap<String, PendingDeliveries>,
    ) -> Result<Vec<SharedDelivery>, StoreError> {
        for delivery in batch {
            let of = pending.entry(delivery.message().topic.clone()).or_default();
            of.deliveries.push_back(delivery);
        }
        let now = self.context.now();
        let mut admitted = Vec::new();
        for (topic, of) in pending.iter_mut().filter(|(_, of)| of.until <= now) {
            let full = self.context.full_queues(&self.group, self.handler.queues(topic)).await?;
            if of.pause.is_over(!full.is_empty(), now) {
                admitted.extend(of.deliveries.drain(..of.deliveries.len().min(MAX_BATCH)));
            } else {
                of.until = now + FULL_QUEUE_PAUSE;
            }
        }
        pending.retain(|_, of| !of.deliveries.is_empty());
        Ok(admitted)
    }
}
