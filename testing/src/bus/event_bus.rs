//! The bus itself: shared data behind a lock, and the port on top of it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use composable_rust_core::__private::is_topic_name;
use composable_rust_core::{
    BusError, BusMessage, BusRecord, Clock, EventBus, GroupOffset, PublishError, PublisherName,
    TopicStatus,
};

use super::deliveries::{InMemoryDeliveries, InMemoryDelivery};
use super::group::Group;
use super::publisher::InMemoryPublisher;
use super::state::{Settings, State};

/// An event bus in memory, for tests of several services in one process: the reference
/// implementation of the [`EventBus`] contract, and inspectable.
///
/// Messages are kept for ever. Topics have four partitions, by a hash of the key. A group's
/// partitions are spread over its members; one that joins or leaves moves as few as possible, and
/// at once: what is then unfinished is delivered to the next owner while the last one still works
/// on it, and what the last one says of it no longer counts. Nothing waits and nothing is random.
/// Clones share the data.
///
/// # Example: looking at what was published
///
/// ```
/// use composable_rust_core::{BusMessage, EventBus};
/// use composable_rust_testing::InMemoryEventBus;
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let bus = InMemoryEventBus::new();
/// bus.publish(BusMessage {
///     topic: "order-events".to_owned(),
///     key: "order-1".to_owned(),
///     headers: vec![("ce_type".to_owned(), "order.placed".to_owned())],
///     payload: b"{}".to_vec(),
/// })
/// .await?;
///
/// let messages = bus.messages("order-events");
/// assert_eq!((messages.len(), messages[0].key.as_str()), (1, "order-1"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct InMemoryEventBus {
    state: Arc<Mutex<State>>,
}

/// How many partitions a topic has unless another number is chosen.
const PARTITIONS: u16 = 4;
/// How many deliveries of a topic partition may be unfinished unless another number is chosen.
const MAX_OUTSTANDING: usize = 1_000;

impl InMemoryEventBus {
    /// A bus without messages.
    pub fn new() -> Self {
        let settings = Settings {
            partitions: i32::from(PARTITIONS),
            max_outstanding: MAX_OUTSTANDING,
            max_payload_bytes: None,
            create_topics: true,
        };
        Self { state: Arc::new(Mutex::new(State::new(settings))) }
    }

    /// The same bus with `count` partitions for each topic that is made from now on.
    ///
    /// # Panics
    ///
    /// When `count` is 0.
    #[must_use]
    pub fn with_partitions(self, count: u16) -> Self {
        assert!(count > 0, "a topic has at least one partition");
        self.locked().settings.partitions = i32::from(count);
        self
    }

    /// The same bus with no more than `count` deliveries of a topic partition in somebody's hands,
    /// neither acknowledged nor dropped.
    ///
    /// # Panics
    ///
    /// When `count` is 0.
    #[must_use]
    pub fn with_max_outstanding(self, count: usize) -> Self {
        assert!(count > 0, "nothing could be delivered");
        self.locked().settings.max_outstanding = count;
        self
    }

    /// The same bus, refusing payloads of more than `bytes`.
    #[must_use]
    pub fn with_max_payload_bytes(self, bytes: usize) -> Self {
        self.locked().settings.max_payload_bytes = Some(bytes);
        self
    }

    /// The same bus, which says of what is published from now on when that was.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        self.locked().clock = Some(Arc::new(clock));
        self
    }

    /// The same bus, which creates a topic for its subscribers only: what is published to one that is
    /// missing is refused.
    #[must_use]
    pub fn without_creating_topics(self) -> Self {
        self.locked().settings.create_topics = false;
        self
    }

    /// Creates a topic, as an operator does.
    pub fn create_topic(&self, topic: &str) {
        self.change(|state| _ = state.topic(topic));
    }

    /// Refuses what is published to `topic` from now on, as a broker does that grants no right to.
    pub fn deny(&self, topic: &str) {
        self.change(|state| _ = state.denied.insert(topic.to_owned()));
    }

    /// Takes what is published to `topic` again.
    pub fn grant(&self, topic: &str) {
        self.change(|state| _ = state.denied.remove(topic));
    }

    /// Forgets a group, as a broker does when it was away for long. Its members must have left.
    pub fn forget(&self, group: &str) {
        self.change(|state| state.groups.remove(group));
    }

    /// Puts a group back to the beginning of its topics, as an operator may: everything is delivered
    /// again.
    pub fn rewind(&self, group: &str) {
        self.change(|state| state.groups.get_mut(group).map(Group::rewind));
    }

    /// Gives a topic more partitions, as an operator may: keys move.
    ///
    /// # Panics
    ///
    /// When the topic is not there.
    pub fn raise_partitions(&self, topic: &str, count: u16) {
        self.change(|state| {
            let of_topic = state.topics.get_mut(topic).expect("the topic is there");
            of_topic.raise(i32::from(count));
            for group in state.groups.values_mut() {
                group.raise(topic, usize::from(count));
            }
        });
    }

    /// Publishes what a client that is not this framework may: no key or a binary one, headers without
    /// values, tombstones.
    pub fn publish_record(&self, topic: &str, record: BusRecord) {
        let text = |bytes: &Option<Vec<u8>>| {
            String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned()
        };
        let message = BusMessage {
            topic: topic.to_owned(),
            key: text(&record.key),
            headers: record.headers.iter().map(|(name, v)| (name.clone(), text(v))).collect(),
            payload: record.payload.clone().unwrap_or_default(),
        };
        self.change(|state| state.append_record(message, Some(record)));
    }

    fn publish_one(&self, message: BusMessage, creates: bool) -> Result<(), PublishError> {
        self.change(|state| {
            admit(state, std::slice::from_ref(&message), creates)?;
            state.append(message);
            Ok(())
        })
    }

    pub(super) fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the data, and wakes whoever waits for deliveries.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.locked();
        let result = change(&mut state);
        let wakers = state.wakers();
        drop(state);
        wakers.into_iter().for_each(std::task::Waker::wake);
        result
    }
}

/// Checks that the bus takes these messages; those for missing topics only if it `creates` them.
pub(super) fn admit(
    state: &State,
    messages: &[BusMessage],
    creates: bool,
) -> Result<(), PublishError> {
    for BusMessage { topic, payload, .. } in messages {
        if !is_topic_name(topic) {
            return Err(PublishError::Invalid(format!("no topic is called `{topic}`")));
        }
        let bytes = payload.len();
        if let Some(limit) = state.settings.max_payload_bytes.filter(|limit| bytes > *limit) {
            return Err(PublishError::Invalid(format!(
                "a payload of {bytes} bytes for {topic}, where {limit} are the limit"
            )));
        }
        if state.denied.contains(topic) {
            return Err(PublishError::Rejected(format!("writing to the topic {topic} is denied")));
        }
        if !(creates && state.settings.create_topics || state.topics.contains_key(topic)) {
            return Err(PublishError::Rejected(format!("the topic {topic} is missing")));
        }
    }
    Ok(())
}

impl Default for InMemoryEventBus {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for InMemoryEventBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.locked();
        let topics = state.topics.iter().map(|(name, topic)| (name, topic.messages().len()));
        let groups = state.groups.iter().map(|(name, group)| (name, group.members()));
        f.debug_struct("InMemoryEventBus")
            .field("messages", &topics.collect::<Vec<_>>())
            .field("members", &groups.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl EventBus for InMemoryEventBus {
    type Delivery = InMemoryDelivery;
    type Deliveries = InMemoryDeliveries;
    type Publisher = InMemoryPublisher;

    async fn publish(&self, message: BusMessage) -> Result<(), PublishError> {
        self.publish_one(message, true)
    }

    async fn publish_to_existing(&self, message: BusMessage) -> Result<(), PublishError> {
        self.publish_one(message, false)
    }

    async fn subscribe(
        &self,
        group: &str,
        topics: &[String],
        known: &[GroupOffset],
    ) -> Result<InMemoryDeliveries, BusError> {
        let member = self.change(|state| {
            for topic in topics {
                state.topic(topic);
            }
            let wanted: BTreeSet<_> = topics.iter().cloned().collect();
            state.groups.entry(group.to_owned()).or_default().join(wanted, known, &state.topics)
        });
        Ok(InMemoryDeliveries::new(self.clone(), group, member))
    }

    fn topic_status(&self, group: &str) -> Vec<TopicStatus> {
        self.locked().groups.get(group).map(Group::status).unwrap_or_default()
    }

    fn partition_count(&self, _group: &str, topic: &str) -> Option<u16> {
        let partitions = self.locked().topics.get(topic)?.partitions();
        u16::try_from(partitions).ok()
    }

    async fn publisher(&self, name: &PublisherName) -> Result<InMemoryPublisher, BusError> {
        let epoch = self.locked().open(name);
        Ok(InMemoryPublisher::new(self.clone(), name.clone(), epoch))
    }

    fn max_payload_bytes(&self) -> Option<usize> {
        self.locked().settings.max_payload_bytes
    }
}
