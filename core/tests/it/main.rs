//! Tests of the derive, the schemas and the formats.

#![deny(missing_docs, unused, clippy::pedantic)]

mod derive;
mod door;
mod event_set;
mod evolution;
mod heard;
mod ids;
mod properties;
mod replies;
mod saga;
mod schema;
mod types;
mod ui;
mod wire;
