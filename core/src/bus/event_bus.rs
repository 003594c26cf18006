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
    /// Where it goes: one topic per aggregate type, such as `order-events`.
    pub topic: String,
    /// What keeps it in order: the stream.
    pub key: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The content.
    pub payload: Vec<u8>,
}

impl BusMessage {
    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// `true` if it says that a stream was erased. The bus then holds a record without a payload, so that
    /// a compacted topic deletes what it has under the key.
    pub fn is_tombstone(&self) -> bool {
        self.payload.is_empty() && self.header("ce_type") == Some(ERASED)
    }
}

/// A message as its topic holds it. Any client may have written it, so parts of it may be missing or no
/// text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusRecord {
    /// The key; `None` if it has none.
    pub key: Option<Vec<u8>>,
    /// Names and values; `None` stands for a header without a value.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The content; `None` in a tombstone.
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

/// Where a delivered message stands: its topic is the message's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicOffset {
    /// The partition of the topic.
    pub partition: i32,
    /// The offset within it; it rises with every message.
    pub offset: i64,
}

/// How far a group has come in one partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupOffset {
    /// The topic.
    pub topic: String,
    /// Where the last message stands that is done, as are all before it.
    pub at: TopicOffset,
    /// When that was published, if it is known: should another message stand there, the topic was made
    /// anew, and nothing of it is done.
    pub published_at: Option<Timestamp>,
}

/// The state of a topic, or of one of its partitions, for the subscribers of a group in this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicStatus {
    /// The topic.
    pub topic: String,
    /// The partition; `None` stands for the whole topic.
    pub partition: Option<i32>,
    /// Its state.
    pub state: TopicState,
}

/// See [`TopicStatus`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicState {
    /// Its messages are delivered to this process.
    Reading,
    /// It cannot be read now; it is read once the reason has ceased.
    Unavailable {
        /// The reason.
        reason: String,
    },
    /// The bus no longer has the message at the group's position, so messages may be missing.
    /// Nothing more of this partition is delivered until an operator has moved the group's position.
    LostPosition {
        /// What the position was, and what the bus has.
        reason: String,
    },
}

/// A message as it is delivered, until it is acknowledged.
pub trait Delivery: Send + Sync + 'static {
    /// The message as text: what is not UTF-8 is read with replacement characters, what is missing as
    /// empty. That suffices for messages of this framework.
    fn message(&self) -> &BusMessage;

    /// The message as its topic holds it. Default: [`message`](Self::message), in bytes.
    fn record(&self) -> BusRecord {
        BusRecord::from(self.message())
    }

    /// Where it stands in its topic.
    fn offset(&self) -> TopicOffset;

    /// When it was published, by the clock of whoever published it or that of the bus. `None` if the
    /// bus does not say.
    fn published_at(&self) -> Option<Timestamp>;

    /// Says that the message is handled. Deliveries may be acknowledged in any order; after a crash
    /// or a change of hands, everything from the lowest that is not acknowledged is delivered again.
    ///
    /// Dropping a delivery without this leaves it unfinished: it holds back what the group has
    /// stored of the topic partition until the group's next change of hands.
    ///
    /// # Errors
    ///
    /// [`BusError`]: the message will be delivered again. Nothing needs to be done.
    fn acknowledge(self) -> impl Future<Output = Result<(), BusError>> + Send;
}

/// How far a publisher has come in its partition of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumePosition {
    /// The last offset that is published.
    pub offset: u64,
    /// The event there, if it is known: if the log has another, it went back.
    pub event_id: Option<EventId>,
}

/// The only publisher of one log partition: whoever opened it last. What earlier holders still try
/// to publish is refused.
pub trait Publisher: Send + Sync + 'static {
    /// The position that came with the last batch that was published under this name, by any holder.
    /// `None` if there was none.
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
    /// A dropped call may still publish. Open the publisher anew.
    fn publish_batch(
        &mut self,
        messages: Vec<BusMessage>,
        position: Option<ResumePosition>,
    ) -> impl Future<Output = Result<(), PublishError>> + Send;
}

/// The name of a publisher: there is one for each log partition and purpose.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublisherName {
    /// The log.
    pub log: Uuid,
    /// What it publishes, such as `relay/order-events/order`. Purposes that agree up to the first `/`
    /// are of one kind, and may keep their positions in one place.
    pub purpose: String,
    /// The partition of the log.
    pub partition: u16,
    /// How many partitions the log has.
    pub partitions: u16,
}

/// A bus: what is published reaches every group that subscribes, at least once, each key in order.
pub trait EventBus: Send + Sync + 'static {
    /// A delivered message.
    type Delivery: Delivery;
    /// Deliveries as they come. Dropping it leaves the group.
    type Deliveries: Stream<Item = Result<Self::Delivery, BusError>> + Send + 'static;
    /// A fenced publisher.
    type Publisher: Publisher;

    /// Publishes `message`; when it returns, the message survives. A topic that is missing is created.
    ///
    /// Messages of one key that are published one after the other, each after the answer to the one
    /// before, keep their order; what is published again after a failure may come again, later.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; each variant says what to do. It is never `Fenced`.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may still publish.
    fn publish(&self, message: BusMessage)
    -> impl Future<Output = Result<(), PublishError>> + Send;

    /// Publishes `message` as [`publish`](Self::publish) does, and creates no topic: for topics that
    /// are named by others.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; `Refused` if the topic is missing.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may still publish.
    fn publish_to_existing(
        &self,
        message: BusMessage,
    ) -> impl Future<Output = Result<(), PublishError>> + Send;

    /// The messages of `topics`, shared among the subscribers of `group`: each message goes to one of
    /// them, all messages of a key in order to the same. Topics that do not exist are created.
    ///
    /// A group begins where it stands in each topic partition. Where the bus keeps nothing of it, that
    /// is behind what `known` says of the partition (unless the topic was made anew since), or else its
    /// beginning: a bus may forget a group that was away for long, so keep its positions elsewhere too.
    ///
    /// A subscriber that does not take its deliveries is given no more than a bounded number. When
    /// members join or leave, what is unfinished may be delivered again, to another member.
    ///
    /// # Errors
    ///
    /// [`BusError`]: nothing was subscribed; subscribe again. An error among the deliveries says what
    /// the subscriber does not get, or did not get for a while; the subscription goes on with the rest
    /// (see [`topic_status`](Self::topic_status)). If the deliveries end, subscribe again.
    fn subscribe(
        &self,
        group: &str,
        topics: &[String],
        known: &[GroupOffset],
    ) -> impl Future<Output = Result<Self::Deliveries, BusError>> + Send;

    /// As [`subscribe`](Self::subscribe), to topics of others: they are neither created nor prefixed, and
    /// are read once they exist. Default: `subscribe`, for a bus that does neither.
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

    /// The topics and partitions that the subscribers of `group` in this process read, and those that
    /// they cannot read. Default: none, for a bus that cannot tell.
    fn topic_status(&self, group: &str) -> Vec<TopicStatus> {
        let _ = group;
        Vec::new()
    }

    /// The number of partitions of a topic that the subscribers of `group` in this process read. Default:
    /// `None`, for a bus that cannot tell, or cannot yet.
    fn partition_count(&self, group: &str, topic: &str) -> Option<u16> {
        let _ = (group, topic);
        None
    }

    /// Opens the publisher of this name and fences earlier holders: when this returns, nothing of
    /// theirs is still on its way.
    ///
    /// # Errors
    ///
    /// [`BusError`]: nobody was fenced for certain; open again.
    fn publisher(
        &self,
        name: &PublisherName,
    ) -> impl Future<Output = Result<Self::Publisher, BusError>> + Send;

    /// The largest number of publishers that one process may have open at a time; opening another waits
    /// until one was dropped, or fails. Default: `None`, for a bus without such a limit.
    fn max_publishers(&self) -> Option<usize> {
        None
    }

    /// The largest payload that the bus takes, in bytes; `None` if it has no limit.
    fn max_payload_bytes(&self) -> Option<usize>;
}

/// Returns `true` if brokers take `name` as a topic's: 1 to 249 of `[a-zA-Z0-9._-]`, and neither `.`
/// nor `..`.
pub fn is_topic_name(name: &str) -> bool {
    const LONGEST: usize = 249;
    let permitted = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=LONGEST).contains(&name.len())
        && !matches!(name, "." | "..")
        && name.bytes().all(permitted)
}

/// The bus could not be reached, or refuses.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the bus is unavailable")]
pub struct BusError(#[source] Arc<dyn Error + Send + Sync>);

impl BusError {
    /// With its cause.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Arc::from(source.into()))
    }
}

/// Why a message or a batch was not published.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// Another holder has opened the publisher since. Nothing was published and nothing ever will be
    /// through this one: drop it and whatever gave the right to use it.
    #[error("another holder has opened the publisher")]
    Fenced,
    /// The bus can take no such message: it is too large, or a name in it is impossible. Of a batch, a
    /// message may be too large, or all of them together: publish fewer at a time. Nothing was
    /// published. Change the message or the limit; repeating the call cannot succeed.
    #[error("the bus takes no such message: {0}")]
    Invalid(String),
    /// The bus refuses what is meant for this topic: the topic is missing, a right to write is, or a
    /// policy forbids it. Nothing was published. Repeat the call once an operator has seen to it; other
    /// topics are not concerned.
    #[error("the bus refuses the message: {0}")]
    Rejected(String),
    /// A message may have been published: publish it again; consumers see duplicates. Of a batch,
    /// nothing was published, or all of it: open the publisher anew, look at its
    /// [`resume_position`](Publisher::resume_position), and publish again.
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
