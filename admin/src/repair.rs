//! Sending commands, and overriding events.

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::store::EventStore as _;
use composable_rust_core::{Position, StreamId, Version};
use composable_rust_runtime::NamedCommand;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use uuid::Uuid;

use crate::content::error_chain;
use crate::{Admin, AdminError, EventView, Intent};

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SentCommand {
    /// The stream of the instance.
    pub stream: StreamId,
    /// The version of the stream after the command.
    pub version: Version,
    /// The position of its last event; `None` if it caused none.
    pub position: Option<Position>,
}

/// A replacement for the content of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// The stream of the event.
    pub stream: StreamId,
    /// The version of the event.
    pub version: Version,
    /// The content as JSON text.
    pub json: String,
    /// The stored name of the content. Default: that of the event.
    pub name: Option<String>,
    /// The version of the content's shape. Default: that of the event.
    pub schema_version: Option<u16>,
    /// `true` if the content is stored without a check where the type is not registered.
    pub is_unchecked: bool,
}

impl Admin {
    /// Sends the command called `name`, with its content as JSON text, to the instance of a stream,
    /// on behalf of the operator. `key` recognises a repetition of the command; without one, it is
    /// the id of the operation.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotRegistered`]: run the operation in a program that registers the type.
    /// [`AdminError::Registry`]: there is no such command, its content cannot be decoded, or it was
    /// rejected. [`AdminError::OutcomeUnknown`]: call it again with the key in the error.
    pub async fn send(
        &self,
        stream: &StreamId,
        name: &str,
        json: &str,
        key: Option<&str>,
    ) -> Result<SentCommand, AdminError> {
        if !self.is_registered(stream.category()) {
            let category = stream.category().to_owned();
            return Err(AdminError::NotRegistered { category, operation: "send" });
        }
        let operation = Uuid::new_v4();
        let key = key.map_or_else(|| operation.to_string(), str::to_owned);
        let command = NamedCommand::new(name, json).key(&key).by(&self.operator.name);
        let intent = Intent::new("send", format!("{name} to {stream}"));
        let sent = self.audited_as(operation, intent, async || {
            let receipt = self.app.registry().send(stream, command).await.map_err(|source| {
                if source.is_transient() {
                    AdminError::OutcomeUnknown { key: key.clone(), source }
                } else {
                    AdminError::Registry(source)
                }
            })?;
            let (version, position) = (receipt.version, receipt.position);
            let sent = SentCommand { stream: stream.clone(), version, position };
            Ok((sent, format!("version {version}")))
        });
        sent.await
    }

    /// Returns an event as it is, and as it would be with a replacement. Nothing is changed.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`]: there is no such event. [`AdminError::Erased`]: its content was
    /// erased. [`AdminError::Registry`]: this build cannot decode the replacement.
    /// [`AdminError::NotRegistered`]: run the operation in a program that registers the type, or
    /// say that the content is [unchecked](Replacement::is_unchecked).
    /// [`AdminError::OperatorsStream`]: the stream is not to be changed.
    pub async fn rehearse_override(
        &self,
        replacement: &Replacement,
    ) -> Result<(EventView, EventView), AdminError> {
        let category = replacement.stream.category();
        Self::check_not_audit(&replacement.stream)?;
        let before = self.event(&replacement.stream, replacement.version).await?;
        let mut after = before.clone();
        after.content = StoredContent::Present(content_of(replacement, &before)?);
        if self.is_registered(category) {
            self.app.registry().decode(&after)?;
        } else if !replacement.is_unchecked {
            let category = category.to_owned();
            return Err(AdminError::NotRegistered { category, operation: "override" });
        }
        Ok((self.event_view(&before), self.event_view(&after)))
    }

    /// Replaces the content of an event, which loads return from then on; the original stays.
    /// Returns the reason if the stream cannot be loaded afterwards; without a registered type, it
    /// is not tried.
    ///
    /// # Errors
    ///
    /// As [`rehearse_override`](Self::rehearse_override), whose checks come first.
    pub async fn override_event(
        &self,
        replacement: &Replacement,
    ) -> Result<Option<String>, AdminError> {
        let Replacement { stream, version, .. } = replacement;
        let intent = Intent::new("override", format!("{stream} {version}"));
        self.audited(intent, async || {
            self.rehearse_override(replacement).await?;
            let content = content_of(replacement, &self.event(stream, *version).await?)?;
            self.store().override_event(stream, *version, &content).await?;
            let error = match self.state(stream, None).await {
                Ok(_) | Err(AdminError::NotRegistered { .. }) => None,
                Err(error) => Some(error_chain(&error)),
            };
            let result = match &error {
                Some(error) => format!("overridden; the stream cannot be loaded: {error}"),
                None => "overridden".to_owned(),
            };
            Ok((error, result))
        })
        .await
    }

    /// Returns an event by its version.
    async fn event(&self, stream: &StreamId, version: Version) -> Result<StoredEvent, AdminError> {
        let before = Version::new(version.get().saturating_sub(1));
        let events = self.store().load_events(stream, before).take(1);
        let found: Vec<StoredEvent> = events.try_collect().await?;
        let found = found.into_iter().find(|event| event.version == version);
        found.ok_or_else(|| AdminError::not_found("event", format!("{version} of {stream}")))
    }
}

fn content_of(of: &Replacement, event: &StoredEvent) -> Result<EncodedMessage, AdminError> {
    let Some(content) = event.content.present() else {
        return Err(AdminError::Erased { stream: of.stream.clone(), version: of.version });
    };
    Ok(EncodedMessage {
        name: of.name.clone().map_or_else(|| content.name.clone(), Into::into),
        version: of.schema_version.unwrap_or(content.version),
        codec: "json".into(),
        bytes: of.json.clone().into_bytes(),
    })
}
