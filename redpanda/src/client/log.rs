//! The log messages and errors of librdkafka's clients.

use std::sync::{Arc, Mutex, PoisonError};

use composable_rust_core::bus::BusError;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{NoCustomPartitioner, ProducerContext};

use crate::error::{Failure, bus_error};

/// The `tracing` target of everything that librdkafka logs.
const TARGET: &str = "composable_rust_redpanda::librdkafka";

/// Forwards a client's log to `tracing` and keeps its last error.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClientLog {
    last: Arc<Mutex<Option<(KafkaError, String)>>>,
    undelivered: Arc<Mutex<Option<KafkaError>>>,
}

impl ClientLog {
    /// Returns the client's last error, which often says more than the error of the failed call.
    fn last_error(&self) -> Option<(KafkaError, String)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the error of the first message that was not delivered.
    pub(crate) fn undelivered(&self) -> Option<KafkaError> {
        self.undelivered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn forget_undelivered(&self) {
        *self.undelivered.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Converts the error of a call, and adds the brokers' reason if they reject this client.
    pub(crate) fn explain(&self, error: KafkaError) -> BusError {
        match self.last_error() {
            Some((rejection, reason)) if is_authentication_error(&rejection) => {
                Failure::new(error.to_string()).with_detail(Some(reason)).into()
            }
            _ => bus_error(error),
        }
    }

    fn note(&self, error: KafkaError, reason: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // `AllBrokersDown` only follows from an earlier error, which says more. So does a closed
        // connection after a rejection.
        let follows = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => last.is_some(),
            Some(RDKafkaErrorCode::BrokerTransportFailure) => {
                last.as_ref().is_some_and(|(earlier, _)| is_authentication_error(earlier))
            }
            _ => false,
        };
        if !follows {
            *last = Some((error, reason.to_owned()));
        }
    }
}

/// Returns `true` if a broker, or librdkafka on its behalf, rejects this client.
fn is_authentication_error(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::SSL
        )
    )
}

impl ClientContext for ClientLog {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        use RDKafkaLogLevel::{Debug, Info, Notice, Warning};
        match level {
            // Producers and consumers get the same settings, and each warns about those that only
            // the other one knows.
            _ if facility == "CONFWARN" => tracing::debug!(target: TARGET, facility, "{message}"),
            Debug => tracing::trace!(target: TARGET, facility, "{message}"),
            Info | Notice => tracing::debug!(target: TARGET, facility, "{message}"),
            Warning => tracing::warn!(target: TARGET, facility, "{message}"),
            _ => tracing::error!(target: TARGET, facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // librdkafka repeats an error at most every 30 seconds.
        if is_authentication_error(&error) {
            let then = "retrying";
            tracing::warn!(target: TARGET, %error, "a broker rejects this client; {then}: {reason}");
        } else {
            tracing::debug!(target: TARGET, %error, "{reason}");
        }
        self.note(error, reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for ClientLog {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut first = self.undelivered.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| error.clone());
        }
    }
}

/// The context of a consumer that reads and commits offsets but joins no group.
pub(crate) struct OffsetOnlyContext(ClientLog);

impl OffsetOnlyContext {
    pub(crate) fn new(log: ClientLog) -> Self {
        Self(log)
    }
}

impl ClientContext for OffsetOnlyContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ConsumerContext for OffsetOnlyContext {}
