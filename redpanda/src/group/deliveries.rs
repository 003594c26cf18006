//! The stream of deliveries.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use composable_rust_core::Timestamp;
use composable_rust_core::bus::{BusError, BusMessage, BusRecord, Delivery, TopicOffset};
use futures_util::stream::Stream;

use crate::group::subscription::{AssignmentId, Subscription};
use crate::record::ReceivedRecord;

/// The deliveries of a subscription. The stream ends only after an error that requires a new
/// subscription.
///
/// Dropping the stream commits the offsets of acknowledged deliveries and leaves the group. The
/// tokio runtime waits for this when it shuts down.
pub struct RedpandaDeliveries {
    subscription: Arc<Subscription>,
    group: String,
}

impl RedpandaDeliveries {
    pub(crate) fn new(subscription: Arc<Subscription>, group: &str) -> Self {
        Self { subscription, group: group.to_owned() }
    }
}

impl Stream for RedpandaDeliveries {
    type Item = Result<RedpandaDelivery, BusError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.subscription.poll(context).map(|next| {
            next.map(|next| {
                let (assignment, received) = next?;
                let subscription = Arc::clone(&self.subscription);
                Ok(RedpandaDelivery { subscription, assignment, received, settled: false })
            })
        })
    }
}

impl Drop for RedpandaDeliveries {
    fn drop(&mut self) {
        self.subscription.leave();
    }
}

impl fmt::Debug for RedpandaDeliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedpandaDeliveries").field("group", &self.group).finish_non_exhaustive()
    }
}

/// A delivered message that is neither acknowledged nor dropped.
pub struct RedpandaDelivery {
    subscription: Arc<Subscription>,
    assignment: AssignmentId,
    received: ReceivedRecord,
    settled: bool,
}

impl RedpandaDelivery {
    /// Returns `false` if the partition was revoked meanwhile, so that the result is ignored.
    fn settle(&mut self, finished: bool) -> bool {
        self.settled = true;
        let ReceivedRecord { at, message, .. } = &self.received;
        self.subscription.settle(self.assignment, at.offset, message.payload.len(), finished)
    }
}

impl Delivery for RedpandaDelivery {
    fn message(&self) -> &BusMessage {
        &self.received.message
    }

    fn record(&self) -> BusRecord {
        self.received.record()
    }

    fn offset(&self) -> TopicOffset {
        self.received.at
    }

    fn published_at(&self) -> Option<Timestamp> {
        self.received.published_at
    }

    /// Returns without waiting for the broker; the next commit includes the offset.
    async fn acknowledge(mut self) -> Result<(), BusError> {
        if self.settle(true) {
            Ok(())
        } else {
            Err(BusError::new("the topic partition was assigned to another member"))
        }
    }
}

impl Drop for RedpandaDelivery {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(false);
        }
    }
}

impl fmt::Debug for RedpandaDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedpandaDelivery")
            .field("offset", &self.received.at)
            .field("message", &self.received.message)
            .finish_non_exhaustive()
    }
}
