//! The stored names of a saga's messages and steps.

use std::marker::PhantomData;

use serde::de::IntoDeserializer;
use serde::de::value::Error;
use serde::{Serialize, Serializer, ser};

use super::LinearSaga;
use crate::codec::DecodeError;
use crate::limits::MAX_CATEGORY_BYTES;
use crate::message::MessageKind;

const SUFFIXES: [&str; 6] = [".start", ".timed_out", ".replied", ".started", ".done", ".refused"];
pub(super) const START: usize = 0;
pub(super) const TIMED_OUT: usize = 1;
pub(super) const REPLIED: usize = 2;
pub(super) const STARTED: usize = 3;
pub(super) const DONE: usize = 4;
pub(super) const REFUSED: usize = 5;

const MAX_SUFFIX_BYTES: usize = 10;
const MAX_BYTES: usize = MAX_CATEGORY_BYTES + MAX_SUFFIX_BYTES;

/// Returns the kind of a message.
pub(super) const fn kind<S: LinearSaga, const SUFFIX: usize>(
    version: u16,
    internal: bool,
    summary: &'static str,
) -> MessageKind {
    MessageKind { name: Name::<S, SUFFIX>::TEXT, version, internal, status: None, summary }
}

/// The name of a message of the saga `S`: its own name and a suffix, joined at compile time.
struct Name<S, const SUFFIX: usize>(PhantomData<S>);

impl<S: LinearSaga, const SUFFIX: usize> Name<S, SUFFIX> {
    const BYTES: [u8; MAX_BYTES] = join(S::NAME, SUFFIXES[SUFFIX]);
    const STATIC_BYTES: &'static [u8; MAX_BYTES] = &Self::BYTES;
    const TEXT: &'static str = {
        let (text, _) = Self::STATIC_BYTES.split_at(S::NAME.len() + SUFFIXES[SUFFIX].len());
        match std::str::from_utf8(text) {
            Ok(text) => text,
            Err(_) => panic!("both parts are texts"),
        }
    };
}

const fn join(name: &str, suffix: &str) -> [u8; MAX_BYTES] {
    assert!(
        crate::stream::is_category(name),
        "NAME must match [a-z][a-z0-9_]* and have at most 64 bytes: it is the streams' category"
    );
    let mut joined = [0; MAX_BYTES];
    let mut i = 0;
    while i < name.len() {
        joined[i] = name.as_bytes()[i];
        i += 1;
    }
    while i < name.len() + suffix.len() {
        joined[i] = suffix.as_bytes()[i - name.len()];
        i += 1;
    }
    joined
}

/// A step that is stored as the name of its variant.
///
/// So steps can be added and reordered, and code that does not know a step can say so.
#[derive(Clone, Copy)]
pub(super) struct Named<S>(pub(super) S);

impl<S: LinearSaga> Serialize for Named<S> {
    fn serialize<Ser: Serializer>(&self, serializer: Ser) -> Result<Ser::Ok, Ser::Error> {
        serializer.serialize_str(&step_name(self.0).map_err(ser::Error::custom)?)
    }
}

pub(super) fn step_name<S: LinearSaga>(step: S) -> Result<String, String> {
    match serde_json::to_value(step) {
        Ok(serde_json::Value::String(name)) => Ok(name),
        _ => Err(format!("the step {step:?} must be a variant without fields")),
    }
}

/// Returns the step with the stored name.
///
/// # Errors
///
/// [`DecodeError::UnknownName`]: newer code added the step.
#[expect(clippy::needless_pass_by_value, reason = "the signature of `Task::try_map`")]
pub(super) fn named_step<S: LinearSaga>(name: String) -> Result<S, DecodeError> {
    let text = IntoDeserializer::<Error>::into_deserializer(name.as_str());
    S::deserialize(text)
        .map_err(|_| DecodeError::UnknownName { name: format!("{}.step.{name}", S::NAME) })
}
