//! An event bus in memory.

mod assignment;
mod deliveries;
mod event_bus;
mod group;
mod inspect;
mod publisher;
mod state;

pub use deliveries::{InMemoryDeliveries, InMemoryDelivery};
pub use event_bus::InMemoryEventBus;
pub use publisher::InMemoryPublisher;
