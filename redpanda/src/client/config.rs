//! The configuration of librdkafka's clients.

use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

use crate::client::settings::{Compression, LostPosition, Settings};

/// Returns the configuration that all clients share: the brokers' addresses, encryption and
/// authentication.
pub(crate) fn common(settings: &Settings) -> ClientConfig {
    let mut config = ClientConfig::new();
    set_common(&mut config, settings);
    config
}

fn set_common(config: &mut ClientConfig, settings: &Settings) {
    config.set_log_level(RDKafkaLogLevel::Info);
    config.set("bootstrap.servers", &settings.brokers);
    config.set("client.id", &settings.client_id);
    // A restarted broker is back soon.
    config.set("reconnect.backoff.max.ms", "1000");
    for (key, value) in &settings.security {
        config.set(*key, value);
    }
    for (key, value) in &settings.raw {
        config.set(key, value);
    }
}

/// Returns the configuration that all producers share.
fn producer(settings: &Settings, linger: Duration) -> ClientConfig {
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
    config.set("message.max.bytes", settings.max_message_bytes().to_string());
    config.set("message.timeout.ms", millis(settings.publish_timeout));
    set_common(&mut config, settings);
    config.set("enable.idempotence", "true");
    config.set("acks", "all");
    config
}

/// Returns the configuration of a producer for single messages, and for batches without
/// transactions.
pub(crate) fn idempotent_producer(settings: &Settings, linger: Duration) -> ClientConfig {
    producer(settings, linger)
}

/// Returns the configuration of a producer for batches in transactions.
pub(crate) fn transactional_producer(settings: &Settings, id: &str) -> ClientConfig {
    let mut config = producer(settings, BATCH_LINGER);
    config.set("transactional.id", id);
    config.set("transaction.timeout.ms", millis(settings.transaction_timeout));
    // librdkafka requires both timeouts to be shorter than the transaction's.
    config.set("message.timeout.ms", millis(settings.transaction_timeout));
    let socket = settings.transaction_timeout.saturating_sub(Duration::from_millis(100));
    config.set("socket.timeout.ms", millis(socket.min(Duration::from_secs(60))));
    config
}

/// The linger time of batches. It is short because a batch is complete when it is sent.
pub(crate) const BATCH_LINGER: Duration = Duration::from_millis(1);

/// Returns the configuration of a consumer that joins a group.
pub(crate) fn subscription(settings: &Settings, group: &str) -> ClientConfig {
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
    // Created topics and added partitions are noticed within this time.
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

/// Returns the configuration of a consumer that reads and commits offsets without joining the
/// group. Reading waits for open transactions that commit offsets.
pub(crate) fn positions(settings: &Settings, group: &str) -> ClientConfig {
    let mut config = common(settings);
    config.set("group.id", group);
    config.set("isolation.level", "read_committed");
    config.set("enable.auto.commit", "false");
    config
}

fn millis(duration: Duration) -> String {
    duration.as_millis().min(i32::MAX.unsigned_abs().into()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RedpandaEventBus, RedpandaEventBusBuilder};

    fn local() -> RedpandaEventBusBuilder {
        RedpandaEventBus::builder("localhost:1")
    }

    #[test]
    fn raw_settings_override_all_but_the_guarantees() {
        let builder = local().set("linger.ms", "77").set("acks", "1").set("isolation.level", "x");
        let config = idempotent_producer(&builder.settings, Duration::from_millis(5));
        assert_eq!((config.get("linger.ms"), config.get("acks")), (Some("77"), Some("all")));
        let config = subscription(&builder.settings, "g");
        assert_eq!(config.get("isolation.level"), Some("read_committed"));
    }

    #[test]
    fn librdkafka_accepts_all_configurations() {
        let builder = local().transaction_timeout(Duration::from_secs(1));
        for config in [
            common(&builder.settings),
            idempotent_producer(&builder.settings, Duration::ZERO),
            transactional_producer(&builder.settings, "id"),
            subscription(&builder.settings, "g"),
            positions(&builder.settings, "g"),
        ] {
            config.create_native_config().unwrap();
        }
        transactional_producer(&builder.settings, "id")
            .create::<rdkafka::producer::BaseProducer>()
            .unwrap();
    }

    #[cfg(feature = "tls")]
    #[test]
    fn authentication_implies_encryption() {
        let builder = local().sasl_scram_256("me", "secret").tls();
        assert_eq!(
            common(&builder.settings).get("security.protocol"),
            Some("ssl"),
            "the last setting wins"
        );
        let builder = local().tls_authorities("pem").sasl_plain("me", "secret");
        let config = subscription(&builder.settings, "g");
        assert_eq!(config.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(config.get("ssl.ca.location"), None);
        assert_eq!(config.get("sasl.password"), Some("secret"));
        assert!(!format!("{builder:?}").contains("secret"));
    }
}
