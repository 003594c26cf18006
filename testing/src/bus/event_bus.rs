//! The bus itself: shared data behind a lock, and the port on top of it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use composable_rust_core::Timestamp;
use composable_rust_core::bus::is_topic_name;
use composable_rust_core::bus::{
    BusError, BusMessage, BusRecord, EventBus, GroupOffset, GroupPartition, GroupTopic,
    PublishError, PublisherName, TopicOffset, TopicStatus,
};
use composable_rust_core::environment::Clock;

use super::deliveries::{InMemoryDeliveries, InMemoryDelivery};
use super::publisher::InMemoryPublisher;
use super::state::{Settings, State, Topic};

/// An event bus in memory, for tests of several services in one process: the reference
/// implementation of the [`EventBus`] contract, and inspectable.
///
/// Messages are kept until [`remove_messages`](InMemoryEventBus::remove_messages). A message's
/// partition is a hash of its key. Default: 4 partitions per topic. The members of a group share
/// its partitions. A member that joins or leaves moves as few partitions as possible, at once:
/// unfinished messages are redelivered to the new owner while the previous owner may still handle
/// them, and the previous owner's acknowledgements no longer count.
///
/// No method waits and none is random. Clones share the data.
///
/// # Example: looking at what was published
///
/// ```
/// use composable_rust_core::bus::{BusMessage, EventBus};
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

/// Default number of partitions of a topic.
const PARTITIONS: u16 = 4;
/// Default number of unfinished deliveries of a topic partition.
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

    /// Sets the number of partitions of topics created from now on. Default: 4.
    ///
    /// # Panics
    ///
    /// Panics if `count` is 0.
    #[must_use]
    pub fn with_partitions(self, count: u16) -> Self {
        assert!(count > 0, "a topic has at least one partition");
        self.locked().settings.partitions = i32::from(count);
        self
    }

    /// Limits the deliveries of a topic partition that are neither acknowledged nor dropped.
    /// Default: 1,000.
    ///
    /// # Panics
    ///
    /// Panics if `count` is 0.
    #[must_use]
    pub fn with_max_outstanding(self, count: usize) -> Self {
        assert!(count > 0, "nothing could be delivered");
        self.locked().settings.max_outstanding = count;
        self
    }

    /// Rejects payloads of more than `bytes`.
    #[must_use]
    pub fn with_max_payload_bytes(self, bytes: usize) -> Self {
        self.locked().settings.max_payload_bytes = Some(bytes);
        self
    }

    /// Records, with `clock`, the publication time of messages published from now on.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        self.locked().clock = Some(Arc::new(clock));
        self
    }

    /// Creates topics only for their subscribers: publishing to a missing topic is rejected.
    #[must_use]
    pub fn without_creating_topics(self) -> Self {
        self.locked().settings.create_topics = false;
        self
    }

    /// Creates a topic, as an operator does.
    pub fn create_topic(&self, topic: &str) {
        self.change(|state| _ = state.topic(topic));
    }

    /// Rejects messages to `topic` from now on, as a broker that denies the permission does.
    pub fn deny(&self, topic: &str) {
        self.change(|state| _ = state.denied.insert(topic.to_owned()));
    }

    /// Accepts messages to `topic` again.
    pub fn grant(&self, topic: &str) {
        self.change(|state| _ = state.denied.remove(topic));
    }

    /// Deletes the offsets of a group, as a broker does once they expire. Its members must have
    /// left.
    pub fn forget(&self, group: &str) {
        self.change(|state| state.groups.remove(group));
    }

    /// Resets a group to the beginning of its topics, as an operator may: everything is
    /// redelivered.
    pub fn rewind(&self, group: &str) {
        self.change(|state| state.groups.get_mut(group).map(|group| group.rewind(&state.topics)));
    }

    /// Removes all messages of a topic, as a broker does once they are too old.
    ///
    /// A group that has not read them has lost its position, and reads nothing until it is moved:
    /// [`TopicState::LostPosition`](composable_rust_core::bus::TopicState::LostPosition).
    pub fn remove_messages(&self, topic: &str) {
        self.change(|state| state.topics.get_mut(topic).map(Topic::remove_all));
    }

    /// Adds partitions to a topic, as an operator may: keys move.
    ///
    /// # Panics
    ///
    /// Panics if the topic is not there.
    pub fn raise_partitions(&self, topic: &str, count: u16) {
        self.change(|state| {
            let of_topic = state.topics.get_mut(topic).expect("the topic should exist");
            of_topic.raise(i32::from(count));
            for group in state.groups.values_mut() {
                group.raise(topic, usize::from(count));
            }
        });
    }

    /// Publishes a record as another client may: without a key or with a binary one, with headers
    /// without values, or as a tombstone.
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

    /// Changes the data, and wakes the members that wait for deliveries.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.locked();
        let result = change(&mut state);
        let wakers = state.wakers();
        drop(state);
        wakers.into_iter().for_each(std::task::Waker::wake);
        result
    }
}

/// Checks that the bus accepts these messages; those to missing topics only if it `creates` them.
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
        let topics = state.topics.iter().map(|(name, topic)| (name, topic.messages().count()));
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
        let state = self.locked();
        state.groups.get(group).map(|group| group.status(&state.topics)).unwrap_or_default()
    }

    fn partition_count(&self, _group: &str, topic: &str) -> Option<u16> {
        let partitions = self.locked().topics.get(topic)?.partitions();
        u16::try_from(partitions).ok()
    }

    async fn group_partitions(
        &self,
        of: &GroupTopic,
        since: Option<Timestamp>,
    ) -> Result<Vec<GroupPartition>, BusError> {
        let state = self.locked();
        let Some(topic) = state.topics.get(&of.topic) else { return Ok(Vec::new()) };
        let group = state.groups.get(&of.group);
        let of_partition = |partition| GroupPartition {
            partition,
            next: group.and_then(|group| group.next_offset(&of.topic, partition)),
            first: topic.first(partition),
            end: topic.end(partition),
            since: since.map(|time| topic.first_since(partition, time)),
        };
        Ok((0..topic.partitions()).map(of_partition).collect())
    }

    async fn move_group(&self, of: &GroupTopic, to: &[TopicOffset]) -> Result<(), BusError> {
        self.change(|state| {
            state.topic(&of.topic);
            let group = state.groups.entry(of.group.clone()).or_default();
            if group.members() > 0 {
                return Err(BusError::new(format!("the group `{}` has members", of.group)));
            }
            if let Some(topic) = state.topics.get(&of.topic) {
                group.move_to(&of.topic, topic, to);
            }
            Ok(())
        })
    }

    async fn publisher(&self, name: &PublisherName) -> Result<InMemoryPublisher, BusError> {
        let epoch = self.locked().open(name);
        Ok(InMemoryPublisher::new(self.clone(), name.clone(), epoch))
    }

    fn max_payload_bytes(&self) -> Option<usize> {
        self.locked().settings.max_payload_bytes
    }
}
