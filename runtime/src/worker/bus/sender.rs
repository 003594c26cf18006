//! Publishing what is sent to other services: commands and replies.
//!
//! There are no transactions here. A row of a sender for a recipient is begun when the one ahead of it
//! is acknowledged and settled, so first occurrences keep their order whatever fails and whoever takes
//! over; what is published again is absorbed by the recipient's inbox.

use std::time::Duration;

use composable_rust_core::{EventBus as _, OutboxRow, PublishError};

use crate::error::error_chain;
use crate::worker::bus::cloud_event::{category_of, effect_message, excess};
use crate::worker::context::{WorkerContext, metadata};
use crate::worker::outbox::execute::Executed;

/// The time that a message which is under way has when the app stops; then it is published again by
/// whoever comes next.
const SEND_GRACE: Duration = Duration::from_secs(2);

impl WorkerContext {
    pub(crate) async fn send(&self, row: &OutboxRow) -> Executed {
        let Some(bus) = &self.bus else {
            return Executed::Waiting("the app has no bus".to_owned());
        };
        let (sender, row) = (&row.message.sender, &row.message.row);
        match metadata(&row.metadata) {
            Ok(Some(_)) => {}
            // Erased with the stream that sent it.
            Ok(None) => return Executed::Done(Vec::new()),
            Err(reason) => return Executed::Newer(reason),
        }
        let message = effect_message(&self.shared.log, sender, row);
        if let Some(error) = excess(&message, bus.max_payload_bytes()) {
            return Executed::Poison(error);
        }
        let published = async {
            if self.shared.remote.contains(category_of(&row.recipient)) {
                bus.publish(message).await
            } else {
                // The recipient was named by another service, which reads a topic of that name if it
                // is what it says it is.
                bus.publish_to_existing(message).await
            }
        };
        let stopping = async {
            self.stop.cancelled().await;
            self.clock().sleep(SEND_GRACE).await;
        };
        let published = tokio::select! {
            biased;
            published = published => published,
            () = stopping => return Executed::Waiting("the app stops".to_owned()),
        };
        match published {
            Ok(()) => Executed::Done(Vec::new()),
            Err(error @ PublishError::Invalid(_)) => Executed::Poison(error_chain(&error)),
            Err(error @ PublishError::Rejected(_)) => Executed::Failed(error_chain(&error)),
            Err(error @ (PublishError::Unavailable(_) | PublishError::Fenced)) => {
                Executed::Waiting(error_chain(&error))
            }
        }
    }
}
