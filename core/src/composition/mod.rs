//! Reducers made of reducers, as the composing functions return them.

pub(crate) mod aggregate_reducer;
pub(crate) mod combine;
pub(crate) mod for_each;
pub(crate) mod if_let;
pub(crate) mod scope;

pub use aggregate_reducer::AggregateReducer;
pub use combine::Combined;
pub use for_each::ForEach;
pub use if_let::IfLet;
pub use scope::Scoped;
