//! The outside world as messages.

use std::fmt;
use std::future::Future;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Message;
use crate::message::MessageKind;
use crate::message::wire::Wire;

/// A service outside that an aggregate asks with [`call`](crate::call), such as a payment provider.
///
/// Calls are made at least once. The idempotency key is the same for every attempt and is the only
/// fence against a call that overlaps with its own repetition after a frozen process: give it to
/// the service.
pub trait Gateway: Send + Sync + Sized + 'static {
    /// Names the gateway; it is stored.
    const NAME: &'static str;
    /// What it is asked.
    type Request: Message;
    /// What it answers.
    type Response: Message;
    /// What it refuses with, for good.
    type Failure: Message;

    /// Makes the call.
    ///
    /// # Errors
    ///
    /// See [`CallError`]: its variants decide whether the call is made again.
    fn call(
        &self,
        request: Self::Request,
        idempotency_key: &str,
    ) -> impl Future<Output = Result<Self::Response, CallError<Self::Failure>>> + Send;
}

/// Why a call did not answer.
#[derive(Debug)]
pub enum CallError<F> {
    /// Final: the service refuses. It comes back as [`CallOutcome::Failed`].
    Failed(F),
    /// It may have happened. Counts as an attempt and is made again.
    Retry(Box<dyn std::error::Error + Send + Sync>),
    /// Nothing was sent. Made again for as long as it lasts, without counting.
    Unreachable(Box<dyn std::error::Error + Send + Sync>),
}

/// How a call was answered.
pub enum CallOutcome<G: Gateway> {
    /// The service's response.
    Done(G::Response),
    /// The service refuses, for good.
    Failed(G::Failure),
    /// Out of attempts: it may have happened.
    Exhausted,
    /// It happened, or was refused for good, and what the service says cannot be stored: it is too
    /// large, or does not survive encoding. The text says which and why.
    Unstorable(String),
}

/// A command type with a variant for the answers of `G`; derived per variant that holds an
/// [`CallOutcome`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no variant for the answers of `{G}`",
    label = "nothing in `{Self}` takes an `Answer<{G}>`",
    note = "add `SomeName(Answer<{G}>)` to it"
)]
pub trait ReceivesOutcome<G: Gateway>: Message {
    /// What travels with the return address and comes back with the answer.
    type Tag: Serialize + DeserializeOwned + fmt::Debug + Clone + PartialEq + Send + Sync + 'static;

    /// The variant's name and version.
    const KIND: &'static MessageKind;
    /// The number of fields in the tag.
    const FIELDS: u16;

    /// The command that delivers the answer.
    fn receive_outcome(tag: Self::Tag, answer: CallOutcome<G>) -> Self;

    /// The tag as it travels.
    #[doc(hidden)]
    fn stored_tag(tag: &Self::Tag) -> crate::message::Tag {
        crate::message::Tag::new(Self::KIND, Self::FIELDS, tag)
    }
}

/// What an answer variant's type says; lets the derive name the gateway whatever the type is called.
/// `C` is the command type, as in `IsReply`.
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
