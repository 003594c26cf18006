//! Contents of messages and events, decoded as far as possible.

use std::borrow::Cow;

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::queue::OutboxKind;
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
        match std::str::from_utf8(&content.bytes) {
            Ok(text) if content.codec == "json" => Self::Json(parsed(text)),
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

    /// Returns the content of a message in a queue of a kind and target.
    fn message_content(
        &self,
        (kind, target): (OutboxKind, &str),
        sender: &StreamId,
        recipient: &str,
        content: &EncodedMessage,
    ) -> Content {
        let registry = self.app.registry();
        let decoded = match kind {
            OutboxKind::Bulk | OutboxKind::Dispatch | OutboxKind::Send => recipient
                .parse()
                .ok()
                .and_then(|recipient| registry.decode_command(&recipient, content).ok()),
            OutboxKind::Timer => registry.decode_command(sender, content).ok(),
            OutboxKind::Policy | OutboxKind::Projection => {
                registry.decode_queued_event(sender, content).ok()
            }
            OutboxKind::Call => {
                let gateways = self.app.gateways();
                let gateway = gateways.iter().find(|gateway| gateway.name() == target);
                gateway.and_then(|gateway| gateway.decode(sender, content))
            }
        };
        decoded.map_or_else(|| Content::raw(content), |text| Content::Decoded(parsed(&text)))
    }

    /// Returns the view of a message in a queue of a kind and target, with its metadata as JSON
    /// text.
    pub(crate) fn message_view(
        &self,
        id: Uuid,
        queue: (OutboxKind, &str),
        (sender, recipient): (&StreamId, &str),
        (content, metadata): (&EncodedMessage, &str),
    ) -> MessageView {
        let of: Option<Metadata> = serde_json::from_str(metadata).ok();
        MessageView {
            id,
            name: content.name.to_string(),
            schema_version: content.version,
            sender: sender.clone(),
            recipient: recipient.to_owned(),
            content: self.message_content(queue, sender, recipient, content),
            correlation_id: of.as_ref().map(|of| of.correlation_id),
            causation_id: of.as_ref().map(|of| of.causation_id),
            user: of.and_then(|of| of.user),
        }
    }
}

/// Parses JSON text that the registry made. Integers beyond 64 bits, which a [`Value`] would round,
/// become texts.
pub(crate) fn parsed(text: &str) -> Value {
    let exact = with_large_integers_quoted(text);
    serde_json::from_str(&exact).unwrap_or_else(|_| Value::String(text.to_owned()))
}

fn with_large_integers_quoted(text: &str) -> Cow<'_, str> {
    // No integer of fewer digits is large.
    const DIGITS: usize = 19;
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
    let (mut quoted, mut rest) = (String::new(), text);
    while let Some(start) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        quoted.push_str(before);
        let end = if from.starts_with('"') {
            end_of_string(from)
        } else {
            from.find(|c| !is_number(c)).unwrap_or(from.len())
        };
        let (token, after) = from.split_at(end);
        let is_large = token.len() >= DIGITS
            && token.trim_start_matches('-').chars().all(|c| c.is_ascii_digit())
            && token.parse::<i64>().is_err()
            && token.parse::<u64>().is_err();
        if is_large {
            quoted.push('"');
            quoted.push_str(token);
            quoted.push('"');
        } else {
            quoted.push_str(token);
        }
        rest = after;
    }
    if quoted.len() + rest.len() == text.len() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(quoted + rest)
}

/// Returns the length of the JSON string at the beginning of a text.
fn end_of_string(text: &str) -> usize {
    let mut is_escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            '"' if !is_escaped => return index + 1,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    text.len()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::parsed;

    #[test]
    fn large_integers_stay_exact() {
        let text = r#"{"n":340282366920938463463374607431768211455,"u":18446744073709551615,
            "i":-9223372036854775808,"j":-9223372036854775809,"f":0.1,"e":1e30,
            "s":"99999999999999999999 \\" 99999999999999999999","a":[99999999999999999999]}"#;
        let value = parsed(&text.replace("\\\\", "\\"));
        assert_eq!(value["n"], json!("340282366920938463463374607431768211455"));
        assert_eq!(value["u"], json!(u64::MAX));
        assert_eq!((&value["i"], &value["j"]), (&json!(i64::MIN), &json!("-9223372036854775809")));
        assert_eq!((&value["f"], &value["e"]), (&json!(0.1), &json!(1e30)));
        assert_eq!(value["s"], json!("99999999999999999999 \" 99999999999999999999"));
        assert_eq!(value["a"], json!(["99999999999999999999"]));
        assert_eq!(parsed("no json"), json!("no json"));
    }
}
