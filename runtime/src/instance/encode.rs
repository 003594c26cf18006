//! Encoding messages for the store.

use composable_rust_core::codec::{Codecs, DecodeError, EncodedMessage, Format};
use composable_rust_core::message::AnyMessage;
use composable_rust_core::schema::diagnose;
use composable_rust_core::{Message, StreamId};

use crate::error::{SendError, error_chain};

/// The app's rules for encoding: codecs, verification, and the largest payload.
#[derive(Clone, Copy)]
pub(crate) struct Storage<'a> {
    pub(crate) codecs: &'a Codecs,
    /// `true` if each message is decoded again and compared.
    pub(crate) verify_encoding: bool,
    /// The largest payload in bytes.
    pub(crate) max_payload: usize,
}

impl Storage<'_> {
    /// Encodes a message of `stream`. The error is the reason why it cannot be stored or is not
    /// decoded to an equal message.
    pub(crate) fn encoded<M: Message>(
        &self,
        stream: &StreamId,
        message: &M,
    ) -> Result<EncodedMessage, String> {
        let diagnose = |format| diagnose(message, format);
        let content = self.codecs.encode(stream, message);
        let content = content.map_err(|error| self.with_cause(&*error, diagnose))?;
        let is_read_back = |content: &EncodedMessage| {
            self.codecs.decode::<M>(stream, content).map(|decoded| decoded == *message)
        };
        self.checked(content, is_read_back, diagnose, || *message == message.clone())
    }

    /// As [`Storage::encoded`], of a message whose type is erased.
    pub(crate) fn encoded_any(
        &self,
        stream: &StreamId,
        message: &AnyMessage,
    ) -> Result<EncodedMessage, String> {
        let diagnose = |format| message.diagnose(format);
        let content = self.codecs.encode_any(stream, message);
        let content = content.map_err(|error| self.with_cause(&*error, diagnose))?;
        let is_read_back = |content: &EncodedMessage| {
            let decoded = message.decode_alike(self.codecs, stream, content);
            decoded.map(|decoded| decoded == *message)
        };
        self.checked(content, is_read_back, diagnose, || *message == message.clone())
    }

    /// Returns the text of an error, and the field at fault if it is known.
    fn with_cause(
        &self,
        error: &(dyn std::error::Error + 'static),
        diagnose: impl FnOnce(Format) -> Option<String>,
    ) -> String {
        let text = error_chain(error);
        match diagnose(self.codecs.format()) {
            Some(cause) => format!("{text}: {cause}"),
            None => text,
        }
    }

    /// Checks an encoded message. The error holds nothing of the content, because it is logged and
    /// returned to callers.
    fn checked(
        &self,
        content: EncodedMessage,
        is_read_back: impl FnOnce(&EncodedMessage) -> Result<bool, DecodeError>,
        diagnose: impl FnOnce(Format) -> Option<String>,
        equals_itself: impl FnOnce() -> bool,
    ) -> Result<EncodedMessage, String> {
        let name = &content.name;
        let is_equal = !self.verify_encoding
            || is_read_back(&content).map_err(|error| self.with_cause(&error, diagnose))?;
        if !is_equal {
            return Err(if equals_itself() {
                format!(
                    "`{name}` reads back as another message: encoding loses or changes a field; \
                     `assert_survives` of the testing crate shows which"
                )
            } else {
                format!(
                    "`{name}` is not equal to itself, so the encoding cannot be verified: does it \
                     hold a NaN?"
                )
            });
        }
        let (size, max) = (content.bytes.len(), self.max_payload);
        if size > max {
            return Err(format!(
                "`{name}` has {size} bytes, more than the {max} that a payload may have"
            ));
        }
        Ok(content)
    }
}

pub(crate) fn unstorable<R: Message>(
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> SendError<R> {
    SendError::Unstorable(error_chain(&*error.into()))
}
