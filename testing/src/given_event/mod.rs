//! Tests of policies, followers and projections.

mod events;
mod projection;
mod sent;

pub use events::{GivenEvents, given_event};
pub use projection::Projected;
pub use sent::Sent;
