//! Commands and replies on the bus, as CloudEvents: see
//! [`cloud_event`](crate::worker::cloud_event).

use composable_rust_core::bus::BusMessage;
use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::message::{ReplyOutcome, Seal};
use composable_rust_core::queue::{OutboxKind, OutboxMessage};
use composable_rust_core::store::{LogInfo, MAX_METADATA_BYTES, NewOutboxRow, validate_rows};
use composable_rust_core::{MessageId, Metadata, StreamId};
use serde::Deserialize as _;
use uuid::Uuid;

use crate::app::unknown_messages::NewerCode;
use crate::instance::effects::{MAX_RETURN_ADDRESSES, metadata_json};
use crate::worker::bus::seal::{seal, verified};
use crate::worker::cloud_event::{events_topic, log_of, named, source_of};
use crate::worker::external_record::{ExternalRecord, late_of, rejected_of};
use crate::worker::outcome::Failure;
use crate::worker::queued_message::category_of;

/// Returns the topic of the commands and replies that are sent to a target's instances.
pub(crate) fn commands_topic(target: &str) -> String {
    format!("{target}-commands")
}

/// The version of the headers of commands and replies. A message of a later version waits for newer
/// code.
const ENVELOPE_VERSION: u32 = 1;

/// The maximum size of metadata on the bus, in bytes: what a recipient adds must fit beside it.
const MAX_METADATA_ON_BUS: usize = MAX_METADATA_BYTES - 1_024;

/// The size of metadata, in bytes, for which the bus leaves room beside the payload.
const SMALL_METADATA: usize = 32 << 10;

/// Returns the message of a command or reply, as the topic of its recipient's type holds it.
pub(crate) fn effect_message(log: &LogInfo, sender: &StreamId, row: &NewOutboxRow) -> BusMessage {
    let OutgoingEnvelope { id, source, sender, metadata } = leaving(log, sender, row);
    let headers = vec![
        ("ce_specversion", "1.0".to_owned()),
        ("ce_envelope", ENVELOPE_VERSION.to_string()),
        ("ce_id", id.to_string()),
        ("ce_source", source_of(source)),
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

/// Returns the reason for which a command or reply is too large for the bus or its recipient.
pub(crate) fn excess(message: &BusMessage, max_bytes: Option<usize>) -> Option<String> {
    let metadata = message.header("ce_metadata").map_or(0, str::len);
    if metadata > MAX_METADATA_ON_BUS {
        return Some(format!(
            "the metadata has {metadata} bytes on the bus, more than the {MAX_METADATA_ON_BUS} that \
             are allowed"
        ));
    }
    let size = message.payload.len() + metadata.saturating_sub(SMALL_METADATA);
    let max_bytes = max_bytes.filter(|max_bytes| size > *max_bytes)?;
    Some(format!("{size} bytes are more than the {max_bytes} that the bus takes"))
}

/// The headers of a command or reply that identify it on the bus.
struct OutgoingEnvelope {
    id: Uuid,
    source: Uuid,
    sender: String,
    metadata: String,
}

/// Returns the headers for other services: they must know the services to which replies go, and
/// send back the proof that this service has sent the request.
fn leaving(log: &LogInfo, sender: &StreamId, row: &NewOutboxRow) -> OutgoingEnvelope {
    let (id, source) = (log.id_on_bus(row.id), log.id);
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
            // A request that is forwarded for another service remains that service's.
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

fn foreign_prefix(service: Uuid) -> String {
    format!("bus_{}-", service.simple())
}

/// Returns the local name of a sender in another service: no stream of this log, and no sender of a
/// third service, has it.
pub(crate) fn foreign_sender(service: Uuid, stream: &StreamId) -> StreamId {
    named_sender(service, &foreign_prefix(service), stream)
}

/// Returns the local name of a sender in another service that replies for `target`. Sealed replies
/// have it, so that they do not wait behind messages that others send in their sender's name.
fn replier(service: Uuid, target: &str, stream: &StreamId) -> StreamId {
    named_sender(service, &format!("bus_{}_{target}-", service.simple()), stream)
}

fn named_sender(service: Uuid, prefix: &str, stream: &StreamId) -> StreamId {
    format!("{prefix}{stream}").parse().unwrap_or_else(|_| {
        let short = MessageId::from_elsewhere(prefix, stream.as_str());
        let short = format!("{}{short}", foreign_prefix(service)).parse();
        short.unwrap_or_else(|_| unreachable!("a category and a UUID"))
    })
}

/// Returns the sender that a message claims, which is not verified; of a reply, as the one that
/// replies.
pub(crate) fn claimed_sender(message: &BusMessage) -> Option<StreamId> {
    let service = log_of(message.header("ce_source")?)?;
    let sender = message.header("ce_sender")?.parse().ok()?;
    let metadata = serde_json::from_str(message.header("ce_metadata").unwrap_or_default());
    let metadata: serde_json::Value = metadata.unwrap_or_default();
    let target = metadata["reply"]["from"].as_str();
    Some(target.map_or_else(
        || foreign_sender(service, &sender),
        |target| replier(service, target, &sender),
    ))
}

/// Reads a command or reply of another service. Returns the row that the outbox holds of it, and
/// its metadata. A reply is one that an instance of this service has asked for: see
/// [`verified_metadata`].
///
/// # Errors
///
/// - [`Failure::NeedsNewerCode`]: a later version of the framework wrote it.
/// - [`Failure::Poison`]: it cannot be read, or claims what its sender cannot know: see
///   [`verified_metadata`].
pub(crate) fn received(
    log: &LogInfo,
    message: &BusMessage,
) -> Result<(OutboxMessage, Metadata), Failure> {
    let header = |name: &str| {
        let missing = || Failure::Poison(format!("the header `{name}` is missing"));
        message.header(name).ok_or_else(missing)
    };
    let invalid = |name: &str| Failure::Poison(format!("the header `{name}` is invalid"));
    let envelope: u32 = header("ce_envelope")?.parse().map_err(|_| invalid("ce_envelope"))?;
    if envelope > ENVELOPE_VERSION {
        return Err(Failure::NeedsNewerCode(NewerCode {
            what: format!("envelope version {envelope}"),
            reason: format!(
                "the envelope has version {envelope}, this code knows {ENVELOPE_VERSION}"
            ),
        }));
    }
    let recipient: StreamId = header("ce_subject")?.parse().map_err(|_| invalid("ce_subject"))?;
    if message.topic != commands_topic(recipient.category()) {
        let reason = format!("the recipient {recipient} has another topic");
        return Err(Failure::Poison(reason));
    }
    let source = log_of(header("ce_source")?).ok_or_else(|| invalid("ce_source"))?;
    let sender: StreamId = header("ce_sender")?.parse().map_err(|_| invalid("ce_sender"))?;
    let id: Uuid = header("ce_id")?.parse().map_err(|_| invalid("ce_id"))?;
    let metadata = header("ce_metadata")?;
    let metadata = serde_json::from_str(metadata).map_err(|_| {
        let newer = unknown_outcome(metadata).map(Failure::NeedsNewerCode);
        newer.unwrap_or_else(|| invalid("ce_metadata"))
    })?;
    let metadata =
        verified_metadata(log, &recipient, source, id, metadata).map_err(Failure::Poison)?;
    let short = |name| header(name).and_then(|value| short(name, value));
    let content = EncodedMessage {
        name: short("ce_type")?.to_owned().into(),
        version: header("ce_schemaversion")?.parse().map_err(|_| invalid("ce_schemaversion"))?,
        codec: short("ce_codec")?.to_owned().into(),
        bytes: message.payload.clone(),
    };
    let row = NewOutboxRow {
        id: MessageId::from_elsewhere(&source_of(source), &id.to_string()).0,
        kind: OutboxKind::Bulk,
        target: recipient.category().to_owned(),
        recipient: recipient.to_string(),
        content,
        metadata: metadata_json(&metadata),
    };
    let stream = match &metadata.reply {
        Some(reply) => replier(source, &reply.from, &sender),
        None => foreign_sender(source, &sender),
    };
    let row = OutboxMessage { sender: stream, row };
    validate_rows(std::slice::from_ref(&row))
        .map_err(|error| Failure::Poison(error.to_string()))?;
    Ok((row, metadata))
}

/// The maximum size of a name that another service gives, in bytes: unknown names are kept, and
/// shown to operators.
const MAX_NAME_BYTES: usize = 255;

fn short<'a>(header: &str, name: &'a str) -> Result<&'a str, Failure> {
    let size = name.len();
    if size > MAX_NAME_BYTES {
        let reason = format!(
            "the header `{header}` has {size} bytes, more than the {MAX_NAME_BYTES} allowed"
        );
        return Err(Failure::Poison(reason));
    }
    Ok(name)
}

/// Returns the unknown outcome because of which the metadata of a reply cannot be read: a later
/// version of the framework knows it.
fn unknown_outcome(metadata: &str) -> Option<NewerCode> {
    let metadata: serde_json::Value = serde_json::from_str(metadata).ok()?;
    let outcome = &metadata["reply"]["outcome"];
    let name = outcome.as_str().filter(|name| name.len() <= MAX_NAME_BYTES)?;
    ReplyOutcome::deserialize(outcome).is_err().then(|| NewerCode {
        what: format!("the outcome `{name}` of a reply"),
        reason: format!("no outcome of a reply is called `{name}`"),
    })
}

/// Verifies the metadata of another service's message and returns it as this service keeps it:
/// return addresses of this service are local, and the user is marked as named by the other
/// service.
///
/// A reply must have the seal of the return address that it replies to. A request must come from
/// the service that gets the reply, under the id that the return address was sealed for: otherwise
/// a third service could forward the request to get the reply of this service in its own name.
fn verified_metadata(
    log: &LogInfo,
    recipient: &StreamId,
    source: Uuid,
    id: Uuid,
    mut metadata: Metadata,
) -> Result<Metadata, String> {
    let depth = metadata.return_addresses.len();
    if depth > MAX_RETURN_ADDRESSES {
        return Err(format!(
            "the message has {depth} return addresses, more than the {MAX_RETURN_ADDRESSES} allowed"
        ));
    }
    if source == log.id {
        return Err("the message claims to come from this service".to_owned());
    }
    metadata.user_from = metadata.user.is_some().then_some(source);
    // Only this service's followers deliver events.
    metadata.follower = None;
    if let Some(reply) = &mut metadata.reply {
        if reply.outcome.is_gateways() {
            return Err(format!(
                "`{}` replies as a gateway, but gateways do not reply over the bus",
                reply.from
            ));
        }
        let seal = verified(log, recipient, reply, &metadata.return_addresses);
        let Some(Seal { user, user_from, .. }) = seal.cloned() else {
            return Err(format!(
                "the message claims to be a reply of `{}` that {recipient} has not asked for",
                reply.from
            ));
        };
        reply.seal = None;
        (metadata.user, metadata.user_from) = (user, user_from);
    } else if let Some(nearest) = metadata.return_addresses.last() {
        let sealed_for = nearest.seal.as_ref().map(|seal| seal.message);
        if nearest.service != Some(source) || sealed_for != Some(id) {
            return Err(format!(
                "the reply would go to {}, which has not sent the request",
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

/// Returns the local senders of the events and commands of a stream that another service has
/// erased.
pub(crate) fn erased_senders(record: &ExternalRecord) -> Vec<StreamId> {
    let subject = || record.header("ce_subject")?.parse::<StreamId>().ok();
    let service = || log_of(record.header("ce_source")?);
    // A record can erase only streams of the category whose topic it is on.
    let own = |stream: &StreamId| record.topic == events_topic(stream.category());
    let names = |(stream, service): (StreamId, Uuid)| {
        [foreign_sender(service, &stream), replier(service, stream.category(), &stream)]
    };
    let names = subject().filter(own).zip(service()).map(names);
    let senders = std::iter::once(record.sender_by_key()).chain(names.into_iter().flatten());
    senders.flat_map(|sender| [late_of(&sender), rejected_of(&sender), sender]).collect()
}
