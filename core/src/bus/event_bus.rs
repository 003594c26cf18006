//! The port to other services.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;

use futures_util::stream::Stream;
use uuid::Uuid;

use crate::event::ERASED;
use crate::{EventId, Timestamp};

/// A message on the bus: bytes under a key in a topic, with headers that any client can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusMessage {
    /// The destination: one topic per aggregate type, such as `order-events`.
    pub topic: String,
    /// The ordering key: the stream.
    pub key: String,
    /// The headers, as names and values.
    pub headers: Vec<(String, String)>,
    /// The encoded content.
    pub payload: Vec<u8>,
}

impl BusMessage {
    /// Returns the value of the first header named `name`.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Returns `true` if the message says that a stream was erased.
    ///
    /// The bus stores a tombstone as a record without a payload, so that a compacted topic deletes
    /// the earlier messages of the key.
    pub fn is_tombstone(&self) -> bool {
        self.payload.is_empty() && self.header("ce_type") == Some(ERASED)
    }
}

/// A message as its topic holds it.
///
/// Any client may have written the message, so parts of it may be missing or not be text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusRecord {
    /// The key; `None` if the message has none.
    pub key: Option<Vec<u8>>,
    /// The headers, as names and values; `None` stands for a header without a value.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The encoded content; `None` in a tombstone.
    pub payload: Option<Vec<u8>>,
}

impl From<&BusMessage> for BusRecord {
    fn from(message: &BusMessage) -> Self {
        let headers = message.headers.iter();
        Self {
            key: Some(message.key.clone().into_bytes()),
            headers: headers.map(|(n, v)| (n.clone(), Some(v.clone().into_bytes()))).collect(),
            payload: (!message.is_tombstone()).then(|| message.payload.clone()),
        }
    }
}

/// The position of a delivered message within its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicOffset {
    /// The partition of the topic.
    pub partition: i32,
    /// The offset within the partition; it rises with every message.
    pub offset: i64,
}

/// The position of a group in one partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupOffset {
    /// The topic.
    pub topic: String,
    /// The offset of the last handled message; all messages before it are handled too.
    pub at: TopicOffset,
    /// The publication time of that message, if it is known. If the message at that offset has
    /// another time, the topic was recreated, and none of its messages is handled.
    pub published_at: Option<Timestamp>,
}

/// A topic that a group reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupTopic {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// `true` if the topic belongs to others: see
    /// [`subscribe_external`](EventBus::subscribe_external).
    pub is_external: bool,
}

/// The position of a group in one partition of a topic, and what the partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupPartition {
    /// The partition.
    pub partition: i32,
    /// The offset of the group's next message; `None` if the bus has no position of the group.
    pub next: Option<i64>,
    /// The offset of the oldest message that the bus still has.
    pub first: i64,
    /// The offset after the newest message.
    pub end: i64,
    /// The offset of the first message that was published at the requested time or later: `end` if
    /// there is none, `None` if no time was requested.
    pub since: Option<i64>,
}

/// The state of a topic or of one of its partitions, for a group's subscribers in this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicStatus {
    /// The topic.
    pub topic: String,
    /// The partition; `None` stands for the whole topic.
    pub partition: Option<i32>,
    /// The state of the topic or partition.
    pub state: TopicState,
}

/// The state in a [`TopicStatus`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicState {
    /// The messages are delivered to this process.
    Reading,
    /// The messages cannot be read now; reading resumes once the reason has ceased.
    Unavailable {
        /// The reason.
        reason: String,
    },
    /// The bus no longer has the message at the group's position, so messages may be missing.
    ///
    /// The bus delivers nothing more of this partition until an operator has moved the group's
    /// position.
    LostPosition {
        /// The group's position, and the offsets that the bus has.
        reason: String,
    },
}

/// A delivered message that can be acknowledged.
pub trait Delivery: Send + Sync + 'static {
    /// Returns the message as text.
    ///
    /// Invalid UTF-8 becomes replacement characters, and missing parts are empty. That suffices for
    /// messages of this framework.
    fn message(&self) -> &BusMessage;

    /// Returns the message as its topic holds it. Default: [`message`](Self::message), in bytes.
    fn record(&self) -> BusRecord {
        BusRecord::from(self.message())
    }

    /// Returns the position of the message in its topic.
    fn offset(&self) -> TopicOffset;

    /// Returns the publication time, by the clock of the publisher or of the bus. `None` if the bus
    /// does not report it.
    fn published_at(&self) -> Option<Timestamp>;

    /// Acknowledges that the message is handled.
    ///
    /// Deliveries may be acknowledged in any order. After a crash or a rebalance, the bus
    /// redelivers everything from the lowest unacknowledged offset.
    ///
    /// A delivery that is dropped without being acknowledged stays unfinished: it holds back the
    /// group's stored offset in the topic partition until the group's next rebalance.
    ///
    /// # Errors
    ///
    /// [`BusError`]: the bus will redeliver the message. The caller need not do anything.
    fn acknowledge(self) -> impl Future<Output = Result<(), BusError>> + Send;
}

/// The position of a publisher in its partition of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumePosition {
    /// The last published offset.
    pub offset: u64,
    /// The event at that offset, if it is known. If the log has another event there, the log went
    /// back.
    pub event_id: Option<EventId>,
}

/// The only publisher of one log partition.
///
/// The last holder to open the publisher fences the earlier ones: the bus refuses their messages.
pub trait Publisher: Send + Sync + 'static {
    /// Returns the position that came with the last batch published under this name, by any holder.
    /// `None` if there was no such batch.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; each variant says what to do.
    fn resume_position(
        &mut self,
    ) -> impl Future<Output = Result<Option<ResumePosition>, PublishError>> + Send;

    /// Publishes `messages` in order, all or nothing, together with `position` if given.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; each variant says what to do.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may still publish. Open the publisher again.
    fn publish_batch(
        &mut self,
        messages: Vec<BusMessage>,
        position: Option<ResumePosition>,
    ) -> impl Future<Output = Result<(), PublishError>> + Send;
}

/// The name of a publisher: one for each log partition and purpose.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublisherName {
    /// The id of the log.
    pub log: Uuid,
    /// The purpose, such as `relay/order-events/order`. Purposes that agree up to the first `/` are
    /// of one kind, and may keep their positions in one place.
    pub purpose: String,
    /// The partition of the log.
    pub partition: u16,
    /// The number of partitions of the log.
    pub partitions: u16,
}

/// A message bus.
///
/// A published message reaches every subscribed group at least once; the messages of a key arrive
/// in order.
pub trait EventBus: Send + Sync + 'static {
    /// The type of a delivered message.
    type Delivery: Delivery;
    /// The stream of deliveries. Dropping the stream leaves the group.
    type Deliveries: Stream<Item = Result<Self::Delivery, BusError>> + Send + 'static;
    /// The type of a fenced publisher.
    type Publisher: Publisher;

    /// Publishes `message` and creates its topic if that is missing.
    ///
    /// When the call returns `Ok`, the message is durable. Messages of one key keep their order if
    /// the caller publishes each after the previous call has returned. A message that is published
    /// again after a failure may arrive twice, the second time later.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; each variant says what to do. The error is never `Fenced`.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may still publish.
    fn publish(&self, message: BusMessage)
    -> impl Future<Output = Result<(), PublishError>> + Send;

    /// Publishes `message` as [`publish`](Self::publish) does, without creating a topic: for topics
    /// that others name.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; `Rejected` if the topic is missing.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may still publish.
    fn publish_to_existing(
        &self,
        message: BusMessage,
    ) -> impl Future<Output = Result<(), PublishError>> + Send;

    /// Subscribes to `topics` as a member of `group`.
    ///
    /// The subscribers of a group share the messages: each message goes to one of them, and all
    /// messages of a key go to the same one, in order. Missing topics are created.
    ///
    /// A group resumes at its stored position in each topic partition. If the bus has no position,
    /// the group resumes after the one that `known` gives for the partition, unless the topic was
    /// recreated since; otherwise the group begins at the partition's first message. A bus may drop
    /// the positions of a group that was away for long, so keep the group's positions elsewhere
    /// too.
    ///
    /// The bus hands a subscriber that does not take its deliveries only a bounded number. When
    /// members join or leave, the bus may redeliver unfinished messages to another member.
    ///
    /// # Errors
    ///
    /// [`BusError`]: nothing was subscribed; subscribe again. An error among the deliveries reports
    /// messages that the subscriber does not get, or did not get for a while; the subscription goes
    /// on with the rest (see [`topic_status`](Self::topic_status)). If the deliveries end,
    /// subscribe again.
    fn subscribe(
        &self,
        group: &str,
        topics: &[String],
        known: &[GroupOffset],
    ) -> impl Future<Output = Result<Self::Deliveries, BusError>> + Send;

    /// Subscribes to topics of others as [`subscribe`](Self::subscribe) does.
    ///
    /// The bus neither creates nor prefixes these topics, and reads them once they exist. Default:
    /// `subscribe`, for a bus that neither creates nor prefixes topics.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe).
    fn subscribe_external(
        &self,
        group: &str,
        topics: &[String],
        known: &[GroupOffset],
    ) -> impl Future<Output = Result<Self::Deliveries, BusError>> + Send {
        self.subscribe(group, topics, known)
    }

    /// Returns the topics and partitions that the subscribers of `group` in this process read, and
    /// those that they cannot read. Default: empty, for a bus that does not know.
    fn topic_status(&self, group: &str) -> Vec<TopicStatus> {
        let _ = group;
        Vec::new()
    }

    /// Returns the number of partitions of a topic that the subscribers of `group` in this process
    /// read; `None` if the bus does not know it, or does not know it yet. Default: `None`.
    fn partition_count(&self, group: &str, topic: &str) -> Option<u16> {
        let _ = (group, topic);
        None
    }

    /// Returns the positions of a group in the partitions of a topic, in order, and the offsets of
    /// the messages that were published since a time. Empty if there is no such topic. Default: an
    /// error, for a bus that does not know.
    ///
    /// # Errors
    ///
    /// [`BusError`]: the bus cannot be asked. Retry.
    fn group_partitions(
        &self,
        of: &GroupTopic,
        since: Option<Timestamp>,
    ) -> impl Future<Output = Result<Vec<GroupPartition>, BusError>> + Send {
        let _ = (of, since);
        std::future::ready(Err(BusError::new("this bus does not know the positions of groups")))
    }

    /// Moves a group without members: each offset is that of its next message in the partition.
    /// Default: an error, for a bus that cannot.
    ///
    /// # Errors
    ///
    /// [`BusError`]: the group has members, or the bus is unavailable; some partitions may have
    /// been moved. Have the members leave, and retry.
    fn move_group(
        &self,
        of: &GroupTopic,
        to: &[TopicOffset],
    ) -> impl Future<Output = Result<(), BusError>> + Send {
        let _ = (of, to);
        std::future::ready(Err(BusError::new("this bus cannot move groups")))
    }

    /// Opens the publisher of this name and fences earlier holders.
    ///
    /// When the call returns `Ok`, no message of an earlier holder is still in flight.
    ///
    /// # Errors
    ///
    /// [`BusError`]: earlier holders may not be fenced; open the publisher again.
    fn publisher(
        &self,
        name: &PublisherName,
    ) -> impl Future<Output = Result<Self::Publisher, BusError>> + Send;

    /// Returns the largest number of publishers that one process may have open at a time.
    ///
    /// Opening another publisher waits until one is dropped, or fails. Default: `None`, for a bus
    /// without such a limit.
    fn max_publishers(&self) -> Option<usize> {
        None
    }

    /// Returns the size limit of a payload in bytes; `None` if the bus has no limit.
    fn max_payload_bytes(&self) -> Option<usize>;
}

/// Returns `true` if brokers accept `name` as a topic name.
///
/// A topic name has 1 to 249 characters of `[a-zA-Z0-9._-]` and is neither `.` nor `..`.
pub fn is_topic_name(name: &str) -> bool {
    const LONGEST: usize = 249;
    let permitted = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=LONGEST).contains(&name.len())
        && !matches!(name, "." | "..")
        && name.bytes().all(permitted)
}

/// The error of a bus that is unreachable or refuses.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the bus is unavailable")]
pub struct BusError(#[source] Arc<dyn Error + Send + Sync>);

impl BusError {
    /// Creates an error with its cause.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Arc::from(source.into()))
    }
}

/// The error of publishing a message or a batch.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// Another holder has opened the publisher since.
    ///
    /// Nothing was published, and nothing ever will be through this publisher: drop it, and drop
    /// the lease or other right under which it was opened.
    #[error("another holder has opened the publisher")]
    Fenced,
    /// The bus cannot take the message: it is too large, or contains an invalid name.
    ///
    /// A message of a batch may be too large, or all of them together: publish fewer at a time.
    /// Nothing was published. Change the message or the limit; repeating the call cannot succeed.
    #[error("the bus takes no such message: {0}")]
    Invalid(String),
    /// The bus refuses messages for this topic: the topic or the right to write to it is missing,
    /// or a policy forbids the message.
    ///
    /// Nothing was published. Repeat the call once an operator has removed the cause; other topics
    /// are not affected.
    #[error("the bus refuses the message: {0}")]
    Rejected(String),
    /// The outcome is unknown.
    ///
    /// A single message may have been published: publish it again; consumers may see a duplicate.
    /// Of a batch, either nothing was published or all of it: open the publisher again, read its
    /// [`resume_position`](Publisher::resume_position), and publish again what is missing.
    #[error(transparent)]
    Unavailable(#[from] BusError),
}

impl From<PublishError> for BusError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Unavailable(error) => error,
            error => Self::new(error),
        }
    }
}
