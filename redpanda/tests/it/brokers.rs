//! The broker that all tests share.

use std::time::Duration;

use composable_rust_redpanda::{RedpandaEventBus, RedpandaEventBusBuilder};

/// Opens every message about the broker.
const VARIABLE: &str = "KAFKA_BROKERS";

/// Where the broker is that `cargo xtask test` starts.
pub(crate) fn brokers() -> String {
    std::env::var(VARIABLE).ok().filter(|brokers| !brokers.is_empty()).unwrap_or_else(|| {
        panic!(
            "{VARIABLE} is not set: run `cargo xtask test`, which starts a broker, or set it to \
             one, for example localhost:9092"
        )
    })
}

/// A bus that is quick about everything.
pub(crate) fn builder(brokers: &str) -> RedpandaEventBusBuilder {
    RedpandaEventBus::builder(brokers)
        .partitions(4)
        .linger(Duration::ZERO)
        .drain_timeout(Duration::from_millis(300))
        .commit_interval(Duration::from_millis(50))
        .session_timeout(Duration::from_secs(6))
}
