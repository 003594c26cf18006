//! From messages to bytes that can be stored.

use composable_rust_core::{AnyMessage, Codecs, DecodeError, EncodedMessage, Message, StreamId};

use crate::error::{SendError, error_chain};
use crate::instance::runtime::AppContext;

/// How messages are stored: with these codecs, read back unless told not to, and no larger than this.
#[derive(Clone, Copy)]
pub(crate) struct Storage<'a> {
    pub(crate) codecs: &'a Codecs,
    pub(crate) verify_encoding: bool,
    pub(crate) max_payload: usize,
}

impl AppContext {
    pub(crate) fn storage(&self) -> Storage<'_> {
        let (codecs, settings) = (&self.codecs, &self.settings);
        let (verify_encoding, max_payload) = (settings.verify_encoding, settings.max_payload_bytes);
        Storage { codecs, verify_encoding, max_payload }
    }
}

impl Storage<'_> {
    /// Encodes a message of `stream`; a reason if it cannot be stored, or is not read back as it was.
    pub(crate) fn encoded<M: Message>(
        &self,
        stream: &StreamId,
        message: &M,
    ) -> Result<EncodedMessage, String> {
        let content = self.codecs.encode(stream, message).map_err(|error| error_chain(&*error))?;
        let again = |content: &EncodedMessage| {
            self.codecs.decode::<M>(stream, content).map(|again| again == *message)
        };
        self.checked(content, again, || *message == message.clone())
    }

    /// As [`Storage::encoded`], of a message whose type is erased.
    pub(crate) fn encoded_any(
        &self,
        stream: &StreamId,
        message: &AnyMessage,
    ) -> Result<EncodedMessage, String> {
        let content =
            self.codecs.encode_any(stream, message).map_err(|error| error_chain(&*error))?;
        let again = |content: &EncodedMessage| {
            message.decode_alike(self.codecs, stream, content).map(|again| again == *message)
        };
        self.checked(content, again, || *message == message.clone())
    }

    /// Nothing of the content is told: the reason is logged and goes to callers.
    fn checked(
        &self,
        content: EncodedMessage,
        reads_back: impl FnOnce(&EncodedMessage) -> Result<bool, DecodeError>,
        equals_itself: impl FnOnce() -> bool,
    ) -> Result<EncodedMessage, String> {
        let name = &content.name;
        if self.verify_encoding && !reads_back(&content).map_err(|error| error_chain(&error))? {
            return Err(if equals_itself() {
                format!(
                    "`{name}` reads back as another message: a field is lost or changed on its way; \
                     `assert_survives` of the testing crate shows which"
                )
            } else {
                format!(
                    "`{name}` is not equal to itself, so whether it reads back cannot be told: does \
                     it hold a NaN?"
                )
            });
        }
        let (size, most) = (content.bytes.len(), self.max_payload);
        if size > most {
            return Err(format!(
                "`{name}` has {size} bytes, more than the {most} that a payload may have"
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
