//! Extractors.

pub(crate) mod instance_id;
pub(crate) mod json;
pub(crate) mod path;
pub(crate) mod query;
pub(crate) mod request_context;
pub(crate) mod user;
pub(crate) mod wait_for;
