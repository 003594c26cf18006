//! Builders of appends and their parts.

use std::sync::atomic::{AtomicU64, Ordering};

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::NewEvent;
use composable_rust_core::store::{Append, ExpectedVersion, Fingerprint, NewInboxEntry, Snapshot};
use composable_rust_core::{CorrelationId, EventId, MessageId, Metadata, StreamId, Version};
use uuid::Uuid;

/// An id that is unique within this process.
pub(super) fn fresh_id() -> Uuid {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Uuid::from_u64_pair(0x636f_6e66_6f72_4000, NEXT.fetch_add(1, Ordering::Relaxed) | 1 << 63)
}

pub(super) fn stream(name: &str) -> StreamId {
    name.parse().expect("a stream name")
}

pub(super) fn content(bytes: impl Into<Vec<u8>>) -> EncodedMessage {
    EncodedMessage {
        name: "thing.happened".into(),
        version: 3,
        codec: "raw".into(),
        bytes: bytes.into(),
    }
}

pub(super) fn metadata() -> String {
    let metadata = Metadata {
        correlation_id: CorrelationId(fresh_id()),
        causation_id: fresh_id(),
        user: Some("user \"7\" äöü".to_owned()),
        user_from: Some(Uuid::from_u128(9)),
        traceparent: None,
        return_addresses: Vec::new(),
        reply: None,
        follower: None,
    };
    serde_json::to_string(&metadata).expect("metadata is JSON")
}

/// An event with a unique id, which its payload repeats.
pub(super) fn event() -> NewEvent {
    let id = fresh_id();
    NewEvent { id: EventId(id), content: content(id.as_bytes()), metadata: metadata() }
}

pub(super) fn events(count: usize) -> Vec<NewEvent> {
    (0..count).map(|_| event()).collect()
}

pub(super) const fn exact(version: u64) -> ExpectedVersion {
    ExpectedVersion::Exact(Version::new(version))
}

/// An append of `count` events to a stream at `version`.
pub(super) fn append(stream: &StreamId, version: u64, count: usize) -> Append {
    Append::new(stream.clone(), exact(version)).with_events(events(count))
}

/// An inbox entry of a message with a unique id.
pub(super) fn inbox_entry(first_event: u32, event_count: u32) -> NewInboxEntry {
    let id = fresh_id();
    NewInboxEntry {
        message_id: MessageId(id),
        // Exceeds a signed 64-bit number in both halves.
        digest: u128::MAX - id.as_u128() % 1_000,
        first_event,
        event_count,
        outcome: id.as_bytes().to_vec(),
    }
}

pub(super) fn snapshot(version: u64, fingerprint: Fingerprint) -> Snapshot {
    Snapshot {
        version: Version::new(version),
        fingerprint,
        codec: "raw".to_owned(),
        bytes: format!("state after {version}").into_bytes(),
    }
}

/// Metadata as a value, since a store may change its notation.
pub(super) fn json(metadata: &str) -> serde_json::Value {
    serde_json::from_str(metadata).expect("stored metadata is JSON")
}
