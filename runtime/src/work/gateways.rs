//! The gateways of an app, their types erased.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use composable_rust_core::{
    CallError, DecodeError, Encoded, Gateway, OutboxRow, ReplyOutcome, StreamId,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::attempts::Attempts;
use super::breaker::BreakerSettings;
use crate::encode::{Storage, describe};
use crate::error::panic_text;
use crate::unknowns::Newer;

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
    /// The gateway answers, and the answer cannot be stored, for this reason.
    Unstorable(String),
    /// It may have happened.
    Retry(String),
    /// Nothing was sent.
    Unreachable(String),
    /// The request cannot be read.
    Poison(String),
    /// Newer code knows the request.
    Newer(Newer),
}

pub(crate) trait ErasedGateway: Send + Sync {
    fn call<'a>(&'a self, storage: Storage<'a>, row: &'a OutboxRow) -> BoxFuture<'a, Called>;
}

impl<G: Gateway> ErasedGateway for G {
    fn call<'a>(&'a self, storage: Storage<'a>, row: &'a OutboxRow) -> BoxFuture<'a, Called> {
        let stream = &row.queued.stream;
        let key = row.queued.row.id.to_string();
        Box::pin(async move {
            let request = match storage.codecs.decode::<G::Request>(stream, &row.queued.row.content)
            {
                Ok(request) => request,
                Err(error) => return unreadable(&error),
            };
            let call = AssertUnwindSafe(Gateway::call(self, request, &key)).catch_unwind();
            match call.await {
                Ok(Ok(response)) => answered(storage, stream, ReplyOutcome::Done, &response),
                Ok(Err(CallError::Failed(failure))) => {
                    answered(storage, stream, ReplyOutcome::Failed, &failure)
                }
                Ok(Err(CallError::Retry(error))) => Called::Retry(describe(&*error)),
                Ok(Err(CallError::Unreachable(error))) => Called::Unreachable(describe(&*error)),
                Err(panic) => Called::Retry(format!("it panicked: {}", panic_text(&*panic))),
            }
        })
    }
}

fn unreadable(error: &DecodeError) -> Called {
    Newer::of(error).map_or_else(|| Called::Poison(describe(error)), Called::Newer)
}

/// An answer that cannot be stored is one all the same: the call was made, and made again it would
/// be answered so again.
fn answered(
    storage: Storage<'_>,
    stream: &StreamId,
    outcome: ReplyOutcome,
    content: &impl composable_rust_core::Message,
) -> Called {
    let encode = AssertUnwindSafe(|| storage.encoded(stream, content));
    match catch_unwind(encode).unwrap_or_else(|panic| Err(panic_text(&*panic))) {
        Ok(content) => Called::Answered(outcome, content),
        Err(reason) => Called::Unstorable(reason),
    }
}
