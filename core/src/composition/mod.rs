//! Reducers made of reducers.

mod combine;
mod for_each;
mod if_let;
mod scope;

pub use combine::{Combined, combine_reducers};
pub use for_each::{ForEach, for_each};
pub use if_let::{IfLet, if_let};
pub use scope::{Scoped, scope_reducer};
