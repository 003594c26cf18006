//! The in-process store: runs a reducer in memory.
//!
//! One lock guards the state and the list of running effects: reducing an action, and starting and
//! cancelling the effects that it returns, are one step. Effects run in tasks, without the lock.

mod batch;
mod builder;
mod error;
mod planner;
mod ports;
mod reducer_store;
mod run;
mod running;
mod shared;
mod shutdown;
mod store_reducer;
mod subscription;

pub use batch::SendHandle;
pub use builder::StoreBuilder;
pub use error::{ActionError, EffectError, SendRejected, StoreClosed, UnsupportedEffect};
pub use reducer_store::Store;
pub use store_reducer::StoreReducer;
pub use subscription::{Lagged, Subscription};
