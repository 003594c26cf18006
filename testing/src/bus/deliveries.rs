//! The deliveries of a group member.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use composable_rust_core::Timestamp;
use composable_rust_core::bus::{BusError, BusMessage, BusRecord, Delivery, TopicOffset};
use futures_util::stream::Stream;

use super::InMemoryEventBus;
use super::group::{MemberId, Origin};
use super::state::StoredRecord;

/// The deliveries of a group member, a stream without end. Dropping it leaves the group.
pub struct InMemoryDeliveries {
    bus: InMemoryEventBus,
    group: Arc<str>,
    member: MemberId,
}

impl InMemoryDeliveries {
    pub(super) fn new(bus: InMemoryEventBus, group: &str, member: MemberId) -> Self {
        Self { bus, group: group.into(), member }
    }
}

impl Stream for InMemoryDeliveries {
    type Item = Result<InMemoryDelivery, BusError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.bus.locked();
        let state = &mut *state;
        let Some(group) = state.groups.get_mut(&*self.group) else { return Poll::Ready(None) };
        let limit = state.settings.max_outstanding;
        let Some(origin) = group.next(self.member, limit, &state.topics) else {
            group.wait(self.member, context.waker());
            return Poll::Pending;
        };
        let topic = state.topics.get(&origin.topic);
        let Some(published) = topic.and_then(|topic| topic.message(origin.place)) else {
            return Poll::Ready(None);
        };
        let (bus, group) = (self.bus.clone(), Arc::clone(&self.group));
        let published = Arc::clone(published);
        Poll::Ready(Some(Ok(InMemoryDelivery { bus, group, origin, published, settled: false })))
    }
}

impl Drop for InMemoryDeliveries {
    fn drop(&mut self) {
        self.bus.change(|state| {
            if let Some(group) = state.groups.get_mut(&*self.group) {
                group.leave(self.member);
            }
        });
    }
}

impl fmt::Debug for InMemoryDeliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InMemoryDeliveries")
            .field("group", &self.group)
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}

/// A message delivered to a group member.
pub struct InMemoryDelivery {
    bus: InMemoryEventBus,
    group: Arc<str>,
    origin: Origin,
    published: Arc<StoredRecord>,
    settled: bool,
}

impl InMemoryDelivery {
    /// `true` if an acknowledgement of this delivery still counts.
    fn settle(&mut self, finished: bool) -> bool {
        self.settled = true;
        self.bus.change(|state| {
            let group = state.groups.get_mut(&*self.group);
            group.is_some_and(|group| group.settle(&self.origin, finished))
        })
    }
}

impl Delivery for InMemoryDelivery {
    fn message(&self) -> &BusMessage {
        &self.published.message
    }

    fn record(&self) -> BusRecord {
        self.published.record.clone().unwrap_or_else(|| BusRecord::from(self.message()))
    }

    fn offset(&self) -> TopicOffset {
        self.origin.place
    }

    fn published_at(&self) -> Option<Timestamp> {
        self.published.at
    }

    async fn acknowledge(mut self) -> Result<(), BusError> {
        if self.settle(true) {
            Ok(())
        } else {
            Err(BusError::new("the topic partition has changed hands"))
        }
    }
}

impl Drop for InMemoryDelivery {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(false);
        }
    }
}

impl fmt::Debug for InMemoryDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InMemoryDelivery")
            .field("group", &self.group)
            .field("place", &self.origin.place)
            .field("message", &self.published.message)
            .finish_non_exhaustive()
    }
}
