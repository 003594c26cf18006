//! Gateways: services outside, called with messages.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Message;
use crate::environment::Clock;
use crate::message::MessageKind;
use crate::message::wire::Wire;

/// A service outside that an aggregate calls with [`call`](crate::call), such as a payment
/// provider.
///
/// Each call is made at least once. The idempotency key is the same for every attempt. It is the
/// only fence against a call of a frozen process that overlaps with its own retry: pass it to the
/// service.
pub trait Gateway: Send + Sync + Sized + 'static {
    /// The stored name of the gateway.
    const NAME: &'static str;
    /// The requests that the gateway takes.
    type Request: Message;
    /// The responses that the gateway returns.
    type Response: Message;
    /// The permanent refusals of the gateway, which are not retried.
    type Failure: Message;

    /// Makes the call.
    ///
    /// # Errors
    ///
    /// [`CallError`]: its variants decide whether the runtime retries the call.
    fn call(
        &self,
        request: Self::Request,
        idempotency_key: &str,
    ) -> impl Future<Output = Result<Self::Response, CallError<Self::Failure>>> + Send;

    /// Receives the clock of the app that registers the gateway, before any call. For fakes.
    #[doc(hidden)]
    fn use_clock(&self, clock: Arc<dyn Clock>) {
        drop(clock);
    }
}

/// The error of a call that returned no response.
#[derive(Debug)]
pub enum CallError<F> {
    /// The service refuses permanently. The aggregate receives [`CallOutcome::Failed`].
    Failed(F),
    /// The outcome is unknown: the call may have happened. The runtime counts an attempt and
    /// retries.
    Retry(Box<dyn std::error::Error + Send + Sync>),
    /// Nothing was sent. The runtime retries until the service is reachable, without counting
    /// attempts.
    Unreachable(Box<dyn std::error::Error + Send + Sync>),
}

/// The outcome of a call.
pub enum CallOutcome<G: Gateway> {
    /// The service's response.
    Done(G::Response),
    /// The service refuses permanently.
    Failed(G::Failure),
    /// The attempts are exhausted: the call may have happened.
    Exhausted,
    /// The call happened or was permanently refused, but the service's response or failure cannot
    /// be stored: it is too large, or does not survive encoding. The text says which and why.
    Unstorable(String),
}

/// A command type with a variant for the outcomes of calls to `G`; derived for each variant that
/// holds a [`CallOutcome`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no variant for the outcomes of `{G}`",
    label = "nothing in `{Self}` takes a `CallOutcome<{G}>`",
    note = "add `SomeName(CallOutcome<{G}>)` to it"
)]
pub trait ReceivesOutcome<G: Gateway>: Message {
    /// The tag that travels with the return address and comes back with the outcome.
    type Tag: Serialize + DeserializeOwned + fmt::Debug + Clone + PartialEq + Send + Sync + 'static;

    /// The variant's name and version.
    const KIND: &'static MessageKind;
    /// The number of fields in the tag.
    const FIELDS: u16;

    /// Returns the command that delivers the outcome.
    fn receive_outcome(tag: Self::Tag, outcome: CallOutcome<G>) -> Self;

    /// Returns the tag in its stored form.
    #[doc(hidden)]
    fn stored_tag(tag: &Self::Tag) -> crate::message::Tag {
        crate::message::Tag::new(Self::KIND, Self::FIELDS, tag)
    }
}

/// The gateway of an outcome variant's type; lets the derive name the gateway under any alias of
/// the type. `C` is the command type, as in `IsReply`.
#[doc(hidden)]
pub trait IsCallOutcome<C> {
    type Gateway: Gateway;
}

impl<G: Gateway, C> IsCallOutcome<C> for CallOutcome<G> {
    type Gateway = G;
}

impl<G: Gateway> Clone for CallOutcome<G> {
    fn clone(&self) -> Self {
        match self {
            Self::Done(response) => Self::Done(response.clone()),
            Self::Failed(failure) => Self::Failed(failure.clone()),
            Self::Exhausted => Self::Exhausted,
            Self::Unstorable(reason) => Self::Unstorable(reason.clone()),
        }
    }
}

impl<G: Gateway> PartialEq for CallOutcome<G> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Done(a), Self::Done(b)) => a == b,
            (Self::Failed(a), Self::Failed(b)) => a == b,
            (Self::Exhausted, Self::Exhausted) => true,
            (Self::Unstorable(a), Self::Unstorable(b)) => a == b,
            _ => false,
        }
    }
}

impl<G: Gateway> fmt::Debug for CallOutcome<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(response) => f.debug_tuple("Done").field(response).finish(),
            Self::Failed(failure) => f.debug_tuple("Failed").field(failure).finish(),
            Self::Exhausted => f.write_str("Exhausted"),
            Self::Unstorable(reason) => f.debug_tuple("Unstorable").field(reason).finish(),
        }
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Outcome {
    Done,
    Failed,
    Exhausted,
    Unstorable,
}

impl<G: Gateway> Serialize for CallOutcome<G> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let wire = match self {
            Self::Done(response) => Wire::of(Outcome::Done, response),
            Self::Failed(failure) => Wire::of(Outcome::Failed, failure),
            Self::Exhausted => Ok(Wire::empty(Outcome::Exhausted)),
            Self::Unstorable(reason) => Ok(Wire::text(Outcome::Unstorable, reason)),
        };
        wire.map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de, G: Gateway> Deserialize<'de> for CallOutcome<G> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::<Outcome>::deserialize(deserializer)?;
        Ok(match wire.outcome {
            Outcome::Done => Self::Done(wire.message()?),
            Outcome::Failed => Self::Failed(wire.message()?),
            Outcome::Exhausted => Self::Exhausted,
            Outcome::Unstorable => Self::Unstorable(wire.into_text()),
        })
    }
}
