//! The bus: what its methods promise stands at the port.

use std::fmt;
use std::sync::Arc;

use composable_rust_core::{BusError, BusMessage, BusPosition, EventBus, PublisherName};

use crate::delivery::{RedpandaDeliveries, RedpandaDelivery};
use crate::error::{ConnectError, bus_error};
use crate::producer::SingleProducer;
use crate::record::admit;
use crate::topics::Topics;
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
}

impl Inner {
    /// A topic's name on the wire.
    pub(crate) fn wire_name(&self, topic: &str) -> String {
        format!("{}{topic}", self.settings.topic_prefix)
    }
}

impl RedpandaEventBus {
    /// Opens the bus of `brokers` (`host:port,host:port`) as [`RedpandaEventBus::builder`] does when
    /// nothing else is said.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] says what to do in each case; only `Unreachable` is worth another attempt.
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
        Self { inner: Arc::new(Inner { settings, topics: Topics::default(), producer }) }
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

    async fn publish(&self, message: BusMessage) -> Result<(), BusError> {
        let Inner { settings, topics, producer } = &*self.inner;
        admit(settings.max_payload_bytes, [&message])?;
        let topic = self.inner.wire_name(&message.topic);
        topics.ensure(settings, [&*topic], settings.partitions).await?;
        let published = producer.publish(&topic, &message, settings.publish_timeout).await;
        published.map_err(|error| {
            // Should the topic be gone, it is made anew.
            topics.forget(&topic);
            bus_error(error)
        })
    }

    async fn subscribe(
        &self,
        group: &str,
        topics: &[String],
        known: &[BusPosition],
    ) -> Result<RedpandaDeliveries, BusError> {
        let settings = &self.inner.settings;
        let topics: Vec<_> = topics.iter().map(|topic| self.inner.wire_name(topic)).collect();
        let names = topics.iter().map(String::as_str);
        self.inner.topics.ensure(settings, names, settings.partitions).await?;
        let known = known.iter().map(|known| {
            let BusPosition { topic, place, published_at } = known;
            ((self.inner.wire_name(topic), place.partition), (place.offset, *published_at))
        });
        reader::start(settings, group, topics, known.collect())
    }

    async fn publisher(&self, name: &PublisherName) -> Result<RedpandaPublisher, BusError> {
        RedpandaPublisher::open(Arc::clone(&self.inner), name.clone()).await
    }

    fn max_payload_bytes(&self) -> Option<usize> {
        Some(self.inner.settings.max_payload_bytes)
    }
}
