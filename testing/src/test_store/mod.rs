//! Step-by-step tests of reducers.

mod check;
mod effects;
mod end;
mod receive;
mod running;
mod store;

pub use effects::{any_future, recording, rejecting};
pub use store::TestStore;
