//! Opening a bus.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;

use crate::client::{Voice, idempotent_producer, is_refusal, subscription, transactional_producer};
use crate::error::{Cause, ConnectError};
use crate::producer::{Client, SingleProducer};
use crate::{RedpandaEventBus, RedpandaEventBusBuilder};

pub(crate) async fn connect(
    settings: RedpandaEventBusBuilder,
) -> Result<RedpandaEventBus, ConnectError> {
    let setting = |error: KafkaError| ConnectError::Setting(Cause::new(error));
    // What is wrong with the settings of the others shows now and not on their first use.
    subscription(&settings, "-").create_native_config().map_err(setting)?;
    transactional_producer(&settings, "-").create_native_config().map_err(setting)?;
    let config = idempotent_producer(&settings, settings.linger);
    let voice = Voice::default();
    let client = SingleProducer::open(&config, voice.clone()).map_err(setting)?;

    let producer = client.clone();
    let (brokers, limit) = (settings.brokers.clone(), settings.connect_timeout);
    let reached = tokio::task::spawn_blocking(move || reach(&producer, &voice, brokers, limit));
    match reached.await {
        Ok(reached) => reached?,
        Err(error) => {
            let (brokers, source) = (settings.brokers, Cause::new(error));
            return Err(ConnectError::Unreachable { brokers, source });
        }
    }
    Ok(RedpandaEventBus::new(settings, SingleProducer::new(config, client)))
}

/// Waits until a broker answers.
fn reach(
    client: &Arc<Client>,
    voice: &Voice,
    brokers: String,
    limit: Duration,
) -> Result<(), ConnectError> {
    let started = Instant::now();
    loop {
        let left = limit.saturating_sub(started.elapsed());
        let step = left.min(Duration::from_millis(500)).max(Duration::from_millis(1));
        let Err(error) = client.client().fetch_metadata(None, step) else { return Ok(()) };
        let (said, source) = match voice.last_error() {
            Some((said, reason)) => (said, Cause::new(reason)),
            None => (error.clone(), Cause::new(error)),
        };
        if is_refusal(&said) {
            return Err(ConnectError::Refused { brokers, source });
        }
        if started.elapsed() >= limit {
            return Err(ConnectError::Unreachable { brokers, source });
        }
    }
}
