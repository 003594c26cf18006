//! A layer between an event store and its caller.

mod hooks;
mod intercepted;

pub use hooks::{CallKind, Intercept, StoreCall, StreamRows};
pub use intercepted::Intercepted;
