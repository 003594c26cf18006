//! Topics, made when they are first used.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use composable_rust_core::__private::is_topic_name;
use composable_rust_core::{BusError, PublishError};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::util::Timeout;

use crate::RedpandaEventBusBuilder;
use crate::builder::HEADROOM_BYTES;
use crate::client::{ClientLog, common};
use crate::drop_in_background::DropInBackground;
use crate::error::{bus_error, join_error, refusal};

/// What brokers take as one message unless they are told otherwise.
const DEFAULT_MESSAGE_BYTES: usize = 1 << 20;

/// How long the brokers' list of topics counts before it is read again.
const LIST_INTERVAL: Duration = Duration::from_secs(1);

/// The topics that are known to be there, by their names on the wire.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    known: Mutex<BTreeSet<String>>,
    /// All topics that the brokers show us, and when they did.
    listed: tokio::sync::Mutex<Option<(Instant, BTreeSet<String>)>>,
}

/// What is done about a topic that is missing.
#[derive(Debug, Clone, Copy)]
pub(crate) enum IfMissing {
    /// It is created with so many partitions.
    Create(u16),
    /// The call is refused.
    Refuse,
}

impl Topics {
    /// Makes sure that these topics are there, by their names on the wire.
    pub(crate) async fn ensure<'a>(
        &self,
        settings: &RedpandaEventBusBuilder,
        topics: impl IntoIterator<Item = &'a str>,
        if_missing: IfMissing,
    ) -> Result<(), PublishError> {
        let missing: Vec<String> = {
            let known = self.known();
            let missing = topics.into_iter().filter(|topic| !known.contains(*topic));
            missing.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        if let Some(topic) = missing.iter().find(|topic| !is_topic_name(topic)) {
            return Err(PublishError::Invalid(format!("no topic can be called `{topic}`")));
        }
        match if_missing {
            IfMissing::Create(partitions) => {
                let admin = admin(settings)?;
                let Creation { made, denied, failed } =
                    create(&admin, settings, &missing, partitions).await?;
                if !made.is_empty() {
                    wait_for_leaders(admin, made, settings.connect_timeout).await?;
                }
                if let Some((topic, code)) = failed.into_iter().next() {
                    let text = format!("cannot create the topic {topic}: {code}");
                    let refusal = refusal(Some(code), text.clone());
                    return Err(refusal.unwrap_or_else(|| BusError::new(text).into()));
                }
                // The right to create one is asked for even where it is there.
                self.require(settings, &denied).await?;
            }
            IfMissing::Refuse => self.require(settings, &missing).await?,
        }
        self.known().extend(missing);
        Ok(())
    }

    /// Creates those of these topics that are missing and can be created, for a group that reads what
    /// is there, whatever becomes of the others.
    pub(crate) async fn create_if_possible(
        &self,
        settings: &RedpandaEventBusBuilder,
        topics: &[String],
        partitions: u16,
    ) -> Result<(), BusError> {
        let missing: Vec<_> = {
            let known = self.known();
            topics.iter().filter(|topic| !known.contains(*topic)).cloned().collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        let admin = admin(settings)?;
        let Creation { made, denied, failed } =
            create(&admin, settings, &missing, partitions).await?;
        if !made.is_empty() {
            if let Err(error) = wait_for_leaders(admin, made, settings.connect_timeout).await {
                tracing::warn!(%error, "failed to wait for created topics; reading them once they are there");
            }
        }
        for (topic, code) in &failed {
            tracing::warn!(topic, %code, "failed to create a topic; reading it once it exists");
        }
        let unsure = |topic: &String| {
            denied.contains(topic) || failed.iter().any(|(failed, _)| failed == topic)
        };
        self.known().extend(missing.into_iter().filter(|topic| !unsure(topic)));
        Ok(())
    }

    /// Refuses topics that the brokers do not have.
    async fn require(
        &self,
        settings: &RedpandaEventBusBuilder,
        topics: &[String],
    ) -> Result<(), PublishError> {
        if topics.is_empty() {
            return Ok(());
        }
        let mut listed = self.listed.lock().await;
        let there = match &mut *listed {
            Some((at, there)) if at.elapsed() < LIST_INTERVAL => there,
            listed => {
                let there = list(settings).await?;
                &mut listed.insert((Instant::now(), there)).1
            }
        };
        match topics.iter().find(|topic| !there.contains(*topic)) {
            None => Ok(()),
            Some(topic) => Err(PublishError::Rejected(format!(
                "the topic {topic} is missing, or the right to see it is; create it or grant it"
            ))),
        }
    }

    /// The broker does not know this topic after all.
    pub(crate) fn forget(&self, topic: &str) {
        self.known().remove(topic);
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn admin(
    settings: &RedpandaEventBusBuilder,
) -> Result<DropInBackground<AdminClient<ClientLog>>, BusError> {
    let admin = common(settings).create_with_context(ClientLog::default()).map_err(bus_error)?;
    Ok(DropInBackground::new(admin))
}

/// The names of all topics that the brokers show us. Asking for one by name may create it. (An admin
/// client would not tell why the brokers do not let it in: nothing takes its events.)
async fn list(settings: &RedpandaEventBusBuilder) -> Result<BTreeSet<String>, BusError> {
    let (config, limit) = (common(settings), settings.connect_timeout);
    let listing = tokio::task::spawn_blocking(move || {
        let voice = ClientLog::default();
        let client: BaseProducer<ClientLog> =
            config.create_with_context(voice.clone()).map_err(bus_error)?;
        let client = DropInBackground::new(client);
        let metadata = client.client().fetch_metadata(None, limit).map_err(|error| {
            (0..3).for_each(|_| client.poll(Duration::ZERO));
            voice.explain(error)
        })?;
        Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
    });
    listing.await.map_err(join_error)?
}

/// What came of creating topics that may have been there.
#[derive(Default)]
struct Creation {
    made: Vec<String>,
    /// Those for which the right to create them is missing.
    denied: Vec<String>,
    failed: Vec<(String, RDKafkaErrorCode)>,
}

/// Creates those that are not there.
async fn create(
    admin: &AdminClient<ClientLog>,
    settings: &RedpandaEventBusBuilder,
    topics: &[String],
    partitions: u16,
) -> Result<Creation, BusError> {
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
    let mut creation = Creation::default();
    for outcome in admin.create_topics(&new, &options).await.map_err(bus_error)? {
        match outcome {
            Ok(name) => {
                tracing::info!(topic = name, partitions, "created a topic");
                creation.made.push(name);
            }
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((
                name,
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed,
            )) => creation.denied.push(name),
            Err(failed) => creation.failed.push(failed),
        }
    }
    Ok(creation)
}

/// A topic that was just made is not known to all brokers at once.
async fn wait_for_leaders(
    admin: DropInBackground<AdminClient<ClientLog>>,
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
