//! The policies of an app, with their types erased.

use std::marker::PhantomData;
use std::sync::Arc;

use composable_rust_core::event::StoredContent;
use composable_rust_core::message::{AnyMessage, Hears, derive_id};
use composable_rust_core::queue::{OutboxKind, OutboxMessage, Queue};
use composable_rust_core::store::{NewOutboxRow, validate_rows};
use composable_rust_core::{
    CorrelationId, EventSet, Heard, Id, Metadata, Recorded, StreamId, Target,
};
use uuid::Uuid;

use crate::app::context::AppContext;
use crate::error::error_chain;
use crate::instance::effects::BUS_TARGET;
use crate::panic;
use crate::worker::cloud_event;
use crate::worker::external_record::{ExternalRecord, erasure_of};
use crate::worker::outcome::Failure;
use crate::worker::queued_input::{Input, InputLane, queued_event, queued_record};

/// A policy that turns an event or record into commands.
pub(crate) trait ErasedPolicy: Send + Sync {
    /// Returns the commands for an input, as rows to be queued.
    ///
    /// # Errors
    ///
    /// - [`Failure::NeedsNewerCode`]: only newer code can decode the event.
    /// - [`Failure::Failed`]: the event cannot be decoded, or the policy panicked.
    fn apply(&self, shared: &AppContext, input: &Input) -> Result<Vec<OutboxMessage>, Failure>;
}

/// A policy over the events of `S`.
pub(crate) struct EventPolicy<S, T, F> {
    pub(crate) name: String,
    pub(crate) policy: F,
    pub(crate) types: PhantomData<fn() -> (S, T)>,
}

/// A follower of the events of `S`, which hands them to instances of `T`.
pub(crate) struct EventFollower<S, T, F> {
    pub(crate) name: String,
    /// Returns the recipients of an event.
    pub(crate) recipients: F,
    pub(crate) types: PhantomData<fn() -> (S, T)>,
}

/// A policy over the records of a topic.
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
    fn apply(&self, shared: &AppContext, input: &Input) -> Result<Vec<OutboxMessage>, Failure> {
        let (stream, sender, cause) = match input {
            Input::Event(event) if event.content == StoredContent::Erased => {
                (event.stream.clone(), erasure_of(&event.stream), event.id.0)
            }
            Input::Record(record) if record.is_erasure() => {
                let stream = record.header("ce_subject").and_then(|stream| stream.parse().ok());
                let unnamed =
                    || Failure::Failed("the header `ce_subject` is not a stream id".into());
                (stream.ok_or_else(unnamed)?, record.sender(), record.cause())
            }
            _ => return Ok(Vec::new()),
        };
        let other = || Failure::Failed(format!("{stream} is not a stream of `{}`", S::NAME));
        let id = Id::<S>::of_stream(&stream).ok_or_else(other)?;
        let commands = guarded(|| (self.policy)(&id).into_iter().collect::<Vec<_>>())?;
        let metadata = started_by(cause, None);
        rows::<T>(shared, &self.name, &sender, cause, &metadata, commands)
    }
}

/// Returns the metadata of the first message of a workflow that `cause` starts.
fn started_by(cause: Uuid, traceparent: Option<String>) -> Metadata {
    Metadata {
        correlation_id: CorrelationId(cause),
        causation_id: cause,
        user: None,
        user_from: None,
        traceparent,
        return_addresses: Vec::new(),
        reply: None,
        follower: None,
    }
}

impl<S, T, F, C> ErasedPolicy for EventPolicy<S, T, F>
where
    S: EventSet,
    T: Target,
    C: IntoIterator<Item = (Id<T>, T::Command)>,
    F: Fn(&Recorded<S::Event>) -> C + Send + Sync,
{
    fn apply(&self, shared: &AppContext, input: &Input) -> Result<Vec<OutboxMessage>, Failure> {
        let Some(recorded) = recorded::<S>(shared, input)? else { return Ok(Vec::new()) };
        let commands = guarded(|| (self.policy)(&recorded).into_iter().collect::<Vec<_>>())?;
        let metadata = caused_by(recorded.id.0, recorded.metadata);
        rows::<T>(shared, &self.name, &input.sender(), input.cause(), &metadata, commands)
    }
}

impl<S, T, F, C> ErasedPolicy for EventFollower<S, T, F>
where
    S: Target,
    T: Target<Command: Hears<S>>,
    C: IntoIterator<Item = Id<T>>,
    F: Fn(&Recorded<S::Event>) -> C + Send + Sync,
{
    fn apply(&self, shared: &AppContext, input: &Input) -> Result<Vec<OutboxMessage>, Failure> {
        let Some(recorded) = recorded::<S>(shared, input)? else { return Ok(Vec::new()) };
        let recipients = guarded(|| (self.recipients)(&recorded).into_iter().collect::<Vec<_>>())?;
        let other =
            || Failure::Failed(format!("{} is not a stream of `{}`", recorded.stream, S::NAME));
        let heard = Heard::<S>::new(&recorded).ok_or_else(other)?;
        let commands = recipients.into_iter().map(|id| (id, T::Command::hear(heard.clone())));
        let commands = commands.collect();
        let metadata = caused_by(recorded.id.0, recorded.metadata);
        let metadata = Metadata { follower: Some(self.name.clone()), ..metadata };
        rows::<T>(shared, &self.name, &input.sender(), input.cause(), &metadata, commands)
    }
}

/// Returns the metadata of the messages that an event with this id and metadata causes.
fn caused_by(cause: Uuid, metadata: Option<Metadata>) -> Metadata {
    match metadata {
        Some(of) => Metadata {
            causation_id: cause,
            return_addresses: Vec::new(),
            reply: None,
            follower: None,
            ..of
        },
        // The event's metadata was erased, so the messages start a new workflow.
        None => started_by(cause, None),
    }
}

impl<T, F, C> ErasedPolicy for RecordPolicy<T, F>
where
    T: Target,
    C: IntoIterator<Item = (Id<T>, T::Command)>,
    F: Fn(&ExternalRecord) -> C + Send + Sync,
{
    fn apply(&self, shared: &AppContext, input: &Input) -> Result<Vec<OutboxMessage>, Failure> {
        let Input::Record(record) = input else { return Ok(Vec::new()) };
        let commands = guarded(|| (self.policy)(record).into_iter().collect::<Vec<_>>())?;
        let cause = record.cause();
        let trace = record.header("traceparent").filter(cloud_event::is_trace).map(str::to_owned);
        let metadata = started_by(cause, trace);
        rows::<T>(shared, &self.name, &record.sender(), cause, &metadata, commands)
    }
}

/// Decodes an event; `None` if its content was erased.
fn recorded<S: EventSet>(
    shared: &AppContext,
    input: &Input,
) -> Result<Option<Recorded<S::Event>>, Failure> {
    let event = match input {
        Input::Event(event) => event,
        Input::Record(record) => return cloud_event::recorded::<S>(record),
    };
    let Some(content) = event.content.present() else { return Ok(None) };
    let decoded = guarded(|| shared.codecs.decode_event::<S>(&event.stream, content))?;
    let decoded = decoded.map_err(|error| Failure::of_decode(&error, Failure::Failed))?;
    Ok(Some(event.decoded(decoded)))
}

/// Runs code of the application, and converts a panic into a failure.
fn guarded<T>(code: impl FnOnce() -> T) -> Result<T, Failure> {
    panic::guarded(code).map_err(|message| Failure::panicked(&message))
}

/// Returns the kind and target of the queue to which policies add commands for `target`.
fn queue_to<'t>(shared: &AppContext, target: &'t str) -> (OutboxKind, &'t str) {
    let remote = shared.remote.contains(target);
    if remote { (OutboxKind::Send, BUS_TARGET) } else { (OutboxKind::Bulk, target) }
}

/// Returns the rows that send the commands of a policy. The id of each row is derived from `cause`,
/// the policy and the command's index.
fn rows<T: Target>(
    shared: &AppContext,
    policy: &str,
    sender: &StreamId,
    cause: Uuid,
    metadata: &Metadata,
    commands: Vec<(Id<T>, T::Command)>,
) -> Result<Vec<OutboxMessage>, Failure> {
    let text = serde_json::to_string(metadata).map_err(|e| Failure::Failed(error_chain(&e)))?;
    let (kind, target) = queue_to(shared, T::NAME);
    let mut rows = Vec::with_capacity(commands.len());
    for (n, (id, command)) in (0..).zip(commands) {
        let recipient = id.stream();
        let command = AnyMessage::new(command);
        if command.kind().internal && metadata.follower.is_none() {
            let name = command.kind().name;
            let reason = format!("`{name}` is internal: only the runtime sends it");
            return Err(Failure::Failed(reason));
        }
        let content = guarded(|| shared.storage().encoded_any(&recipient, &command))?
            .map_err(Failure::Failed)?;
        let row = NewOutboxRow {
            id: derive_id("policy", shared.log.id, &[policy], cause, n),
            kind,
            target: target.to_owned(),
            recipient: recipient.to_string(),
            content,
            metadata: text.clone(),
        };
        rows.push(OutboxMessage { sender: sender.clone(), row });
    }
    validate_rows(&rows).map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(rows)
}

/// Returns the row with which the worker of a policy's queue retries an input, in order with other
/// inputs of the same sender.
pub(crate) fn queued(shared: &AppContext, policy: &str, input: &Input) -> OutboxMessage {
    let id = |cause| derive_id("queued", shared.log.id, &[policy], cause, 0);
    let lane = |sender: StreamId| InputLane {
        queue: policy.to_owned(),
        recipient: sender.to_string(),
        sender,
    };
    match input {
        Input::Event(event) => {
            let is_erased = event.content == StoredContent::Erased;
            let sender = if is_erased { erasure_of(&event.stream) } else { event.stream.clone() };
            queued_event(lane(sender), id(event.id.0), event)
        }
        Input::Record(record) => queued_record(lane(record.sender()), id(record.cause()), record),
    }
}

/// Settings of one policy. Change them with
/// [`AppBuilder::on_with`](crate::AppBuilder::on_with).
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PolicySettings {
    /// `true` if a new policy starts at the first event of the log, instead of the end that the log
    /// had before the first event of the process that first takes the policy over.
    /// No effect once the policy has a checkpoint, or if the policy reads a topic: such a policy
    /// starts at the beginning of the topic. Default: `false`, and `true` for a
    /// [follower](crate::AppBuilder::follows).
    pub from_start: bool,
}

/// A policy with its source.
#[derive(Clone)]
pub(crate) struct RegisteredPolicy {
    pub(crate) name: String,
    pub(crate) source: PolicySource,
    /// The name of the target that the policy sends commands to.
    pub(crate) target: &'static str,
    /// `true` for a follower, whose commands are internal.
    pub(crate) is_follower: bool,
    pub(crate) settings: PolicySettings,
    pub(crate) policy: Arc<dyn ErasedPolicy>,
}

impl RegisteredPolicy {
    /// Returns the queues of a partition that the policy adds to: the queue of its target and the
    /// policy's own queue.
    pub(crate) fn queues(&self, shared: &AppContext, partition: u16) -> Vec<Queue> {
        let queue = |(kind, target): (OutboxKind, &str)| Queue {
            partition,
            kind,
            target: target.to_owned(),
        };
        [queue_to(shared, self.target), (OutboxKind::Policy, &*self.name)].map(queue).into()
    }
}

/// The source of the events or records that a policy reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PolicySource {
    /// The events of some categories: in this service; or of one category in another.
    Events(&'static [&'static str]),
    /// A topic of external records.
    Topic(String),
}
