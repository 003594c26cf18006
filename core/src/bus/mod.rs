//! The event bus between services: its port, and the messages that go through it.

mod event_bus;
mod shared_event_bus;

pub use event_bus::{
    BusError, BusMessage, BusRecord, Delivery, EventBus, GroupOffset, GroupPartition, GroupTopic,
    PublishError, Publisher, PublisherName, ResumePosition, TopicOffset, TopicState, TopicStatus,
    is_topic_name,
};
pub use shared_event_bus::{SharedDelivery, SharedEventBus, SharedPublisher};
