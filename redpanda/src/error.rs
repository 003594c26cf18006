//! Errors, classified by the reaction they call for.

use std::error::Error;
use std::fmt;

use composable_rust_core::bus::{BusError, PublishError};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// An error while opening a bus.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A setting is invalid or contradicts another. Correct it.
    #[error("invalid setting of the event bus")]
    Setting(#[source] Cause),
}

/// An error message of librdkafka or a broker.
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

/// A failure of the bus. Its message is the same each time the failure repeats, so that callers can
/// recognize the repetition. librdkafka's detail, the source, may vary.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    message: String,
    source: Option<Cause>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// Adds librdkafka's detail as the source.
    pub(crate) fn with_detail(self, detail: Option<String>) -> Self {
        Self { source: detail.map(Cause), ..self }
    }
}

impl From<Failure> for BusError {
    fn from(error: Failure) -> Self {
        Self::new(error)
    }
}

/// Converts the error of a call that concerns the connection or the whole bus.
pub(crate) fn bus_error(error: KafkaError) -> BusError {
    BusError::new(error)
}

/// Converts the error of publishing a message.
pub(crate) fn publish_error(error: KafkaError) -> PublishError {
    match rejection(error.rdkafka_error_code(), error.to_string()) {
        Some(rejection) => rejection,
        None => bus_error(error).into(),
    }
}

/// Converts an error code that concerns only a message or its topic; `None` for any other code.
pub(crate) fn rejection(code: Option<RDKafkaErrorCode>, text: String) -> Option<PublishError> {
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

/// Converts the error of a blocking call whose thread panicked or was cancelled.
pub(crate) fn join_error(error: tokio::task::JoinError) -> BusError {
    BusError::new(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_a_message_differ_from_those_of_the_connection() {
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
        // These concern the connection or all topics.
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
