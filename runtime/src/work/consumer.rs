//! Taking what other services put on the bus.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{
    BusError, Delivery as _, EventBus as _, QueuedRow, ReplyOutcome, SharedDelivery, StoreError,
    WorkQueues as _, validate_rows,
};
use futures_util::{FutureExt as _, StreamExt as _};

use super::attempts::wait_for_others;
use super::context::{Work, metadata};
use super::decisions::answer;
use super::envelope::{commands_topic, received};
use super::follower::Stop;
use super::policies::{ForeignRecord, Input, RegisteredPolicy};
use super::policy_follower::{rows_for, waiting};
use crate::encode::describe;

/// Messages that are queued at a time.
const BATCH: usize = 500;

/// What is done with the messages of some topics.
pub(crate) enum Consumes {
    /// Replies for instances here, and commands for those of the served types.
    Messages(BTreeSet<&'static str>),
    /// A policy.
    Policy(Box<RegisteredPolicy>),
}

/// Queues what comes over the bus and acknowledges it after the commit. What comes twice is queued
/// twice; the recipient's inbox absorbs it, unless its mark may have been pruned by then.
///
/// How far the group has come is kept beside the log too: the broker forgets a group that is away
/// for long, and what comes again from below that place is known not to be new.
pub(crate) struct Consumer {
    pub(crate) work: Arc<Work>,
    pub(crate) group: String,
    pub(crate) topics: Vec<String>,
    pub(crate) consumes: Consumes,
}

impl Consumer {
    pub(crate) async fn run(self: Arc<Self>) {
        let mut failures = 0;
        while !self.work.stop.is_cancelled() {
            match self.consume(&mut failures).await {
                Ok(()) => return,
                Err(reason) => {
                    tracing::warn!(group = self.group, reason, "the bus is read anew");
                    failures += 1;
                    if !self.work.pause(wait_for_others(failures)).await {
                        return;
                    }
                }
            }
        }
    }

    async fn consume(&self, failures: &mut u32) -> Result<(), String> {
        let Some(bus) = &self.work.bus else { return Ok(()) };
        let text = |error: BusError| describe(&error);
        let known = self.known().await.map_err(|error| describe(&error))?;
        let subscribing = bus.subscribe(&self.group, &self.topics, &known);
        let mut deliveries = subscribing.await.map_err(text)?;
        loop {
            let first = tokio::select! {
                biased;
                () = self.work.stop.cancelled() => return Ok(()),
                next = deliveries.next() => next,
            };
            let mut batch = Vec::new();
            let mut next = Some(first);
            while let Some(delivery) = next.take() {
                match delivery {
                    None if batch.is_empty() => return Err("the subscription ended".to_owned()),
                    None => break,
                    Some(Err(error)) => {
                        tracing::debug!(group = self.group, error = describe(&error), "the bus");
                    }
                    Some(Ok(delivery)) => batch.push(delivery),
                }
                if batch.len() < BATCH {
                    next = deliveries.next().now_or_never();
                }
            }
            if !batch.is_empty() {
                self.queue(batch).await?;
                *failures = 0;
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
                            tracing::debug!(error = describe(&error), "it is delivered again");
                        }
                    }
                }
                Err(Stop::Newer(reason)) => {
                    // Left unacknowledged, it goes to another member of the group.
                    self.work.pause(Duration::from_secs(5)).await;
                    return Err(format!("newer code is needed: {reason}"));
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
        let (rows, done) = self.rows(batch).await?;
        let (mut new, mut old) = (Vec::new(), Vec::new());
        for (index, row) in rows {
            if which(index) { &mut old } else { &mut new }.push(row);
        }
        self.park(old).await?;
        self.enqueue(new).await?;
        self.keep(batch.get(..done).unwrap_or_default()).await?;
        Ok(done)
    }

    /// What is to be queued for the first messages of a batch, each with the index of its message,
    /// and how many these are.
    async fn rows(
        &self,
        batch: &[SharedDelivery],
    ) -> Result<(Vec<(usize, QueuedRow)>, usize), Stop> {
        let mut rows = Vec::with_capacity(batch.len());
        let mut behind = BTreeMap::new();
        for (index, delivery) in batch.iter().enumerate() {
            match &self.consumes {
                Consumes::Messages(served) => {
                    rows.extend(self.message(served, delivery).into_iter().map(|row| (index, row)));
                }
                Consumes::Policy(policy) => {
                    let record = record(delivery);
                    let sender = record.sender();
                    let partition = self.work.shared.log.partition_of(&sender);
                    let waits = match behind.entry(partition) {
                        Entry::Occupied(known) => known.into_mut(),
                        Entry::Vacant(unknown) => {
                            unknown.insert(waiting(&self.work, &policy.name, partition).await?)
                        }
                    };
                    let input = Input::Message(record);
                    match rows_for(&self.work, policy, waits, &sender, &input) {
                        Ok(more) => rows.extend(more.into_iter().map(|row| (index, row))),
                        Err(stop) if index == 0 => return Err(stop),
                        Err(_) => return Ok((rows, index)),
                    }
                }
            }
        }
        Ok((rows, batch.len()))
    }

    /// The message as it is queued. A command for a type that is not served is answered.
    fn message(&self, served: &BTreeSet<&str>, delivery: &SharedDelivery) -> Vec<QueuedRow> {
        let message = delivery.message();
        let own = format!("urn:uuid:{}", self.work.shared.log.id);
        if message.header("ce_source") == Some(&*own) {
            tracing::error!(
                log = %self.work.shared.log.id,
                "another service on the bus has a log of the same id, so that neither gets its \
                 replies: give each a log of its own (in memory: `with_log_id`)"
            );
        }
        let queued = received(self.work.shared.log.id, message).and_then(|(sender, row)| {
            let stream = sender.parse().map_err(|_| "its sender is no stream".to_owned())?;
            if message.topic != commands_topic(&row.target) {
                return Err(format!("it is for {}, which has another topic", row.recipient));
            }
            let queued = [QueuedRow { stream, row }];
            validate_rows(&queued).map_err(|error| error.to_string())?;
            Ok(Vec::from(queued))
        });
        let queued = queued.unwrap_or_else(|reason| {
            // Nobody can be told, and nothing of this framework's writes such a message.
            let (topic, place) = (&message.topic, delivery.place());
            tracing::error!(topic, ?place, reason, "a message cannot be taken and is left out");
            Vec::new()
        });
        let refused = |queued: &&QueuedRow| {
            let is_reply = metadata(&queued.row.metadata).is_some_and(|of| of.reply.is_some());
            !is_reply && !served.contains(&*queued.row.target)
        };
        match queued.first().filter(refused) {
            None => queued,
            Some(command) => {
                let (target, sender) = (&command.row.target, &command.stream);
                tracing::error!(target, %sender, "a command came over the bus, but its type is not served");
                answer(command, target, ReplyOutcome::Undelivered, None)
            }
        }
    }

    async fn enqueue(&self, rows: Vec<QueuedRow>) -> Result<(), StoreError> {
        for (partition, rows) in self.by_partition(rows) {
            self.work.store().enqueue(partition, &rows, None).await?;
        }
        Ok(())
    }

    pub(super) fn by_partition(&self, rows: Vec<QueuedRow>) -> BTreeMap<u16, Vec<QueuedRow>> {
        let mut by_partition: BTreeMap<u16, Vec<QueuedRow>> = BTreeMap::new();
        for row in rows {
            let partition = self.work.shared.log.partition_of(&row.stream);
            by_partition.entry(partition).or_default().push(row);
        }
        by_partition
    }
}

fn record(delivery: &SharedDelivery) -> ForeignRecord {
    let (message, place) = (delivery.message(), delivery.place());
    ForeignRecord {
        topic: message.topic.clone(),
        partition: place.partition,
        offset: place.offset,
        key: message.key.clone(),
        headers: message.headers.clone(),
        payload: message.payload.clone(),
    }
}
