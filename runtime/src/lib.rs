//! Runs the reducers and aggregates of Composable Rust. Use it through the facade crate
//! `composable-rust`, which has the guide.

mod system;

pub use system::{SystemClock, SystemIds, SystemRng};
