//! The part of a bus that publishers share.

use std::sync::Arc;

use composable_rust_core::bus::BusError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::client::settings::Settings;
use crate::topics::Topics;

/// The settings, the known topics, and the limit on open publishers.
pub(crate) struct BusContext {
    pub(crate) settings: Settings,
    pub(crate) topics: Topics,
    publisher_slots: Arc<Semaphore>,
}

impl BusContext {
    pub(crate) fn new(settings: Settings) -> Self {
        let publisher_slots = Arc::new(Semaphore::new(settings.max_publishers));
        Self { settings, topics: Topics::default(), publisher_slots }
    }

    /// Waits until another publisher may be opened.
    pub(crate) async fn publisher_slot(&self) -> Result<OwnedSemaphorePermit, BusError> {
        let limit = self.settings.connect_timeout;
        let slot = tokio::time::timeout(limit, Arc::clone(&self.publisher_slots).acquire_owned());
        let slot = slot.await.map_err(|_| {
            let max = self.settings.max_publishers;
            BusError::new(format!("{max} publishers are open, the maximum; close one first"))
        })?;
        slot.map_err(BusError::new)
    }

    /// Returns the name of a topic or a group on the wire.
    pub(crate) fn wire_name(&self, name: &str) -> String {
        format!("{}{name}", self.settings.topic_prefix)
    }
}
