//! Topics, made when they are first used.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use composable_rust_core::BusError;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::util::Timeout;

use crate::RedpandaEventBusBuilder;
use crate::apart::Apart;
use crate::builder::HEADROOM_BYTES;
use crate::client::{Voice, common};
use crate::error::{bus_error, join_error};

/// What brokers take as one message unless they are told otherwise.
const DEFAULT_MESSAGE_BYTES: usize = 1 << 20;

/// The topics that are known to be there, by their names on the wire.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    known: Mutex<BTreeSet<String>>,
}

impl Topics {
    /// Sees to it that these topics are there, by their names on the wire.
    pub(crate) async fn ensure<'a>(
        &self,
        settings: &RedpandaEventBusBuilder,
        topics: impl IntoIterator<Item = &'a str>,
        partitions: u16,
    ) -> Result<(), BusError> {
        if !settings.create_topics {
            return Ok(());
        }
        let missing: Vec<String> = {
            let known = self.known();
            let missing = topics.into_iter().filter(|topic| !known.contains(*topic));
            missing.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        let admin = common(settings).create_with_context(Voice::default()).map_err(bus_error)?;
        let admin = Apart::new(admin);
        let made = create(&admin, settings, &missing, partitions).await?;
        if !made.is_empty() {
            wait_for_leaders(admin, made, settings.connect_timeout).await?;
        }
        self.known().extend(missing);
        Ok(())
    }

    /// The broker does not know this topic after all.
    pub(crate) fn forget(&self, topic: &str) {
        self.known().remove(topic);
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates those that are not there and gives their names.
async fn create(
    admin: &AdminClient<Voice>,
    settings: &RedpandaEventBusBuilder,
    topics: &[String],
    partitions: u16,
) -> Result<Vec<String>, BusError> {
    let max = settings.max_payload_bytes.saturating_add(HEADROOM_BYTES);
    let max_bytes = (max > DEFAULT_MESSAGE_BYTES).then(|| max.to_string());
    let replication = settings.replication.map_or(-1, i32::from);
    let mut new = Vec::with_capacity(topics.len());
    for name in topics {
        let topic =
            NewTopic::new(name, i32::from(partitions), TopicReplication::Fixed(replication));
        new.push(match &max_bytes {
            Some(bytes) => topic.set("max.message.bytes", bytes),
            None => topic,
        });
    }
    let limit = Timeout::After(settings.connect_timeout);
    let options = AdminOptions::new().request_timeout(Some(limit)).operation_timeout(Some(limit));
    let mut made = Vec::new();
    for outcome in admin.create_topics(&new, &options).await.map_err(bus_error)? {
        match outcome {
            Ok(name) => {
                tracing::info!(topic = name, partitions, "created a topic");
                made.push(name);
            }
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => {
                return Err(BusError::new(format!("cannot create the topic {name}: {code}")));
            }
        }
    }
    Ok(made)
}

/// A topic that was just made is not known to all brokers at once.
async fn wait_for_leaders(
    admin: Apart<AdminClient<Voice>>,
    topics: Vec<String>,
    limit: Duration,
) -> Result<(), BusError> {
    let waiting = tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        for topic in topics {
            while !has_leaders(&admin, &topic, limit) {
                if started.elapsed() > limit {
                    return Err(BusError::new(format!("the topic {topic} got no leaders")));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    });
    waiting.await.map_err(join_error)?
}

fn has_leaders<C: ClientContext>(admin: &AdminClient<C>, topic: &str, limit: Duration) -> bool {
    let Ok(metadata) = admin.inner().fetch_metadata(Some(topic), limit) else { return false };
    metadata.topics().iter().any(|topic| {
        let partitions = topic.partitions();
        !partitions.is_empty() && partitions.iter().all(|partition| partition.leader() >= 0)
    })
}
