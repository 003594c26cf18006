//! The gateways of an app, their types erased.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use composable_rust_core::codec::{Codecs, DecodeError, EncodedMessage};
use composable_rust_core::environment::Clock;
use composable_rust_core::message::ReplyOutcome;
use composable_rust_core::queue::{OutboxMessage, OutboxRow};
use composable_rust_core::{CallError, Gateway, Message, StreamId};
use futures_util::future::BoxFuture;

use crate::app::registry::json;
use crate::error::error_chain;
use crate::instance::encode::Storage;
use crate::panic::{guarded, guarded_future, lock};
use crate::worker::outbox::call_limits::{CallKeys, CallLimits};
use crate::worker::outbox::gateway_settings::{GatewaySettings, KeyOf};
use crate::worker::outcome::{Failure, truncate_error};
use crate::worker::queued_message::idempotency_key;
use crate::worker::retry::RetryPolicy;

/// A gateway with its settings.
#[derive(Clone)]
pub(crate) struct RegisteredGateway {
    pub(crate) gateway: Arc<dyn ErasedGateway>,
    /// The timeout of one attempt.
    pub(crate) timeout: Duration,
    pub(crate) retry: RetryPolicy,
    pub(crate) max_concurrent_calls: usize,
    pub(crate) limits: Arc<Mutex<CallLimits>>,
    /// The problems of the settings.
    pub(crate) problems: Vec<String>,
}

impl RegisteredGateway {
    pub(crate) fn new<G: Gateway>(gateway: G, settings: GatewaySettings<G>) -> Self {
        let limits = Arc::new(Mutex::new(CallLimits::new(settings.limits())));
        let problems = settings.problems();
        let GatewaySettings { timeout, retry, max_concurrent_calls, .. } = settings;
        let gateway = Arc::new(TypedGateway { gateway, settings });
        Self { gateway, timeout, retry, max_concurrent_calls, limits, problems }
    }

    pub(crate) fn limits(&self) -> MutexGuard<'_, CallLimits> {
        lock(&self.limits)
    }
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

    fn use_clock(&self, clock: Arc<dyn Clock>);

    /// Returns a request as JSON text.
    fn decode(
        &self,
        codecs: &Codecs,
        sender: &StreamId,
        content: &EncodedMessage,
    ) -> Result<String, DecodeError>;

    /// Returns the keys of the call that a row holds, by which it is limited; none if its request
    /// cannot be decoded.
    fn keys(&self, storage: Storage<'_>, row: &OutboxRow) -> CallKeys;
}

struct TypedGateway<G: Gateway> {
    gateway: G,
    settings: GatewaySettings<G>,
}

impl<G: Gateway> TypedGateway<G> {
    fn request(storage: Storage<'_>, row: &OutboxRow) -> Result<G::Request, DecodeError> {
        storage.codecs.decode::<G::Request>(&row.message.sender, &row.message.row.content)
    }
}

impl<G: Gateway> ErasedGateway for TypedGateway<G> {
    fn use_clock(&self, clock: Arc<dyn Clock>) {
        self.gateway.use_clock(clock);
    }

    fn decode(
        &self,
        codecs: &Codecs,
        sender: &StreamId,
        content: &EncodedMessage,
    ) -> Result<String, DecodeError> {
        Ok(json(&codecs.decode::<G::Request>(sender, content)?))
    }

    fn keys(&self, storage: Storage<'_>, row: &OutboxRow) -> CallKeys {
        let GatewaySettings { breaker_key, rate_by_key, concurrency_by_key, .. } = &self.settings;
        let rate_key = rate_by_key.as_ref().map(|(key, _)| key);
        let concurrency_key = concurrency_by_key.as_ref().map(|(key, _)| key);
        if breaker_key.is_none() && rate_key.is_none() && concurrency_key.is_none() {
            return CallKeys::default();
        }
        // The call itself fails with the same error.
        let Ok(request) = Self::request(storage, row) else { return CallKeys::default() };
        let key = |key: Option<&KeyOf<G>>| key.map(|key| key_of_request::<G>(key, &request));
        CallKeys {
            breaker: key(breaker_key.as_ref()),
            rate: key(rate_key),
            concurrency: key(concurrency_key),
        }
    }

    fn call<'a>(
        &'a self,
        storage: Storage<'a>,
        row: &'a OutboxRow,
    ) -> BoxFuture<'a, Result<CallResponse, Failure>> {
        let key = idempotency_key(&row.message.row);
        Box::pin(async move {
            let request = Self::request(storage, row);
            let request = request.map_err(|error| Failure::of_decode(&error, Failure::Poison))?;
            match guarded_future(self.gateway.call(request, &key)).await {
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

/// The key of requests for which the program's function panics.
const UNKNOWN_KEY: &str = "?";

/// Returns the key of a request.
fn key_of_request<G: Gateway>(key: &KeyOf<G>, request: &G::Request) -> String {
    const MAX_BYTES: usize = 256;
    let mut key = guarded(|| key(request)).unwrap_or_else(|panic| {
        tracing::error!(
            gateway = G::NAME,
            panic,
            "the key of a request panicked; limiting its call under the key `{UNKNOWN_KEY}`"
        );
        UNKNOWN_KEY.to_owned()
    });
    if key.len() > MAX_BYTES {
        let end = (0..=MAX_BYTES).rev().find(|end| key.is_char_boundary(*end)).unwrap_or(0);
        key.truncate(end);
    }
    key
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
