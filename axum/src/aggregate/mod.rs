//! Ready handlers for an aggregate.

pub(crate) mod access;
pub(crate) mod body;
pub(crate) mod builder;
pub(crate) mod command;
pub(crate) mod event_json;
pub(crate) mod events;
pub(crate) mod history;
pub(crate) mod state;
pub(crate) mod unknown_fields;
