//! From messages to bytes that can be stored.

use composable_rust_core::{Aggregate, Encoded, Message};

use crate::error::SendError;
use crate::plan::Rules;

/// Encodes a message and, unless told not to, checks that it can be read again.
pub(crate) fn encoded<A: Aggregate, M: Message>(
    rules: &Rules<'_, A>,
    message: &M,
) -> Result<Encoded, SendError<A::Rejection>> {
    let Rules { codecs, stream, verify_encoding, max_payload, .. } = rules;
    let content = codecs.encode(stream, message).map_err(unstorable)?;
    if *verify_encoding {
        let again = codecs.decode::<M>(stream, &content).map_err(unstorable)?;
        if again != *message {
            let name = &content.name;
            return Err(SendError::Unstorable(format!(
                "`{name}` reads back as {again:?}, which is not what it was: {message:?}"
            )));
        }
    }
    check_size(content, *max_payload)
}

pub(crate) fn check_size<R: Message>(
    content: Encoded,
    most: usize,
) -> Result<Encoded, SendError<R>> {
    let size = content.bytes.len();
    if size <= most {
        return Ok(content);
    }
    let name = &content.name;
    Err(SendError::Unstorable(format!(
        "`{name}` has {size} bytes, more than the {most} that a payload may have"
    )))
}

pub(crate) fn unstorable<R: Message>(
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> SendError<R> {
    SendError::Unstorable(describe(&*error.into()))
}

/// An error and its causes in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
