//! Queueing a batch of deliveries and acknowledging it.

use std::collections::BTreeMap;

use composable_rust_core::bus::{Delivery as _, SharedDelivery};
use composable_rust_core::queue::{Inbox as _, Outbox as _, OutboxMessage};
use composable_rust_core::store::StoreError;
use composable_rust_core::{MessageId, StreamId};

use crate::error::error_chain;
use crate::worker::bus::consumer::{Consumer, DeliveryHandler, Intake};
use crate::worker::external_record::late_of;
use crate::worker::outcome::{Failure, truncate_error};
use crate::worker::retry::dependency_backoff;

/// The error of a dead letter that was redelivered after its inbox entry may have been pruned.
const LATE_REDELIVERY_ERROR: &str = "redelivered after its inbox entry may have been pruned \
    (`inbox_retention`): redrive it if it was never handled, otherwise discard it. The sender is not \
    notified";

/// The rows for the first deliveries of a batch, each with the index of its delivery.
#[derive(Default)]
struct EnqueuePlan {
    rows: Vec<(usize, OutboxMessage)>,
    /// Rows to be parked instead of rejected messages, and the reasons.
    rejected: Vec<(OutboxMessage, String)>,
    /// The number of deliveries that the plan covers.
    done: usize,
}

impl<H: DeliveryHandler> Consumer<H> {
    /// Queues a batch, retrying until it is done or the workers stop, and acknowledges it.
    pub(super) async fn queue(&self, mut batch: Vec<SharedDelivery>) {
        let mut tries = 0;
        let mut late = None;
        while !batch.is_empty() {
            match self.queue_first(&batch, &mut late).await {
                Ok(done) => {
                    if let Some(late) = &mut late {
                        late.drain(..done.min(late.len()));
                    }
                    for delivery in batch.drain(..done) {
                        if let Err(error) = delivery.acknowledge().await {
                            let error = error_chain(&error);
                            tracing::debug!(
                                error,
                                "failed to acknowledge a delivery; it is redelivered"
                            );
                        }
                    }
                }
                Err(failure) => {
                    tracing::warn!(
                        group = self.group, error = %failure,
                        "failed to enqueue deliveries; retrying"
                    );
                    self.report_lag(&batch);
                    if !self.context.pause(dependency_backoff(tries)).await {
                        return;
                    }
                    tries += 1;
                }
            }
        }
    }

    /// Queues the first deliveries of a batch, and returns their number.
    ///
    /// `late` is computed once: a retry would find what the first attempt wrote.
    async fn queue_first(
        &self,
        batch: &[SharedDelivery],
        late: &mut Option<Vec<bool>>,
    ) -> Result<usize, Failure> {
        let late = match late {
            Some(late) => late,
            None => late.insert(self.late_redeliveries(batch).await?),
        };
        let is_late = |index: usize| late.get(index).copied().unwrap_or_default();
        let EnqueuePlan { rows, rejected, done } = self.plan(batch).await?;
        let (late, new): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|(index, _)| is_late(*index));
        for (row, reason) in rejected {
            self.park(row, reason).await?;
        }
        self.park_late(late.into_iter().map(|(_, row)| row)).await?;
        self.enqueue(new, batch).await?;
        self.save_group_offsets(batch.get(..done).unwrap_or_default()).await?;
        Ok(done)
    }

    /// Plans the first deliveries of a batch: all before the first that fails.
    async fn plan(&self, batch: &[SharedDelivery]) -> Result<EnqueuePlan, Failure> {
        let mut plan = EnqueuePlan::default();
        let mut lanes = self.lanes.lock().await;
        lanes.refresh(self.context.now(), batch);
        for (index, delivery) in batch.iter().enumerate() {
            match self.handler.handle(delivery, index == 0, &mut lanes).await {
                Ok(Intake::Rows(rows)) => {
                    plan.rows.extend(rows.into_iter().map(|row| (index, row)));
                }
                Ok(Intake::Rejected(row, reason)) => plan.rejected.push((row, reason)),
                Err(failure) if index == 0 => return Err(failure),
                Err(_) => break,
            }
            plan.done = index + 1;
        }
        Ok(plan)
    }

    /// Queues rows, each with the index of its delivery. A delivery whose row is invalid for the
    /// store is parked as it was received, so that it does not hold up the others.
    async fn enqueue(
        &self,
        rows: Vec<(usize, OutboxMessage)>,
        batch: &[SharedDelivery],
    ) -> Result<(), StoreError> {
        let mut by_partition: BTreeMap<u16, (Vec<usize>, Vec<OutboxMessage>)> = BTreeMap::new();
        for (index, row) in rows {
            let partition = self.context.shared.log.partition_of(&row.sender);
            let (indexes, rows) = by_partition.entry(partition).or_default();
            indexes.push(index);
            rows.push(row);
        }
        let store = self.context.store();
        for (partition, (indexes, rows)) in by_partition {
            match store.enqueue(partition, &rows, None).await {
                Err(StoreError::Invalid(_)) => {}
                other => {
                    other?;
                    self.context.has_queued(partition, &rows);
                    continue;
                }
            }
            for (index, row) in indexes.into_iter().zip(rows) {
                match store.enqueue(partition, &[row], None).await {
                    Err(StoreError::Invalid(reason)) => {
                        let Some(delivery) = batch.get(index) else { continue };
                        self.report_invalid(delivery, &reason);
                        self.park(self.handler.as_received(delivery), reason).await?;
                    }
                    other => drop(other?),
                }
            }
        }
        Ok(())
    }

    fn report_invalid(&self, delivery: &SharedDelivery, reason: &str) {
        let (topic, at) = (&delivery.message().topic, delivery.offset());
        if self.context.logs(&format!("{topic} not stored")) {
            tracing::error!(
                topic,
                ?at,
                reason,
                "a message is invalid for the store; parking it as received, and others of this \
                 topic within a minute without a log line of their own"
            );
        }
    }

    async fn park(&self, row: OutboxMessage, reason: String) -> Result<(), StoreError> {
        let partition = self.context.shared.log.partition_of(&row.sender);
        self.context.store().park(partition, &[row], &truncate_error(reason)).await
    }

    /// Parks late redeliveries, except where the recipient's inbox still knows them: an operator
    /// decides whether they were handled before.
    async fn park_late(&self, rows: impl Iterator<Item = OutboxMessage>) -> Result<(), StoreError> {
        let mut by_partition: BTreeMap<u16, Vec<OutboxMessage>> = BTreeMap::new();
        for mut row in rows {
            let recipient: Result<StreamId, _> = row.row.recipient.parse();
            if let Ok(to) = recipient {
                let id = MessageId(row.row.id);
                if self.context.store().load_inbox_entry(&to, id).await?.is_some() {
                    continue;
                }
            }
            // Its lane of its own delays nothing that its sender sends now.
            row.sender = late_of(&row.sender);
            let partition = self.context.shared.log.partition_of(&row.sender);
            by_partition.entry(partition).or_default().push(row);
        }
        for (partition, rows) in by_partition {
            tracing::error!(
                group = self.group,
                rows = rows.len(),
                "parking dead letters: {LATE_REDELIVERY_ERROR}"
            );
            self.context.store().park(partition, &rows, LATE_REDELIVERY_ERROR).await?;
        }
        Ok(())
    }
}
