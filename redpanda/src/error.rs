//! What can go wrong, told apart by what the caller should do.

use std::error::Error;
use std::fmt;

use composable_rust_core::{BusError, PublishError};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

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

/// The meaning of what a broker, or librdkafka, says of a message or its topic.
pub(crate) fn publish_error(error: KafkaError) -> PublishError {
    match refusal(error.rdkafka_error_code(), error.to_string()) {
        Some(refusal) => refusal,
        None => bus_error(error).into(),
    }
}

/// The meaning of a code that concerns a message or its topic alone.
pub(crate) fn refusal(code: Option<RDKafkaErrorCode>, text: String) -> Option<PublishError> {
    use RDKafkaErrorCode::{
        InvalidRecord, InvalidTopic, MessageSizeTooLarge, PolicyViolation,
        TopicAuthorizationFailed, UnknownTopic, UnknownTopicOrPartition,
    };
    match code? {
        MessageSizeTooLarge | InvalidTopic => Some(PublishError::Invalid(text)),
        TopicAuthorizationFailed
        | UnknownTopic
        | UnknownTopicOrPartition
        | PolicyViolation
        | InvalidRecord => Some(PublishError::Rejected(text)),
        _ => None,
    }
}

/// The call was given to a thread that did not live to finish it.
pub(crate) fn join_error(error: tokio::task::JoinError) -> BusError {
    BusError::new(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_says_of_a_message_is_told_apart() {
        use RDKafkaErrorCode::{
            BrokerTransportFailure, ClusterAuthorizationFailed, InvalidRecord, InvalidTopic,
            MessageSizeTooLarge, MessageTimedOut, NotLeaderForPartition, PolicyViolation,
            TopicAuthorizationFailed, UnknownTopic,
        };
        let error = |code| publish_error(KafkaError::MessageProduction(code));
        for code in [MessageSizeTooLarge, InvalidTopic] {
            assert!(matches!(error(code), PublishError::Invalid(_)), "{code}");
        }
        for code in [TopicAuthorizationFailed, UnknownTopic, PolicyViolation, InvalidRecord] {
            assert!(matches!(error(code), PublishError::Rejected(_)), "{code}");
        }
        // These concern the connection, or all topics.
        for code in [
            MessageTimedOut,
            BrokerTransportFailure,
            NotLeaderForPartition,
            ClusterAuthorizationFailed,
        ] {
            assert!(matches!(error(code), PublishError::Unavailable(_)), "{code}");
        }
    }
}
