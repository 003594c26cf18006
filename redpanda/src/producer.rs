//! Single messages.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use composable_rust_core::BusMessage;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use crate::apart::Apart;
use crate::client::Voice;
use crate::record::headers;

pub(crate) type Client = Apart<FutureProducer<Voice>>;

/// The producer of single messages. One that broke for good is replaced.
pub(crate) struct SingleProducer {
    config: ClientConfig,
    client: Mutex<Arc<Client>>,
}

impl SingleProducer {
    pub(crate) fn open(config: &ClientConfig, voice: Voice) -> Result<Arc<Client>, KafkaError> {
        Ok(Arc::new(Apart::new(config.create_with_context(voice)?)))
    }

    pub(crate) fn new(config: ClientConfig, client: Arc<Client>) -> Self {
        Self { config, client: Mutex::new(client) }
    }

    /// Publishes a message to the topic of that name on the wire.
    pub(crate) async fn publish(
        &self,
        topic: &str,
        message: &BusMessage,
        limit: Duration,
    ) -> Result<(), KafkaError> {
        let client = Arc::clone(&self.client.lock().unwrap_or_else(PoisonError::into_inner));
        let record = FutureRecord::to(topic)
            .key(message.key.as_str())
            .payload(message.payload.as_slice())
            .headers(headers(message));
        match client.send(record, limit).await {
            Ok(_) => Ok(()),
            Err((error, _)) => {
                self.replace_if_broken(&client);
                Err(error)
            }
        }
    }

    fn replace_if_broken(&self, broken: &Arc<Client>) {
        let Some((code, reason)) = broken.client().fatal_error() else { return };
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&client, broken) {
            return;
        }
        tracing::warn!(%code, reason, "the producer broke and is replaced");
        match Self::open(&self.config, Voice::default()) {
            Ok(new) => *client = new,
            Err(error) => tracing::error!(%error, "no producer can be made"),
        }
    }
}
