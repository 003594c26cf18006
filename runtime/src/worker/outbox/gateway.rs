//! The gateways of an app, their types erased.

use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::message::ReplyOutcome;
use composable_rust_core::queue::{OutboxMessage, OutboxRow};
use composable_rust_core::{CallError, Gateway, Message};
use futures_util::future::BoxFuture;

use crate::error::error_chain;
use crate::instance::encode::Storage;
use crate::panic::{guarded, guarded_future};
use crate::worker::outbox::circuit_breaker::CircuitBreakerSettings;
use crate::worker::outcome::{Failure, truncate_error};
use crate::worker::retry::RetryPolicy;

/// Settings of one gateway. Change them with
/// [`AppBuilder::gateway_with`](crate::AppBuilder::gateway_with).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GatewaySettings {
    /// Timeout of one attempt. A call that exceeds it may have happened, and counts as an attempt.
    /// It must be shorter than two thirds of [`lease_ttl`](crate::settings::Settings::lease_ttl).
    /// Default: 5 seconds.
    pub timeout: Duration,
    /// The retries of a call. After the last attempt the call is answered `Exhausted`.
    /// Default: [`RetryPolicy::default`].
    pub retry: RetryPolicy,
    /// The gateway's circuit breaker. Default: [`CircuitBreakerSettings::default`].
    pub circuit_breaker: CircuitBreakerSettings,
    /// Maximum concurrent calls in one process. Default: 64.
    pub max_concurrent_calls: usize,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            retry: RetryPolicy::default(),
            circuit_breaker: CircuitBreakerSettings::default(),
            max_concurrent_calls: 64,
        }
    }
}

/// A gateway with its settings.
#[derive(Clone)]
pub(crate) struct RegisteredGateway {
    pub(crate) gateway: Arc<dyn ErasedGateway>,
    pub(crate) settings: GatewaySettings,
}

/// The outcome of a call and the content of its reply.
pub(crate) type CallResponse = (ReplyOutcome, EncodedMessage);

/// The name of the content of a reply that says why the gateway's response cannot be stored.
const UNSTORABLE: &str = "unstorable";

/// A gateway of any type.
pub(crate) trait ErasedGateway: Send + Sync {
    /// Makes the call that a row holds.
    ///
    /// # Errors
    ///
    /// - [`Failure::Failed`]: the call may have happened.
    /// - [`Failure::Unavailable`]: the call has not happened.
    /// - [`Failure::Poison`], [`Failure::NeedsNewerCode`]: the request cannot be decoded.
    fn call<'a>(
        &'a self,
        storage: Storage<'a>,
        row: &'a OutboxRow,
    ) -> BoxFuture<'a, Result<CallResponse, Failure>>;
}

impl<G: Gateway> ErasedGateway for G {
    fn call<'a>(
        &'a self,
        storage: Storage<'a>,
        row: &'a OutboxRow,
    ) -> BoxFuture<'a, Result<CallResponse, Failure>> {
        let sender = &row.message.sender;
        let key = row.message.row.id.to_string();
        Box::pin(async move {
            let request = storage.codecs.decode::<G::Request>(sender, &row.message.row.content);
            let request = request.map_err(|error| Failure::of_decode(&error, Failure::Poison))?;
            match guarded_future(Gateway::call(self, request, &key)).await {
                Ok(Ok(response)) => Ok(encoded(storage, row, ReplyOutcome::Done, &response)),
                Ok(Err(CallError::Failed(failure))) => {
                    Ok(encoded(storage, row, ReplyOutcome::Failed, &failure))
                }
                Ok(Err(CallError::Retry(error))) => Err(Failure::Failed(error_chain(&*error))),
                Ok(Err(CallError::Unreachable(error))) => {
                    Err(Failure::Unavailable(error_chain(&*error)))
                }
                Err(message) => Err(Failure::panicked(&message)),
            }
        })
    }
}

/// Encodes a response. If it cannot be stored, the reply says so: the call was made, and a retry
/// would get the same response.
fn encoded(
    storage: Storage<'_>,
    row: &OutboxRow,
    outcome: ReplyOutcome,
    response: &impl Message,
) -> CallResponse {
    let OutboxMessage { sender, row: message } = &row.message;
    match guarded(|| storage.encoded(sender, response)).unwrap_or_else(Err) {
        Ok(content) => (outcome, content),
        Err(reason) => {
            tracing::error!(
                gateway = %row.queue.target, id = %message.id, ?sender, reason,
                "the response of a gateway cannot be stored; replying `Unstorable`"
            );
            let content = EncodedMessage {
                name: UNSTORABLE.into(),
                version: 1,
                codec: "json".into(),
                bytes: truncate_error(reason).into_bytes(),
            };
            (ReplyOutcome::Unstorable, content)
        }
    }
}
