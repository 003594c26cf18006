//! Topics and their creation on first use.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use composable_rust_core::bus::{BusError, PublishError, is_topic_name};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::util::Timeout;

use crate::client::config::common;
use crate::client::drop_in_background::DropInBackground;
use crate::client::log::ClientLog;
use crate::client::settings::Settings;
use crate::error::{bus_error, join_error, rejection};

/// The maximum message size of brokers and topics by default (`message.max.bytes`).
const DEFAULT_MESSAGE_BYTES: usize = 1 << 20;

/// The time for which a list of the brokers' topics is reused.
const LIST_INTERVAL: Duration = Duration::from_secs(1);

/// The topics that are known to exist, by their names on the wire.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    known: Mutex<BTreeSet<String>>,
    /// All topics that the brokers list, and the time at which they were listed.
    listed: tokio::sync::Mutex<Option<(Instant, BTreeSet<String>)>>,
}

/// The reaction to a missing topic.
#[derive(Debug, Clone, Copy)]
pub(crate) enum IfMissing {
    /// Create it with this number of partitions.
    Create(u16),
    /// Reject the call.
    Reject,
}

impl IfMissing {
    /// Returns the reaction that the settings ask for.
    pub(crate) fn of(settings: &Settings) -> Self {
        if settings.create_topics { Self::Create(settings.partitions) } else { Self::Reject }
    }
}

impl Topics {
    /// Ensures that `topics`, by their names on the wire, exist.
    pub(crate) async fn ensure<'a>(
        &self,
        settings: &Settings,
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
            return Err(PublishError::Invalid(format!("invalid topic name `{topic}`")));
        }
        match if_missing {
            IfMissing::Create(partitions) => {
                let admin = admin(settings)?;
                let Creation { created, denied, failed } =
                    create(&admin, settings, &missing, partitions).await?;
                if !created.is_empty() {
                    wait_for_leaders(admin, created, settings.connect_timeout).await?;
                }
                if let Some((topic, code)) = failed.into_iter().next() {
                    let text = format!("failed to create the topic {topic}: {code}");
                    let rejection = rejection(Some(code), text.clone());
                    return Err(rejection.unwrap_or_else(|| BusError::new(text).into()));
                }
                // Brokers check the right to create a topic even if the topic exists, so the denied
                // topics may exist.
                self.require(settings, &denied).await?;
            }
            IfMissing::Reject => self.require(settings, &missing).await?,
        }
        self.known().extend(missing);
        Ok(())
    }

    /// Creates those of `topics` that are missing, for a group that reads the topics that exist. A
    /// topic that cannot be created is no error.
    pub(crate) async fn create_if_possible(
        &self,
        settings: &Settings,
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
        let Creation { created, denied, failed } =
            create(&admin, settings, &missing, partitions).await?;
        if !created.is_empty() {
            if let Err(error) = wait_for_leaders(admin, created, settings.connect_timeout).await {
                let then = "reading them once they exist";
                tracing::warn!(%error, "failed to wait for created topics; {then}");
            }
        }
        for (topic, code) in &failed {
            tracing::warn!(topic, %code, "failed to create a topic; reading it once it exists");
        }
        let is_unknown = |topic: &String| {
            denied.contains(topic) || failed.iter().any(|(failed, _)| failed == topic)
        };
        self.known().extend(missing.into_iter().filter(|topic| !is_unknown(topic)));
        Ok(())
    }

    /// Rejects topics that the brokers do not list.
    async fn require(&self, settings: &Settings, topics: &[String]) -> Result<(), PublishError> {
        if topics.is_empty() {
            return Ok(());
        }
        let mut listed = self.listed.lock().await;
        let existing = match &mut *listed {
            Some((at, existing)) if at.elapsed() < LIST_INTERVAL => existing,
            listed => {
                let existing = list(settings).await?;
                &mut listed.insert((Instant::now(), existing)).1
            }
        };
        match topics.iter().find(|topic| !existing.contains(*topic)) {
            None => Ok(()),
            Some(topic) => Err(PublishError::Rejected(format!(
                "the topic {topic} does not exist or this client may not describe it; create it or \
                 grant this client the right to describe it"
            ))),
        }
    }

    /// Forgets a topic that may have been deleted.
    pub(crate) fn forget(&self, topic: &str) {
        self.known().remove(topic);
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn admin(settings: &Settings) -> Result<DropInBackground<AdminClient<ClientLog>>, BusError> {
    let admin = common(settings).create_with_context(ClientLog::default()).map_err(bus_error)?;
    Ok(DropInBackground::new(admin))
}

/// Returns the names of all topics that the brokers list.
///
/// The request is for all topics, because a request for one topic by name could create that topic.
/// A producer makes the request: an admin client's errors would lack the brokers' reason for a
/// rejection, because nothing polls its events.
async fn list(settings: &Settings) -> Result<BTreeSet<String>, BusError> {
    let (config, limit) = (common(settings), settings.connect_timeout);
    let listing = tokio::task::spawn_blocking(move || {
        let log = ClientLog::default();
        let client: BaseProducer<ClientLog> =
            config.create_with_context(log.clone()).map_err(bus_error)?;
        let client = DropInBackground::new(client);
        let metadata = client.client().fetch_metadata(None, limit).map_err(|error| {
            // The reason can arrive after the call has failed.
            (0..3).for_each(|_| client.poll(REASON_WAIT));
            log.explain(error)
        })?;
        Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
    });
    listing.await.map_err(join_error)?
}

/// The time for which a failed listing waits for the next report of its client.
const REASON_WAIT: Duration = Duration::from_millis(50);

/// The outcome of creating topics, some of which may have existed.
#[derive(Default)]
struct Creation {
    created: Vec<String>,
    /// The topics that this client may not create.
    denied: Vec<String>,
    failed: Vec<(String, RDKafkaErrorCode)>,
}

/// Creates the topics that do not exist.
async fn create(
    admin: &AdminClient<ClientLog>,
    settings: &Settings,
    topics: &[String],
    partitions: u16,
) -> Result<Creation, BusError> {
    let max = settings.max_message_bytes();
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
                creation.created.push(name);
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

/// Waits until all partitions of new topics have leaders, which takes brokers a moment.
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
                    return Err(BusError::new(format!(
                        "no leaders were elected for the new topic {topic}"
                    )));
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
