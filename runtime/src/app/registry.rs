//! Aggregates by name, their types erased: for operators' tools.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use composable_rust_core::{
    Aggregate, Format, Id, Message as _, MessageKind, ReplySource, StoredEvent, StreamId, Version,
};
use futures_util::future::BoxFuture;

use crate::app::unknown_messages::NewerCode;
use crate::error::{LoadError, error_chain};
use crate::instance::load::{load, load_events, undecodable};
use crate::instance::receive::{DeliveryOutcome, InboundMessage};
use crate::instance::runtime::AggregateRuntime;

/// The registered aggregates by name: decode events, fold streams, parse commands, all as JSON text,
/// so that every number is exact.
///
/// Messages are in the version that the derive writes: where an attribute holds it back
/// (`#[message(write = N)]`), events are shown and commands are taken in version N.
#[derive(Clone)]
pub struct Registry(BTreeMap<&'static str, Arc<dyn ErasedAggregate>>);

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// Why the registry cannot answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No aggregate of this name is registered.
    #[error("no aggregate is called `{name}`; there are: {known}")]
    UnknownAggregate {
        /// What was asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// The text is not such a command.
    #[error("this is not the command `{name}`: {reason}")]
    InvalidCommand {
        /// What it should be.
        name: String,
        /// Why it is not.
        reason: String,
    },
    /// The stream cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The command was refused or failed; see the code.
    #[error("{message}")]
    Refused {
        /// The stable name of the rejection or error.
        code: &'static str,
        /// In words.
        message: String,
    },
}

impl Registry {
    pub(crate) fn new(aggregates: BTreeMap<&'static str, Arc<dyn ErasedAggregate>>) -> Self {
        Self(aggregates)
    }

    /// The names of the aggregates.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    /// Every variant of the aggregate's commands.
    ///
    /// # Errors
    ///
    /// There is no such aggregate.
    pub fn commands(&self, aggregate: &str) -> Result<&'static [MessageKind], RegistryError> {
        Ok(self.find(aggregate)?.commands())
    }

    /// Every variant of the aggregate's events.
    ///
    /// # Errors
    ///
    /// There is no such aggregate.
    pub fn events(&self, aggregate: &str) -> Result<&'static [MessageKind], RegistryError> {
        Ok(self.find(aggregate)?.events())
    }

    /// The content of a stored event as JSON text, in the version that is written; `None` if it is erased.
    ///
    /// # Errors
    ///
    /// No aggregate has the stream's category, or the event cannot be decoded.
    pub fn decode(&self, event: &StoredEvent) -> Result<Option<String>, RegistryError> {
        Ok(self.find(event.stream.category())?.decode(event)?)
    }

    /// The state of a stream as JSON text, and its version; as it was at `until`, if given.
    ///
    /// # Errors
    ///
    /// No aggregate has the stream's category, or the stream cannot be loaded.
    pub async fn state(
        &self,
        stream: &StreamId,
        until: Option<Version>,
    ) -> Result<(String, Version), RegistryError> {
        Ok(self.find(stream.category())?.state(stream, until).await?)
    }

    /// Sends the command called `name`, whose content is given as JSON text, to the instance of a
    /// stream.
    ///
    /// # Errors
    ///
    /// No aggregate has the stream's category, the content is not that command's, or the command
    /// was refused.
    pub async fn send(
        &self,
        stream: &StreamId,
        name: &str,
        content: &str,
    ) -> Result<composable_rust_core::Receipt, RegistryError> {
        self.find(stream.category())?.send(stream, name, content).await
    }

    /// Whose replies an aggregate takes.
    pub(crate) fn replies(&self, aggregate: &str) -> &'static [ReplySource] {
        self.0.get(aggregate).map_or(&[], |aggregate| aggregate.replies())
    }

    /// Has an instance handle a message that the runtime carries.
    pub(crate) async fn handle_carried(&self, message: &InboundMessage) -> DeliveryOutcome {
        match self.0.get(message.stream.category()) {
            Some(aggregate) => aggregate.handle_carried(message).await,
            None => DeliveryOutcome::Newer(NewerCode::unregistered(
                "aggregate",
                message.stream.category(),
            )),
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
    fn handle_carried<'a>(&'a self, message: &'a InboundMessage) -> BoxFuture<'a, DeliveryOutcome>;
    fn commands(&self) -> &'static [MessageKind];
    fn events(&self) -> &'static [MessageKind];
    fn decode(&self, event: &StoredEvent) -> Result<Option<String>, LoadError>;
    fn state<'a>(
        &'a self,
        stream: &'a StreamId,
        until: Option<Version>,
    ) -> BoxFuture<'a, Result<(String, Version), LoadError>>;
    fn send<'a>(
        &'a self,
        stream: &'a StreamId,
        name: &'a str,
        content: &'a str,
    ) -> BoxFuture<'a, Result<Receipt, RegistryError>>;
}

impl<A: Aggregate> ErasedAggregate for AggregateRuntimeRef<A> {
    fn replies(&self) -> &'static [ReplySource] {
        A::Command::REPLIES
    }

    fn handle_carried<'a>(&'a self, message: &'a InboundMessage) -> BoxFuture<'a, DeliveryOutcome> {
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
        let text = decoded.encode(Format::Json);
        Ok(Some(match text.map(String::from_utf8) {
            Ok(Ok(text)) => text,
            _ => debug(&decoded),
        }))
    }

    fn state<'a>(
        &'a self,
        stream: &'a StreamId,
        until: Option<Version>,
    ) -> BoxFuture<'a, Result<(String, Version), LoadError>> {
        Box::pin(async move {
            let shared = &self.0.shared;
            let folded = match until {
                None => {
                    load::<A>(&shared.store, &shared.codecs, stream, self.0.fingerprint).await?
                }
                Some(_) => load_events::<A>(&shared.store, &shared.codecs, stream, until).await?,
            };
            let state = serde_json::to_string(&folded.state);
            let state = state.unwrap_or_else(|_| debug(&folded.state));
            Ok((state, folded.version))
        })
    }

    fn send<'a>(
        &'a self,
        stream: &'a StreamId,
        name: &'a str,
        content: &'a str,
    ) -> BoxFuture<'a, Result<Receipt, RegistryError>> {
        Box::pin(async move {
            let invalid = |reason| RegistryError::InvalidCommand { name: name.to_owned(), reason };
            let kind =
                A::Command::KINDS.iter().find(|kind| kind.name == name).ok_or_else(|| {
                    let known: Vec<_> = A::Command::KINDS.iter().map(|kind| kind.name).collect();
                    invalid(format!("there are: {}", known.join(", ")))
                })?;
            let command = A::Command::decode(name, kind.version, Format::Json, content.as_bytes())
                .map_err(|error| invalid(error_chain(&error)))?;
            let id = Id::<A>::parse(stream.id()).map_err(|error| invalid(error.to_string()))?;
            let handle = crate::Handle { id, runtime: Arc::clone(&self.0) };
            handle.send(command).await.map_err(|error| RegistryError::Refused {
                code: error.code(),
                message: error_chain(&error),
            })
        })
    }
}

/// An aggregate's runtime as the registry holds it.
pub(crate) struct AggregateRuntimeRef<A: Aggregate>(pub(crate) Arc<AggregateRuntime<A>>);

/// What JSON cannot express, as a JSON text that shows it.
fn debug(value: &impl fmt::Debug) -> String {
    serde_json::Value::String(format!("{value:?}")).to_string()
}
