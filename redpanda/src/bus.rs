//! The bus: what its methods promise stands at the port.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use composable_rust_core::{
    BusError, BusMessage, EventBus, GroupOffset, PublishError, PublisherName, TopicStatus,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::delivery::{RedpandaDeliveries, RedpandaDelivery};
use crate::error::ConnectError;
use crate::producer::SingleProducer;
use crate::record::admit;
use crate::shared::Shared;
use crate::topics::{IfMissing, Topics};
use crate::{RedpandaEventBusBuilder, RedpandaPublisher, reader};

/// An event bus over Redpanda, Apache Kafka, or another broker that speaks their protocol. Clones
/// share one producer.
///
/// # Example: publishing and consuming
///
/// ```no_run
/// use composable_rust_core::{BusMessage, Delivery, EventBus};
/// use composable_rust_redpanda::RedpandaEventBus;
/// use futures_util::TryStreamExt as _;
///
/// # async fn f(message: BusMessage) -> Result<(), Box<dyn std::error::Error>> {
/// let bus = RedpandaEventBus::connect("localhost:9092").await?;
/// bus.publish(message).await?;
///
/// let mut deliveries = bus.subscribe("billing", &["order-events".to_owned()], &[]).await?;
/// while let Some(delivery) = deliveries.try_next().await? {
///     println!("{} at {:?}", delivery.message().key, delivery.place());
///     delivery.acknowledge().await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedpandaEventBus {
    inner: Arc<Inner>,
}

/// What the bus, its publishers and its subscriptions share.
pub(crate) struct Inner {
    pub(crate) settings: RedpandaEventBusBuilder,
    pub(crate) topics: Topics,
    producer: SingleProducer,
    /// The publishers that may still be opened.
    publishers: Arc<Semaphore>,
    /// The subscriptions of each group.
    subscriptions: Mutex<BTreeMap<String, Vec<Weak<Shared>>>>,
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
        let known = known.iter().map(|known| {
            let GroupOffset { topic, at: place, published_at } = known;
            ((wire_name(topic), place.partition), (place.offset, *published_at))
        });
        let names = topics.iter().map(wire_name).collect();
        let settings = &self.settings;
        let on_wire = self.wire_name(group);
        let known = known.collect();
        let (deliveries, shared) = reader::start(settings, &on_wire, prefix, names, known)?;
        let mut subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        subscriptions.retain(|_, of_group| {
            of_group.retain(|shared| shared.strong_count() > 0);
            !of_group.is_empty()
        });
        subscriptions.entry(group.to_owned()).or_default().push(Arc::downgrade(&shared));
        Ok(deliveries)
    }

    /// Waits until a publisher may be opened.
    pub(crate) async fn publisher_slot(&self) -> Result<OwnedSemaphorePermit, BusError> {
        let limit = self.settings.connect_timeout;
        let slot = tokio::time::timeout(limit, Arc::clone(&self.publishers).acquire_owned());
        let slot = slot.await.map_err(|_| {
            let most = self.settings.max_publishers;
            BusError::new(format!("{most} publishers are open, and no more may be: close one"))
        })?;
        slot.map_err(BusError::new)
    }

    /// The name of a topic or a group on the wire.
    pub(crate) fn wire_name(&self, name: &str) -> String {
        format!("{}{name}", self.settings.topic_prefix)
    }
}

impl RedpandaEventBus {
    /// Opens the bus of `brokers` (`host:port,host:port`) as [`RedpandaEventBus::builder`] does when
    /// nothing else is said.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Setting`]: a setting is wrong, or contradicts another. Correct it.
    ///
    /// # Cancel safety
    ///
    /// Nothing remains.
    pub async fn connect(brokers: &str) -> Result<Self, ConnectError> {
        Self::builder(brokers).connect().await
    }

    /// Sets how the bus of `brokers` (`host:port,host:port`) is opened.
    pub fn builder(brokers: &str) -> RedpandaEventBusBuilder {
        RedpandaEventBusBuilder::new(brokers)
    }

    pub(crate) fn new(settings: RedpandaEventBusBuilder, producer: SingleProducer) -> Self {
        let max_publishers = settings.max_publishers;
        Self {
            inner: Arc::new(Inner {
                settings,
                topics: Topics::default(),
                producer,
                publishers: Arc::new(Semaphore::new(max_publishers)),
                subscriptions: Mutex::default(),
            }),
        }
    }

    async fn publish_one(
        &self,
        message: BusMessage,
        if_missing: IfMissing,
    ) -> Result<(), PublishError> {
        let Inner { settings, topics, producer, .. } = &*self.inner;
        admit(settings.max_payload_bytes, [&message])?;
        let topic = self.inner.wire_name(&message.topic);
        topics.ensure(settings, [&*topic], if_missing).await?;
        let published = producer.publish(&topic, &message, settings.publish_timeout).await;
        // Should the topic be gone, it is looked for anew.
        published.inspect_err(|_| topics.forget(&topic))
    }
}

impl fmt::Debug for RedpandaEventBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedpandaEventBus")
            .field("brokers", &self.inner.settings.brokers)
            .finish_non_exhaustive()
    }
}

impl EventBus for RedpandaEventBus {
    type Delivery = RedpandaDelivery;
    type Deliveries = RedpandaDeliveries;
    type Publisher = RedpandaPublisher;

    async fn publish(&self, message: BusMessage) -> Result<(), PublishError> {
        let if_missing = self.inner.settings.if_missing();
        self.publish_one(message, if_missing).await
    }

    async fn publish_to_existing(&self, message: BusMessage) -> Result<(), PublishError> {
        self.publish_one(message, IfMissing::Refuse).await
    }

    async fn subscribe(
        &self,
        group: &str,
        topics: &[String],
        known: &[GroupOffset],
    ) -> Result<RedpandaDeliveries, BusError> {
        let Inner { settings, topics: created, .. } = &*self.inner;
        let names: Vec<_> = topics.iter().map(|topic| self.inner.wire_name(topic)).collect();
        if let IfMissing::Create(partitions) = settings.if_missing() {
            created.create_if_possible(settings, &names, partitions).await?;
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
        let subscriptions = self.inner.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        let of_group = subscriptions.get(group).into_iter().flatten().filter_map(Weak::upgrade);
        of_group.flat_map(|shared| shared.status()).collect()
    }

    fn partition_count(&self, group: &str, topic: &str) -> Option<u16> {
        let subscriptions = self.inner.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        let of_group = subscriptions.get(group).into_iter().flatten().filter_map(Weak::upgrade);
        of_group.filter_map(|shared| shared.count(topic)).max()
    }

    async fn publisher(&self, name: &PublisherName) -> Result<RedpandaPublisher, BusError> {
        RedpandaPublisher::open(Arc::clone(&self.inner), name.clone()).await
    }

    fn max_publishers(&self) -> Option<usize> {
        Some(self.inner.settings.max_publishers)
    }

    fn max_payload_bytes(&self) -> Option<usize> {
        Some(self.inner.settings.max_payload_bytes)
    }
}
