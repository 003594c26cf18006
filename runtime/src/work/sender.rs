//! Putting messages for other services on the bus.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{
    EventBus, OutboxKind, OutboxRow, Publisher as _, Queue, QueueChange, QueuePlace, Settlement,
    SharedPublisher, WorkQueues as _,
};

use super::attempts::wait_for_others;
use super::context::Work;
use super::decisions::LOOK_FOR_DECISIONS;
use super::envelope::{effect_message, excess};
use super::follower::Stop;
use super::leases::{Held, worker_of};
use super::relay::{open, stop_of};
use crate::plan::BUS;

/// Messages of one partition that are published at a time.
const PAGE: usize = 1_000;
/// Bytes that one batch has at most, but for its last message.
const BATCH_BYTES: usize = 8 << 20;
const PURPOSE: &str = "send";

/// Publishes the messages of each partition in order, batch by batch; each partition has a publisher
/// of its own, which fences whoever had the partition before. So what one sender sends stays in
/// order, whatever happens.
pub(crate) struct Sender {
    work: Arc<Work>,
    partition: u16,
    partitions: BTreeMap<u16, Sending>,
    failures: u32,
    looked_for_decisions: Duration,
}

struct Sending {
    held: Arc<Held>,
    publisher: SharedPublisher,
}

impl Sender {
    pub(crate) fn new(work: Arc<Work>, partition: u16) -> Self {
        let partitions = BTreeMap::new();
        Self { work, partition, partitions, failures: 0, looked_for_decisions: Duration::ZERO }
    }

    pub(crate) async fn run(mut self) {
        let work = Arc::clone(&self.work);
        let (mut wake, mut leases) = (work.wake.clone(), work.leases.changes());
        while !work.stop.is_cancelled() {
            wake.mark_unchanged();
            let pause = match self.step().await {
                Ok(true) => {
                    self.failures = 0;
                    continue;
                }
                Ok(false) => LOOK_FOR_DECISIONS,
                Err(reason) => {
                    tracing::warn!(reason, "messages for other services wait; this is tried again");
                    self.failures += 1;
                    if !work.pause(wait_for_others(self.failures)).await {
                        return;
                    }
                    continue;
                }
            };
            tokio::select! {
                biased;
                () = work.stop.cancelled() => return,
                _ = leases.changed() => {}
                _ = wake.changed() => {}
                () = work.clock().sleep(pause) => {}
            }
        }
    }

    /// One batch of each partition. Gives whether there was anything.
    async fn step(&mut self) -> Result<bool, String> {
        self.take_partitions().await?;
        self.carry_out_decisions().await?;
        let after: Vec<_> =
            self.partitions.keys().map(|p| (queue(*p), QueuePlace::default())).collect();
        if after.is_empty() {
            return Ok(false);
        }
        let text = |error| crate::encode::describe(&error);
        let rows = self.work.store().read_outbox(&after, PAGE).await.map_err(text)?;
        let mut by_partition: BTreeMap<u16, Vec<OutboxRow>> = BTreeMap::new();
        for row in rows {
            by_partition.entry(row.queue.partition).or_default().push(row);
        }
        let any = !by_partition.is_empty();
        let mut failed = None;
        for (partition, rows) in by_partition {
            match self.publish(partition, rows).await {
                Ok(()) => {}
                Err(Stop::Fenced) => {
                    if let Some(sending) = self.partitions.remove(&partition) {
                        self.work.leases.lost(&sending.held);
                    }
                }
                Err(stop) => {
                    self.partitions.remove(&partition);
                    failed = Some(format!("{stop:?}"));
                }
            }
        }
        failed.map_or(Ok(any), Err)
    }

    async fn publish(&mut self, partition: u16, rows: Vec<OutboxRow>) -> Result<(), Stop> {
        let most = self.work.bus.as_ref().and_then(EventBus::max_payload_bytes);
        let Some(sending) = self.partitions.get_mut(&partition) else { return Ok(()) };
        if !sending.held.admits(self.work.clock(), Duration::ZERO) {
            return Err(Stop::Unavailable("the lease has lapsed".to_owned()));
        }
        let log = self.work.shared.log;
        let mut messages = Vec::with_capacity(rows.len());
        let mut settlements = Vec::with_capacity(rows.len());
        // Senders and recipients of which something is parked.
        let mut parked: Vec<(composable_rust_core::StreamId, String)> = Vec::new();
        let mut bytes = 0;
        for row in rows {
            // What is left is read again.
            if bytes > BATCH_BYTES {
                break;
            }
            let pair = (row.queued.stream.clone(), row.queued.row.recipient.clone());
            let message = effect_message(&log, &row.queued.stream, &row.queued.row);
            bytes += message.payload.len() + row.queued.row.metadata.len();
            let change = if row.behind_parked || parked.contains(&pair) {
                QueueChange::Parked { attempts: row.attempts, error: None }
            } else if let Some(error) = excess(&message, most) {
                tracing::error!(sender = ?pair.0, recipient = pair.1, error, "a message is parked");
                parked.push(pair);
                QueueChange::Parked { attempts: 1, error: Some(error) }
            } else {
                // An erased message has nothing to say.
                if !row.queued.row.metadata.is_empty() {
                    messages.push(message);
                }
                QueueChange::Done(Vec::new())
            };
            let (lease, queue, place) = (sending.held.lease.clone(), row.queue, row.place);
            settlements.push(Settlement { lease, queue, place, change });
        }
        if !messages.is_empty() {
            let published = sending.publisher.publish_batch(messages, None).await;
            published.map_err(|error| stop_of(&error))?;
        }
        let settled = self.work.store().settle(partition, &settlements).await?;
        if settled.contains(&false) { Err(Stop::Fenced) } else { Ok(()) }
    }

    async fn take_partitions(&mut self) -> Result<(), String> {
        let mut held = self.work.leases.of(&worker_of(OutboxKind::Send, BUS));
        held.retain(|held| held.lease.partition == self.partition);
        let mut failed = None;
        self.partitions.retain(|_, own| held.iter().any(|held| Arc::ptr_eq(held, &own.held)));
        for held in held {
            let partition = held.lease.partition;
            if self.partitions.contains_key(&partition) {
                continue;
            }
            match open(&self.work, PURPOSE, partition).await {
                Ok(publisher) => {
                    self.partitions.insert(partition, Sending { held, publisher });
                }
                Err(stop) => failed = Some(format!("{stop:?}")),
            }
        }
        // The others go on; with none, there is nothing to go on with.
        failed.filter(|_| self.partitions.is_empty()).map_or(Ok(()), Err)
    }

    async fn carry_out_decisions(&mut self) -> Result<(), String> {
        let now = self.work.now();
        if now.saturating_sub(self.looked_for_decisions) < LOOK_FOR_DECISIONS {
            return Ok(());
        }
        self.looked_for_decisions = now;
        let held = self.partitions.iter().map(|(p, s)| (queue(*p), Arc::clone(&s.held)));
        let held: BTreeMap<_, _> = held.collect();
        let (_, done) = self.work.carry_out_decisions(&held).await;
        done.map_err(|error| crate::encode::describe(&error))
    }
}

fn queue(partition: u16) -> Queue {
    Queue { partition, kind: OutboxKind::Send, target: BUS.to_owned() }
}
