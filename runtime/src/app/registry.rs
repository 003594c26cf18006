//! Aggregates by name with erased types, for operators' tools.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use composable_rust_core::codec::{DecodeError, EncodedMessage, Format};
use composable_rust_core::event::StoredEvent;
use composable_rust_core::message::{MessageKind, ReplySource};
use composable_rust_core::{Aggregate, Id, Message, StreamId, Version};
use futures_util::future::BoxFuture;

use crate::error::{LoadError, SendError, error_chain};
use crate::instance::load::{load, load_events, undecodable};
use crate::instance::receive::InboundMessage;
use crate::instance::runtime::AggregateRuntime;
use crate::worker::outcome::{Delivered, Failure};

/// The registered aggregates by name: decodes events, loads states and sends commands, all as JSON
/// text, so that every number is exact.
///
/// Messages have the schema version that the derive writes: with `#[message(write = N)]`, events
/// and commands have version N.
#[derive(Clone)]
pub struct Registry(BTreeMap<&'static str, Arc<dyn ErasedAggregate>>);

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// An instance as the registry loads it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadedInstance {
    /// The state as JSON text.
    pub state: String,
    /// The version.
    pub version: Version,
    /// `true` if the state says that the instance is finished.
    pub is_finished: bool,
}

/// The error of a call of the registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No aggregate of this name is registered.
    #[error("no aggregate is called `{name}`; registered are: {known}")]
    UnknownAggregate {
        /// The requested name.
        name: String,
        /// The registered names.
        known: String,
    },
    /// The content cannot be decoded as the command.
    #[error("this is not the command `{name}`: {reason}")]
    InvalidCommand {
        /// The command's name.
        name: String,
        /// The reason.
        reason: String,
    },
    /// The content cannot be decoded as the event.
    #[error("this is not the event `{name}`: {reason}")]
    InvalidEvent {
        /// The event's name.
        name: String,
        /// The reason.
        reason: String,
    },
    /// The stream cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The command was rejected or cannot be handled; see the code.
    #[error("{message}")]
    Rejected {
        /// The stable name of the rejection or error.
        code: &'static str,
        /// A description of the error.
        message: String,
    },
    /// There is no outcome: the command may have been recorded, or may still be. Send it again with
    /// the same key to learn the outcome.
    #[error("{message}")]
    Unavailable {
        /// The stable name of the error.
        code: &'static str,
        /// A description of the error.
        message: String,
    },
}

/// A command by its stored name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedCommand<'a> {
    name: &'a str,
    content: &'a str,
    key: Option<&'a str>,
    user: Option<&'a str>,
}

impl<'a> NamedCommand<'a> {
    /// Creates the command called `name`, with its content as JSON text.
    pub fn new(name: &'a str, content: &'a str) -> Self {
        Self { name, content, key: None, user: None }
    }

    /// Makes the send idempotent, as [`SendCommand::key`](crate::SendCommand::key) does.
    #[must_use]
    pub fn key(self, key: &'a str) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Sets the user on whose behalf the command is sent.
    #[must_use]
    pub fn by(self, user: &'a str) -> Self {
        Self { user: Some(user), ..self }
    }
}

impl RegistryError {
    /// Returns `true` if a retry can succeed: for a command, with the same key.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::Load(error) => error.is_transient(),
            _ => false,
        }
    }

    fn of_send<R: Message>(error: SendError<R>) -> Self {
        let (code, message) = (error.code(), error_chain(&error));
        match error {
            SendError::DeadlinePassed
            | SendError::OutcomeUnknown
            | SendError::InProgress
            | SendError::ShuttingDown => Self::Unavailable { code, message },
            SendError::Load(error) => Self::Load(error),
            _ => Self::Rejected { code, message },
        }
    }
}

impl Registry {
    pub(crate) fn new(aggregates: BTreeMap<&'static str, Arc<dyn ErasedAggregate>>) -> Self {
        Self(aggregates)
    }

    /// Returns the names of the aggregates.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    /// Returns the kinds of the aggregate's commands.
    ///
    /// # Errors
    ///
    /// No aggregate of this name is registered.
    pub fn commands(&self, aggregate: &str) -> Result<&'static [MessageKind], RegistryError> {
        Ok(self.find(aggregate)?.commands())
    }

    /// Returns the kinds of the aggregate's events.
    ///
    /// # Errors
    ///
    /// No aggregate of this name is registered.
    pub fn events(&self, aggregate: &str) -> Result<&'static [MessageKind], RegistryError> {
        Ok(self.find(aggregate)?.events())
    }

    /// Returns the content of a stored event as JSON text; `None` if the event was erased.
    ///
    /// # Errors
    ///
    /// No aggregate has the stream's category, or the event cannot be decoded.
    pub fn decode(&self, event: &StoredEvent) -> Result<Option<String>, RegistryError> {
        Ok(self.find(event.stream.category())?.decode(event)?)
    }

    /// Returns the content of a command to a stream, in a queue or a timer, as JSON text.
    ///
    /// # Errors
    ///
    /// No aggregate has the stream's category, or the content is no command of it.
    pub fn decode_command(
        &self,
        stream: &StreamId,
        content: &EncodedMessage,
    ) -> Result<String, RegistryError> {
        self.find(stream.category())?.decode_command(stream, content).map_err(|error| {
            let (name, reason) = (content.name.to_string(), error_chain(&error));
            RegistryError::InvalidCommand { name, reason }
        })
    }

    /// Returns the content of an event of a stream, in the queue of a policy or projection, as JSON
    /// text.
    ///
    /// # Errors
    ///
    /// No aggregate has the stream's category, or the content is no event of it.
    pub fn decode_queued_event(
        &self,
        stream: &StreamId,
        content: &EncodedMessage,
    ) -> Result<String, RegistryError> {
        self.find(stream.category())?.decode_queued_event(stream, content).map_err(|error| {
            let (name, reason) = (content.name.to_string(), error_chain(&error));
            RegistryError::InvalidEvent { name, reason }
        })
    }

    /// Returns the state of a stream as JSON text, with its version; at version `until`, if given.
    ///
    /// # Errors
    ///
    /// No aggregate has the stream's category, or the stream cannot be loaded.
    pub async fn state(
        &self,
        stream: &StreamId,
        until: Option<Version>,
    ) -> Result<(String, Version), RegistryError> {
        let loaded = self.find(stream.category())?.instance(stream, until).await?;
        Ok((loaded.state, loaded.version))
    }

    /// Returns an instance by its stream, at version `until`, if given.
    ///
    /// # Errors
    ///
    /// No aggregate has the stream's category, or the stream cannot be loaded.
    pub async fn instance(
        &self,
        stream: &StreamId,
        until: Option<Version>,
    ) -> Result<LoadedInstance, RegistryError> {
        Ok(self.find(stream.category())?.instance(stream, until).await?)
    }

    /// Sends a command to the instance of a stream.
    ///
    /// # Errors
    ///
    /// [`RegistryError`]; each variant says what to do.
    pub async fn send(
        &self,
        stream: &StreamId,
        command: NamedCommand<'_>,
    ) -> Result<composable_rust_core::Receipt, RegistryError> {
        self.find(stream.category())?.send(stream, command).await
    }

    /// Returns the targets and gateways whose replies an aggregate handles.
    pub(crate) fn replies(&self, aggregate: &str) -> &'static [ReplySource] {
        self.0.get(aggregate).map_or(&[], |aggregate| aggregate.replies())
    }

    /// Has an instance handle a message that the runtime delivers.
    pub(crate) async fn handle_carried(
        &self,
        message: &InboundMessage,
    ) -> Result<Delivered, Failure> {
        match self.0.get(message.stream.category()) {
            Some(aggregate) => aggregate.handle_carried(message).await,
            None => Err(Failure::unregistered("aggregate", message.stream.category())),
        }
    }

    /// Decides a message that the runtime would deliver, on a copy of its recipient's state, and
    /// changes nothing.
    pub(crate) async fn rehearse(&self, message: &InboundMessage) -> Result<Delivered, Failure> {
        match self.0.get(message.stream.category()) {
            Some(aggregate) => aggregate.rehearse(message).await,
            None => Err(Failure::unregistered("aggregate", message.stream.category())),
        }
    }

    fn find(&self, name: &str) -> Result<&Arc<dyn ErasedAggregate>, RegistryError> {
        self.0.get(name).ok_or_else(|| RegistryError::UnknownAggregate {
            name: name.to_owned(),
            known: self.0.keys().copied().collect::<Vec<_>>().join(", "),
        })
    }
}

type Receipt = composable_rust_core::Receipt;

pub(crate) trait ErasedAggregate: Send + Sync {
    fn replies(&self) -> &'static [ReplySource];
    fn handle_carried<'a>(
        &'a self,
        message: &'a InboundMessage,
    ) -> BoxFuture<'a, Result<Delivered, Failure>>;
    fn commands(&self) -> &'static [MessageKind];
    fn events(&self) -> &'static [MessageKind];
    fn decode(&self, event: &StoredEvent) -> Result<Option<String>, LoadError>;
    fn decode_command(
        &self,
        stream: &StreamId,
        content: &EncodedMessage,
    ) -> Result<String, DecodeError>;
    fn decode_queued_event(
        &self,
        stream: &StreamId,
        content: &EncodedMessage,
    ) -> Result<String, DecodeError>;
    fn instance<'a>(
        &'a self,
        stream: &'a StreamId,
        until: Option<Version>,
    ) -> BoxFuture<'a, Result<LoadedInstance, LoadError>>;
    fn rehearse<'a>(
        &'a self,
        message: &'a InboundMessage,
    ) -> BoxFuture<'a, Result<Delivered, Failure>>;
    fn send<'a>(
        &'a self,
        stream: &'a StreamId,
        command: NamedCommand<'a>,
    ) -> BoxFuture<'a, Result<Receipt, RegistryError>>;
}

impl<A: Aggregate> ErasedAggregate for AggregateRuntimeRef<A> {
    fn replies(&self) -> &'static [ReplySource] {
        A::Command::REPLIES
    }

    fn handle_carried<'a>(
        &'a self,
        message: &'a InboundMessage,
    ) -> BoxFuture<'a, Result<Delivered, Failure>> {
        Box::pin(self.0.handle_carried(message))
    }

    fn commands(&self) -> &'static [MessageKind] {
        A::Command::KINDS
    }

    fn events(&self) -> &'static [MessageKind] {
        A::Event::KINDS
    }

    fn decode(&self, event: &StoredEvent) -> Result<Option<String>, LoadError> {
        let Some(content) = event.content.present() else { return Ok(None) };
        let failed = |source| undecodable(event, source);
        let decoded: A::Event =
            self.0.shared.codecs.decode(&event.stream, content).map_err(failed)?;
        Ok(Some(json(&decoded)))
    }

    fn decode_command(
        &self,
        stream: &StreamId,
        content: &EncodedMessage,
    ) -> Result<String, DecodeError> {
        let decoded: A::Command = self.0.shared.codecs.decode(stream, content)?;
        Ok(json(&decoded))
    }

    fn decode_queued_event(
        &self,
        stream: &StreamId,
        content: &EncodedMessage,
    ) -> Result<String, DecodeError> {
        let decoded: A::Event = self.0.shared.codecs.decode(stream, content)?;
        Ok(json(&decoded))
    }

    fn rehearse<'a>(
        &'a self,
        message: &'a InboundMessage,
    ) -> BoxFuture<'a, Result<Delivered, Failure>> {
        Box::pin(self.0.rehearse(message))
    }

    fn instance<'a>(
        &'a self,
        stream: &'a StreamId,
        until: Option<Version>,
    ) -> BoxFuture<'a, Result<LoadedInstance, LoadError>> {
        Box::pin(async move {
            let shared = &self.0.shared;
            let loaded = match until {
                None => {
                    load::<A>(&shared.store, &shared.codecs, stream, self.0.fingerprint).await?
                }
                Some(_) => load_events::<A>(&shared.store, &shared.codecs, stream, until).await?,
            };
            let state = serde_json::to_string(&loaded.state);
            let state = state.unwrap_or_else(|_| debug(&loaded.state));
            let is_finished = loaded.state.is_finished();
            Ok(LoadedInstance { state, version: loaded.version, is_finished })
        })
    }

    fn send<'a>(
        &'a self,
        stream: &'a StreamId,
        command: NamedCommand<'a>,
    ) -> BoxFuture<'a, Result<Receipt, RegistryError>> {
        let NamedCommand { name, content, key, user } = command;
        Box::pin(async move {
            let invalid = |reason| RegistryError::InvalidCommand { name: name.to_owned(), reason };
            let kind =
                A::Command::KINDS.iter().find(|kind| kind.name == name).ok_or_else(|| {
                    let known: Vec<_> = A::Command::KINDS.iter().map(|kind| kind.name).collect();
                    invalid(format!("the aggregate's commands are: {}", known.join(", ")))
                })?;
            let command = A::Command::decode(name, kind.version, Format::Json, content.as_bytes())
                .map_err(|error| invalid(error_chain(&error)))?;
            let id = Id::<A>::parse(stream.id()).map_err(|error| invalid(error.to_string()))?;
            let handle = crate::Handle { id, runtime: Arc::clone(&self.0) };
            let mut send = handle.send(command);
            if let Some(key) = key {
                send = send.key(key);
            }
            if let Some(user) = user {
                send = send.by(user);
            }
            send.await.map_err(RegistryError::of_send)
        })
    }
}

/// An aggregate's runtime in the registry.
pub(crate) struct AggregateRuntimeRef<A: Aggregate>(pub(crate) Arc<AggregateRuntime<A>>);

/// Returns a message as JSON text.
pub(crate) fn json(message: &impl Message) -> String {
    match message.encode(Format::Json).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        _ => debug(message),
    }
}

/// Returns the `Debug` text of a value that JSON cannot express, as a JSON string.
fn debug(value: &impl fmt::Debug) -> String {
    serde_json::Value::String(format!("{value:?}")).to_string()
}
