//! Linear sagas.

mod changes;
mod definition;
mod hard_cases;
mod messages;
mod trip;
