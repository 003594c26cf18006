//! The gateways of an app, their types erased.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use composable_rust_core::{
    CallError, Codecs, DecodeError, Encoded, Gateway, OutboxRow, ReplyOutcome, StreamId,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::attempts::Attempts;
use super::breaker::BreakerSettings;
use crate::encode::describe;
use crate::error::panic_text;

/// How the calls of one gateway are made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GatewaySettings {
    /// How long one attempt may take. What passes it may have happened and counts as an attempt. It
    /// must be shorter than two thirds of the lease. Default 5 seconds.
    pub time_limit: Duration,
    /// How often a call is tried; then it is answered `Exhausted`.
    pub attempts: Attempts,
    /// When the gateway is left alone.
    pub breaker: BreakerSettings,
    /// Calls under way at a time, in one process. Default 64.
    pub concurrency: usize,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            time_limit: Duration::from_secs(5),
            attempts: Attempts::default(),
            breaker: BreakerSettings::default(),
            concurrency: 64,
        }
    }
}

/// How one attempt of a call ended.
#[derive(Debug)]
pub(crate) enum Called {
    /// The gateway answers, with this content.
    Answered(ReplyOutcome, Encoded),
    /// It may have happened.
    Retry(String),
    /// Nothing was sent.
    Unreachable(String),
    /// The request cannot be read.
    Poison(String),
    /// Newer code knows the request.
    Newer(String),
}

pub(crate) trait ErasedGateway: Send + Sync {
    fn call<'a>(&'a self, codecs: &'a Codecs, row: &'a OutboxRow) -> BoxFuture<'a, Called>;
}

impl<G: Gateway> ErasedGateway for G {
    fn call<'a>(&'a self, codecs: &'a Codecs, row: &'a OutboxRow) -> BoxFuture<'a, Called> {
        let stream = &row.queued.stream;
        let key = row.queued.row.id.to_string();
        Box::pin(async move {
            let request = match codecs.decode::<G::Request>(stream, &row.queued.row.content) {
                Ok(request) => request,
                Err(error) => return unreadable(&error),
            };
            let call = AssertUnwindSafe(Gateway::call(self, request, &key)).catch_unwind();
            match call.await {
                Ok(Ok(response)) => answered(codecs, stream, ReplyOutcome::Done, &response),
                Ok(Err(CallError::Failed(failure))) => {
                    answered(codecs, stream, ReplyOutcome::Failed, &failure)
                }
                Ok(Err(CallError::Retry(error))) => Called::Retry(describe(&*error)),
                Ok(Err(CallError::Unreachable(error))) => Called::Unreachable(describe(&*error)),
                Err(panic) => Called::Retry(format!("it panicked: {}", panic_text(&*panic))),
            }
        })
    }
}

fn unreadable(error: &DecodeError) -> Called {
    let text = describe(error);
    if error.is_newer() { Called::Newer(text) } else { Called::Poison(text) }
}

/// What cannot be encoded did happen, so it is an attempt that came to nothing.
fn answered(
    codecs: &Codecs,
    stream: &StreamId,
    outcome: ReplyOutcome,
    content: &impl composable_rust_core::Message,
) -> Called {
    match codecs.encode(stream, content) {
        Ok(content) => Called::Answered(outcome, content),
        Err(error) => Called::Retry(format!("its answer cannot be stored: {error}")),
    }
}
