//! A bus whose type is erased.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, Stream, StreamExt as _};

use crate::Timestamp;
use crate::bus::{
    BusError, BusMessage, BusRecord, Delivery, EventBus, GroupOffset, GroupPartition, GroupTopic,
    PublishError, Publisher, PublisherName, ResumePosition, TopicOffset, TopicStatus,
};

/// An [`EventBus`] whose type is erased: what an app holds. Cheap to clone.
#[derive(Clone)]
pub struct SharedEventBus(Arc<dyn DynEventBus>);

/// A delivery of a [`SharedEventBus`].
pub struct SharedDelivery(Box<dyn DynDelivery>);

/// A publisher of a [`SharedEventBus`].
pub struct SharedPublisher(Box<dyn DynPublisher>);

impl SharedEventBus {
    /// Erases the type of `bus`.
    pub fn new(bus: impl EventBus) -> Self {
        Self(Arc::new(bus))
    }
}

type Deliveries = BoxStream<'static, Result<SharedDelivery, BusError>>;

trait DynEventBus: Send + Sync {
    fn publish(&self, message: BusMessage) -> BoxFuture<'_, Result<(), PublishError>>;
    fn publish_to_existing(&self, message: BusMessage) -> BoxFuture<'_, Result<(), PublishError>>;
    fn subscribe<'a>(
        &'a self,
        group: &'a str,
        topics: &'a [String],
        known: &'a [GroupOffset],
    ) -> BoxFuture<'a, Result<Deliveries, BusError>>;
    fn subscribe_foreign<'a>(
        &'a self,
        group: &'a str,
        topics: &'a [String],
        known: &'a [GroupOffset],
    ) -> BoxFuture<'a, Result<Deliveries, BusError>>;
    fn topic_status(&self, group: &str) -> Vec<TopicStatus>;
    fn partition_count(&self, group: &str, topic: &str) -> Option<u16>;
    fn group_partitions<'a>(
        &'a self,
        of: &'a GroupTopic,
        since: Option<Timestamp>,
    ) -> BoxFuture<'a, Result<Vec<GroupPartition>, BusError>>;
    fn move_group<'a>(
        &'a self,
        of: &'a GroupTopic,
        to: &'a [TopicOffset],
    ) -> BoxFuture<'a, Result<(), BusError>>;
    fn publisher<'a>(
        &'a self,
        name: &'a PublisherName,
    ) -> BoxFuture<'a, Result<SharedPublisher, BusError>>;
    fn max_publishers(&self) -> Option<usize>;
    fn max_payload_bytes(&self) -> Option<usize>;
}

trait DynDelivery: Send + Sync {
    fn message(&self) -> &BusMessage;
    fn record(&self) -> BusRecord;
    fn place(&self) -> TopicOffset;
    fn published_at(&self) -> Option<Timestamp>;
    fn acknowledge(self: Box<Self>) -> BoxFuture<'static, Result<(), BusError>>;
}

trait DynPublisher: Send + Sync {
    fn resume_position(&mut self) -> BoxFuture<'_, Result<Option<ResumePosition>, PublishError>>;
    fn publish_batch(
        &mut self,
        messages: Vec<BusMessage>,
        position: Option<ResumePosition>,
    ) -> BoxFuture<'_, Result<(), PublishError>>;
}

fn erased<D: Delivery>(
    deliveries: impl Stream<Item = Result<D, BusError>> + Send + 'static,
) -> Deliveries {
    deliveries.map(|delivery| Ok(SharedDelivery(Box::new(delivery?)))).boxed()
}

impl<B: EventBus> DynEventBus for B {
    fn publish(&self, message: BusMessage) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(EventBus::publish(self, message))
    }

    fn publish_to_existing(&self, message: BusMessage) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(EventBus::publish_to_existing(self, message))
    }

    fn subscribe<'a>(
        &'a self,
        group: &'a str,
        topics: &'a [String],
        known: &'a [GroupOffset],
    ) -> BoxFuture<'a, Result<Deliveries, BusError>> {
        Box::pin(async move { Ok(erased(EventBus::subscribe(self, group, topics, known).await?)) })
    }

    fn subscribe_foreign<'a>(
        &'a self,
        group: &'a str,
        topics: &'a [String],
        known: &'a [GroupOffset],
    ) -> BoxFuture<'a, Result<Deliveries, BusError>> {
        Box::pin(async move {
            Ok(erased(EventBus::subscribe_external(self, group, topics, known).await?))
        })
    }

    fn topic_status(&self, group: &str) -> Vec<TopicStatus> {
        EventBus::topic_status(self, group)
    }

    fn partition_count(&self, group: &str, topic: &str) -> Option<u16> {
        EventBus::partition_count(self, group, topic)
    }

    fn group_partitions<'a>(
        &'a self,
        of: &'a GroupTopic,
        since: Option<Timestamp>,
    ) -> BoxFuture<'a, Result<Vec<GroupPartition>, BusError>> {
        Box::pin(EventBus::group_partitions(self, of, since))
    }

    fn move_group<'a>(
        &'a self,
        of: &'a GroupTopic,
        to: &'a [TopicOffset],
    ) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(EventBus::move_group(self, of, to))
    }

    fn publisher<'a>(
        &'a self,
        name: &'a PublisherName,
    ) -> BoxFuture<'a, Result<SharedPublisher, BusError>> {
        Box::pin(
            async move { Ok(SharedPublisher(Box::new(EventBus::publisher(self, name).await?))) },
        )
    }

    fn max_publishers(&self) -> Option<usize> {
        EventBus::max_publishers(self)
    }

    fn max_payload_bytes(&self) -> Option<usize> {
        EventBus::max_payload_bytes(self)
    }
}

impl<D: Delivery> DynDelivery for D {
    fn message(&self) -> &BusMessage {
        Delivery::message(self)
    }

    fn record(&self) -> BusRecord {
        Delivery::record(self)
    }

    fn place(&self) -> TopicOffset {
        Delivery::offset(self)
    }

    fn published_at(&self) -> Option<Timestamp> {
        Delivery::published_at(self)
    }

    fn acknowledge(self: Box<Self>) -> BoxFuture<'static, Result<(), BusError>> {
        Box::pin(Delivery::acknowledge(*self))
    }
}

impl<P: Publisher> DynPublisher for P {
    fn resume_position(&mut self) -> BoxFuture<'_, Result<Option<ResumePosition>, PublishError>> {
        Box::pin(Publisher::resume_position(self))
    }

    fn publish_batch(
        &mut self,
        messages: Vec<BusMessage>,
        position: Option<ResumePosition>,
    ) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(Publisher::publish_batch(self, messages, position))
    }
}

impl EventBus for SharedEventBus {
    type Delivery = SharedDelivery;
    type Deliveries = Deliveries;
    type Publisher = SharedPublisher;

    async fn publish(&self, message: BusMessage) -> Result<(), PublishError> {
        self.0.publish(message).await
    }

    async fn publish_to_existing(&self, message: BusMessage) -> Result<(), PublishError> {
        self.0.publish_to_existing(message).await
    }

    async fn subscribe(
        &self,
        group: &str,
        topics: &[String],
        known: &[GroupOffset],
    ) -> Result<Deliveries, BusError> {
        self.0.subscribe(group, topics, known).await
    }

    async fn subscribe_external(
        &self,
        group: &str,
        topics: &[String],
        known: &[GroupOffset],
    ) -> Result<Deliveries, BusError> {
        self.0.subscribe_foreign(group, topics, known).await
    }

    fn topic_status(&self, group: &str) -> Vec<TopicStatus> {
        self.0.topic_status(group)
    }

    fn partition_count(&self, group: &str, topic: &str) -> Option<u16> {
        self.0.partition_count(group, topic)
    }

    async fn group_partitions(
        &self,
        of: &GroupTopic,
        since: Option<Timestamp>,
    ) -> Result<Vec<GroupPartition>, BusError> {
        self.0.group_partitions(of, since).await
    }

    async fn move_group(&self, of: &GroupTopic, to: &[TopicOffset]) -> Result<(), BusError> {
        self.0.move_group(of, to).await
    }

    async fn publisher(&self, name: &PublisherName) -> Result<SharedPublisher, BusError> {
        self.0.publisher(name).await
    }

    fn max_publishers(&self) -> Option<usize> {
        self.0.max_publishers()
    }

    fn max_payload_bytes(&self) -> Option<usize> {
        self.0.max_payload_bytes()
    }
}

impl Delivery for SharedDelivery {
    fn message(&self) -> &BusMessage {
        self.0.message()
    }

    fn record(&self) -> BusRecord {
        self.0.record()
    }

    fn offset(&self) -> TopicOffset {
        self.0.place()
    }

    fn published_at(&self) -> Option<Timestamp> {
        self.0.published_at()
    }

    async fn acknowledge(self) -> Result<(), BusError> {
        self.0.acknowledge().await
    }
}

impl Publisher for SharedPublisher {
    async fn resume_position(&mut self) -> Result<Option<ResumePosition>, PublishError> {
        self.0.resume_position().await
    }

    async fn publish_batch(
        &mut self,
        messages: Vec<BusMessage>,
        position: Option<ResumePosition>,
    ) -> Result<(), PublishError> {
        self.0.publish_batch(messages, position).await
    }
}

impl fmt::Debug for SharedEventBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedEventBus").finish_non_exhaustive()
    }
}

impl fmt::Debug for SharedDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedDelivery").field(self.0.message()).finish()
    }
}

impl fmt::Debug for SharedPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedPublisher").finish_non_exhaustive()
    }
}
