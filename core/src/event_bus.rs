//! The port to other services.

use std::error::Error;
use std::future::Future;

use futures_util::stream::Stream;

/// A message on the bus: bytes under a key in a topic, with headers that any client can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusMessage {
    /// Where it goes: one topic per aggregate type, such as `order-events`.
    pub topic: String,
    /// What keeps it in order: the stream.
    pub key: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The content.
    pub payload: Vec<u8>,
}

/// A message as it is delivered, until it is acknowledged.
pub trait Delivery: Send {
    /// The message.
    fn message(&self) -> &BusMessage;

    /// Says that the message is handled; what is not acknowledged is delivered again.
    fn acknowledge(self) -> impl Future<Output = Result<(), BusError>> + Send;
}

/// A bus: what is published reaches every group that subscribes, at least once, each key in order.
pub trait EventBus: Send + Sync + 'static {
    /// A delivered message.
    type Delivery: Delivery;
    /// Deliveries as they come.
    type Deliveries: Stream<Item = Result<Self::Delivery, BusError>> + Send;

    /// Publishes `message`; when it returns, the message survives.
    ///
    /// # Errors
    ///
    /// [`BusError`]: the message may have been published. Publish it again; consumers see
    /// duplicates.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may still publish.
    fn publish(&self, message: BusMessage) -> impl Future<Output = Result<(), BusError>> + Send;

    /// The messages of `topics`, shared among the subscribers of `group`.
    ///
    /// # Errors
    ///
    /// [`BusError`]: nothing was subscribed.
    fn subscribe(
        &self,
        group: &str,
        topics: &[String],
    ) -> impl Future<Output = Result<Self::Deliveries, BusError>> + Send;
}

/// The bus could not be reached, or refuses.
#[derive(Debug, thiserror::Error)]
#[error("the bus is unavailable")]
pub struct BusError(#[source] Box<dyn Error + Send + Sync>);

impl BusError {
    /// With its cause.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(source.into())
    }
}
