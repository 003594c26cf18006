//! The row of a parked stream: one that a relay does not publish on, because one of its events
//! cannot be published.

use composable_rust_core::codec::{EncodedMessage, Format};
use composable_rust_core::codec::{decode_value, encode_value};
use composable_rust_core::message::derive_id;
use composable_rust_core::queue::{OutboxKind, OutboxMessage};
use composable_rust_core::store::NewOutboxRow;
use composable_rust_core::{StreamId, Version};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The name of the row's content.
const PARKED_STREAM_NAME: &str = "relay.stream";

/// The row's content.
#[derive(Serialize, Deserialize)]
struct ParkedStream {
    /// The version of the first event that is not published.
    from_version: u64,
}

/// Returns the row of a stream that `relay` publishes to `topic` no further than before `version`.
pub(crate) fn parked_stream(
    relay: &str,
    topic: &str,
    log: Uuid,
    stream: &StreamId,
    version: Version,
) -> OutboxMessage {
    let name = [relay, "\0", stream.as_str(), "\0", &version.to_string()];
    let row = NewOutboxRow {
        id: derive_id("parked", log, &name, Uuid::nil(), 0),
        kind: OutboxKind::Policy,
        target: relay.to_owned(),
        recipient: topic.to_owned(),
        content: content(version),
        metadata: String::new(),
    };
    OutboxMessage { sender: stream.clone(), row }
}

/// Returns the row that replaces the row of a parked stream when the event in the way is left out.
pub(crate) fn without_its_first(parked: &OutboxMessage) -> OutboxMessage {
    let mut rest = parked.clone();
    rest.row.id = derive_id("parked", parked.row.id, &[], parked.row.id, 0);
    rest.row.content = content(version_of(&parked.row).next());
    rest
}

/// Returns the version of the first event that is to be published: the first of all if the stream
/// was erased.
pub(crate) fn version_of(row: &NewOutboxRow) -> Version {
    let stream = decode_value::<ParkedStream>(Format::Json, &row.content.bytes);
    Version::new(stream.map_or(1, |stream| stream.from_version))
}

fn content(version: Version) -> EncodedMessage {
    let bytes = encode_value(Format::Json, &ParkedStream { from_version: version.get() })
        .unwrap_or_else(|_| unreachable!("a number is JSON"));
    EncodedMessage { name: PARKED_STREAM_NAME.into(), version: 1, codec: "json".into(), bytes }
}
