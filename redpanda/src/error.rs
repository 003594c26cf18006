//! What can go wrong, told apart by what the caller should do.

use std::error::Error;
use std::fmt;

use composable_rust_core::BusError;
use rdkafka::error::KafkaError;

/// Why a bus could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A setting is wrong, or contradicts another. Correct it.
    #[error("a setting of the bus is wrong")]
    Setting(#[source] Cause),
}

/// What librdkafka or a broker said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause(String);

impl Cause {
    pub(crate) fn new(text: impl fmt::Display) -> Self {
        Self(text.to_string())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Cause {}

/// Why the bus fails. The text does not vary while the reason lasts; what librdkafka adds does.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Failure {
    what: String,
    source: Option<Cause>,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }

    /// With what librdkafka says of it.
    pub(crate) fn with_detail(self, detail: Option<String>) -> Self {
        Self { source: detail.map(Cause), ..self }
    }
}

impl From<Failure> for BusError {
    fn from(error: Failure) -> Self {
        Self::new(error)
    }
}

/// What a failed call means to whoever asked for it.
pub(crate) fn bus_error(error: KafkaError) -> BusError {
    BusError::new(error)
}

/// The call was given to a thread that did not live to finish it.
pub(crate) fn join_error(error: tokio::task::JoinError) -> BusError {
    BusError::new(error)
}
