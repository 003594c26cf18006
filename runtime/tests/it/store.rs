//! The store of a reducer.

mod cancellation;
mod composition;
mod effects;
mod failure;
mod limits;
mod scripted;
mod sequence;
mod shutdown;
