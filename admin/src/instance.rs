//! One instance: its state, and everything of it that waits.

use composable_rust_core::queue::{DeadLetter, InboxEntry};
use composable_rust_core::store::Inspection as _;
use composable_rust_core::{MessageId, StreamId, Version};
use composable_rust_runtime::{LoadError, RegistryError};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use serde_json::Value;

use crate::content::{error_chain, parsed};
use crate::diff::differences;
use crate::{Admin, AdminError, DeadLetterView, Difference, EventView, TimerView, WaitingView};

/// The number of events and of inbox entries that the view of an instance shows.
const SHOWN: usize = 50;
/// The number of rows of each queue among which those of an instance are sought.
const SEARCHED: usize = 10_000;

/// The state of an instance at a version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StateView {
    /// The stream.
    pub stream: StreamId,
    /// The version.
    pub version: Version,
    /// The state as JSON; a text where JSON cannot express it.
    pub state: Value,
}

/// An instance, with everything of it that waits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InstanceView {
    /// The stream.
    pub stream: StreamId,
    /// The version.
    pub version: Version,
    /// The state; `None` if the type is not registered, or the stream cannot be loaded.
    pub state: Option<Value>,
    /// The reason why the state cannot be loaded.
    pub error: Option<String>,
    /// The version of the event that cannot be loaded. Override it, or mend the code.
    pub faulty: Option<Version>,
    /// The last 50 events, oldest first.
    pub events: Vec<EventView>,
    /// The armed timers.
    pub timers: Vec<TimerView>,
    /// The ids of the last 50 messages that the instance has handled, with the versions after them,
    /// newest first.
    pub handled: Vec<HandledView>,
    /// The messages that the instance sends and that wait, among the first 10,000 of each queue.
    pub sending: Vec<WaitingView>,
    /// The messages to the instance that wait, among the first 10,000 of each queue.
    pub receiving: Vec<WaitingView>,
    /// The dead letters from or to the instance, among the first 10,000.
    pub dead_letters: Vec<DeadLetterView>,
}

/// A message that an instance has handled.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HandledView {
    /// The id of the message.
    pub message_id: MessageId,
    /// The version of the stream after it.
    pub version: Version,
    /// `true` if it caused events.
    pub recorded: bool,
}

impl From<InboxEntry> for HandledView {
    fn from(entry: InboxEntry) -> Self {
        Self {
            message_id: entry.message_id,
            version: entry.receipt.version,
            recorded: entry.receipt.position.is_some(),
        }
    }
}

/// Returns the version of the event for which a stream cannot be loaded.
fn faulty_event(error: &AdminError) -> Option<Version> {
    let (AdminError::Registry(RegistryError::Load(error)) | AdminError::Load(error)) = error else {
        return None;
    };
    match error {
        LoadError::Undecodable { version, .. } | LoadError::Unapplicable { version, .. } => {
            Some(*version)
        }
        _ => None,
    }
}

impl Admin {
    /// Returns the state of an instance, at the version `at` or the present one.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotRegistered`]: run the operation in a program that registers the type.
    /// [`AdminError::Registry`]: the stream cannot be loaded.
    pub async fn state(
        &self,
        stream: &StreamId,
        at: Option<Version>,
    ) -> Result<StateView, AdminError> {
        if !self.is_registered(stream.category()) {
            let category = stream.category().to_owned();
            return Err(AdminError::NotRegistered { category, operation: "state" });
        }
        let (state, version) = self.app.registry().state(stream, at).await?;
        Ok(StateView { stream: stream.clone(), version, state: parsed(&state) })
    }

    /// Returns the differences between the states of an instance at two versions, in order of their
    /// paths.
    ///
    /// # Errors
    ///
    /// As [`Admin::state`].
    pub async fn diff(
        &self,
        stream: &StreamId,
        before: Version,
        after: Version,
    ) -> Result<Vec<Difference>, AdminError> {
        let (one, other) =
            (self.state(stream, Some(before)).await?, self.state(stream, Some(after)).await?);
        Ok(differences(&one.state, &other.state))
    }

    /// Returns an instance, with everything of it that waits.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`]: the stream has no events. [`AdminError::Store`]: the store cannot
    /// be read. Retry.
    pub async fn instance(&self, stream: &StreamId) -> Result<InstanceView, AdminError> {
        let store = self.store();
        let summary = self.stream(stream).await?;
        let first = Version::new(summary.version.get().saturating_sub(SHOWN as u64));
        let events = self.history(stream, first, SHOWN).await?.entries;
        let (state, error, faulty) = match self.state(stream, None).await {
            Ok(state) => (Some(state.state), None, None),
            Err(AdminError::NotRegistered { .. }) => (None, None, None),
            Err(error) => (None, Some(error_chain(&error)), faulty_event(&error)),
        };
        let timers = store.timers_of(stream).await?;
        let handled = store.inbox_of(stream, SHOWN).await?;
        let waiting = self.waiting_of(stream, SEARCHED).await?;
        let (sending, receiving) = waiting.into_iter().partition(|of| of.message.sender == *stream);
        let letters = self.app.dead_letters().all().take(SEARCHED);
        let letters: Vec<_> = letters.try_collect().await?;
        let is_of = |letter: &&DeadLetter| {
            let message = &letter.message;
            message.sender == *stream || message.row.recipient == stream.as_str()
        };
        let dead_letters = letters.iter().filter(is_of);
        Ok(InstanceView {
            stream: stream.clone(),
            version: summary.version,
            state,
            error,
            faulty,
            events,
            timers: timers.iter().map(|timer| self.timer_view(timer)).collect(),
            handled: handled.into_iter().map(HandledView::from).collect(),
            sending,
            receiving,
            dead_letters: dead_letters.map(|letter| self.dead_letter_view(letter)).collect(),
        })
    }
}
