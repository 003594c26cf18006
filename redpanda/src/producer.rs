//! The producer of single messages.
//!
//! Messages that are published at the same time share a batch, and the broker checks the size of
//! the batch. A message of a batch that it rejects for its size is therefore sent once more, alone,
//! so that its own size decides.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use composable_rust_core::bus::{BusMessage, PublishError};
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use tokio::sync::OnceCell;

use crate::client::drop_in_background::DropInBackground;
use crate::client::log::ClientLog;
use crate::error::{bus_error, publish_error};
use crate::record::{headers, payload};

pub(crate) type Client = DropInBackground<FutureProducer<ClientLog>>;

/// The producer of single messages.
pub(crate) struct SingleProducer {
    batching: Sender,
    /// Sends each message in a batch of its own; opened on first use.
    unbatched: OnceCell<Sender>,
}

impl SingleProducer {
    pub(crate) fn open(config: ClientConfig) -> Result<Self, KafkaError> {
        Ok(Self { batching: Sender::open(config)?, unbatched: OnceCell::new() })
    }

    /// Publishes a message; `topic` is the topic's name on the wire.
    pub(crate) async fn publish(
        &self,
        topic: &str,
        message: &BusMessage,
        limit: Duration,
    ) -> Result<(), PublishError> {
        match self.batching.publish(topic, message, limit).await {
            Err(PublishError::Invalid(_)) => {
                let unbatched = self.unbatched.get_or_try_init(async || {
                    let mut config = self.batching.config.clone();
                    config.set("batch.num.messages", "1");
                    Sender::open(config).map_err(bus_error)
                });
                // An operator may raise the topic's limit later, so the message itself is not
                // invalid.
                match unbatched.await?.publish(topic, message, limit).await {
                    Err(PublishError::Invalid(text)) => Err(PublishError::Rejected(text)),
                    published => published,
                }
            }
            published => published,
        }
    }
}

/// A producer client that is replaced after a fatal error.
struct Sender {
    config: ClientConfig,
    log: ClientLog,
    client: Mutex<Arc<Client>>,
}

impl Sender {
    fn open(config: ClientConfig) -> Result<Self, KafkaError> {
        let log = ClientLog::default();
        let client = Mutex::new(client(&config, &log)?);
        Ok(Self { config, log, client })
    }

    async fn publish(
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
                Err(self.explain(error))
            }
        }
    }

    fn explain(&self, error: KafkaError) -> PublishError {
        match publish_error(error.clone()) {
            PublishError::Unavailable(_) => self.log.explain(error).into(),
            rejection => rejection,
        }
    }

    fn replace_if_broken(&self, broken: &Arc<Client>) {
        let Some((code, reason)) = broken.client().fatal_error() else { return };
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&client, broken) {
            return;
        }
        tracing::warn!(%code, reason, "producer failed with a fatal error; replacing it");
        match self::client(&self.config, &self.log) {
            Ok(new) => *client = new,
            Err(error) => {
                tracing::error!(%error, "failed to replace the producer; retrying");
            }
        }
    }
}

fn client(config: &ClientConfig, log: &ClientLog) -> Result<Arc<Client>, KafkaError> {
    Ok(Arc::new(DropInBackground::new(config.create_with_context(log.clone())?)))
}
