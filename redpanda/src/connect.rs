//! Opening a bus.

use rdkafka::error::KafkaError;

use crate::bus::RedpandaEventBus;
use crate::client::config::{idempotent_producer, subscription, transactional_producer};
use crate::client::settings::Settings;
use crate::error::{Cause, ConnectError};
use crate::producer::SingleProducer;

pub(crate) async fn connect(settings: Settings) -> Result<RedpandaEventBus, ConnectError> {
    // Opening a client reads certificates and starts threads, so it blocks.
    let opening = tokio::task::spawn_blocking(move || open(settings));
    opening.await.unwrap_or_else(|error| Err(ConnectError::Setting(Cause::new(error))))
}

fn open(settings: Settings) -> Result<RedpandaEventBus, ConnectError> {
    let setting = |error: KafkaError| ConnectError::Setting(Cause::new(error));
    // Checks the settings of the other clients now rather than when they are first opened.
    subscription(&settings, "-").create_native_config().map_err(setting)?;
    transactional_producer(&settings, "-").create_native_config().map_err(setting)?;
    let config = idempotent_producer(&settings, settings.linger);
    let producer = SingleProducer::open(config).map_err(setting)?;
    Ok(RedpandaEventBus::new(settings, producer))
}
