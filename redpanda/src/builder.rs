//! The builder of a bus.

use std::fmt;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::bus::RedpandaEventBus;
use crate::client::settings::{Compression, LostPosition, Settings};
use crate::connect;
use crate::error::ConnectError;

/// Builder of a [`RedpandaEventBus`].
///
/// # Example: a topic prefix per environment, and topics that survive the loss of a broker
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
#[must_use = "the bus is not opened until `connect`"]
pub struct RedpandaEventBusBuilder {
    pub(crate) settings: Settings,
}

impl RedpandaEventBus {
    /// Opens the bus of `brokers` (`host:port,host:port`) with the builder's default settings.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Setting`]: a setting is invalid or contradicts another. Correct it.
    ///
    /// # Cancel safety
    ///
    /// A dropped call leaves nothing behind.
    pub async fn connect(brokers: &str) -> Result<Self, ConnectError> {
        Self::builder(brokers).connect().await
    }

    /// Returns a builder for the bus of `brokers` (`host:port,host:port`).
    pub fn builder(brokers: &str) -> RedpandaEventBusBuilder {
        RedpandaEventBusBuilder::new(brokers)
    }
}

impl RedpandaEventBusBuilder {
    pub(crate) fn new(brokers: &str) -> Self {
        Self { settings: Settings::new(brokers) }
    }

    /// Sets the client id, which brokers use in logs and quotas (`client.id`).
    /// Default: `composable-rust`.
    pub fn client_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.settings.client_id);
        self
    }

    /// Sets a prefix for the names of topics, groups and transactional ids on the wire. Default:
    /// none.
    ///
    /// Several environments can then share a cluster, even if one started as a copy of another's
    /// database. An environment that changes its prefix starts with new topics and groups.
    pub fn topic_prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.settings.topic_prefix);
        self
    }

    /// Sets whether missing topics are created. Default: `true`.
    ///
    /// With `false`, an operator has to create them, including those of publishers (`LOG-PURPOSE`,
    /// with one partition for each partition of the log). Publishing to a missing topic is
    /// rejected; a subscription reads it once it exists. External topics (`subscribe_external`) are
    /// never created and have no prefix.
    pub fn create_topics(mut self, create: bool) -> Self {
        self.settings.create_topics = create;
        self
    }

    /// Sets the number of partitions of newly created topics. Default: 12.
    ///
    /// At most this many members of a group can share a topic. Do not change the number of
    /// partitions of an existing topic: its keys would move to other partitions and lose their
    /// order.
    pub fn partitions(mut self, count: u16) -> Self {
        self.settings.partitions = count.max(1);
        self
    }

    /// Sets the replication factor of newly created topics. Default: the cluster's.
    pub fn replication(mut self, factor: u16) -> Self {
        self.settings.replication = Some(factor.max(1));
        self
    }

    /// Sets the maximum payload of a message, in bytes. Default: [`DEFAULT_MAX_PAYLOAD_BYTES`].
    ///
    /// Brokers also count key, headers and framing, for which the bus allows 48 KiB more. If the
    /// sum exceeds 1 MiB, raise the broker's `message.max.bytes` too. Newly created topics get a
    /// fitting `max.message.bytes`.
    ///
    /// [`DEFAULT_MAX_PAYLOAD_BYTES`]: crate::DEFAULT_MAX_PAYLOAD_BYTES
    pub fn max_payload_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_payload_bytes = bytes;
        self
    }

    /// Sets the timeout of requests about topics, groups and offsets. Default: 10 seconds.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// Sets the time for which `publish` retries. Default: 30 seconds.
    pub fn publish_timeout(mut self, timeout: Duration) -> Self {
        self.settings.publish_timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// Sets whether publishers use transactions. Default: `true`.
    ///
    /// Set `false` only if the broker does not support transactions. These guarantees are then
    /// lost:
    ///
    /// - Fencing: a holder that was frozen and resumes still publishes, after its successor's
    ///   messages, so that a key's messages may be out of order.
    /// - Atomic batches: after a failure, a part of the batch may remain on the topic, and the
    ///   whole batch is published again.
    /// - Atomic positions: the position is committed after the batch, so that a crash in between
    ///   publishes the last batch twice.
    ///
    /// Retries within a batch still neither duplicate nor reorder messages.
    pub fn transactions(mut self, transactions: bool) -> Self {
        self.settings.transactions = transactions;
        self
    }

    /// Sets the transaction timeout (`transaction.timeout.ms`), which also limits the time for
    /// which a publisher retries a batch. Default: 10 seconds. At least 1 second.
    ///
    /// It should not exceed the lease time-to-live of the publishing process: the open transaction
    /// of a crashed publisher can block readers for this long.
    pub fn transaction_timeout(mut self, timeout: Duration) -> Self {
        self.settings.transaction_timeout = timeout.max(Duration::from_secs(1));
        self
    }

    /// Sets the maximum number of open publishers. Default: 64. At least 1.
    ///
    /// Each is a librdkafka client with about four threads, and one more for each further broker.
    /// An app has one relay for each published type and log partition. If more relays than this
    /// have events to publish, they take turns of one second; unused publishers are closed.
    pub fn max_publishers(mut self, count: usize) -> Self {
        self.settings.max_publishers = count.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// Sets the compression of messages. Default: LZ4.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.settings.compression = compression;
        self
    }

    /// Sets the time for which `publish` delays a message to send it in one request with others
    /// (`linger.ms`). Default: 5 milliseconds. Publishers send their batches without this delay.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.settings.linger = linger;
        self
    }

    /// Sets whether subscriptions read committed messages only. Default: `true`. With `false` they
    /// also read the messages of aborted transactions, which were never published.
    pub fn read_committed(mut self, committed: bool) -> Self {
        self.settings.read_committed = committed;
        self
    }

    /// Sets the reaction when the broker no longer has the message at the group's committed offset.
    /// Default: [`LostPosition::Fail`].
    ///
    /// It does not apply to a group without a committed offset, which starts after the offset that
    /// the subscriber passes, or else at the beginning. Brokers delete the offsets of a group that
    /// was inactive for a week (Kafka's `offsets.retention.minutes`, Redpanda's
    /// `group_offset_retention_sec`). An app therefore also keeps them in its store; other callers
    /// of `subscribe` have to pass theirs.
    pub fn lost_position(mut self, reaction: LostPosition) -> Self {
        self.settings.lost_position = reaction;
        self
    }

    /// Sets the maximum number of deliveries per topic partition that are neither acknowledged nor
    /// dropped. Default: 1,000. When it is reached, the subscription pauses that partition.
    pub fn max_outstanding(mut self, count: usize) -> Self {
        self.settings.max_outstanding = count.max(1);
        self
    }

    /// Sets the same limit as [`max_outstanding`](Self::max_outstanding) in bytes of payload.
    /// Default: 16 MiB. A single delivery may exceed it.
    pub fn max_outstanding_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_outstanding_bytes = bytes.max(1);
        self
    }

    /// Sets the maximum number of bytes that a subscription prefetches, over all its partitions
    /// (`queued.max.messages.kbytes`). Default: 16 MiB. Rounded down to whole KiB.
    pub fn fetch_queue_bytes(mut self, bytes: usize) -> Self {
        self.settings.fetch_queue_bytes = bytes.max(1 << 10);
        self
    }

    /// Sets the interval at which a subscription commits the offsets of acknowledged deliveries.
    /// Default: 100 milliseconds.
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.settings.commit_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// Sets the time for which a subscription that leaves the group, or loses partitions in a
    /// rebalance, waits for outstanding deliveries. Default: 5 seconds.
    ///
    /// Deliveries not acknowledged by then are redelivered to another member. The rebalance of the
    /// whole group waits meanwhile.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.drain_timeout = timeout;
        self
    }

    /// Sets the consumers' session timeout (`session.timeout.ms`), after which the broker assigns
    /// the partitions of a silent member to others. Default: 45 seconds. Brokers accept 6 seconds
    /// to 30 minutes by default.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.settings.session_timeout = timeout;
        self
    }

    /// Sets one of librdkafka's own settings, for producers and consumers alike; clients ignore
    /// settings that do not apply to them.
    ///
    /// It overrides the builder's other settings, but not those that this crate's guarantees depend
    /// on, such as idempotence, `acks` and manual commits.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.raw.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Opens the bus.
    ///
    /// Settings are checked now; the connections to brokers are opened in the background, so no
    /// broker needs to be reachable yet. Calls wait for the brokers or fail with an error that the
    /// caller can retry, as they do when the brokers become unreachable later.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Setting`]: a setting is invalid or contradicts another. Correct it.
    ///
    /// # Cancel safety
    ///
    /// A dropped call leaves nothing behind.
    pub async fn connect(self) -> Result<RedpandaEventBus, ConnectError> {
        connect::connect(self.settings).await
    }
}

#[cfg(feature = "tls")]
impl RedpandaEventBusBuilder {
    /// Encrypts connections and trusts the system's certificate authorities.
    pub fn tls(mut self) -> Self {
        self.set_security("security.protocol", "ssl");
        self.set_security("ssl.ca.location", "probe");
        self
    }

    /// Encrypts connections and trusts only the certificate authorities in `pem`.
    pub fn tls_authorities(mut self, pem: &str) -> Self {
        if !self.settings.security.iter().any(|(key, _)| *key == "security.protocol") {
            self.set_security("security.protocol", "ssl");
        }
        self.settings.security.retain(|(key, _)| *key != "ssl.ca.location");
        self.set_security("ssl.ca.pem", pem);
        self
    }

    /// Sets the client certificate for mutual TLS. Both arguments are PEM.
    pub fn tls_certificate(mut self, certificate: &str, key: &str) -> Self {
        self.set_security("ssl.certificate.pem", certificate);
        self.set_security("ssl.key.pem", key);
        self
    }

    /// Authenticates by SASL/PLAIN over encrypted connections, as Azure Event Hubs and Confluent
    /// Cloud require.
    pub fn sasl_plain(self, user: &str, password: &str) -> Self {
        self.sasl("PLAIN", user, password)
    }

    /// Authenticates by SCRAM-SHA-256 over encrypted connections, as Redpanda Cloud requires.
    pub fn sasl_scram_256(self, user: &str, password: &str) -> Self {
        self.sasl("SCRAM-SHA-256", user, password)
    }

    /// Authenticates by SCRAM-SHA-512 over encrypted connections, as Amazon MSK requires.
    pub fn sasl_scram_512(self, user: &str, password: &str) -> Self {
        self.sasl("SCRAM-SHA-512", user, password)
    }

    fn sasl(mut self, mechanism: &str, user: &str, password: &str) -> Self {
        self.set_security("security.protocol", "sasl_ssl");
        if !self.settings.security.iter().any(|(key, _)| *key == "ssl.ca.pem") {
            self.set_security("ssl.ca.location", "probe");
        }
        self.set_security("sasl.mechanism", mechanism);
        self.set_security("sasl.username", user);
        self.set_security("sasl.password", password);
        self
    }

    fn set_security(&mut self, key: &'static str, value: &str) {
        self.settings.security.retain(|(known, _)| *known != key);
        self.settings.security.push((key, value.to_owned()));
    }
}

impl fmt::Debug for RedpandaEventBusBuilder {
    /// Omits the settings that may contain secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedpandaEventBusBuilder")
            .field("brokers", &self.settings.brokers)
            .field("client_id", &self.settings.client_id)
            .field("topic_prefix", &self.settings.topic_prefix)
            .finish_non_exhaustive()
    }
}
