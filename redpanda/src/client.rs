//! The settings of librdkafka's clients, and what these say of themselves.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use composable_rust_core::BusError;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{NoCustomPartitioner, ProducerContext};

use crate::builder::HEADROOM_BYTES;
use crate::error::{Failure, bus_error};
use crate::{Compression, LostPosition, RedpandaEventBusBuilder};

/// What all clients have in common: how to reach the brokers and be let in.
pub(crate) fn common(settings: &RedpandaEventBusBuilder) -> ClientConfig {
    let mut config = ClientConfig::new();
    set_common(&mut config, settings);
    config
}

fn set_common(config: &mut ClientConfig, settings: &RedpandaEventBusBuilder) {
    config.set_log_level(RDKafkaLogLevel::Info);
    config.set("bootstrap.servers", &settings.brokers);
    config.set("client.id", &settings.client_id);
    // A broker that was restarted is back soon.
    config.set("reconnect.backoff.max.ms", "1000");
    for (key, value) in &settings.security {
        config.set(*key, value);
    }
    for (key, value) in &settings.raw {
        config.set(key, value);
    }
}

/// What all producers have in common.
fn producer(settings: &RedpandaEventBusBuilder, linger: Duration) -> ClientConfig {
    let compression = match settings.compression {
        Compression::None => "none",
        Compression::Lz4 => "lz4",
        Compression::Snappy => "snappy",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    };
    let mut config = ClientConfig::new();
    config.set("compression.type", compression);
    config.set("linger.ms", millis(linger));
    config.set("partitioner", "murmur2_random");
    let max = settings.max_payload_bytes.saturating_add(HEADROOM_BYTES);
    config.set("message.max.bytes", max.to_string());
    config.set("message.timeout.ms", millis(settings.publish_timeout));
    set_common(&mut config, settings);
    config.set("enable.idempotence", "true");
    config.set("acks", "all");
    config
}

/// For single messages, and for batches where there are no transactions.
pub(crate) fn idempotent_producer(
    settings: &RedpandaEventBusBuilder,
    linger: Duration,
) -> ClientConfig {
    producer(settings, linger)
}

/// For batches.
pub(crate) fn transactional_producer(settings: &RedpandaEventBusBuilder, id: &str) -> ClientConfig {
    let mut config = producer(settings, BATCH_LINGER);
    config.set("transactional.id", id);
    config.set("transaction.timeout.ms", millis(settings.transaction_timeout));
    // librdkafka asks that both end before the transaction does.
    config.set("message.timeout.ms", millis(settings.transaction_timeout));
    let socket = settings.transaction_timeout.saturating_sub(Duration::from_millis(100));
    config.set("socket.timeout.ms", millis(socket.min(Duration::from_secs(60))));
    config
}

/// How long the last messages of a batch wait for more that do not come.
pub(crate) const BATCH_LINGER: Duration = Duration::from_millis(1);

/// For the messages of a group.
pub(crate) fn subscription(settings: &RedpandaEventBusBuilder, group: &str) -> ClientConfig {
    let reset = match settings.lost_position {
        LostPosition::Fail => "error",
        LostPosition::Beginning => "earliest",
    };
    let isolation = if settings.read_committed { "read_committed" } else { "read_uncommitted" };
    let mut config = ClientConfig::new();
    config.set("partition.assignment.strategy", "cooperative-sticky");
    config.set("session.timeout.ms", millis(settings.session_timeout));
    config.set("queued.max.messages.kbytes", (settings.fetch_queue_bytes >> 10).to_string());
    config.set("fetch.wait.max.ms", "100");
    config.set("fetch.error.backoff.ms", "100");
    // Topics that come to be, and partitions that are added, are noticed within that time.
    config.set("topic.metadata.refresh.interval.ms", "30000");
    set_common(&mut config, settings);
    config.set("group.id", group);
    config.set("isolation.level", isolation);
    config.set("auto.offset.reset", reset);
    config.set("enable.auto.commit", "false");
    config.set("enable.auto.offset.store", "false");
    config.set("enable.partition.eof", "false");
    config.set("allow.auto.create.topics", "false");
    config
}

/// For the positions of publishers, which are the offsets of a group without members. An offset
/// whose transaction is still open is waited for.
pub(crate) fn positions(settings: &RedpandaEventBusBuilder, group: &str) -> ClientConfig {
    let mut config = common(settings);
    config.set("group.id", group);
    config.set("isolation.level", "read_committed");
    config.set("enable.auto.commit", "false");
    config
}

fn millis(duration: Duration) -> String {
    duration.as_millis().min(i32::MAX.unsigned_abs().into()).to_string()
}

/// What a client says of itself: to `tracing`, and the last error to whoever asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClientLog {
    last: Arc<Mutex<Option<(KafkaError, String)>>>,
    undelivered: Arc<Mutex<Option<KafkaError>>>,
}

impl ClientLog {
    /// The last error, which is often more telling than the one a call ended with.
    fn last_error(&self) -> Option<(KafkaError, String)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the first of the messages that were not delivered was not.
    pub(crate) fn undelivered(&self) -> Option<KafkaError> {
        self.undelivered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn forget_undelivered(&self) {
        *self.undelivered.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// An error of a call, with the reason for which the brokers do not let this client in, if they do
    /// not.
    pub(crate) fn explain(&self, error: KafkaError) -> BusError {
        match self.last_error() {
            Some((refusal, reason)) if is_refusal(&refusal) => {
                Failure::new(error.to_string()).with_detail(Some(reason)).into()
            }
            _ => bus_error(error),
        }
    }

    fn note(&self, error: KafkaError, reason: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Which follows from what was noted before.
        let follows = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        if last.is_none() || !follows {
            *last = Some((error, reason.to_owned()));
        }
    }
}

/// Whether a broker, or librdkafka in its name, does not let us in.
fn is_refusal(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::SSL
        )
    )
}

impl ClientContext for ClientLog {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        use RDKafkaLogLevel::{Debug, Info, Notice, Warning};
        match level {
            // One set of settings serves producers and consumers, each of which points out what is
            // for the other.
            _ if facility == "CONFWARN" => tracing::debug!(target: TARGET, facility, "{message}"),
            Debug => tracing::trace!(target: TARGET, facility, "{message}"),
            Info | Notice => tracing::debug!(target: TARGET, facility, "{message}"),
            Warning => tracing::warn!(target: TARGET, facility, "{message}"),
            _ => tracing::error!(target: TARGET, facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // librdkafka does not repeat itself within half a minute.
        if is_refusal(&error) {
            tracing::warn!(target: TARGET, %error, "a broker refuses this client; retrying: {reason}");
        } else {
            tracing::debug!(target: TARGET, %error, "{reason}");
        }
        self.note(error, reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for ClientLog {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut first = self.undelivered.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| error.clone());
        }
    }
}

/// Of everything that librdkafka says.
const TARGET: &str = "composable_rust_redpanda::librdkafka";

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> RedpandaEventBusBuilder {
        RedpandaEventBusBuilder::new("localhost:1")
    }

    #[test]
    fn what_is_set_by_hand_wins_but_not_over_the_promises() {
        let settings =
            builder().set("linger.ms", "77").set("acks", "1").set("isolation.level", "x");
        let config = idempotent_producer(&settings, Duration::from_millis(5));
        assert_eq!((config.get("linger.ms"), config.get("acks")), (Some("77"), Some("all")));
        let config = subscription(&settings, "g");
        assert_eq!(config.get("isolation.level"), Some("read_committed"));
    }

    #[test]
    fn librdkafka_takes_all_settings() {
        let settings = builder().transaction_timeout(Duration::from_secs(1));
        for config in [
            common(&settings),
            idempotent_producer(&settings, Duration::ZERO),
            transactional_producer(&settings, "id"),
            subscription(&settings, "g"),
            positions(&settings, "g"),
        ] {
            config.create_native_config().unwrap();
        }
        transactional_producer(&settings, "id")
            .create::<rdkafka::producer::BaseProducer>()
            .unwrap();
    }

    #[cfg(feature = "tls")]
    #[test]
    fn logging_in_is_encrypted() {
        let settings = builder().sasl_scram_256("me", "secret").tls();
        assert_eq!(common(&settings).get("security.protocol"), Some("ssl"), "the last word counts");
        let settings = builder().tls_authorities("pem").sasl_plain("me", "secret");
        let config = subscription(&settings, "g");
        assert_eq!(config.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(config.get("ssl.ca.location"), None);
        assert_eq!(config.get("sasl.password"), Some("secret"));
        assert!(!format!("{settings:?}").contains("secret"));
    }
}
