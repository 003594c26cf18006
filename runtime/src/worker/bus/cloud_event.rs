//! Messages on the bus: CloudEvents in Kafka's binary form, so that any client can read them.
//!
//! (CloudEvents 1.0.2, "Kafka Protocol Binding", section 3.2: attributes are headers `ce_…`, the
//! data's type is the header `content-type`.)

use composable_rust_core::event::ERASED;
use composable_rust_core::{
    BusMessage, CorrelationId, EncodedMessage, EventId, Format, LogInfo, MAX_METADATA_BYTES,
    Message, MessageId, Metadata, NewOutboxRow, OutboxKind, OutboxMessage, Position, Recorded,
    ReplyOutcome, Seal, StoredEvent, StreamId, Target, Timestamp, Version, validate_rows,
};
use serde::Deserialize as _;
use uuid::Uuid;

use crate::app::unknown_messages::NewerCode;
use crate::instance::effects::{MAX_RETURN_ADDRESSES, metadata_json};
use crate::worker::bus::positions::late_of;
use crate::worker::bus::received::refused_of;
use crate::worker::bus::seal::{id_on_bus, seal, verified};
use crate::worker::policy::policy::{ExternalRecord, PolicyError, guarded, is_trace, unreadable};

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
        ("ce_source", urn(log)),
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

/// The version of what commands and replies consist of on the bus. A message of a later one waits for
/// newer code.
const ENVELOPE_VERSION: u32 = 1;

/// The largest metadata on the bus, in bytes: what a recipient adds must fit beside it.
const MAX_METADATA_ON_BUS: usize = MAX_METADATA_BYTES - 1_024;

/// What the bus leaves beside the payload.
const SMALL_METADATA: usize = 32 << 10;

/// The target type of a recipient, which names its topic.
pub(crate) fn category_of(recipient: &str) -> &str {
    recipient.split('-').next().unwrap_or_default()
}

/// A command or reply for the topic of its recipient's type.
pub(crate) fn effect_message(log: &LogInfo, sender: &StreamId, row: &NewOutboxRow) -> BusMessage {
    let OutgoingEnvelope { id, source, sender, metadata } = leaving(log, sender, row);
    let headers = vec![
        ("ce_specversion", "1.0".to_owned()),
        ("ce_envelope", ENVELOPE_VERSION.to_string()),
        ("ce_id", id.to_string()),
        ("ce_source", urn(source)),
        ("ce_type", row.content.name.to_string()),
        ("ce_subject", row.recipient.clone()),
        ("content-type", "application/octet-stream".to_owned()),
        ("ce_schemaversion", row.content.version.to_string()),
        ("ce_codec", row.content.codec.to_string()),
        ("ce_sender", sender),
        ("ce_metadata", metadata),
    ];
    BusMessage {
        topic: commands_topic(category_of(&row.recipient)),
        key: row.recipient.clone(),
        headers: named(headers),
        payload: row.content.bytes.clone(),
    }
}

/// Why a command or reply is too large for the bus, or for its recipient.
pub(crate) fn excess(message: &BusMessage, most: Option<usize>) -> Option<String> {
    let metadata = message.header("ce_metadata").map_or(0, str::len);
    if metadata > MAX_METADATA_ON_BUS {
        return Some(format!(
            "its metadata has {metadata} bytes on the bus, {MAX_METADATA_ON_BUS} are allowed"
        ));
    }
    let size = message.payload.len() + metadata.saturating_sub(SMALL_METADATA);
    let most = most.filter(|most| size > *most)?;
    Some(format!("{size} bytes are more than the {most} that the bus takes"))
}

/// What a message is known by on the bus.
struct OutgoingEnvelope {
    id: Uuid,
    source: Uuid,
    sender: String,
    metadata: String,
}

/// The message as other services read it: they must know where the askers of this one live, and send
/// back the proof that this service has asked.
fn leaving(log: &LogInfo, sender: &StreamId, row: &NewOutboxRow) -> OutgoingEnvelope {
    let (id, source) = (id_on_bus(log, row.id), log.id);
    let mut leaving =
        OutgoingEnvelope { id, source, sender: sender.to_string(), metadata: String::new() };
    let Ok(mut metadata) = serde_json::from_str::<Metadata>(&row.metadata) else {
        leaving.metadata.clone_from(&row.metadata);
        return leaving;
    };
    for address in &mut metadata.return_addresses {
        address.service.get_or_insert(log.id);
    }
    let nearest = metadata.return_addresses.last().filter(|_| metadata.reply.is_none());
    if let Some(nearest) = nearest {
        match (nearest.service, &nearest.seal) {
            // Another service's request, which is passed on, is still that service's.
            (Some(service), Some(seal)) if service != log.id => {
                (leaving.id, leaving.source) = (seal.message, service);
                let named = sender.as_str().strip_prefix(&*foreign_prefix(service));
                named.unwrap_or(sender.as_str()).clone_into(&mut leaving.sender);
            }
            _ => seal(log, id, &mut metadata),
        }
    }
    leaving.metadata = metadata_json(&metadata);
    leaving
}

fn named(headers: Vec<(&str, String)>) -> Vec<(String, String)> {
    headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

const URN: &str = "urn:uuid:";

fn urn(log: Uuid) -> String {
    format!("{URN}{log}")
}

fn foreign_prefix(service: Uuid) -> String {
    format!("bus_{}-", service.simple())
}

/// The name here of a sender in another service: no stream of this log, and no sender of a third
/// service, has it.
pub(crate) fn foreign_sender(service: Uuid, stream: &StreamId) -> StreamId {
    named_sender(service, &foreign_prefix(service), stream)
}

/// The name here of a sender in another service, as one that answers for `target`. Replies that bear
/// a seal have it, so that they wait for nothing that somebody sends in their sender's name.
fn answerer(service: Uuid, target: &str, stream: &StreamId) -> StreamId {
    named_sender(service, &format!("bus_{}_{target}-", service.simple()), stream)
}

fn named_sender(service: Uuid, prefix: &str, stream: &StreamId) -> StreamId {
    format!("{prefix}{stream}").parse().unwrap_or_else(|_| {
        let short = MessageId::from_elsewhere(prefix, stream.as_str());
        let short = format!("{}{short}", foreign_prefix(service)).parse();
        short.unwrap_or_else(|_| unreachable!("a category and a UUID"))
    })
}

/// The sender that a message names, which may be anybody: of a reply, as the one that answers.
pub(crate) fn claimed_sender(message: &BusMessage) -> Option<StreamId> {
    let service = message.header("ce_source")?.strip_prefix(URN)?.parse().ok()?;
    let sender = message.header("ce_sender")?.parse().ok()?;
    let metadata = serde_json::from_str(message.header("ce_metadata").unwrap_or_default());
    let metadata: serde_json::Value = metadata.unwrap_or_default();
    let target = metadata["reply"]["from"].as_str();
    Some(target.map_or_else(
        || foreign_sender(service, &sender),
        |target| answerer(service, target, &sender),
    ))
}

/// Why a message of another service is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EnvelopeError {
    /// Newer code can take it.
    Newer(NewerCode),
    /// Nobody can, or may.
    Never(String),
}

impl From<String> for EnvelopeError {
    fn from(reason: String) -> Self {
        Self::Never(reason)
    }
}

/// A command or reply that came over the bus, with its sender, as the outbox holds it, and its
/// metadata. A reply is one that an instance here has asked for: see [`believed`].
///
/// # Errors
///
/// [`Refusal::Never`] for a message that cannot be read, and for one that claims what its sender
/// cannot know: see [`believed`].
pub(crate) fn received(
    log: &LogInfo,
    message: &BusMessage,
) -> Result<(OutboxMessage, Metadata), EnvelopeError> {
    let header =
        |name: &str| message.header(name).ok_or_else(|| format!("it has no header `{name}`"));
    let invalid = |name: &str| format!("its header `{name}` cannot be read");
    let envelope: u32 = header("ce_envelope")?.parse().map_err(|_| invalid("ce_envelope"))?;
    if envelope > ENVELOPE_VERSION {
        return Err(EnvelopeError::Newer(NewerCode {
            what: format!("envelope version {envelope}"),
            reason: format!(
                "its envelope has version {envelope}, this code knows {ENVELOPE_VERSION}"
            ),
        }));
    }
    let recipient: StreamId = header("ce_subject")?.parse().map_err(|_| invalid("ce_subject"))?;
    if message.topic != commands_topic(recipient.category()) {
        return Err(format!("it is for {recipient}, which has another topic").into());
    }
    let source = header("ce_source")?.strip_prefix(URN).and_then(|log| log.parse().ok());
    let source: Uuid = source.ok_or_else(|| invalid("ce_source"))?;
    let sender: StreamId = header("ce_sender")?.parse().map_err(|_| invalid("ce_sender"))?;
    let id: Uuid = header("ce_id")?.parse().map_err(|_| invalid("ce_id"))?;
    let metadata = header("ce_metadata")?;
    let metadata = serde_json::from_str(metadata).map_err(|_| {
        let newer = unknown_outcome(metadata).map(EnvelopeError::Newer);
        newer.unwrap_or_else(|| invalid("ce_metadata").into())
    })?;
    let metadata = believed(log, &recipient, source, id, metadata)?;
    let short = |name| header(name).and_then(|value| short(name, value));
    let content = EncodedMessage {
        name: short("ce_type")?.to_owned().into(),
        version: header("ce_schemaversion")?.parse().map_err(|_| invalid("ce_schemaversion"))?,
        codec: short("ce_codec")?.to_owned().into(),
        bytes: message.payload.clone(),
    };
    let row = NewOutboxRow {
        id: MessageId::from_elsewhere(&urn(source), &id.to_string()).0,
        kind: OutboxKind::Bulk,
        target: recipient.category().to_owned(),
        recipient: recipient.to_string(),
        content,
        metadata: metadata_json(&metadata),
    };
    let stream = match &metadata.reply {
        Some(reply) => answerer(source, &reply.from, &sender),
        None => foreign_sender(source, &sender),
    };
    let row = OutboxMessage { sender: stream, row };
    validate_rows(std::slice::from_ref(&row)).map_err(|error| error.to_string())?;
    Ok((row, metadata))
}

/// The largest name that is taken from outside, in bytes: names that nothing here knows are kept, and
/// shown.
const MAX_NAME_BYTES: usize = 255;

fn short<'a>(header: &str, name: &'a str) -> Result<&'a str, String> {
    let size = name.len();
    if size > MAX_NAME_BYTES {
        return Err(format!(
            "its header `{header}` has {size} bytes, {MAX_NAME_BYTES} are allowed"
        ));
    }
    Ok(name)
}

/// The outcome of a reply whose metadata cannot be read for it: later versions of the framework know
/// more.
fn unknown_outcome(metadata: &str) -> Option<NewerCode> {
    let metadata: serde_json::Value = serde_json::from_str(metadata).ok()?;
    let outcome = &metadata["reply"]["outcome"];
    let name = outcome.as_str().filter(|name| name.len() <= MAX_NAME_BYTES)?;
    ReplyOutcome::deserialize(outcome).is_err().then(|| NewerCode {
        what: format!("the outcome `{name}` of a reply"),
        reason: format!("no outcome of a reply is called `{name}`"),
    })
}

/// The metadata of another service's message as this service keeps it: its own askers live here, and
/// users named elsewhere are marked.
///
/// A reply must bear the seal of the address that it answers. A request must come from the service
/// that its answer goes to, under the id that the address was sealed for: otherwise somebody sends
/// on what is not theirs, to have it answered by this service in its own name.
fn believed(
    log: &LogInfo,
    recipient: &StreamId,
    source: Uuid,
    id: Uuid,
    mut metadata: Metadata,
) -> Result<Metadata, String> {
    let depth = metadata.return_addresses.len();
    if depth > MAX_RETURN_ADDRESSES {
        return Err(format!("it has {depth} return addresses, {MAX_RETURN_ADDRESSES} are allowed"));
    }
    if source == log.id {
        return Err("it claims to come from this service".to_owned());
    }
    metadata.user_from = metadata.user.is_some().then_some(source);
    if let Some(reply) = &mut metadata.reply {
        if reply.outcome.is_gateways() {
            return Err(format!("no gateway answers over the bus, as `{}` would", reply.from));
        }
        let seal = verified(log, recipient, reply, &metadata.return_addresses);
        let Some(Seal { user, user_from, .. }) = seal.cloned() else {
            return Err(format!(
                "it claims to be a reply of `{}`, but {recipient} has not asked so",
                reply.from
            ));
        };
        reply.seal = None;
        (metadata.user, metadata.user_from) = (user, user_from);
    } else if let Some(nearest) = metadata.return_addresses.last() {
        let sealed_for = nearest.seal.as_ref().map(|seal| seal.message);
        if nearest.service != Some(source) || sealed_for != Some(id) {
            return Err(format!(
                "its answer would go to {}, which has not sent it",
                nearest.stream
            ));
        }
    }
    for address in &mut metadata.return_addresses {
        if address.service == Some(log.id) {
            address.service = None;
        }
    }
    Ok(metadata)
}

/// Whether a record says that the events of its stream were erased over there.
pub(crate) fn is_erasure(record: &ExternalRecord) -> bool {
    record.header("ce_type") == Some(ERASED)
}

/// The senders here of what an erased stream of another service has sent: events and commands.
pub(crate) fn erased_senders(record: &ExternalRecord) -> Vec<StreamId> {
    let subject = || record.header("ce_subject")?.parse::<StreamId>().ok();
    let service = || record.header("ce_source")?.strip_prefix(URN)?.parse().ok();
    // Whoever writes the events of one category does not erase another's.
    let own = |stream: &StreamId| record.topic == events_topic(stream.category());
    let names = |(stream, service): (StreamId, Uuid)| {
        [foreign_sender(service, &stream), answerer(service, stream.category(), &stream)]
    };
    let names = subject().filter(own).zip(service()).map(names);
    let senders = std::iter::once(record.sender_by_key()).chain(names.into_iter().flatten());
    senders.flat_map(|sender| [late_of(&sender), refused_of(&sender), sender]).collect()
}

/// The format that a content type names. Other clients write it in capitals or with parameters, such as
/// `charset=utf-8`.
fn format_of(content_type: &str) -> Result<Format, PolicyError> {
    let name = content_type.split(';').next().unwrap_or_default().trim();
    if name.eq_ignore_ascii_case(BINCODE) {
        Ok(Format::Binary)
    } else if name.eq_ignore_ascii_case(JSON) {
        Ok(Format::Json)
    } else {
        Err(PolicyError::Failed(format!("`{content_type}` is no known content type")))
    }
}

/// An event of another service's target.
pub(crate) fn recorded<S: Target>(
    record: &ExternalRecord,
) -> Result<Option<Recorded<S::Event>>, PolicyError> {
    let header = |name: &str| {
        record.header(name).ok_or_else(|| PolicyError::Failed(format!("it has no header `{name}`")))
    };
    if is_erasure(record) {
        return Ok(None);
    }
    let invalid = |name: &str| PolicyError::Failed(format!("its header `{name}` cannot be read"));
    let stream: StreamId = header("ce_subject")?.parse().map_err(|_| invalid("ce_subject"))?;
    let format = format_of(header("content-type")?)?;
    let schema = header("ce_schemaversion")?.parse().map_err(|_| invalid("ce_schemaversion"))?;
    let name = header("ce_type")?;
    let payload = record.payload.as_deref().unwrap_or_default();
    // Upcasters are code of users.
    let event = guarded(|| S::Event::decode(name, schema, format, payload))?
        .map_err(|error| unreadable(&error))?;
    let version: u64 =
        header("ce_streamversion")?.parse().map_err(|_| invalid("ce_streamversion"))?;
    let uuid = |name: &str| header(name)?.parse::<Uuid>().map_err(|_| invalid(name));
    let position: Position = header("ce_position")?.parse().map_err(|_| invalid("ce_position"))?;
    let recorded_at: Timestamp = header("ce_time")?.parse().map_err(|_| invalid("ce_time"))?;
    // An event that was appended without metadata has none here either.
    let known = record.header("ce_correlationid").is_some();
    let user = record.header("ce_user");
    let source = header("ce_source")?.strip_prefix(URN).and_then(|log| log.parse().ok());
    let source = Some(source.ok_or_else(|| invalid("ce_source"))?);
    let metadata = || -> Result<Metadata, PolicyError> {
        Ok(Metadata {
            correlation_id: CorrelationId(uuid("ce_correlationid")?),
            causation_id: uuid("ce_causationid")?,
            user: user.map(str::to_owned),
            user_from: user.and(source),
            traceparent: record.header("traceparent").filter(is_trace).map(str::to_owned),
            return_addresses: Vec::new(),
            reply: None,
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
