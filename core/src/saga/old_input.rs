//! Older shapes of a saga's input.

use std::fmt;

use serde::de::DeserializeOwned;

use super::event::StartedContent;
use crate::codec::content::decode_content;
use crate::codec::{DecodeError, Format};
use crate::message::MessageKind;
use crate::schema::SchemaTracer;

type Read<T> = fn(&str, u16, Format, &[u8]) -> Result<T, DecodeError>;
type Trace = fn(&mut SchemaTracer, &MessageKind);

/// An older shape of a saga's input, from which the current one is made.
pub struct OldInput<I> {
    pub(super) read: Read<I>,
    pub(super) read_started: Read<StartedContent<I, String>>,
    pub(super) trace: Trace,
    pub(super) trace_started: Trace,
}

impl<I> OldInput<I> {
    /// Returns the shape of `O`.
    pub const fn of<O>() -> Self
    where
        O: DeserializeOwned,
        I: From<O>,
    {
        Self {
            read: |name, version, format, bytes| {
                decode_content::<O>(name, version, format, bytes).map(I::from)
            },
            read_started: |name, version, format, bytes| {
                let old =
                    decode_content::<StartedContent<O, String>>(name, version, format, bytes)?;
                let StartedContent { input, next, at } = old;
                Ok(StartedContent { input: input.into(), next, at })
            },
            trace: |tracer, kind| tracer.content::<O>(kind),
            trace_started: |tracer, kind| tracer.content::<StartedContent<O, String>>(kind),
        }
    }
}

impl<I> fmt::Debug for OldInput<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OldInput").finish_non_exhaustive()
    }
}
