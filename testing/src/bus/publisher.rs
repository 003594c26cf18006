//! Publishers that fence each other.

use composable_rust_core::bus::{
    BusMessage, PublishError, Publisher, PublisherName, ResumePosition,
};

use super::InMemoryEventBus;
use super::event_bus::admit;

/// The publisher of one log partition, until another process opens one.
#[derive(Debug)]
pub struct InMemoryPublisher {
    bus: InMemoryEventBus,
    name: PublisherName,
    epoch: u64,
}

impl InMemoryPublisher {
    pub(super) fn new(bus: InMemoryEventBus, name: PublisherName, epoch: u64) -> Self {
        Self { bus, name, epoch }
    }
}

impl Publisher for InMemoryPublisher {
    async fn resume_position(&mut self) -> Result<Option<ResumePosition>, PublishError> {
        self.bus.locked().position(&self.name, self.epoch)
    }

    async fn publish_batch(
        &mut self,
        messages: Vec<BusMessage>,
        position: Option<ResumePosition>,
    ) -> Result<(), PublishError> {
        self.bus.change(|state| {
            state.position(&self.name, self.epoch)?;
            admit(state, &messages, true)?;
            for message in messages {
                state.append(message);
            }
            if let Some(position) = position {
                state.set_position(&self.name, position);
            }
            Ok(())
        })
    }
}
