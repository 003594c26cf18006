//! Linear sagas.

mod changes;
mod definition;
mod hard_cases;
mod left_waiting;
mod messages;
mod trip;
