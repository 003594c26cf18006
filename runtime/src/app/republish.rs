//! Publishing a topic again.

use std::collections::BTreeSet;

use composable_rust_core::queue::{Checkpoints as _, Outbox as _, Queue};
use composable_rust_core::store::{Inspection as _, StoreError};

use crate::app::app::App;
use crate::app::log_start::{LogStart, rewound};
use crate::worker::bus::parked_streams::ParkedStreams;
use crate::worker::worker_id::WorkerId;

/// The error of [`App::republish`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RepublishError {
    /// This process publishes nothing to the topic, and no other process has.
    #[error("nothing is published to `{0}`")]
    NotPublished(String),
    /// Streams are parked on the topic. Redrive or discard their dead letters, then retry.
    #[error("streams are parked on `{0}`: redrive or discard their dead letters first")]
    Parked(String),
    /// The store is unavailable, and some log partitions may be published again; or the place is
    /// not in the log.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl App {
    /// Publishes the events of this log to `topic` again, from a place in the log: for a topic that
    /// was lost or emptied, that moves to another cluster, or whose relay has stopped because the
    /// log lost events. The relays start within about a second, in whichever process they run, and
    /// publish until the end of the log.
    ///
    /// Consumers of this framework ignore duplicate events for as long as their inbox remembers
    /// them ([`inbox_retention`](crate::settings::Settings::inbox_retention)), and handle older
    /// events again.
    ///
    /// # Errors
    ///
    /// [`RepublishError`]; each variant says what to do.
    pub async fn republish(&self, topic: &str, from: LogStart) -> Result<(), RepublishError> {
        let shared = self.shared();
        let relays = self.relays_of(topic).await?;
        if relays.is_empty() {
            return Err(RepublishError::NotPublished(topic.to_owned()));
        }
        let positions = self.positions_of(&from).await?;
        for relay in &relays {
            for at in &positions {
                let queue: Queue = ParkedStreams::new(relay, topic).queue(at.partition);
                if !shared.store.queued_streams(&queue).await?.is_empty() {
                    return Err(RepublishError::Parked(topic.to_owned()));
                }
            }
        }
        for relay in &relays {
            for at in &positions {
                shared.store.rewind(relay, rewound(*at)).await?;
            }
        }
        Ok(())
    }

    /// Returns the relays to a topic: those of this process, and those of others that have
    /// published anything.
    async fn relays_of(&self, topic: &str) -> Result<BTreeSet<String>, StoreError> {
        let shared = self.shared();
        let own = shared.published.iter().filter(|published| published.topic == topic);
        let mut relays: BTreeSet<_> = own.map(|published| published.worker().to_string()).collect();
        for of in shared.store.all_checkpoints().await? {
            if let Ok(WorkerId::Relay { topic: of_relay, .. }) = of.name.parse() {
                relays.extend((of_relay == topic).then_some(of.name));
            }
        }
        Ok(relays)
    }
}
