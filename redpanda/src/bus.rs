//! Implements `EventBus`; the contract is documented on the trait.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use composable_rust_core::Timestamp;
use composable_rust_core::bus::{
    BusError, BusMessage, EventBus, GroupOffset, GroupPartition, GroupTopic, PublishError,
    PublisherName, TopicOffset, TopicStatus,
};

use crate::client::config;
use crate::client::settings::Settings;
use crate::context::BusContext;
use crate::error::join_error;
use crate::group::deliveries::{RedpandaDeliveries, RedpandaDelivery};
use crate::group::positions::GroupPositions;
use crate::group::reader;
use crate::group::subscription::Subscription;
use crate::producer::SingleProducer;
use crate::publisher::RedpandaPublisher;
use crate::record::check_size_and_headers;
use crate::topics::IfMissing;

/// An event bus over Redpanda, Apache Kafka, or another broker that speaks their protocol. Clones
/// share one producer.
///
/// # Example: publishing and consuming
///
/// ```no_run
/// use composable_rust_core::bus::{BusMessage, Delivery, EventBus};
/// use composable_rust_redpanda::RedpandaEventBus;
/// use futures_util::TryStreamExt as _;
///
/// # async fn f(message: BusMessage) -> Result<(), Box<dyn std::error::Error>> {
/// let bus = RedpandaEventBus::connect("localhost:9092").await?;
/// bus.publish(message).await?;
///
/// let mut deliveries = bus.subscribe("billing", &["order-events".to_owned()], &[]).await?;
/// while let Some(delivery) = deliveries.try_next().await? {
///     println!("{} at {:?}", delivery.message().key, delivery.offset());
///     delivery.acknowledge().await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedpandaEventBus {
    inner: Arc<Inner>,
}

/// The state that clones of the bus share.
struct Inner {
    context: Arc<BusContext>,
    producer: SingleProducer,
    /// The subscriptions of each group.
    subscriptions: Mutex<BTreeMap<String, Vec<Weak<Subscription>>>>,
}

impl Inner {
    /// Joins a group that reads topics whose names on the wire begin with `prefix`.
    fn read(
        &self,
        group: &str,
        prefix: &str,
        topics: &[String],
        known: &[GroupOffset],
    ) -> Result<RedpandaDeliveries, BusError> {
        let wire_name = |topic: &String| format!("{prefix}{topic}");
        let processed = known.iter().map(|known| {
            let GroupOffset { topic, at, published_at } = known;
            ((wire_name(topic), at.partition), (at.offset, *published_at))
        });
        let processed = processed.collect();
        let names = topics.iter().map(wire_name).collect();
        let settings = &self.context.settings;
        let group_on_wire = self.context.wire_name(group);
        let (deliveries, subscription) =
            reader::start(settings, &group_on_wire, prefix, names, processed)?;
        let mut subscriptions = self.subscriptions();
        subscriptions.retain(|_, of_group| {
            of_group.retain(|subscription| subscription.strong_count() > 0);
            !of_group.is_empty()
        });
        subscriptions.entry(group.to_owned()).or_default().push(Arc::downgrade(&subscription));
        Ok(deliveries)
    }

    /// Runs a function on the positions of a group, on a thread that may block.
    async fn on_positions<T: Send + 'static>(
        &self,
        of: &GroupTopic,
        run: impl FnOnce(GroupPositions) -> Result<T, BusError> + Send + 'static,
    ) -> Result<T, BusError> {
        let GroupTopic { group, topic, is_external } = of;
        let context = &self.context;
        let config = config::positions(&context.settings, &context.wire_name(group));
        let topic = if *is_external { topic.clone() } else { context.wire_name(topic) };
        let timeout = context.settings.connect_timeout;
        let work = move || run(GroupPositions::open(&config, topic, timeout)?);
        tokio::task::spawn_blocking(work).await.map_err(join_error)?
    }

    fn subscriptions(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Weak<Subscription>>>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn publish(
        &self,
        message: BusMessage,
        if_missing: IfMissing,
    ) -> Result<(), PublishError> {
        let BusContext { settings, topics, .. } = &*self.context;
        check_size_and_headers(settings.max_payload_bytes, [&message])?;
        let topic = self.context.wire_name(&message.topic);
        topics.ensure(settings, [&*topic], if_missing).await?;
        let published = self.producer.publish(&topic, &message, settings.publish_timeout).await;
        // The topic may have been deleted, so the next call checks that it exists.
        published.inspect_err(|_| topics.forget(&topic))
    }
}

impl RedpandaEventBus {
    pub(crate) fn new(settings: Settings, producer: SingleProducer) -> Self {
        let context = Arc::new(BusContext::new(settings));
        Self { inner: Arc::new(Inner { context, producer, subscriptions: Mutex::default() }) }
    }
}

impl fmt::Debug for RedpandaEventBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedpandaEventBus")
            .field("brokers", &self.inner.context.settings.brokers)
            .finish_non_exhaustive()
    }
}

impl EventBus for RedpandaEventBus {
    type Delivery = RedpandaDelivery;
    type Deliveries = RedpandaDeliveries;
    type Publisher = RedpandaPublisher;

    async fn publish(&self, message: BusMessage) -> Result<(), PublishError> {
        let if_missing = IfMissing::of(&self.inner.context.settings);
        self.inner.publish(message, if_missing).await
    }

    async fn publish_to_existing(&self, message: BusMessage) -> Result<(), PublishError> {
        self.inner.publish(message, IfMissing::Reject).await
    }

    async fn subscribe(
        &self,
        group: &str,
        topics: &[String],
        known: &[GroupOffset],
    ) -> Result<RedpandaDeliveries, BusError> {
        let context = &*self.inner.context;
        let settings = &context.settings;
        let names: Vec<_> = topics.iter().map(|topic| context.wire_name(topic)).collect();
        if let IfMissing::Create(partitions) = IfMissing::of(settings) {
            context.topics.create_if_possible(settings, &names, partitions).await?;
        }
        self.inner.read(group, &settings.topic_prefix, topics, known)
    }

    async fn subscribe_external(
        &self,
        group: &str,
        topics: &[String],
        known: &[GroupOffset],
    ) -> Result<RedpandaDeliveries, BusError> {
        self.inner.read(group, "", topics, known)
    }

    fn topic_status(&self, group: &str) -> Vec<TopicStatus> {
        let subscriptions = self.inner.subscriptions();
        let of_group = subscriptions.get(group).into_iter().flatten().filter_map(Weak::upgrade);
        of_group.flat_map(|subscription| subscription.status()).collect()
    }

    fn partition_count(&self, group: &str, topic: &str) -> Option<u16> {
        let subscriptions = self.inner.subscriptions();
        let of_group = subscriptions.get(group).into_iter().flatten().filter_map(Weak::upgrade);
        of_group.filter_map(|subscription| subscription.partition_count(topic)).max()
    }

    async fn group_partitions(
        &self,
        of: &GroupTopic,
        since: Option<Timestamp>,
    ) -> Result<Vec<GroupPartition>, BusError> {
        self.inner.on_positions(of, move |positions| positions.read(since)).await
    }

    async fn move_group(&self, of: &GroupTopic, to: &[TopicOffset]) -> Result<(), BusError> {
        let to = to.to_vec();
        self.inner.on_positions(of, move |positions| positions.commit(&to)).await
    }

    async fn publisher(&self, name: &PublisherName) -> Result<RedpandaPublisher, BusError> {
        RedpandaPublisher::open(Arc::clone(&self.inner.context), name.clone()).await
    }

    fn max_publishers(&self) -> Option<usize> {
        Some(self.inner.context.settings.max_publishers)
    }

    fn max_payload_bytes(&self) -> Option<usize> {
        Some(self.inner.context.settings.max_payload_bytes)
    }
}
