//! Checks that messages and states survive encoding.

use std::error::Error;
use std::fmt::Debug;

use composable_rust_core::codec::{Codecs, EncodedMessage, Format, JsonCodec};
use composable_rust_core::message::AnyMessage;
use composable_rust_core::schema::diagnose_value;
use composable_rust_core::{Message, StreamId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::{Failure, code, pretty};

/// Asserts that a message decodes to what was encoded, in the default codec and in JSON.
///
/// `given(…).when(…)` checks this for each of its events, commands, rejections and effects; use
/// this function for others, such as a gateway's responses.
///
/// # Panics
///
/// Panics if the decoded message differs.
///
/// ```
/// use composable_rust_core::Message;
/// use composable_rust_testing::assert_survives;
///
/// #[derive(Debug, Clone, PartialEq, Message)]
/// enum CardRequest { Charge { cents: u64 } }
///
/// assert_survives(&CardRequest::Charge { cents: 500 });
/// ```
#[track_caller]
pub fn assert_survives(message: &impl Message) {
    if let Some(failure) = message_failure("The message", message) {
        failure.raise();
    }
}

/// Asserts that a state decodes from a snapshot to what was encoded, in the default codec and in
/// JSON. `given(…).when(…)` checks this for each of its states.
///
/// # Panics
///
/// Panics if the decoded state differs.
///
/// ```
/// use composable_rust_testing::assert_state_survives;
///
/// assert_state_survives(&vec![1, 2, 3]);
/// ```
#[track_caller]
pub fn assert_state_survives<S>(state: &S)
where
    S: Debug + PartialEq + Serialize + DeserializeOwned,
{
    if let Some(failure) = state_failure(state) {
        failure.raise();
    }
}

/// The failure of `what` (such as `The event`) to survive a codec, if it does not.
pub(crate) fn message_failure<M: Message>(what: &str, message: &M) -> Option<Failure> {
    any_failure(what, &AnyMessage::new(message.clone()))
}

/// The same for a message whose type is erased.
pub(crate) fn any_failure(what: &str, message: &AnyMessage) -> Option<Failure> {
    let stream = stream();
    codecs().into_iter().find_map(|(name, format, codecs)| {
        let read = |content: EncodedMessage| message.decode_alike(&codecs, &stream, &content);
        let problem = match codecs.encode_any(&stream, message).map(read) {
            Err(error) => Problem::NotWritten(reasons(&*error), message.diagnose(format)),
            Ok(Err(error)) => Problem::NotRead(reasons(&error), message.diagnose(format)),
            Ok(Ok(again)) if again == *message => return None,
            Ok(Ok(_)) if *message != message.clone() => Problem::Unequal,
            Ok(Ok(again)) => Problem::Other(pretty(&again)),
        };
        Some(problem.failure(&format!("{what} `{}`", code(message, false)), name, &pretty(message)))
    })
}

/// The failure of the state to survive a snapshot, if it does not.
pub(crate) fn state_failure<S>(state: &S) -> Option<Failure>
where
    S: Debug + PartialEq + Serialize + DeserializeOwned,
{
    let stream = stream();
    codecs().into_iter().find_map(|(name, format, codecs)| {
        let diagnose = || diagnose_value(state, format);
        let read =
            |(codec, bytes): (String, Vec<u8>)| codecs.decode_state::<S>(&stream, &codec, &bytes);
        let problem = match codecs.encode_state(&stream, state).map(read) {
            Err(error) => Problem::NotWritten(reasons(&*error), diagnose()),
            Ok(Err(error)) => Problem::NotRead(reasons(&*error), diagnose()),
            Ok(Ok(again)) if again == *state => return None,
            Ok(Ok(_)) if !equals_itself(state) => Problem::Unequal,
            Ok(Ok(again)) => Problem::Other(pretty(&again)),
        };
        Some(problem.failure("The state's snapshot", name, &pretty(state)))
    })
}

/// The message, encoded and decoded by the default codec.
pub(crate) fn read_back<M: Message>(message: &M) -> Option<M> {
    let (codecs, stream) = (Codecs::default(), stream());
    codecs.encode(&stream, message).ok().and_then(|content| codecs.decode(&stream, &content).ok())
}

fn equals_itself<S: PartialEq>(state: &S) -> bool {
    let again = state;
    again == state
}

enum Problem {
    /// The errors, and the field at fault if it is known.
    NotWritten(String, Option<String>),
    NotRead(String, Option<String>),
    Unequal,
    Other(String),
}

impl Problem {
    fn failure(self, what: &str, codec: &str, written: &str) -> Failure {
        match self {
            Self::NotWritten(reasons, diagnosis) => {
                Failure::new(format!("{what} cannot be written in {codec}.")).block(reasons).text(
                    diagnosis.map_or_else(|| NOT_WRITTEN.to_owned(), |diagnosis| diagnosis + "."),
                )
            }
            Self::NotRead(reasons, diagnosis) => {
                Failure::new(format!("{what} is written in {codec} and cannot be read again."))
                    .block(reasons)
                    .text(
                        diagnosis.map_or_else(|| NOT_READ.to_owned(), |diagnosis| diagnosis + "."),
                    )
            }
            Self::Unequal => {
                Failure::new(format!("{what} is not equal to itself.")).block(written).text(
                    "So nobody can tell whether it is stored as it is, and an app refuses it. A \
                     floating-point number that is NaN equals nothing: keep numbers finite, or \
                     an `Option` instead.",
                )
            }
            Self::Other(read) => {
                Failure::new(format!("{what} does not come back from {codec} as it was written."))
                    .diff(written, &read)
                    .text(
                        "What is marked - is lost when it is stored: look for `#[serde(skip)]`, a \
                         conversion that rounds, or a `Serialize` and a `Deserialize` that do not \
                         agree.",
                    )
            }
        }
    }
}

const NOT_WRITTEN: &str = "Every field's type must be one that serde writes in this format; in JSON, for \
                           example, the keys of a map must be texts or numbers.";

const NOT_READ: &str = "The default codec writes no field names, so a type that derives serde's traits itself \
                        must neither skip fields nor look ahead: no `skip_serializing_if`, \
                        `flatten`, `untagged`, `tag = \"…\"` or `serde_json::Value`. Remove the \
                        attribute, or keep such a value as a text.";

fn codecs() -> [(&'static str, Format, Codecs); 2] {
    let json = Codecs::default().writing(JsonCodec);
    [("the default codec", Format::Binary, Codecs::default()), ("JSON", Format::Json, json)]
}

fn stream() -> StreamId {
    StreamId::new("test", "1").unwrap_or_else(|_| unreachable!("both parts are valid"))
}

pub(crate) fn reasons(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
