//! Turning events into commands.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use composable_rust_core::__private::{decode_value, derive_id, encode_value};
use composable_rust_core::{
    AnyMessage, BusMessage, BusRecord, Delivery as _, EncodedMessage, EventStore as _, Format, Id,
    MAX_PAYLOAD_BYTES, MessageId, Metadata, NewOutboxRow, OutboxKind, OutboxMessage, Position,
    Queue, Recorded, SharedDelivery, StoreError, StoredContent, StoredEvent, StreamId, Target,
    TopicOffset, validate_rows,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::app::context::AppContext;
use crate::app::unknown_messages::NewerCode;
use crate::error::{error_chain, panic_text};
use crate::instance::effects::BUS_TARGET;
use crate::worker::bus::cloud_event;
use crate::worker::context::WorkerContext;

/// A message of a topic that is not this framework's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalRecord {
    /// The topic.
    pub topic: String,
    /// The topic's partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
    /// The key; `None` if it has none.
    pub key: Option<Vec<u8>>,
    /// Names and values; `None` stands for a header without a value.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The content; `None` in a tombstone, which says that what the key names is deleted.
    pub payload: Option<Vec<u8>>,
}

impl ExternalRecord {
    pub(crate) fn new(delivery: &SharedDelivery) -> Self {
        let (topic, place) = (delivery.message().topic.clone(), delivery.offset());
        let TopicOffset { partition, offset } = place;
        let BusRecord { key, headers, payload } = delivery.record();
        Self { topic, partition, offset, key, headers, payload }
    }

    /// The value of the first header of this name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(n, _)| n == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    /// The key, if there is one and it is text.
    pub fn key_text(&self) -> Option<&str> {
        std::str::from_utf8(self.key.as_deref()?).ok()
    }

    /// The message as text.
    pub(crate) fn into_message(self) -> BusMessage {
        let text = |bytes: Option<Vec<u8>>| {
            String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
        };
        BusMessage {
            topic: self.topic,
            key: text(self.key),
            headers: self.headers.into_iter().map(|(name, value)| (name, text(value))).collect(),
            payload: self.payload.unwrap_or_default(),
        }
    }

    /// What the message is known by: its CloudEvents source and id, or else where it stands. No
    /// message of another source can be made to have the same.
    fn cause(&self) -> Uuid {
        let event = self.header("ce_source").zip(self.header("ce_id"));
        let id = event.map_or_else(
            || MessageId::from_elsewhere(&format!("topic:{}", self.topic), &self.place()),
            |(source, id)| MessageId::from_elsewhere(&format!("cloudevents:{source}"), id),
        );
        id.0
    }

    fn place(&self) -> String {
        format!("{}:{}", self.partition, self.offset)
    }

    /// A stream that stands for its key among the senders of effects. A message without a key is in no
    /// order with others, and has one of its own.
    pub(crate) fn sender(&self) -> StreamId {
        let sender = self.sender_by_key();
        if cloud_event::is_erasure(self) { erasure_of(&sender) } else { sender }
    }

    pub(crate) fn sender_by_key(&self) -> StreamId {
        let topic = &self.topic;
        let id = match (&self.key, self.key_text()) {
            (_, Some(text)) => MessageId::from_elsewhere(&format!("key:{topic}"), text),
            (Some(bytes), None) => {
                MessageId::from_elsewhere(&format!("bytes:{topic}"), &format!("{bytes:?}"))
            }
            (None, None) => MessageId::from_elsewhere(&format!("place:{topic}"), &self.place()),
        };
        format!("bus_topic-{id}").parse().unwrap_or_else(|_| unreachable!("a category and a UUID"))
    }
}

/// The sender of what follows from the erasure of a sender: it is not erased with it.
fn erasure_of(sender: &StreamId) -> StreamId {
    let id = MessageId::from_elsewhere("erasure", sender.as_str());
    format!("bus_erasure-{id}").parse().unwrap_or_else(|_| unreachable!("a category and a UUID"))
}

/// What a policy is given.
#[derive(Debug, Clone)]
pub(crate) enum PolicyInput {
    /// An event of this log.
    Event(Box<StoredEvent>),
    /// A message of a topic.
    Message(ExternalRecord),
}

/// How an input waits in the outbox when it could not be turned into commands at once.
#[derive(Serialize, Deserialize)]
enum QueuedInput {
    Event(String),
    Message(ExternalRecord),
    /// A message that is larger than a row: where it stands.
    Omitted {
        topic: String,
        partition: i32,
        offset: i64,
        bytes: usize,
    },
}

#[derive(Debug)]
pub(crate) enum PolicyError {
    /// Newer code knows the event.
    Newer(NewerCode),
    /// It cannot be read, or the policy panicked.
    Failed(String),
}

pub(crate) trait ErasedPolicy: Send + Sync {
    /// The commands for an input, as effects to be queued.
    fn apply(
        &self,
        shared: &AppContext,
        input: &PolicyInput,
    ) -> Result<Vec<OutboxMessage>, PolicyError>;
}

/// A policy over the events of `S`.
pub(crate) struct EventPolicy<S, T, F> {
    pub(crate) name: String,
    pub(crate) policy: F,
    pub(crate) types: PhantomData<fn() -> (S, T)>,
}

/// A policy over the messages of a topic.
pub(crate) struct RecordPolicy<T, F> {
    pub(crate) name: String,
    pub(crate) policy: F,
    pub(crate) types: PhantomData<fn() -> T>,
}

/// A policy over the erasures of streams of `S`.
pub(crate) struct ErasurePolicy<S, T, F> {
    pub(crate) name: String,
    pub(crate) policy: F,
    pub(crate) types: PhantomData<fn() -> (S, T)>,
}

impl<S, T, F, C> ErasedPolicy for ErasurePolicy<S, T, F>
where
    S: Target,
    T: Target,
    C: IntoIterator<Item = (Id<T>, T::Command)>,
    F: Fn(&Id<S>) -> C + Send + Sync,
{
    fn apply(
        &self,
        shared: &AppContext,
        input: &PolicyInput,
    ) -> Result<Vec<OutboxMessage>, PolicyError> {
        let (stream, sender, cause) = match input {
            PolicyInput::Event(event) if event.content == StoredContent::Erased => {
                (event.stream.clone(), erasure_of(&event.stream), event.id.0)
            }
            PolicyInput::Message(record) if cloud_event::is_erasure(record) => {
                let stream = record.header("ce_subject").and_then(|stream| stream.parse().ok());
                let unnamed =
                    || PolicyError::Failed("its header `ce_subject` names no stream".into());
                (stream.ok_or_else(unnamed)?, record.sender(), record.cause())
            }
            _ => return Ok(Vec::new()),
        };
        let other = || PolicyError::Failed(format!("{stream} is not of `{}`", S::NAME));
        let id = Id::<S>::of_stream(&stream).ok_or_else(other)?;
        let commands = guarded(|| (self.policy)(&id).into_iter().collect::<Vec<_>>())?;
        let metadata = begun_by(cause, None);
        rows::<T>(shared, &self.name, &sender, cause, &metadata, commands)
    }
}

/// The metadata of a workflow that `cause` begins.
fn begun_by(cause: Uuid, traceparent: Option<String>) -> Metadata {
    Metadata {
        correlation_id: composable_rust_core::CorrelationId(cause),
        causation_id: cause,
        user: None,
        user_from: None,
        traceparent,
        return_addresses: Vec::new(),
        reply: None,
    }
}

impl<S, T, F, C> ErasedPolicy for EventPolicy<S, T, F>
where
    S: Target,
    T: Target,
    C: IntoIterator<Item = (Id<T>, T::Command)>,
    F: Fn(&Recorded<S::Event>) -> C + Send + Sync,
{
    fn apply(
        &self,
        shared: &AppContext,
        input: &PolicyInput,
    ) -> Result<Vec<OutboxMessage>, PolicyError> {
        let recorded = match input {
            PolicyInput::Event(event) => recorded::<S>(shared, event)?,
            PolicyInput::Message(record) => cloud_event::recorded::<S>(record)?,
        };
        let Some(recorded) = recorded else { return Ok(Vec::new()) };
        let commands = guarded(|| (self.policy)(&recorded).into_iter().collect::<Vec<_>>())?;
        let sender = match input {
            PolicyInput::Event(event) => event.stream.clone(),
            PolicyInput::Message(record) => record.sender(),
        };
        let (cause, none) = (recorded.id.0, Vec::new());
        let metadata = match recorded.metadata {
            Some(of) => Metadata { causation_id: cause, return_addresses: none, reply: None, ..of },
            // The event's was erased: a workflow of its own begins.
            None => begun_by(cause, None),
        };
        let known_by = match input {
            PolicyInput::Event(event) => event.id.0,
            PolicyInput::Message(record) => record.cause(),
        };
        rows::<T>(shared, &self.name, &sender, known_by, &metadata, commands)
    }
}

impl<T, F, C> ErasedPolicy for RecordPolicy<T, F>
where
    T: Target,
    C: IntoIterator<Item = (Id<T>, T::Command)>,
    F: Fn(&ExternalRecord) -> C + Send + Sync,
{
    fn apply(
        &self,
        shared: &AppContext,
        input: &PolicyInput,
    ) -> Result<Vec<OutboxMessage>, PolicyError> {
        let PolicyInput::Message(record) = input else { return Ok(Vec::new()) };
        let commands = guarded(|| (self.policy)(record).into_iter().collect::<Vec<_>>())?;
        let cause = record.cause();
        let trace = record.header("traceparent").filter(is_trace).map(str::to_owned);
        let metadata = begun_by(cause, trace);
        rows::<T>(shared, &self.name, &record.sender(), cause, &metadata, commands)
    }
}

/// Whether a foreign text may be a trace context, which has 55 characters in its version 0.
pub(crate) fn is_trace(text: &&str) -> bool {
    text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn recorded<S: Target>(
    shared: &AppContext,
    event: &StoredEvent,
) -> Result<Option<Recorded<S::Event>>, PolicyError> {
    let Some(content) = event.content.present() else { return Ok(None) };
    let decoded = guarded(|| shared.codecs.decode::<S::Event>(&event.stream, content))?;
    let decoded = decoded.map_err(|error| unreadable(&error))?;
    Ok(Some(event.decoded(decoded)))
}

pub(crate) fn unreadable(error: &composable_rust_core::DecodeError) -> PolicyError {
    NewerCode::of(error).map_or_else(|| PolicyError::Failed(error_chain(error)), PolicyError::Newer)
}

pub(crate) fn guarded<O>(work: impl FnOnce() -> O) -> Result<O, PolicyError> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|panic| PolicyError::Failed(format!("it panicked: {}", panic_text(&*panic))))
}

/// The queue of what policies send to a target.
fn queue_to<'t>(shared: &AppContext, target: &'t str) -> (OutboxKind, &'t str) {
    let remote = shared.remote.contains(target);
    if remote { (OutboxKind::Send, BUS_TARGET) } else { (OutboxKind::Bulk, target) }
}

/// The effects that send what a policy returned. Their ids are those of the event, the policy and
/// the command's place in what it returned.
fn rows<T: Target>(
    shared: &AppContext,
    policy: &str,
    sender: &StreamId,
    cause: Uuid,
    metadata: &Metadata,
    commands: Vec<(Id<T>, T::Command)>,
) -> Result<Vec<OutboxMessage>, PolicyError> {
    let metadata =
        serde_json::to_string(metadata).map_err(|e| PolicyError::Failed(error_chain(&e)))?;
    let (kind, target) = queue_to(shared, T::NAME);
    let mut rows = Vec::with_capacity(commands.len());
    for (n, (id, command)) in (0..).zip(commands) {
        let recipient = id.stream();
        let command = AnyMessage::new(command);
        if command.kind().internal {
            let name = command.kind().name;
            return Err(PolicyError::Failed(format!("`{name}` is internal: nobody may send it")));
        }
        let content = guarded(|| shared.storage().encoded_any(&recipient, &command))?
            .map_err(PolicyError::Failed)?;
        let row = NewOutboxRow {
            id: derive_id("policy", shared.log.id, &[policy], cause, n),
            kind,
            target: target.to_owned(),
            recipient: recipient.to_string(),
            content,
            metadata: metadata.clone(),
        };
        rows.push(OutboxMessage { sender: sender.clone(), row });
    }
    validate_rows(&rows).map_err(|error| PolicyError::Failed(error.to_string()))?;
    Ok(rows)
}

/// Names the content of such an effect.
const INPUT: &str = "input";

/// The effect that tries an input again, in order with what comes from the same sender.
pub(crate) fn queued(shared: &AppContext, policy: &str, input: &PolicyInput) -> OutboxMessage {
    let id = |cause| derive_id("queued", shared.log.id, &[policy], cause, 0);
    match input {
        PolicyInput::Event(event) => {
            let content = QueuedInput::Event(event.position.to_string());
            let metadata = event.metadata.clone();
            let is_erased = event.content == StoredContent::Erased;
            let sender = if is_erased { erasure_of(&event.stream) } else { event.stream.clone() };
            waits(policy, sender.clone(), sender.as_str(), id(event.id.0), &content, metadata)
        }
        PolicyInput::Message(record) => {
            let sender = record.sender();
            queued_for(policy, sender.clone(), sender.as_str(), id(record.cause()), record)
        }
    }
}

/// The effect that holds a message until the worker of a queue tries it again.
pub(crate) fn queued_for(
    queue: &str,
    sender: StreamId,
    recipient: &str,
    id: Uuid,
    record: &ExternalRecord,
) -> OutboxMessage {
    let whole = QueuedInput::Message(record.clone());
    let row = waits(queue, sender.clone(), recipient, id, &whole, String::new());
    if row.row.content.bytes.len() <= MAX_PAYLOAD_BYTES {
        return row;
    }
    let ExternalRecord { topic, partition, offset, payload, .. } = record;
    let (topic, bytes) = (topic.clone(), payload.as_ref().map_or(0, Vec::len));
    let omitted = QueuedInput::Omitted { topic, partition: *partition, offset: *offset, bytes };
    waits(queue, sender, recipient, id, &omitted, String::new())
}

fn waits(
    queue: &str,
    sender: StreamId,
    recipient: &str,
    id: Uuid,
    content: &QueuedInput,
    metadata: String,
) -> OutboxMessage {
    let bytes = encode_value(Format::Binary, content)
        .unwrap_or_else(|_| unreachable!("texts, numbers and bytes"));
    let content = EncodedMessage { name: INPUT.into(), version: 1, codec: "bincode".into(), bytes };
    OutboxMessage {
        row: NewOutboxRow {
            id,
            kind: OutboxKind::Policy,
            target: queue.to_owned(),
            recipient: recipient.to_owned(),
            content,
            metadata,
        },
        sender,
    }
}

impl WorkerContext {
    /// The input that waits in the outbox; `None` if it was erased.
    pub(crate) async fn queued_input(
        &self,
        content: &EncodedMessage,
    ) -> Result<Option<PolicyInput>, StoreError> {
        let malformed = || StoreError::Invalid("this is not the input of a policy".to_owned());
        if content.name != INPUT {
            return Ok(None);
        }
        let queued = decode_value(Format::Binary, &content.bytes).map_err(|_| malformed())?;
        let at: Position = match queued {
            QueuedInput::Message(record) => return Ok(Some(PolicyInput::Message(record))),
            QueuedInput::Omitted { topic, partition, offset, bytes } => {
                return Err(StoreError::Invalid(format!(
                    "a message of {bytes} bytes is too large to be kept here: it stands in the topic \
                     `{topic}`, partition {partition}, offset {offset}"
                )));
            }
            QueuedInput::Event(at) => at.parse().map_err(|_| malformed())?,
        };
        let before = Position::new(at.partition, at.offset.saturating_sub(1));
        let events = self.store().read_log(&[before], 1).await?;
        let event = events.into_iter().find(|event| event.position == at);
        Ok(event.map(|event| PolicyInput::Event(Box::new(event))))
    }
}

/// Settings of one policy. Change them with
/// [`AppBuilder::on_with`](crate::AppBuilder::on_with).
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PolicySettings {
    /// `true` if a new policy starts at the first event of the log instead of the end of the log.
    /// No effect once the policy has a checkpoint, nor on a policy that reads a topic: that starts
    /// at the topic's beginning. Default: `false`.
    pub from_start: bool,
}

/// A policy and its source.
#[derive(Clone)]
pub(crate) struct RegisteredPolicy {
    pub(crate) name: String,
    pub(crate) source: PolicySource,
    /// Whom it sends commands to.
    pub(crate) target: &'static str,
    pub(crate) settings: PolicySettings,
    pub(crate) policy: Arc<dyn ErasedPolicy>,
}

impl RegisteredPolicy {
    /// The queues of a partition that it adds to: that of its target, and its own.
    pub(crate) fn fills(&self, shared: &AppContext, partition: u16) -> Vec<Queue> {
        let queue = |(kind, target): (OutboxKind, &str)| Queue {
            partition,
            kind,
            target: target.to_owned(),
        };
        [queue_to(shared, self.target), (OutboxKind::Policy, &*self.name)].map(queue).into()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PolicySource {
    /// The events of a target of this name, here or elsewhere.
    Target(&'static str),
    /// Any topic.
    Topic(String),
}

/// The streams of which something waits in a policy's queue, so that what comes after must wait too.
pub(crate) type WaitingStreams = BTreeSet<StreamId>;
