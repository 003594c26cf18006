//! Publishing a topic again.

use composable_rust_core::queue::{Checkpoint, Checkpoints as _, Outbox as _, Queue};
use composable_rust_core::store::StoreError;

use crate::app::app::App;
use crate::worker::bus::parked_streams::ParkedStreams;

/// The error of [`App::republish`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RepublishError {
    /// This process publishes nothing to the topic. Call it in a process that does.
    #[error("this process publishes nothing to `{0}`")]
    NotPublished(String),
    /// Streams are parked on the topic. Redrive or discard their dead letters, then retry.
    #[error("streams are parked on `{0}`: redrive or discard their dead letters first")]
    Parked(String),
    /// The store is unavailable; some log partitions may be published again. Retry.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl App {
    /// Publishes the events of this process's aggregates to `topic` again, from the beginning of
    /// the log: for a topic that was lost or emptied, or that moves to another cluster. The relays
    /// start within about a second, in whichever process they run.
    ///
    /// Consumers of this framework ignore duplicate events for as long as their inbox remembers
    /// them ([`inbox_retention`](crate::settings::Settings::inbox_retention)), and handle
    /// older events again.
    ///
    /// # Errors
    ///
    /// [`RepublishError`]; each variant says what to do.
    pub async fn republish(&self, topic: &str) -> Result<(), RepublishError> {
        let shared = self.shared();
        let published = shared.published.iter().filter(|published| published.topic == topic);
        let workers: Vec<String> =
            published.map(|published| published.worker().to_string()).collect();
        if workers.is_empty() {
            return Err(RepublishError::NotPublished(topic.to_owned()));
        }
        for worker in &workers {
            for partition in 0..shared.log.partitions {
                let queue: Queue = ParkedStreams::new(worker, topic).queue(partition);
                if !shared.store.queued_streams(&queue).await?.is_empty() {
                    return Err(RepublishError::Parked(topic.to_owned()));
                }
            }
        }
        for worker in &workers {
            for partition in 0..shared.log.partitions {
                let to = Checkpoint { partition, offset: 0, event_id: None };
                shared.store.rewind(worker, to).await?;
            }
        }
        Ok(())
    }
}
