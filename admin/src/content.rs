//! Contents of messages and events, decoded as far as possible.

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::{
    CorrelationId, EventId, Metadata, Position, StreamId, Timestamp, Version,
};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::Admin;

/// The content of a message.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// The content, by the names of its fields, as the app's registry decodes it.
    Decoded(Value),
    /// The content as it is stored, without an app that knows the type.
    Json(Value),
    /// The number of bytes of a content that is neither known nor JSON, and the codec that wrote
    /// them.
    Encoded {
        /// The name of the codec.
        codec: String,
        /// The number of bytes.
        bytes: usize,
    },
    /// The content cannot be decoded by this build.
    Undecodable {
        /// The reason.
        error: String,
    },
    /// The content was erased.
    Erased,
    /// The event closes its stream.
    Closed,
}

impl Content {
    /// Returns the content as stored.
    pub(crate) fn raw(content: &EncodedMessage) -> Self {
        match serde_json::from_slice(&content.bytes) {
            Ok(value) if content.codec == "json" => Self::Json(value),
            _ => Self::Encoded { codec: content.codec.to_string(), bytes: content.bytes.len() },
        }
    }

    /// Returns the content in one line.
    pub fn text(&self) -> String {
        match self {
            Self::Decoded(value) | Self::Json(value) => value.to_string(),
            Self::Encoded { codec, bytes } => format!("({bytes} bytes of {codec})"),
            Self::Undecodable { error } => format!("(undecodable: {error})"),
            Self::Erased => "(erased)".to_owned(),
            Self::Closed => "(closed)".to_owned(),
        }
    }
}

/// An event of the log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventView {
    /// The unique id.
    pub id: EventId,
    /// The stream.
    pub stream: StreamId,
    /// The version of the stream at the event.
    pub version: Version,
    /// The position in the log.
    pub position: Position,
    /// The stored name.
    pub name: String,
    /// The version of the content's shape; 0 without a content.
    pub schema_version: u16,
    /// The time of the append.
    pub recorded_at: Timestamp,
    /// The content.
    pub content: Content,
    /// The id of the workflow; `None` if the metadata was erased.
    pub correlation_id: Option<CorrelationId>,
    /// The id of the message that caused the event; `None` if the metadata was erased.
    pub causation_id: Option<Uuid>,
    /// The user who asked.
    pub user: Option<String>,
    /// The W3C trace context.
    pub traceparent: Option<String>,
}

/// A message that waits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MessageView {
    /// The id of the message.
    pub id: Uuid,
    /// The stored name.
    pub name: String,
    /// The version of the content's shape.
    pub schema_version: u16,
    /// The stream that sends the message.
    pub sender: StreamId,
    /// The stream that the message is for, or the id of a timer; empty for a gateway.
    pub recipient: String,
    /// The content.
    pub content: Content,
    /// The id of the workflow.
    pub correlation_id: Option<CorrelationId>,
    /// The id of the event or message that caused the message.
    pub causation_id: Option<Uuid>,
    /// The user who asked.
    pub user: Option<String>,
}

impl Admin {
    /// Returns the view of an event.
    pub(crate) fn event_view(&self, event: &StoredEvent) -> EventView {
        let metadata = event.metadata();
        let of = metadata.as_ref();
        EventView {
            id: event.id,
            stream: event.stream.clone(),
            version: event.version,
            position: event.position,
            name: event.name().to_owned(),
            schema_version: event.content.present().map_or(0, |content| content.version),
            recorded_at: event.recorded_at,
            content: self.event_content(event),
            correlation_id: of.map(|of| of.correlation_id),
            causation_id: of.map(|of| of.causation_id),
            user: of.and_then(|of| of.user.clone()),
            traceparent: of.and_then(|of| of.traceparent.clone()),
        }
    }

    fn event_content(&self, event: &StoredEvent) -> Content {
        let content = match &event.content {
            StoredContent::Present(content) => content,
            StoredContent::Erased => return Content::Erased,
            StoredContent::Closed => return Content::Closed,
        };
        if !self.is_registered(event.stream.category()) {
            return Content::raw(content);
        }
        match self.app.registry().decode(event) {
            Ok(Some(text)) => Content::Decoded(parsed(&text)),
            Ok(None) => Content::Erased,
            Err(error) => Content::Undecodable { error: error_chain(&error) },
        }
    }

    /// Returns the view of a message with its metadata as JSON text.
    pub(crate) fn message_view(
        &self,
        id: Uuid,
        sender: &StreamId,
        recipient: &str,
        (content, metadata): (&EncodedMessage, &str),
    ) -> MessageView {
        let of: Option<Metadata> = serde_json::from_str(metadata).ok();
        MessageView {
            id,
            name: content.name.to_string(),
            schema_version: content.version,
            sender: sender.clone(),
            recipient: recipient.to_owned(),
            content: Content::raw(content),
            correlation_id: of.as_ref().map(|of| of.correlation_id),
            causation_id: of.as_ref().map(|of| of.causation_id),
            user: of.and_then(|of| of.user),
        }
    }
}

/// Parses JSON text that the registry made.
pub(crate) fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// Returns the texts of an error and its sources.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let of = error.to_string();
        if !text.contains(&of) {
            text.push_str(": ");
            text.push_str(&of);
        }
        source = error.source();
    }
    text
}
