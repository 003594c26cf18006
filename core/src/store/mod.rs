//! The event store: its port, and the rows that go through it.

mod adoption;
pub(crate) mod append;
mod event_store;
mod inspection;
mod log_secret;
mod presence;
mod shared_event_store;
mod snapshot;
mod subscribe;
mod validate;
mod vitals;

pub use adoption::Adoption;
pub use append::{
    Append, AppendOutcome, Due, NewInboxEntry, NewOutboxRow, NewTimer, TimerArming, TimerChange,
};
pub use event_store::{EventStore, LogInfo, StaleSnapshots, StoreError, StreamRow};
pub use inspection::{
    EventFilter, Finding, Inspection, LogRange, NamedCheckpoint, Severity, StreamSummary,
    TimerEntry,
};
pub use log_secret::LogSecret;
pub use presence::Presence;
pub use shared_event_store::SharedEventStore;
pub use snapshot::{Fingerprint, Snapshot};
pub use subscribe::subscribe;
pub use validate::{
    validate_batch, validate_enqueue, validate_partition, validate_rows, validate_settlements,
    validate_timer_settlements,
};
pub use vitals::{PoolStatus, StoreVitals};

pub use crate::limits::{
    DEFAULT_PARTITIONS, MAX_APPEND_BYTES, MAX_CATEGORY_BYTES, MAX_ID_BYTES, MAX_METADATA_BYTES,
    MAX_PAYLOAD_BYTES,
};
pub use crate::version::ExpectedVersion;
