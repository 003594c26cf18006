//! Single messages.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use composable_rust_core::{BusError, BusMessage, PublishError};
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use crate::apart::Apart;
use crate::client::{Voice, is_refusal};
use crate::error::{Failure, publish_error};
use crate::record::{headers, payload};

pub(crate) type Client = Apart<FutureProducer<Voice>>;

/// The producer of single messages. One that broke for good is replaced.
pub(crate) struct SingleProducer {
    config: ClientConfig,
    voice: Voice,
    client: Mutex<Arc<Client>>,
}

impl SingleProducer {
    pub(crate) fn open(config: ClientConfig) -> Result<Self, KafkaError> {
        let voice = Voice::default();
        let client = Mutex::new(client(&config, &voice)?);
        Ok(Self { config, voice, client })
    }

    /// Publishes a message to the topic of that name on the wire.
    pub(crate) async fn publish(
        &self,
        topic: &str,
        message: &BusMessage,
        limit: Duration,
    ) -> Result<(), PublishError> {
        let client = Arc::clone(&self.client.lock().unwrap_or_else(PoisonError::into_inner));
        let mut record =
            FutureRecord::to(topic).key(message.key.as_str()).headers(headers(message));
        record.payload = payload(message);
        match client.send(record, limit).await {
            Ok(_) => Ok(()),
            Err((error, _)) => {
                self.replace_if_broken(&client);
                Err(self.explained(error))
            }
        }
    }

    /// With the reason for which the brokers do not let this client in, if they do not.
    fn explained(&self, error: KafkaError) -> PublishError {
        match self.voice.last_error() {
            Some((refusal, reason)) if is_refusal(&refusal) => {
                BusError::from(Failure::new(error.to_string()).with_detail(Some(reason))).into()
            }
            // Messages are sent together: another may be the one that is too large.
            _ => match publish_error(error) {
                PublishError::Invalid(text) => PublishError::Refused(text),
                error => error,
            },
        }
    }

    fn replace_if_broken(&self, broken: &Arc<Client>) {
        let Some((code, reason)) = broken.client().fatal_error() else { return };
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&client, broken) {
            return;
        }
        tracing::warn!(%code, reason, "the producer broke and is replaced");
        match self::client(&self.config, &self.voice) {
            Ok(new) => *client = new,
            Err(error) => tracing::error!(%error, "no producer can be made"),
        }
    }
}

fn client(config: &ClientConfig, voice: &Voice) -> Result<Arc<Client>, KafkaError> {
    Ok(Arc::new(Apart::new(config.create_with_context(voice.clone())?)))
}
