//! Events on the bus: CloudEvents in Kafka's binary form, so that any client can read them.
//!
//! (CloudEvents 1.0.2, "Kafka Protocol Binding", section 3.2: attributes are headers `ce_…`, the
//! data's type is the header `content-type`.)

use composable_rust_core::bus::BusMessage;
use composable_rust_core::codec::Format;
use composable_rust_core::event::StoredEvent;
use composable_rust_core::{
    CorrelationId, EventId, EventSet, Metadata, Position, Recorded, StreamId, Timestamp, Version,
};
use uuid::Uuid;

use crate::panic::guarded;
use crate::worker::external_record::ExternalRecord;
use crate::worker::outcome::Failure;

const BINCODE: &str = "application/x-bincode";
const JSON: &str = "application/json";

/// Returns the topic of a target's events.
pub(crate) fn events_topic(target: &str) -> String {
    format!("{target}-events")
}

fn content_type(format: Format) -> &'static str {
    match format {
        Format::Binary => BINCODE,
        Format::Json => JSON,
    }
}

/// Returns the message of an event, as its topic holds it.
pub(crate) fn event_message(
    topic: &str,
    log: Uuid,
    event: &StoredEvent,
    name: &str,
    schema: u16,
    format: Format,
    payload: Vec<u8>,
) -> BusMessage {
    let metadata = event.metadata();
    let mut headers = vec![
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", event.id.to_string()),
        ("ce_source", source_of(log)),
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

/// The prefix of a log's id in the header `ce_source`.
const URN: &str = "urn:uuid:";

/// Returns the header `ce_source` of the messages of a log.
pub(crate) fn source_of(log: Uuid) -> String {
    format!("{URN}{log}")
}

/// Returns the log that a header `ce_source` names.
pub(crate) fn log_of(source: &str) -> Option<Uuid> {
    source.strip_prefix(URN)?.parse().ok()
}

pub(crate) fn named(headers: Vec<(&str, String)>) -> Vec<(String, String)> {
    headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Returns `true` if a text of another program may be a trace context, which has 55 characters in
/// its version 0.
pub(crate) fn is_trace(text: &&str) -> bool {
    text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Returns the format of a content type. Other clients write it in capitals or with parameters,
/// such as `charset=utf-8`.
fn format_of(content_type: &str) -> Result<Format, Failure> {
    let name = content_type.split(';').next().unwrap_or_default().trim();
    if name.eq_ignore_ascii_case(BINCODE) {
        Ok(Format::Binary)
    } else if name.eq_ignore_ascii_case(JSON) {
        Ok(Format::Json)
    } else {
        Err(Failure::Failed(format!("the content type `{content_type}` is not supported")))
    }
}

/// Decodes an event of another service's target; `None` if the record is an erasure.
pub(crate) fn recorded<S: EventSet>(
    record: &ExternalRecord,
) -> Result<Option<Recorded<S::Event>>, Failure> {
    let header = |name: &str| {
        let missing = || Failure::Failed(format!("the header `{name}` is missing"));
        record.header(name).ok_or_else(missing)
    };
    if record.is_erasure() {
        return Ok(None);
    }
    let invalid = |name: &str| Failure::Failed(format!("the header `{name}` is invalid"));
    let stream: StreamId = header("ce_subject")?.parse().map_err(|_| invalid("ce_subject"))?;
    let format = format_of(header("content-type")?)?;
    let schema = header("ce_schemaversion")?.parse().map_err(|_| invalid("ce_schemaversion"))?;
    let name = header("ce_type")?;
    let payload = record.payload.as_deref().unwrap_or_default();
    // Upcasters are code of users.
    let event = guarded(|| S::decode_event(stream.category(), name, schema, format, payload))
        .map_err(|message| Failure::panicked(&message))?
        .map_err(|error| Failure::of_decode(&error, Failure::Failed))?;
    let version: u64 =
        header("ce_streamversion")?.parse().map_err(|_| invalid("ce_streamversion"))?;
    let uuid = |name: &str| header(name)?.parse::<Uuid>().map_err(|_| invalid(name));
    let position: Position = header("ce_position")?.parse().map_err(|_| invalid("ce_position"))?;
    let recorded_at: Timestamp = header("ce_time")?.parse().map_err(|_| invalid("ce_time"))?;
    // An event that was appended without metadata is published without it.
    let known = record.header("ce_correlationid").is_some();
    let user = record.header("ce_user");
    let source = Some(log_of(header("ce_source")?).ok_or_else(|| invalid("ce_source"))?);
    let metadata = || -> Result<Metadata, Failure> {
        Ok(Metadata {
            correlation_id: CorrelationId(uuid("ce_correlationid")?),
            causation_id: uuid("ce_causationid")?,
            user: user.map(str::to_owned),
            user_from: user.and(source),
            traceparent: record.header("traceparent").filter(is_trace).map(str::to_owned),
            return_addresses: Vec::new(),
            reply: None,
            follower: None,
        })
    };
    let metadata = known.then(metadata).transpose()?;
    let (id, version) = (EventId(uuid("ce_id")?), Version::new(version));
    Ok(Some(Recorded { event, id, stream, version, position, metadata, recorded_at }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_may_have_parameters() {
        let format = |text| format_of(text).ok();
        for json in ["application/json", "application/json; charset=utf-8", "Application/JSON;a=b"]
        {
            assert_eq!(format(json), Some(Format::Json), "{json}");
        }
        assert_eq!(format("application/x-bincode ;v=2"), Some(Format::Binary));
        for unknown in ["", "application/jsonl", "text/plain; application/json"] {
            assert_eq!(format(unknown), None, "{unknown}");
        }
    }
}
