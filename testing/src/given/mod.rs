//! Given/when/then tests of aggregates.

mod answer;
mod check;
mod environment;
mod scenario;
mod when;

pub use environment::{DefaultEnvironment, EnvironmentSource, ProvidedEnvironment};
pub use scenario::{Given, given};
pub use when::When;
