//! Single messages.
//!
//! Messages that are published at the same time travel together, and the broker counts their bytes
//! together. What it refuses for its size is therefore sent once more, alone: its own size tells then.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use composable_rust_core::{BusMessage, PublishError};
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use tokio::sync::OnceCell;

use crate::client::ClientLog;
use crate::drop_in_background::DropInBackground;
use crate::error::{bus_error, publish_error};
use crate::record::{headers, payload};

pub(crate) type Client = DropInBackground<FutureProducer<ClientLog>>;

/// The producer of single messages.
pub(crate) struct SingleProducer {
    together: Sender,
    /// Opened when it is needed first.
    alone: OnceCell<Sender>,
}

impl SingleProducer {
    pub(crate) fn open(config: ClientConfig) -> Result<Self, KafkaError> {
        Ok(Self { together: Sender::open(config)?, alone: OnceCell::new() })
    }

    /// Publishes a message to the topic of that name on the wire.
    pub(crate) async fn publish(
        &self,
        topic: &str,
        message: &BusMessage,
        limit: Duration,
    ) -> Result<(), PublishError> {
        match self.together.publish(topic, message, limit).await {
            Err(PublishError::Invalid(_)) => {
                let alone = self.alone.get_or_try_init(async || {
                    let mut config = self.together.config.clone();
                    config.set("batch.num.messages", "1");
                    Sender::open(config).map_err(bus_error)
                });
                // Its topic may take it later, once an operator has raised the limit.
                match alone.await?.publish(topic, message, limit).await {
                    Err(PublishError::Invalid(text)) => Err(PublishError::Rejected(text)),
                    published => published,
                }
            }
            published => published,
        }
    }
}

/// A client, with what replaces it if it breaks for good.
struct Sender {
    config: ClientConfig,
    voice: ClientLog,
    client: Mutex<Arc<Client>>,
}

impl Sender {
    fn open(config: ClientConfig) -> Result<Self, KafkaError> {
        let voice = ClientLog::default();
        let client = Mutex::new(client(&config, &voice)?);
        Ok(Self { config, voice, client })
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
                Err(self.explained(error))
            }
        }
    }

    fn explained(&self, error: KafkaError) -> PublishError {
        match publish_error(error.clone()) {
            PublishError::Unavailable(_) => self.voice.explain(error).into(),
            refusal => refusal,
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

fn client(config: &ClientConfig, voice: &ClientLog) -> Result<Arc<Client>, KafkaError> {
    Ok(Arc::new(DropInBackground::new(config.create_with_context(voice.clone())?)))
}
