//! A reducer in memory.
//!
//! One lock guards the state and the list of what runs: a reduction, and the start and the
//! cancelling of what it returns, are one step. What runs does so in tasks, without the lock.

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
mod subscription;

pub use batch::SendHandle;
pub use builder::StoreBuilder;
pub use error::{ActionError, EffectError, SendRejected, StoreClosed, UnsupportedEffect};
pub use reducer_store::{ExecutableEffect, Store};
pub use subscription::{Lagged, Subscription};
