//! Messages on the bus: CloudEvents in Kafka's binary form, so that any client can read them.
//!
//! (CloudEvents 1.0.2, "Kafka Protocol Binding", section 3.2: attributes are headers `ce_…`, the
//! data's type is the header `content-type`.)

use composable_rust_core::{
    BusMessage, CorrelationId, Encoded, EventId, Format, Message, Metadata, NewOutboxRow, Position,
    Recorded, RecordedEvent, StreamId, Target, Timestamp, Version,
};
use uuid::Uuid;

use super::policies::{ForeignRecord, PolicyError, guarded, is_trace, unreadable};
use crate::plan::json;

const BINCODE: &str = "application/x-bincode";
const JSON: &str = "application/json";

/// The topic of a target's events.
pub(crate) fn events_topic(target: &str) -> String {
    format!("{target}-events")
}

/// The topic of what is sent to a target's instances: commands and replies.
pub(crate) fn commands_topic(target: &str) -> String {
    format!("{target}-commands")
}

fn content_type(format: Format) -> &'static str {
    match format {
        Format::Binary => BINCODE,
        Format::Json => JSON,
    }
}

/// An event for its topic.
pub(crate) fn event_message(
    topic: &str,
    log: Uuid,
    event: &RecordedEvent,
    name: &str,
    schema: u16,
    format: Format,
    payload: Vec<u8>,
) -> BusMessage {
    let metadata = event.metadata();
    let mut headers = vec![
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", event.id.to_string()),
        ("ce_source", format!("urn:uuid:{log}")),
        ("ce_type", name.to_owned()),
        ("ce_subject", event.stream.to_string()),
        ("ce_time", event.recorded_at.to_string()),
        ("content-type", content_type(format).to_owned()),
        ("ce_schemaversion", schema.to_string()),
        ("ce_streamversion", event.version.to_string()),
        ("ce_position", event.position.to_string()),
    ];
    if let Some(metadata) = metadata {
        headers.push(("ce_correlationid", metadata.correlation_id.to_string()));
        headers.push(("ce_causationid", metadata.causation_id.to_string()));
        headers.extend(metadata.user.map(|user| ("ce_user", user)));
        headers.extend(metadata.traceparent.map(|parent| ("traceparent", parent)));
    }
    BusMessage {
        topic: topic.to_owned(),
        key: event.stream.to_string(),
        headers: named(headers),
        payload,
    }
}

/// A command or reply for the topic of its recipient's type.
pub(crate) fn effect_message(log: Uuid, sender: &StreamId, row: &NewOutboxRow) -> BusMessage {
    let category = row.recipient.split('-').next().unwrap_or_default();
    let headers = vec![
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", row.id.to_string()),
        ("ce_source", format!("urn:uuid:{log}")),
        ("ce_type", row.content.name.to_string()),
        ("ce_subject", row.recipient.clone()),
        ("content-type", "application/octet-stream".to_owned()),
        ("ce_schemaversion", row.content.version.to_string()),
        ("ce_codec", row.content.codec.to_string()),
        ("ce_sender", sender.to_string()),
        ("ce_metadata", leaving(log, &row.metadata)),
    ];
    BusMessage {
        topic: commands_topic(category),
        key: row.recipient.clone(),
        headers: named(headers),
        payload: row.content.bytes.clone(),
    }
}

/// Metadata as other services read it: they must know where the askers of this one live.
fn leaving(log: Uuid, metadata: &str) -> String {
    let Ok(mut metadata) = serde_json::from_str::<Metadata>(metadata) else {
        return metadata.to_owned();
    };
    for address in &mut metadata.return_addresses {
        address.service.get_or_insert(log);
    }
    json(&metadata)
}

/// Metadata as this service reads it: its own askers live here.
fn arriving(log: Uuid, mut metadata: Metadata) -> String {
    for address in &mut metadata.return_addresses {
        if address.service == Some(log) {
            address.service = None;
        }
    }
    json(&metadata)
}

fn named(headers: Vec<(&str, String)>) -> Vec<(String, String)> {
    headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What came over the bus for an instance here: its sender, and the effect as the outbox holds it.
pub(crate) fn received(log: Uuid, message: &BusMessage) -> Result<(String, NewOutboxRow), String> {
    let header = |name: &str| {
        message.header(name).map(str::to_owned).ok_or_else(|| format!("it has no header `{name}`"))
    };
    let invalid = |name: &str| format!("its header `{name}` cannot be read");
    let recipient: StreamId = header("ce_subject")?.parse().map_err(|_| invalid("ce_subject"))?;
    let metadata = serde_json::from_str(&header("ce_metadata")?);
    let metadata = arriving(log, metadata.map_err(|_| invalid("ce_metadata"))?);
    let content = Encoded {
        name: header("ce_type")?.into(),
        version: header("ce_schemaversion")?.parse().map_err(|_| invalid("ce_schemaversion"))?,
        codec: header("ce_codec")?.into(),
        bytes: message.payload.clone(),
    };
    let row = NewOutboxRow {
        id: header("ce_id")?.parse().map_err(|_| invalid("ce_id"))?,
        kind: composable_rust_core::OutboxKind::Dispatch,
        target: recipient.category().to_owned(),
        recipient: recipient.to_string(),
        content,
        metadata,
    };
    Ok((header("ce_sender")?, row))
}

/// An event of another service's target.
pub(super) fn recorded<S: Target>(
    record: &ForeignRecord,
) -> Result<Option<Recorded<S::Event>>, PolicyError> {
    let header = |name: &str| {
        record.header(name).ok_or_else(|| PolicyError::Failed(format!("it has no header `{name}`")))
    };
    let invalid = |name: &str| PolicyError::Failed(format!("its header `{name}` cannot be read"));
    let stream: StreamId = header("ce_subject")?.parse().map_err(|_| invalid("ce_subject"))?;
    let format = match header("content-type")? {
        BINCODE => Format::Binary,
        JSON => Format::Json,
        other => return Err(PolicyError::Failed(format!("`{other}` is no known content type"))),
    };
    let schema = header("ce_schemaversion")?.parse().map_err(|_| invalid("ce_schemaversion"))?;
    let name = header("ce_type")?;
    // Upcasters are code of users.
    let event = guarded(|| S::Event::decode(name, schema, format, &record.payload))?
        .map_err(|error| unreadable(&error))?;
    let version: u64 =
        header("ce_streamversion")?.parse().map_err(|_| invalid("ce_streamversion"))?;
    let uuid = |name: &str| header(name)?.parse::<Uuid>().map_err(|_| invalid(name));
    let position: Position = header("ce_position")?.parse().map_err(|_| invalid("ce_position"))?;
    let recorded_at: Timestamp = header("ce_time")?.parse().map_err(|_| invalid("ce_time"))?;
    // An event that was appended without metadata has none here either.
    let known = record.header("ce_correlationid").is_some();
    let metadata = || -> Result<Metadata, PolicyError> {
        Ok(Metadata {
            correlation_id: CorrelationId(uuid("ce_correlationid")?),
            causation_id: uuid("ce_causationid")?,
            user: record.header("ce_user").map(str::to_owned),
            traceparent: record.header("traceparent").filter(is_trace).map(str::to_owned),
            return_addresses: Vec::new(),
            reply: None,
        })
    };
    let metadata = known.then(metadata).transpose()?;
    let (id, version) = (EventId(uuid("ce_id")?), Version::new(version));
    Ok(Some(Recorded { event, id, stream, version, position, metadata, recorded_at }))
}
