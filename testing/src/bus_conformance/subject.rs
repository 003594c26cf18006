//! The bus under test, with helpers for the cases.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::bus::{
    BusError, BusMessage, Delivery as _, EventBus as _, GroupOffset, Publisher as _, PublisherName,
    ResumePosition, SharedDelivery, SharedEventBus, SharedPublisher, TopicOffset,
};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::time::timeout;
use uuid::Uuid;

use super::BusBackend;
use super::backend::DynBackend;

/// The longest wait for a delivery.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(30);

/// The bus under test.
pub struct BusUnderTest {
    backend: Arc<dyn DynBackend>,
    pub(super) bus: SharedEventBus,
    /// The suffix of all names of this case, which makes them unique.
    id: Uuid,
}

impl fmt::Debug for BusUnderTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusUnderTest").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A member of a group. Every delivery to it must be asserted.
pub(super) struct Member {
    deliveries: BoxStream<'static, Result<SharedDelivery, BusError>>,
    silence: Duration,
}

impl BusUnderTest {
    pub(super) async fn new(backend: impl BusBackend) -> Self {
        let backend: Arc<dyn DynBackend> = Arc::new(backend);
        Self { bus: backend.open().await, backend, id: Uuid::new_v4() }
    }

    /// Opens the same broker as another process does.
    pub(super) async fn another_process(&self) -> Self {
        let backend = Arc::clone(&self.backend);
        Self { bus: backend.open().await, backend, id: self.id }
    }

    pub(super) fn max_outstanding(&self) -> usize {
        self.backend.max_outstanding()
    }

    /// The full name of a topic.
    pub(super) fn topic(&self, name: &str) -> String {
        format!("{name}-{}", self.id.simple())
    }

    pub(super) fn message(&self, key: &str, text: &str) -> BusMessage {
        BusMessage {
            topic: self.topic("things"),
            key: key.to_owned(),
            headers: vec![("about".to_owned(), text.to_owned())],
            payload: text.as_bytes().to_vec(),
        }
    }

    /// `count` messages of one key, numbered from `from`.
    pub(super) fn numbered(&self, key: &str, from: usize, count: usize) -> Vec<BusMessage> {
        (from..from + count).map(|n| self.message(key, &n.to_string())).collect()
    }

    /// One message of each key.
    pub(super) fn of_each(&self, keys: &[String], text: &str) -> Vec<BusMessage> {
        keys.iter().map(|key| self.message(key, text)).collect()
    }

    pub(super) async fn publish(&self, messages: Vec<BusMessage>) {
        for message in messages {
            self.bus.publish(message).await.expect("the message is published");
        }
    }

    /// The full name of a group.
    pub(super) fn group(&self, name: &str) -> String {
        format!("{name}-{}", self.id.simple())
    }

    /// Joins a group that reads the default topic of the case.
    pub(super) async fn join(&self, group: &str) -> Member {
        self.join_for(group, &[self.topic("things")]).await
    }

    pub(super) async fn join_for(&self, group: &str, topics: &[String]) -> Member {
        self.join_behind(group, topics, &[]).await
    }

    /// Joins a group whose offsets are known from elsewhere.
    pub(super) async fn join_behind(
        &self,
        group: &str,
        topics: &[String],
        known: &[GroupOffset],
    ) -> Member {
        let deliveries = self.bus.subscribe(&self.group(group), topics, known).await;
        let deliveries = deliveries.expect("a group is joined");
        Member { deliveries: deliveries.boxed(), silence: self.backend.silence() }
    }

    pub(super) fn publisher_name(&self, partition: u16) -> PublisherName {
        PublisherName {
            log: self.id,
            purpose: "relay/order-events/order".to_owned(),
            partition,
            partitions: 3,
        }
    }

    pub(super) async fn publisher(&self) -> SharedPublisher {
        self.publisher_of(0).await
    }

    pub(super) async fn publisher_of(&self, partition: u16) -> SharedPublisher {
        let name = self.publisher_name(partition);
        self.bus.publisher(&name).await.expect("a publisher is opened")
    }

    /// All messages of the default topic, read by a group of their own. Publishes an end marker for
    /// each key, and returns the messages published before it.
    pub(super) async fn all(&self, keys: &[&str]) -> Vec<BusMessage> {
        let mut reader = self.join("all").await;
        for key in keys {
            self.publish(vec![self.message(key, "the end")]).await;
        }
        let mut seen = Vec::new();
        let mut ends = 0;
        while ends < keys.len() {
            let delivery = reader.next().await;
            if delivery.message().payload == b"the end" {
                ends += 1;
            } else {
                seen.push(delivery.message().clone());
            }
        }
        seen
    }
}

impl Member {
    /// Returns the next delivery, ignoring errors that are followed by one.
    pub(super) async fn next(&mut self) -> SharedDelivery {
        let mut last = None;
        let next = async {
            loop {
                match self.deliveries.next().await {
                    Some(Ok(delivery)) => return delivery,
                    Some(Err(error)) => last = Some(error),
                    None => panic!("the deliveries ended"),
                }
            }
        };
        match timeout(RECEIVE_TIMEOUT, next).await.ok() {
            Some(delivery) => delivery,
            None => panic!("no delivery came within {RECEIVE_TIMEOUT:?} (last error: {last:?})"),
        }
    }

    pub(super) async fn take(&mut self, count: usize) -> Vec<SharedDelivery> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            taken.push(self.next().await);
        }
        taken
    }

    /// Returns the deliveries until none follows.
    pub(super) async fn take_until_silence(&mut self) -> Vec<SharedDelivery> {
        let mut taken = vec![self.next().await];
        while let Ok(next) = timeout(self.silence, self.deliveries.next()).await {
            taken.push(next.expect("the deliveries do not end").expect("a delivery is no error"));
        }
        taken
    }

    /// Asserts that nothing is delivered.
    pub(super) async fn silence(&mut self) {
        if let Ok(next) = timeout(self.silence, self.deliveries.next()).await {
            panic!("nothing should be delivered, but {next:?} was");
        }
    }
}

/// Acknowledges all deliveries, which must still be held by their member.
pub(super) async fn acknowledge(deliveries: Vec<SharedDelivery>) {
    for delivery in deliveries {
        delivery.acknowledge().await.expect("the acknowledgement should succeed");
    }
}

/// The payloads as text.
pub(super) fn texts(deliveries: &[SharedDelivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| text(delivery.message())).collect()
}

pub(super) fn text(message: &BusMessage) -> String {
    String::from_utf8_lossy(&message.payload).into_owned()
}

/// The texts from `from` to `to`, exclusive.
pub(super) fn numbers(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| n.to_string()).collect()
}

pub(super) fn places(deliveries: &[SharedDelivery]) -> Vec<TopicOffset> {
    deliveries.iter().map(SharedDelivery::offset).collect()
}

/// The texts of each key, in the order in which they came.
pub(super) fn by_key<'a>(
    messages: impl IntoIterator<Item = &'a BusMessage>,
) -> BTreeMap<String, Vec<String>> {
    let mut keys = BTreeMap::<_, Vec<_>>::new();
    for message in messages {
        keys.entry(message.key.clone()).or_default().push(text(message));
    }
    keys
}

pub(super) async fn batch(
    publisher: &mut SharedPublisher,
    messages: Vec<BusMessage>,
    position: Option<ResumePosition>,
) {
    publisher.publish_batch(messages, position).await.expect("the batch is published");
}
