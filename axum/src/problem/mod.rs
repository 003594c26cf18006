//! Error responses.

pub(crate) mod errors;
pub(crate) mod fallback;
pub(crate) mod map;
#[expect(clippy::module_inception, reason = "the file is named after its type")]
pub(crate) mod problem;
pub(crate) mod send_error;
#[cfg(feature = "sqlx")]
mod sqlx_error;
