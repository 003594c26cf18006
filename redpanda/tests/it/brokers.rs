//! The broker that all tests share.

use std::time::Duration;

use composable_rust_redpanda::{RedpandaEventBus, RedpandaEventBusBuilder};

/// The environment variable with the broker's address.
const VARIABLE: &str = "KAFKA_BROKERS";

/// Returns the address of the broker that `cargo xtask test` starts.
pub(crate) fn brokers() -> String {
    std::env::var(VARIABLE).ok().filter(|brokers| !brokers.is_empty()).unwrap_or_else(|| {
        panic!(
            "{VARIABLE} is not set: run `cargo xtask test`, which starts a broker, or set it to \
             the address of one, for example localhost:9092"
        )
    })
}

/// Returns a builder with short timeouts and few partitions.
pub(crate) fn builder(brokers: &str) -> RedpandaEventBusBuilder {
    RedpandaEventBus::builder(brokers)
        .partitions(4)
        .linger(Duration::ZERO)
        .drain_timeout(Duration::from_millis(300))
        .commit_interval(Duration::from_millis(50))
        .session_timeout(Duration::from_secs(6))
}
