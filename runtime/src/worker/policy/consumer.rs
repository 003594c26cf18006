//! Policies over topics.

use std::sync::Arc;

use composable_rust_core::bus::SharedDelivery;
use composable_rust_core::queue::{OutboxMessage, Queue};
use composable_rust_core::store::EventStore as _;

use crate::worker::bus::consumer::{ConsumerLanes, DeliveryHandler, Intake};
use crate::worker::bus::envelope::erased_senders;
use crate::worker::context::WorkerContext;
use crate::worker::external_record::ExternalRecord;
use crate::worker::outcome::Failure;
use crate::worker::policy::follower::rows_for;
use crate::worker::policy::registered::{PolicySource, RegisteredPolicy, queued};
use crate::worker::queued_input::Input;

/// Queues the commands of a policy over a topic.
pub(crate) struct PolicyHandler {
    pub(crate) context: Arc<WorkerContext>,
    pub(crate) policy: RegisteredPolicy,
}

impl DeliveryHandler for PolicyHandler {
    fn reads_external_records(&self) -> bool {
        matches!(self.policy.source, PolicySource::Topic(_))
    }

    fn queues(&self, _: &str) -> Vec<Queue> {
        let partitions = 0..self.context.shared.log.partitions;
        partitions.flat_map(|p| self.policy.queues(&self.context.shared, p)).collect()
    }

    async fn handle(
        &self,
        delivery: &SharedDelivery,
        is_first: bool,
        lanes: &mut ConsumerLanes,
    ) -> Result<Intake, Failure> {
        let record = ExternalRecord::new(delivery);
        if record.is_erasure() {
            // Earlier messages of the stream are queued first, so that they are erased too.
            if !is_first {
                return Err(Failure::Unavailable("an erasure begins a batch".to_owned()));
            }
            // The rows of the stream that wait here are erased, as its events are over there.
            for sender in erased_senders(&record) {
                self.context.store().erase_stream(&sender).await?;
            }
        }
        let sender = record.sender();
        let partition = self.context.shared.log.partition_of(&sender);
        let waiting = lanes.waiting(&self.context, &self.policy.name, partition).await?;
        let input = Input::Record(record);
        Ok(Intake::Rows(rows_for(&self.context, &self.policy, waiting, &sender, &input)?))
    }

    fn as_received(&self, delivery: &SharedDelivery) -> OutboxMessage {
        let record = ExternalRecord::new(delivery);
        queued(&self.context.shared, &self.policy.name, &Input::Record(record))
    }
}
