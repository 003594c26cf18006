//! The settings that the builder collects.

use std::time::Duration;

/// The default maximum payload, in bytes: with key, headers and framing it stays below 1 MiB, the
/// largest message that brokers accept by default.
pub const DEFAULT_MAX_PAYLOAD_BYTES: usize = (1 << 20) - HEADROOM_BYTES;

/// The bytes allowed for a message's key, headers and framing in addition to its payload.
pub(crate) const HEADROOM_BYTES: usize = 48 << 10;

/// The compression of batches of messages, on the wire and at the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// No compression.
    None,
    /// LZ4: fast.
    #[default]
    Lz4,
    /// Snappy: fast.
    Snappy,
    /// Gzip: small.
    Gzip,
    /// Zstandard: small, and faster than gzip.
    Zstd,
}

/// The reaction of a subscription to a lost position: its group has a committed offset, but the
/// broker no longer has the message at that offset. Either retention removed the message before the
/// group read it, or the topic was recreated. With [`Fail`](Self::Fail), a group
/// commits the first offset of a partition when it begins to read it, also if there is no message
/// yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LostPosition {
    /// Stops reading that topic partition (`auto.offset.reset=error`) and reports an error every
    /// ten seconds; the other partitions continue.
    ///
    /// Messages may have been lost. Find out which, stop the group, reset its offsets, and start it
    /// again.
    #[default]
    Fail,
    /// Starts at the oldest message that the broker has (`auto.offset.reset=earliest`). Lost
    /// messages are not reported.
    Beginning,
}

/// The settings of a bus.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) brokers: String,
    pub(crate) client_id: String,
    pub(crate) topic_prefix: String,
    pub(crate) create_topics: bool,
    pub(crate) partitions: u16,
    pub(crate) replication: Option<u16>,
    pub(crate) max_payload_bytes: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) publish_timeout: Duration,
    pub(crate) transactions: bool,
    pub(crate) transaction_timeout: Duration,
    pub(crate) max_publishers: usize,
    pub(crate) compression: Compression,
    pub(crate) linger: Duration,
    pub(crate) read_committed: bool,
    pub(crate) lost_position: LostPosition,
    pub(crate) max_outstanding: usize,
    pub(crate) max_outstanding_bytes: usize,
    pub(crate) fetch_queue_bytes: usize,
    pub(crate) commit_interval: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) session_timeout: Duration,
    /// librdkafka's settings for encryption and authentication. The caller's own settings override
    /// them.
    pub(crate) security: Vec<(&'static str, String)>,
    /// librdkafka's settings as the caller set them.
    pub(crate) raw: Vec<(String, String)>,
}

impl Settings {
    pub(crate) fn new(brokers: &str) -> Self {
        Self {
            brokers: brokers.to_owned(),
            client_id: "composable-rust".to_owned(),
            topic_prefix: String::new(),
            create_topics: true,
            partitions: 12,
            replication: None,
            max_payload_bytes: DEFAULT_MAX_PAYLOAD_BYTES,
            connect_timeout: Duration::from_secs(10),
            publish_timeout: Duration::from_secs(30),
            transactions: true,
            transaction_timeout: Duration::from_secs(10),
            max_publishers: 64,
            compression: Compression::default(),
            linger: Duration::from_millis(5),
            read_committed: true,
            lost_position: LostPosition::default(),
            max_outstanding: 1_000,
            max_outstanding_bytes: 16 << 20,
            fetch_queue_bytes: 16 << 20,
            commit_interval: Duration::from_millis(100),
            drain_timeout: Duration::from_secs(5),
            session_timeout: Duration::from_secs(45),
            security: Vec::new(),
            raw: Vec::new(),
        }
    }

    /// The largest message that producers send, in bytes: payload, key, headers and framing.
    pub(crate) fn max_message_bytes(&self) -> usize {
        self.max_payload_bytes.saturating_add(HEADROOM_BYTES)
    }
}
