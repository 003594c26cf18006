//! Consumer groups: the subscriptions of their members, and their committed offsets.

pub(crate) mod deliveries;
pub(crate) mod group_context;
pub(crate) mod positions;
pub(crate) mod progress;
pub(crate) mod publisher_position;
pub(crate) mod reader;
pub(crate) mod resume;
pub(crate) mod subscription;
pub(crate) mod thread_waker;
