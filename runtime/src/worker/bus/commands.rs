//! Consuming commands and replies of other services.

use std::sync::Arc;

use composable_rust_core::bus::{Delivery as _, SharedDelivery, TopicOffset};
use composable_rust_core::queue::{Checkpoint, Checkpoints as _, OutboxKind, OutboxMessage, Queue};
use composable_rust_core::store::StoreError;

use crate::worker::bus::connection::BusConnection;
use crate::worker::bus::consumer::{ConsumerLanes, DeliveryHandler, Intake};
use crate::worker::bus::envelope::{commands_topic, received};
use crate::worker::bus::received::{
    RECEIVED, lane_of, receive, rejected_row, served_checkpoint, waiting_row,
};
use crate::worker::cloud_event::source_of;
use crate::worker::context::WorkerContext;
use crate::worker::external_record::ExternalRecord;
use crate::worker::outcome::Failure;

/// Queues replies for instances of this service, and commands of the served types.
pub(crate) struct CommandHandler {
    pub(crate) context: Arc<WorkerContext>,
    pub(crate) bus: Arc<BusConnection>,
    /// The aggregate types of this process.
    pub(crate) names: Vec<&'static str>,
}

impl CommandHandler {
    /// Reports another log of the same id: neither service accepts the other's messages.
    fn report_own_id(&self, delivery: &SharedDelivery) {
        let log = self.context.shared.log.id;
        let own = source_of(log);
        if delivery.message().header("ce_source") == Some(&*own) && self.context.logs(&own) {
            tracing::error!(
                %log,
                "another service on the bus has a log of the same id, so messages of either are \
                 rejected: give each a log of its own (in memory: `with_log_id`)"
            );
        }
    }

    fn rejected(&self, delivery: &SharedDelivery, row: OutboxMessage, reason: &str) -> Intake {
        let (topic, at) = (&delivery.message().topic, delivery.offset());
        let TopicOffset { partition, offset } = at;
        if self.context.logs(&format!("{topic} rejected")) {
            tracing::error!(
                topic,
                partition,
                offset,
                reason,
                "rejected a message; parking it as received, and others of this topic within a \
                 minute without a log line of their own"
            );
        }
        Intake::Rejected(row, format!("{topic}, partition {partition}, offset {offset}: {reason}"))
    }
}

impl DeliveryHandler for CommandHandler {
    fn queues(&self, topic: &str) -> Vec<Queue> {
        let target = self.names.iter().find(|name| commands_topic(name) == topic);
        let Some(target) = target else { return Vec::new() };
        let partitions = 0..self.context.shared.log.partitions;
        let kind = OutboxKind::Bulk;
        partitions
            .map(|partition| Queue { partition, kind, target: (*target).to_owned() })
            .collect()
    }

    /// Records the served types, so that their commands wait while no process that serves them
    /// runs.
    async fn before_subscribing(&self) -> Result<(), StoreError> {
        let beginning = Checkpoint { partition: 0, offset: 0, event_id: None };
        for target in &self.bus.served {
            let served = served_checkpoint(self.context.shared.log.id, target);
            self.context.store().save_checkpoints(&served, &[beginning]).await?;
        }
        Ok(())
    }

    async fn handle(
        &self,
        delivery: &SharedDelivery,
        _: bool,
        lanes: &mut ConsumerLanes,
    ) -> Result<Intake, Failure> {
        self.report_own_id(delivery);
        let log = self.context.shared.log;
        let message = received(&log, delivery.message());
        // A reply is sealed; the sender of a command is not verified.
        let is_reply = message.as_ref().is_ok_and(|(_, metadata)| metadata.reply.is_some());
        let lane =
            message.as_ref().map_or_else(|_| lane_of(delivery), |(row, _)| row.sender.clone());
        let (context, partition) = (&*self.context, log.partition_of(&lane));
        let record = || ExternalRecord::new(delivery);
        if !is_reply && lanes.waiting(context, RECEIVED, partition).await?.contains(&lane) {
            return Ok(Intake::Rows(vec![waiting_row(&record(), &lane)]));
        }
        match receive(context, &self.bus, message, false).await {
            Ok(row) => Ok(Intake::Rows(vec![row])),
            Err(Failure::NeedsNewerCode(newer)) => {
                let reason = newer.reason;
                tracing::debug!(sender = ?lane, reason, "a message waits for newer code");
                let row = waiting_row(&record(), &lane);
                lanes.waiting(context, RECEIVED, partition).await?.insert(lane);
                Ok(Intake::Rows(vec![row]))
            }
            Err(Failure::Poison(reason)) => {
                Ok(self.rejected(delivery, rejected_row(&record(), &lane), &reason))
            }
            Err(failure) => Err(failure),
        }
    }

    fn as_received(&self, delivery: &SharedDelivery) -> OutboxMessage {
        rejected_row(&ExternalRecord::new(delivery), &lane_of(delivery))
    }
}
