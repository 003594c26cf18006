//! Opening a bus.

use rdkafka::error::KafkaError;

use crate::client::{idempotent_producer, subscription, transactional_producer};
use crate::error::{Cause, ConnectError};
use crate::producer::SingleProducer;
use crate::{RedpandaEventBus, RedpandaEventBusBuilder};

pub(crate) async fn connect(
    settings: RedpandaEventBusBuilder,
) -> Result<RedpandaEventBus, ConnectError> {
    // Certificates are read, and threads started.
    let opening = tokio::task::spawn_blocking(move || open(settings));
    opening.await.unwrap_or_else(|error| Err(ConnectError::Setting(Cause::new(error))))
}

fn open(settings: RedpandaEventBusBuilder) -> Result<RedpandaEventBus, ConnectError> {
    let setting = |error: KafkaError| ConnectError::Setting(Cause::new(error));
    // What is wrong with the settings of the others shows now and not on their first use.
    subscription(&settings, "-").create_native_config().map_err(setting)?;
    transactional_producer(&settings, "-").create_native_config().map_err(setting)?;
    let config = idempotent_producer(&settings, settings.linger);
    let producer = SingleProducer::open(config).map_err(setting)?;
    Ok(RedpandaEventBus::new(settings, producer))
}
