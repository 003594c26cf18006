//! Taking what other services put on the bus.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{
    BusError, Delivery as _, EventBus as _, EventStore as _, Outbox as _, OutboxKind,
    OutboxMessage, Queue, SharedDelivery, StoreError, TopicOffset,
};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::Mutex;

use crate::error::error_chain;
use crate::worker::bus::cloud_event::{
    EnvelopeError, commands_topic, erased_senders, is_erasure, received,
};
use crate::worker::bus::received::{RECEIVED, lane_of, refused_row, waiting_row};
use crate::worker::context::{WorkerContext, kept};
use crate::worker::follower::Stop;
use crate::worker::policy::follower::{rows_for, waiting};
use crate::worker::policy::policy::{
    ExternalRecord, PolicyInput, PolicySource, RegisteredPolicy, WaitingStreams, queued,
};
use crate::worker::queue_bounds::{FULL_QUEUE_PAUSE, FullQueuePause};
use crate::worker::retry::wait_for_others;

/// Messages that are queued at a time.
const BATCH: usize = 500;

/// What is done with the messages of some topics.
pub(crate) enum ConsumerSource {
    /// Replies for instances here, and commands for those of the served types.
    Messages,
    /// A policy.
    Policy(Box<RegisteredPolicy>),
}

/// Queues what comes over the bus and acknowledges it after the commit. What comes twice is queued
/// twice; the recipient's inbox absorbs it, unless its mark may have been pruned by then.
///
/// How far the group has come is kept beside the log too: the broker forgets a group that is away
/// for long, and what comes again from below that place is known not to be new.
pub(crate) struct Consumer {
    pub(crate) work: Arc<WorkerContext>,
    pub(crate) group: String,
    pub(crate) topics: Vec<String>,
    pub(crate) consumes: ConsumerSource,
    /// Topics to which replies may still come, though nothing is asked any more that is answered
    /// there: they are read too if they ever were.
    pub(crate) once_read: Vec<String>,
    /// The lanes of [`RECEIVED`], or of the policy, in which something waits, of the partitions looked
    /// at so far.
    pub(crate) lanes: Mutex<ConsumerLanes>,
}

/// Lanes in which something waits, and when they were looked up.
#[derive(Default)]
pub(crate) struct ConsumerLanes {
    looked_up: Duration,
    waiting: BTreeMap<u16, WaitingStreams>,
    /// The topics' partitions that were read since.
    read: BTreeSet<(String, i32)>,
}

impl ConsumerLanes {
    /// Forgets what was looked up once it is old, or this process reads a topic partition that another
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
}

/// The time for which what was looked up is used.
const LANE_REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// What was delivered of a topic and is not queued yet. More than a bus gives out unacknowledged never
/// stands here.
#[derive(Default)]
struct ReceivedDelivery {
    deliveries: VecDeque<SharedDelivery>,
    rest: FullQueuePause,
    /// When the queues are looked at again.
    until: Duration,
}

/// What is to be done about the first messages of a batch; each with the index of its message.
#[derive(Default)]
struct EnqueuePlan {
    rows: Vec<(usize, OutboxMessage)>,
    /// Messages that nobody can take, and why.
    refused: Vec<(OutboxMessage, String)>,
}

impl Consumer {
    pub(crate) async fn run(self: Arc<Self>) {
        let mut failures = 0;
        while !self.work.stop.is_cancelled() {
            self.while_paused(true).await;
            let consumed = tokio::select! {
                biased;
                () = self.while_paused(false) => {
                    self.work.subscriptions.left(&self.group);
                    continue;
                }
                consumed = self.consume(&mut failures) => consumed,
            };
            match consumed {
                Ok(()) => return,
                Err(reason) => {
                    let (time, now) = (self.work.shared.clock.now(), self.work.now());
                    self.work.subscriptions.ended(&self.group, time, now, reason);
                    failures += 1;
                    if !self.work.pause(wait_for_others(failures)).await {
                        return;
                    }
                }
            }
        }
    }

    /// Waits while the log is paused, or while it is not; before the first look it counts as paused.
    async fn while_paused(&self, paused: bool) {
        let mut changes = self.work.leases.changes();
        while self.work.leases.may_take() != paused && !self.work.stop.is_cancelled() {
            tokio::select! {
                biased;
                () = self.work.stop.cancelled() => {}
                _ = changes.changed() => {}
            }
        }
    }

    async fn consume(&self, failures: &mut u32) -> Result<(), String> {
        let Some(bus) = &self.work.bus else { return Ok(()) };
        let text = |error: BusError| error_chain(&error);
        let known = self.known().await.map_err(|error| error_chain(&error))?;
        let mut counted = self.counted().await.map_err(|error| error_chain(&error))?;
        let topics = self.subscribed().await.map_err(|error| error_chain(&error))?;
        if topics.is_empty() {
            return Ok(());
        }
        self.work.subscriptions.set_subscribed(&self.group, false);
        let subscribed = match &self.consumes {
            ConsumerSource::Policy(policy) if matches!(policy.source, PolicySource::Topic(_)) => {
                bus.subscribe_external(&self.group, &topics, &known).await
            }
            _ => bus.subscribe(&self.group, &topics, &known).await,
        };
        let mut deliveries = subscribed.map_err(text)?;
        self.work.subscriptions.set_subscribed(&self.group, true);
        let mut last_error = None;
        let mut arrived = BTreeMap::new();
        loop {
            let until = arrived.values().map(|of: &ReceivedDelivery| of.until).min();
            let rest =
                until.map_or(FULL_QUEUE_PAUSE, |until| until.saturating_sub(self.work.now()));
            let mut next = tokio::select! {
                biased;
                () = self.work.stop.cancelled() => return Ok(()),
                next = deliveries.next() => Some(next),
                () = self.work.clock().sleep(rest), if until.is_some() => None,
            };
            let mut batch = Vec::new();
            while let Some(delivery) = next.take() {
                match delivery {
                    None if batch.is_empty() => {
                        return Err(last_error.map_or_else(|| "it ended".to_owned(), text));
                    }
                    None => break,
                    Some(Err(error)) => {
                        let (time, now) = (self.work.shared.clock.now(), self.work.now());
                        self.work.subscriptions.failed(&self.group, time, now, &error);
                        last_error = Some(error);
                    }
                    Some(Ok(delivery)) => {
                        last_error = None;
                        batch.push(delivery);
                    }
                }
                if batch.len() < BATCH {
                    next = deliveries.next().now_or_never();
                }
            }
            let admitted = self.admitted(batch, &mut arrived).await;
            let batch = admitted.map_err(|error| error_chain(&error))?;
            if !batch.is_empty() {
                let counting = self.count(&batch, &mut counted).await;
                counting.map_err(|error| error_chain(&error))?;
                self.queue(batch).await?;
                *failures = 0;
            }
        }
    }

    /// Takes what was delivered, and returns what may be queued now. A topic of which a queue is full
    /// rests, and what comes of it meanwhile waits behind what came before.
    async fn admitted(
        &self,
        batch: Vec<SharedDelivery>,
        arrived: &mut BTreeMap<String, ReceivedDelivery>,
    ) -> Result<Vec<SharedDelivery>, StoreError> {
        for delivery in batch {
            let of = arrived.entry(delivery.message().topic.clone()).or_default();
            of.deliveries.push_back(delivery);
        }
        let now = self.work.now();
        let mut admitted = Vec::new();
        for (topic, of) in arrived.iter_mut().filter(|(_, of)| of.until <= now) {
            let full = self.work.full_queues(&self.group, self.fills(topic)).await?;
            if of.rest.is_over(!full.is_empty(), now) {
                admitted.extend(of.deliveries.drain(..of.deliveries.len().min(BATCH)));
            } else {
                of.until = now + FULL_QUEUE_PAUSE;
            }
        }
        arrived.retain(|_, of| !of.deliveries.is_empty());
        Ok(admitted)
    }

    /// The queues that messages of a topic are added to.
    fn fills(&self, topic: &str) -> Vec<Queue> {
        let partitions = 0..self.work.shared.log.partitions;
        match &self.consumes {
            ConsumerSource::Policy(policy) => partitions
                .flat_map(|partition| policy.fills(&self.work.shared, partition))
                .collect(),
            ConsumerSource::Messages => {
                let target = self.work.registry.names().find(|name| commands_topic(name) == topic);
                let queue = |partition| {
                    let (kind, target) = (OutboxKind::Bulk, target?.to_owned());
                    Some(Queue { partition, kind, target })
                };
                partitions.filter_map(queue).collect()
            }
        }
    }

    /// Queues a batch, however long that takes, and acknowledges it.
    async fn queue(&self, mut batch: Vec<SharedDelivery>) -> Result<(), String> {
        let mut tries = 0;
        let mut late = None;
        while !batch.is_empty() {
            match self.take(&batch, &mut late).await {
                Ok(done) => {
                    if let Some(late) = &mut late {
                        late.drain(..done.min(late.len()));
                    }
                    for delivery in batch.drain(..done) {
                        if let Err(error) = delivery.acknowledge().await {
                            tracing::debug!(error = error_chain(&error), "it is delivered again");
                        }
                    }
                }
                Err(stop) => {
                    tracing::warn!(group = self.group, ?stop, "what came is not yet queued");
                    if !self.work.pause(wait_for_others(tries)).await {
                        return Ok(());
                    }
                    tries += 1;
                }
            }
        }
        Ok(())
    }

    /// Queues what is to be done about the first messages of a batch. Gives how many these are.
    ///
    /// Which are late is found out once: a second try finds the first one's own traces.
    async fn take(
        &self,
        batch: &[SharedDelivery],
        late: &mut Option<Vec<bool>>,
    ) -> Result<usize, Stop> {
        let late = match late {
            Some(late) => late,
            None => late.insert(self.late(batch).await?),
        };
        let which = |row: usize| late.get(row).copied().unwrap_or_default();
        let (EnqueuePlan { rows, refused }, done) = self.found(batch).await?;
        let (mut new, mut old) = (Vec::new(), Vec::new());
        for (index, row) in rows {
            if which(index) { old.push(row) } else { new.push((index, row)) }
        }
        for (row, reason) in refused {
            self.park_as_it_came(row, reason).await?;
        }
        self.park(old).await?;
        self.enqueue(new, batch).await?;
        self.keep(batch.get(..done).unwrap_or_default()).await?;
        Ok(done)
    }

    /// What is to be done about the first messages of a batch, and how many these are.
    async fn found(&self, batch: &[SharedDelivery]) -> Result<(EnqueuePlan, usize), Stop> {
        let mut found = EnqueuePlan::default();
        let mut lanes = self.lanes.lock().await;
        lanes.refresh(self.work.now(), batch);
        for (index, delivery) in batch.iter().enumerate() {
            let done = match &self.consumes {
                ConsumerSource::Messages => {
                    self.message(index, delivery, &mut lanes.waiting, &mut found).await
                }
                ConsumerSource::Policy(policy) => {
                    self.input(index, delivery, policy, &mut lanes.waiting, &mut found).await
                }
            };
            match done {
                Ok(()) => {}
                Err(stop) if index == 0 => return Err(stop),
                Err(_) => return Ok((found, index)),
            }
        }
        Ok((found, batch.len()))
    }

    /// Adds what is to be done about a message that a policy reads.
    async fn input(
        &self,
        index: usize,
        delivery: &SharedDelivery,
        policy: &RegisteredPolicy,
        behind: &mut BTreeMap<u16, WaitingStreams>,
        found: &mut EnqueuePlan,
    ) -> Result<(), Stop> {
        let record = ExternalRecord::new(delivery);
        if is_erasure(&record) {
            // What came before it is queued first, so that it is erased too.
            if index > 0 {
                return Err(Stop::Unavailable("an erasure begins a batch".to_owned()));
            }
            // What waits here of the stream goes, as it does over there.
            for sender in erased_senders(&record) {
                self.work.store().erase_stream(&sender).await?;
            }
        }
        let sender = record.sender();
        let partition = self.work.shared.log.partition_of(&sender);
        let waits = self.waiting(&policy.name, partition, behind).await?;
        let rows = rows_for(&self.work, policy, waits, &sender, &PolicyInput::Message(record))?;
        found.rows.extend(rows.into_iter().map(|row| (index, row)));
        Ok(())
    }

    /// Adds what is to be done about a message: its row, or itself as it came.
    async fn message(
        &self,
        index: usize,
        delivery: &SharedDelivery,
        behind: &mut BTreeMap<u16, WaitingStreams>,
        found: &mut EnqueuePlan,
    ) -> Result<(), Stop> {
        let log = self.work.shared.log;
        let own = format!("urn:uuid:{}", log.id);
        if delivery.message().header("ce_source") == Some(&*own) && self.work.logs(&own) {
            tracing::error!(
                log = %log.id,
                "another service on the bus has a log of the same id, so that neither is believed: \
                 give each a log of its own (in memory: `with_log_id`)"
            );
        }
        let judged = received(&log, delivery.message());
        // A reply bears a seal; the name of a command's sender is anybody's.
        let is_reply = judged.as_ref().is_ok_and(|(_, metadata)| metadata.reply.is_some());
        let lane =
            judged.as_ref().map_or_else(|_| lane_of(delivery), |(row, _)| row.sender.clone());
        let partition = log.partition_of(&lane);
        if !is_reply && self.waiting(RECEIVED, partition, behind).await?.contains(&lane) {
            found.rows.push((index, waiting_row(&ExternalRecord::new(delivery), &lane)));
            return Ok(());
        }
        match self.work.receive(judged, false).await? {
            Ok(row) => found.rows.push((index, row)),
            Err(EnvelopeError::Newer(newer)) => {
                let reason = newer.reason;
                tracing::debug!(sender = ?lane, reason, "a message waits for newer code");
                found.rows.push((index, waiting_row(&ExternalRecord::new(delivery), &lane)));
                behind.entry(partition).or_default().insert(lane);
            }
            Err(EnvelopeError::Never(reason)) => {
                let (topic, place) = (&delivery.message().topic, delivery.offset());
                let TopicOffset { partition, offset } = place;
                if self.work.logs(&format!("{topic} refused")) {
                    tracing::error!(
                        topic,
                        partition,
                        offset,
                        reason,
                        "a message cannot be taken; parking it as it came, and others of this topic \
                         within a minute without a line of their own"
                    );
                }
                let reason = format!("{topic}, partition {partition}, offset {offset}: {reason}");
                found.refused.push((refused_row(&ExternalRecord::new(delivery), &lane), reason));
            }
        }
        Ok(())
    }

    /// The streams of which something waits in a queue of the kind of policies'.
    async fn waiting<'a>(
        &self,
        queue: &str,
        partition: u16,
        known: &'a mut BTreeMap<u16, WaitingStreams>,
    ) -> Result<&'a mut WaitingStreams, Stop> {
        Ok(match known.entry(partition) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(waiting(&self.work, queue, partition).await?),
        })
    }

    /// Queues rows, each with the index of its message. A message whose row the store refuses for good
    /// is parked as it came, so that it does not hold up the others.
    async fn enqueue(
        &self,
        rows: Vec<(usize, OutboxMessage)>,
        batch: &[SharedDelivery],
    ) -> Result<(), StoreError> {
        let mut by_partition: BTreeMap<u16, (Vec<usize>, Vec<OutboxMessage>)> = BTreeMap::new();
        for (index, row) in rows {
            let partition = self.work.shared.log.partition_of(&row.sender);
            let (indexes, rows) = by_partition.entry(partition).or_default();
            indexes.push(index);
            rows.push(row);
        }
        let store = self.work.store();
        for (partition, (indexes, rows)) in by_partition {
            match store.enqueue(partition, &rows, None).await {
                Err(StoreError::Invalid(_)) => {}
                other => {
                    other?;
                    self.work.has_queued(partition, &rows);
                    continue;
                }
            }
            for (index, row) in indexes.into_iter().zip(rows) {
                match store.enqueue(partition, &[row], None).await {
                    Err(StoreError::Invalid(reason)) => {
                        let Some(delivery) = batch.get(index) else { continue };
                        let (topic, place) = (&delivery.message().topic, delivery.offset());
                        if self.work.logs(&format!("{topic} not stored")) {
                            tracing::error!(
                                topic,
                                ?place,
                                reason,
                                "the store refuses a message; parking it as it came, and others of \
                                 this topic within a minute without a line of their own"
                            );
                        }
                        self.park_as_it_came(self.raw(delivery), reason).await?;
                    }
                    other => drop(other?),
                }
            }
        }
        Ok(())
    }

    /// A message as it came, in a queue whose worker can try it again.
    fn raw(&self, delivery: &SharedDelivery) -> OutboxMessage {
        let record = ExternalRecord::new(delivery);
        match &self.consumes {
            ConsumerSource::Messages => refused_row(&record, &lane_of(delivery)),
            ConsumerSource::Policy(policy) => {
                queued(&self.work.shared, &policy.name, &PolicyInput::Message(record))
            }
        }
    }

    async fn park_as_it_came(&self, row: OutboxMessage, reason: String) -> Result<(), StoreError> {
        let partition = self.work.shared.log.partition_of(&row.sender);
        self.work.store().park(partition, &[row], &kept(reason)).await
    }

    pub(crate) fn by_partition(
        &self,
        rows: Vec<OutboxMessage>,
    ) -> BTreeMap<u16, Vec<OutboxMessage>> {
        let mut by_partition: BTreeMap<u16, Vec<OutboxMessage>> = BTreeMap::new();
        for row in rows {
            let partition = self.work.shared.log.partition_of(&row.sender);
            by_partition.entry(partition).or_default().push(row);
        }
        by_partition
    }
}
