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
    /// None of the brokers answers. Check that they run, then their addresses; trying again helps if
    /// they are only starting.
    #[error("cannot reach the brokers at {brokers}")]
    Unreachable {
        /// As they were given.
        brokers: String,
        /// What the attempt ended with.
        source: Cause,
    },
    /// A broker answers and does not let us in: the certificate or the credentials are wrong.
    #[error("the brokers at {brokers} refuse us")]
    Refused {
        /// As they were given.
        brokers: String,
        /// What the broker or librdkafka said.
        source: Cause,
    },
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

/// What a failed call means to whoever asked for it.
pub(crate) fn bus_error(error: KafkaError) -> BusError {
    BusError::new(error)
}

/// The call was given to a thread that did not live to finish it.
pub(crate) fn join_error(error: tokio::task::JoinError) -> BusError {
    BusError::new(error)
}
