//! How a bus is opened.

use std::fmt;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::error::ConnectError;
use crate::topics::IfMissing;
use crate::{RedpandaEventBus, connect};

/// The largest payload, in bytes, unless another is chosen: with key and headers it stays below the
/// 1 MiB that brokers take unless they are told otherwise.
pub const DEFAULT_MAX_PAYLOAD_BYTES: usize = (1 << 20) - HEADROOM_BYTES;

/// What a message may have around its payload: key, headers, framing.
pub(crate) const HEADROOM_BYTES: usize = 48 << 10;

/// How the batches of messages are compressed on their way and in the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
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

/// What a subscription does when its group has a position and the broker no longer has the message
/// that stands there: retention removed it before the group came to it, or the topic was made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LostPosition {
    /// Nothing more of that topic partition is delivered (`auto.offset.reset=error`), and the
    /// deliveries say so each ten seconds; the others go on. Messages were lost, or others stand in
    /// their place: look, stop the group, reset its offsets, and start it again.
    #[default]
    Fail,
    /// It begins at the oldest message that is there (`auto.offset.reset=earliest`): what was lost
    /// is not reported.
    Beginning,
}

/// How a [`RedpandaEventBus`] is opened.
///
/// # Example: a topic prefix for each environment, and topics that survive a broker
///
/// ```no_run
/// use std::time::Duration;
/// use composable_rust_redpanda::RedpandaEventBus;
///
/// # async fn f() -> Result<(), composable_rust_redpanda::ConnectError> {
/// let bus = RedpandaEventBus::builder("redpanda-0:9092,redpanda-1:9092,redpanda-2:9092")
///     .client_id("checkout")
///     .topic_prefix("staging.")
///     .partitions(24)
///     .replication(3)
///     .transaction_timeout(Duration::from_secs(10))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing is opened until `connect`"]
pub struct RedpandaEventBusBuilder {
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
    /// How to be let in; the user's own settings come after these.
    pub(crate) security: Vec<(&'static str, String)>,
    pub(crate) raw: Vec<(String, String)>,
}

impl RedpandaEventBusBuilder {
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

    /// The name by which brokers log and limit this client; `composable-rust` unless said.
    pub fn client_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.client_id);
        self
    }

    /// Puts a prefix in front of the names of topics, groups and transactional ids on the wire, so that
    /// several environments can share a cluster, also where one began as a copy of another's database.
    /// Default: none. An environment that changes its prefix begins with new topics and groups.
    pub fn topic_prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.topic_prefix);
        self
    }

    /// Whether to create topics that are not there; `true` unless said. With `false` they must be
    /// there, those of publishers included (`LOG-PURPOSE`, one partition for each of the log); what is
    /// published to one that is missing is refused, and a subscription reads it once it exists.
    /// Foreign topics (`subscribe_external`) are never created, and have no prefix.
    pub fn create_topics(mut self, create: bool) -> Self {
        self.create_topics = create;
        self
    }

    /// How many partitions a topic gets that is created; 12 unless said. This many members of a
    /// group can share it. It should not change later: keys would move, and with them their order.
    pub fn partitions(mut self, count: u16) -> Self {
        self.partitions = count.max(1);
        self
    }

    /// How many brokers keep a copy of a topic that is created; what the cluster's default is unless
    /// said.
    pub fn replication(mut self, factor: u16) -> Self {
        self.replication = Some(factor.max(1));
        self
    }

    /// The largest payload that is published, in bytes; [`DEFAULT_MAX_PAYLOAD_BYTES`] unless said.
    /// Brokers count key, headers and framing too, for which 48 KiB are added. Beyond 1 MiB in all
    /// the broker must be told as well (`message.max.bytes`); topics that are created are told by us.
    ///
    /// [`DEFAULT_MAX_PAYLOAD_BYTES`]: crate::DEFAULT_MAX_PAYLOAD_BYTES
    pub fn max_payload_bytes(mut self, bytes: usize) -> Self {
        self.max_payload_bytes = bytes;
        self
    }

    /// How long to wait for a broker's answer when it is asked about topics, positions and the like; 10
    /// seconds unless said.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// How long `publish` tries; 30 seconds unless said.
    pub fn publish_timeout(mut self, timeout: Duration) -> Self {
        self.publish_timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// Whether publishers use transactions; `true` unless said.
    ///
    /// Where the broker lacks them, say `false`, and know what is lost. Nobody is fenced: a holder
    /// that was frozen and wakes up still publishes, behind what its successor published, so that a
    /// key's messages may come out of order. A batch is not all or nothing: after a failure a part of
    /// it may be there, and all of it is published again. Its position is committed after the batch,
    /// so that after a crash the last batch may be published twice. Retries within a batch still
    /// neither duplicate nor reorder.
    pub fn transactions(mut self, transactions: bool) -> Self {
        self.transactions = transactions;
        self
    }

    /// How long a transaction may stay open (`transaction.timeout.ms`), 10 seconds unless said, and
    /// how long a publisher tries to publish a batch. It should not be longer than the lease of
    /// whoever publishes: for so long can a dead one's transaction hold readers back.
    pub fn transaction_timeout(mut self, timeout: Duration) -> Self {
        self.transaction_timeout = timeout.max(Duration::from_secs(1));
        self
    }

    /// The largest number of publishers that are open at a time. Default: 64. At least 1.
    ///
    /// Each is a client of librdkafka with about four threads, and one more for each further broker.
    /// The relays of an app, one for each published type and log partition, take turns of a second
    /// where there are more of them with something to publish; unused publishers are closed.
    pub fn max_publishers(mut self, count: usize) -> Self {
        self.max_publishers = count.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// How messages are compressed; LZ4 unless said.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// How long `publish` lets a message wait for others to share a request with; 5 milliseconds
    /// unless said. Publishers send their batches at once.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Whether subscriptions see only what was committed; `true` unless said. With `false` they also
    /// see what aborted transactions left behind, which was never published.
    pub fn read_committed(mut self, committed: bool) -> Self {
        self.read_committed = committed;
        self
    }

    /// What to do when the group's position is gone from the broker; [`LostPosition::Fail`] unless
    /// said. A group that has no position begins behind what is known of it from elsewhere, or at the
    /// beginning, either way.
    ///
    /// Brokers forget the positions of a group that was away for a week (Kafka's
    /// `offsets.retention.minutes`, Redpanda's `group_offset_retention_sec`). An app keeps them in its
    /// store too; whoever subscribes by hand says what is known.
    pub fn lost_position(mut self, what: LostPosition) -> Self {
        self.lost_position = what;
        self
    }

    /// How many deliveries of a topic partition a subscription may have given out that are neither
    /// acknowledged nor dropped; 1,000 unless said.
    pub fn max_outstanding(mut self, count: usize) -> Self {
        self.max_outstanding = count.max(1);
        self
    }

    /// As [`max_outstanding`](Self::max_outstanding), in bytes of payload; 16 MiB unless said. One
    /// delivery is given out whatever its size.
    pub fn max_outstanding_bytes(mut self, bytes: usize) -> Self {
        self.max_outstanding_bytes = bytes.max(1);
        self
    }

    /// How many bytes a subscription fetches in advance, for all its partitions together; 16 MiB
    /// unless said. Whole KiB.
    pub fn fetch_queue_bytes(mut self, bytes: usize) -> Self {
        self.fetch_queue_bytes = bytes.max(1 << 10);
        self
    }

    /// How often a subscription commits what was acknowledged; every 100 milliseconds unless said.
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.commit_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// How long a subscription that leaves, or whose partitions are taken away, waits for what is in
    /// hand; 5 seconds unless said. What is not acknowledged by then is delivered again, elsewhere.
    /// The whole group waits.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// After what silence the broker gives a member's partitions to others; 45 seconds unless said.
    /// Brokers set bounds, from 6 seconds to 30 minutes unless configured.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = timeout;
        self
    }

    /// Sets one of librdkafka's own settings, for producers and subscriptions alike; the one that
    /// does not know it ignores it. It wins over whatever else was said here, but not over what the
    /// promises of this crate rest on: idempotence, `acks`, manual commits and the like.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.raw.push((key.to_owned(), value.to_owned()));
        self
    }

    /// What is done about topics that are missing.
    pub(crate) fn if_missing(&self) -> IfMissing {
        if self.create_topics { IfMissing::Create(self.partitions) } else { IfMissing::Refuse }
    }

    /// Opens the bus. Settings are checked; brokers are connected to in the background, so they need
    /// not answer yet: whatever is published or read waits for them, or fails and is to be repeated,
    /// as when they go away later.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Setting`]: a setting is wrong, or contradicts another. Correct it.
    ///
    /// # Cancel safety
    ///
    /// Nothing remains.
    pub async fn connect(self) -> Result<RedpandaEventBus, ConnectError> {
        connect::connect(self).await
    }
}

#[cfg(feature = "tls")]
impl RedpandaEventBusBuilder {
    /// Encrypts connections, and trusts the certificate authorities that the system trusts.
    pub fn tls(mut self) -> Self {
        self.security("security.protocol", "ssl");
        self.security("ssl.ca.location", "probe");
        self
    }

    /// Trusts the certificate authorities in `pem`, and no others. Encrypts connections.
    pub fn tls_authorities(mut self, pem: &str) -> Self {
        if !self.security.iter().any(|(key, _)| *key == "security.protocol") {
            self.security("security.protocol", "ssl");
        }
        self.security.retain(|(key, _)| *key != "ssl.ca.location");
        self.security("ssl.ca.pem", pem);
        self
    }

    /// Shows the brokers a certificate (mutual TLS). Both are PEM.
    pub fn tls_certificate(mut self, certificate: &str, key: &str) -> Self {
        self.security("ssl.certificate.pem", certificate);
        self.security("ssl.key.pem", key);
        self
    }

    /// Logs in with a name and a password, over an encrypted connection: Azure Event Hubs, Confluent
    /// Cloud.
    pub fn sasl_plain(self, user: &str, password: &str) -> Self {
        self.sasl("PLAIN", user, password)
    }

    /// Logs in by SCRAM-SHA-256, over an encrypted connection: Redpanda Cloud.
    pub fn sasl_scram_256(self, user: &str, password: &str) -> Self {
        self.sasl("SCRAM-SHA-256", user, password)
    }

    /// Logs in by SCRAM-SHA-512, over an encrypted connection: Amazon MSK.
    pub fn sasl_scram_512(self, user: &str, password: &str) -> Self {
        self.sasl("SCRAM-SHA-512", user, password)
    }

    fn sasl(mut self, mechanism: &str, user: &str, password: &str) -> Self {
        self.security("security.protocol", "sasl_ssl");
        if !self.security.iter().any(|(key, _)| *key == "ssl.ca.pem") {
            self.security("ssl.ca.location", "probe");
        }
        self.security("sasl.mechanism", mechanism);
        self.security("sasl.username", user);
        self.security("sasl.password", password);
        self
    }

    fn security(&mut self, key: &'static str, value: &str) {
        self.security.retain(|(known, _)| *known != key);
        self.security.push((key, value.to_owned()));
    }
}

impl fmt::Debug for RedpandaEventBusBuilder {
    /// Without the settings that may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedpandaEventBusBuilder")
            .field("brokers", &self.brokers)
            .field("client_id", &self.client_id)
            .field("topic_prefix", &self.topic_prefix)
            .finish_non_exhaustive()
    }
}
