//! Publishing a topic anew.

use composable_rust_core::{Checkpoint, Queue, StoreError, WorkQueues as _};

use crate::app::app::App;
use crate::worker::bus::parked_streams::ParkedStreams;

/// Why a topic is not published anew.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RepublishError {
    /// This process publishes nothing to the topic. Ask a process that does.
    #[error("this process publishes nothing to `{0}`")]
    NotPublished(String),
    /// Streams are parked on the topic. Redrive or refuse their dead letters, then try again.
    #[error("streams are parked on `{0}`: redrive or refuse their dead letters first")]
    Parked(String),
    /// The store cannot be reached; a part of the log may be published anew. Try again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl App {
    /// Publishes the events of the types that this process publishes to `topic` again, from the
    /// beginning of the log on: for a topic that was lost or emptied, or that another cluster is to
    /// have. The relays begin within a second or so, whichever process they run in.
    ///
    /// Consumers of this framework absorb the events that they had, for as long as they remember them
    /// ([`inbox_retention`](crate::Settings::inbox_retention)); what is older they handle again.
    ///
    /// # Errors
    ///
    /// [`RepublishError`]; each variant says what to do.
    pub async fn republish(&self, topic: &str) -> Result<(), RepublishError> {
        let shared = self.shared();
        let own = shared.published.iter().filter(|of| of.topic == topic);
        let workers: Vec<String> = own.map(|of| of.worker()).collect();
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
