//! Recorded events as JSON.

use composable_rust_core::codec::Format;
use composable_rust_core::{Message, Position, Recorded, Timestamp, Version};
use serde::Serialize;
use serde_json::Value;

/// A recorded event. The type and the content of an erased event are `null`.
#[derive(Debug, Serialize)]
pub(crate) struct EventJson {
    version: Version,
    position: Position,
    recorded_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(rename = "type")]
    kind: Option<&'static str>,
    content: Option<Value>,
}

impl EventJson {
    pub(crate) fn of<E: Message>(recorded: &Recorded<Option<E>>) -> Self {
        let event = recorded.event.as_ref();
        let content = event.and_then(|event| event.encode(Format::Json).ok());
        Self {
            version: recorded.version,
            position: recorded.position,
            recorded_at: recorded.recorded_at,
            user: recorded.metadata.as_ref().and_then(|metadata| metadata.user.clone()),
            kind: event.map(|event| event.kind().name),
            content: content.and_then(|bytes| serde_json::from_slice(&bytes).ok()),
        }
    }
}
