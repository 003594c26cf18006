//! What a subscription gives out.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use composable_rust_core::{BusError, BusMessage, BusRecord, Delivery, Timestamp, TopicOffset};
use futures_util::stream::Stream;

use crate::record::ReceivedRecord;
use crate::shared::{AssignmentId, Shared};

/// The deliveries of a subscription. They end with an error that only a new subscription can
/// overcome, and otherwise never.
///
/// Dropping it leaves the group, after what was acknowledged is committed; the runtime waits for
/// that when it is shut down.
pub struct RedpandaDeliveries {
    shared: Arc<Shared>,
    group: String,
}

impl RedpandaDeliveries {
    pub(crate) fn new(shared: Arc<Shared>, group: &str) -> Self {
        Self { shared, group: group.to_owned() }
    }
}

impl Stream for RedpandaDeliveries {
    type Item = Result<RedpandaDelivery, BusError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.shared.poll(context).map(|next| {
            next.map(|next| {
                let (term, arrived) = next?;
                let shared = Arc::clone(&self.shared);
                Ok(RedpandaDelivery { shared, term, arrived, settled: false })
            })
        })
    }
}

impl Drop for RedpandaDeliveries {
    fn drop(&mut self) {
        self.shared.leave();
    }
}

impl fmt::Debug for RedpandaDeliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedpandaDeliveries").field("group", &self.group).finish_non_exhaustive()
    }
}

/// A message in somebody's hands.
pub struct RedpandaDelivery {
    shared: Arc<Shared>,
    term: AssignmentId,
    arrived: ReceivedRecord,
    settled: bool,
}

impl RedpandaDelivery {
    /// Whether that still counts.
    fn settle(&mut self, finished: bool) -> bool {
        self.settled = true;
        let ReceivedRecord { place, message, .. } = &self.arrived;
        self.shared.settle(self.term, place.offset, message.payload.len(), finished)
    }
}

impl Delivery for RedpandaDelivery {
    fn message(&self) -> &BusMessage {
        &self.arrived.message
    }

    fn record(&self) -> BusRecord {
        self.arrived.record()
    }

    fn offset(&self) -> TopicOffset {
        self.arrived.place
    }

    fn published_at(&self) -> Option<Timestamp> {
        self.arrived.published_at
    }

    /// Answers at once; the broker is told at the next commit.
    async fn acknowledge(mut self) -> Result<(), BusError> {
        if self.settle(true) {
            Ok(())
        } else {
            Err(BusError::new("the topic partition has changed hands"))
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
            .field("place", &self.arrived.place)
            .field("message", &self.arrived.message)
            .finish_non_exhaustive()
    }
}
