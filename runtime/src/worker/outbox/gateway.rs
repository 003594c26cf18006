//! The gateways of an app, their types erased.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use composable_rust_core::{
    CallError, DecodeError, EncodedMessage, Gateway, OutboxRow, ReplyOutcome, StreamId,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::app::unknown_messages::NewerCode;
use crate::error::{error_chain, panic_text};
use crate::instance::encode::Storage;
use crate::worker::outbox::circuit_breaker::CircuitBreakerSettings;
use crate::worker::retry::RetryPolicy;

/// How the calls of one gateway are made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GatewaySettings {
    /// How long one attempt may take. What passes it may have happened and counts as an attempt. It
    /// must be shorter than two thirds of the lease. Default 5 seconds.
    pub timeout: Duration,
    /// How often a call is tried; then it is answered `Exhausted`.
    pub retry: RetryPolicy,
    /// When the gateway is left alone.
    pub circuit_breaker: CircuitBreakerSettings,
    /// Calls under way at a time, in one process. Default 64.
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

/// How one attempt of a call ended.
#[derive(Debug)]
pub(crate) enum CallAttempt {
    /// The gateway answers, with this content.
    Answered(ReplyOutcome, EncodedMessage),
    /// The gateway answers, and the answer cannot be stored, for this reason.
    Unstorable(String),
    /// It may have happened.
    Retry(String),
    /// Nothing was sent.
    Unreachable(String),
    /// The request cannot be read.
    Poison(String),
    /// Newer code knows the request.
    Newer(NewerCode),
}

pub(crate) trait ErasedGateway: Send + Sync {
    fn call<'a>(&'a self, storage: Storage<'a>, row: &'a OutboxRow) -> BoxFuture<'a, CallAttempt>;
}

impl<G: Gateway> ErasedGateway for G {
    fn call<'a>(&'a self, storage: Storage<'a>, row: &'a OutboxRow) -> BoxFuture<'a, CallAttempt> {
        let stream = &row.message.sender;
        let key = row.message.row.id.to_string();
        Box::pin(async move {
            let request =
                match storage.codecs.decode::<G::Request>(stream, &row.message.row.content) {
                    Ok(request) => request,
                    Err(error) => return unreadable(&error),
                };
            let call = AssertUnwindSafe(Gateway::call(self, request, &key)).catch_unwind();
            match call.await {
                Ok(Ok(response)) => answered(storage, stream, ReplyOutcome::Done, &response),
                Ok(Err(CallError::Failed(failure))) => {
                    answered(storage, stream, ReplyOutcome::Failed, &failure)
                }
                Ok(Err(CallError::Retry(error))) => CallAttempt::Retry(error_chain(&*error)),
                Ok(Err(CallError::Unreachable(error))) => {
                    CallAttempt::Unreachable(error_chain(&*error))
                }
                Err(panic) => CallAttempt::Retry(format!("it panicked: {}", panic_text(&*panic))),
            }
        })
    }
}

fn unreadable(error: &DecodeError) -> CallAttempt {
    NewerCode::of(error).map_or_else(|| CallAttempt::Poison(error_chain(error)), CallAttempt::Newer)
}

/// An answer that cannot be stored is one all the same: the call was made, and made again it would
/// be answered so again.
fn answered(
    storage: Storage<'_>,
    stream: &StreamId,
    outcome: ReplyOutcome,
    content: &impl composable_rust_core::Message,
) -> CallAttempt {
    let encode = AssertUnwindSafe(|| storage.encoded(stream, content));
    match catch_unwind(encode).unwrap_or_else(|panic| Err(panic_text(&*panic))) {
        Ok(content) => CallAttempt::Answered(outcome, content),
        Err(reason) => CallAttempt::Unstorable(reason),
    }
}
