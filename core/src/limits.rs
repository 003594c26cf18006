//! Limits that all stores and services share.

/// Default number of a log's partitions.
pub const DEFAULT_PARTITIONS: u16 = 8;

/// Maximum size of a payload, in bytes: 4 MiB.
pub const MAX_PAYLOAD_BYTES: usize = 4 * 1024 * 1024;

/// Maximum size of metadata, in bytes of JSON text: 64 KiB.
pub const MAX_METADATA_BYTES: usize = 64 * 1024;

/// Maximum size of an append, in bytes of payloads, metadata and outcomes: 64 MiB.
pub const MAX_APPEND_BYTES: usize = 64 * 1024 * 1024;

/// Maximum length of an instance's id, in bytes.
pub const MAX_ID_BYTES: usize = 1_024;

/// Maximum length of a category, in bytes.
pub const MAX_CATEGORY_BYTES: usize = 64;
