//! The pure half of Composable Rust.

mod append;
pub mod event;
mod event_store;
mod id;
mod metadata;
mod position;
mod shared_event_store;
mod snapshot;
mod stream;
mod timestamp;
mod validate;
mod version;

pub use append::{
    Append, Due, Mark, NewMark, NewOutboxRow, NewTimer, OutboxKind, Receipt, TimerChange, Verdict,
};
pub use event::{Encoded, NewEvent, Recorded, RecordedEvent, StoredContent};
pub use event_store::{
    DEFAULT_PARTITIONS, EventStore, Loaded, LogInfo, MAX_METADATA_BYTES, MAX_PAYLOAD_BYTES,
    StoreError, subscribe,
};
pub use id::Id;
pub use metadata::{CorrelationId, EventId, MessageId, Metadata, ReturnAddress};
pub use position::{InvalidPosition, Position};
pub use shared_event_store::SharedEventStore;
pub use snapshot::{Fingerprint, Snapshot};
pub use stream::{InvalidId, MAX_ID_BYTES, StreamId};
pub use timestamp::{InvalidTimestamp, Timestamp};
pub use validate::validate_batch;
pub use version::{ExpectedVersion, Version};

/// All that a sender needs to know of what it sends to.
pub trait Target {
    /// Stream category.
    const NAME: &'static str;
}
