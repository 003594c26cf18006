//! The conformance suite of event buses.

use std::time::Duration;

use composable_rust_redpanda::RedpandaEventBus;
use composable_rust_testing::bus_conformance::BusBackend;

use crate::brokers::{brokers, builder};

struct Broker {
    brokers: String,
}

async fn broker() -> Broker {
    Broker { brokers: brokers() }
}

const MAX_OUTSTANDING: usize = 20;

impl BusBackend for Broker {
    type Bus = RedpandaEventBus;

    async fn open(&self) -> RedpandaEventBus {
        builder(&self.brokers).max_outstanding(MAX_OUTSTANDING).connect().await.unwrap()
    }

    fn max_outstanding(&self) -> usize {
        MAX_OUTSTANDING
    }

    fn silence(&self) -> Duration {
        Duration::from_secs(2)
    }
}

composable_rust_testing::bus_conformance!(broker);
