//! Codecs: the conversion of encoded content to stored bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::codec::{DecodeError, EncodedMessage, Format, decode_value, encode_value};
use crate::limits::MAX_PAYLOAD_BYTES;
use crate::message::MessageKind;
use crate::{EventSet, Message, StreamId};

/// A conversion of encoded content to stored bytes and back.
///
/// A row names the codec that wrote it, so a log may contain rows of several codecs. Encryption per
/// subject is an additional codec, not a migration.
pub trait Codec: Send + Sync + 'static {
    /// Returns the name of the codec, with its key if it has one. Every row stores it.
    fn name(&self) -> Cow<'static, str>;

    /// Returns the format in which content is encoded.
    fn format(&self) -> Format;

    /// Converts encoded content to stored bytes. Default: unchanged.
    ///
    /// # Errors
    ///
    /// The content cannot be stored, for example because a key is missing.
    fn seal(&self, stream: &StreamId, name: &str, bytes: Vec<u8>) -> Result<Vec<u8>, CodecError> {
        let _ = (stream, name);
        Ok(bytes)
    }

    /// Converts stored bytes back to encoded content: the inverse of [`Codec::seal`].
    ///
    /// # Errors
    ///
    /// The bytes cannot be read, for example because a key was deleted.
    fn open<'a>(
        &self,
        stream: &StreamId,
        name: &str,
        bytes: &'a [u8],
    ) -> Result<Cow<'a, [u8]>, CodecError> {
        let _ = (stream, name);
        Ok(Cow::Borrowed(bytes))
    }
}

/// The error of a codec, of any type.
pub type CodecError = Box<dyn std::error::Error + Send + Sync>;

/// The bincode wire format: the default.
#[derive(Debug, Clone, Copy, Default)]
pub struct BincodeCodec;

impl Codec for BincodeCodec {
    fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed("bincode")
    }

    fn format(&self) -> Format {
        Format::Binary
    }
}

/// JSON: larger and slower, readable with any tool.
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonCodec;

impl Codec for JsonCodec {
    fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed("json")
    }

    fn format(&self) -> Format {
        Format::Json
    }
}

/// The codec that writes, and the codecs that can read. Bincode and JSON are always readable.
#[derive(Clone)]
pub struct Codecs {
    writer: Arc<dyn Codec>,
    readers: BTreeMap<Cow<'static, str>, Arc<dyn Codec>>,
}

impl Default for Codecs {
    fn default() -> Self {
        Self { writer: Arc::new(BincodeCodec), readers: BTreeMap::new() }
            .reading(BincodeCodec)
            .reading(JsonCodec)
    }
}

impl fmt::Debug for Codecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codecs")
            .field("writer", &self.writer.name())
            .field("readers", &self.readers.keys())
            .finish()
    }
}

impl Codecs {
    /// Adds `codec` to the codecs that can read.
    #[must_use]
    pub fn reading(mut self, codec: impl Codec) -> Self {
        let codec: Arc<dyn Codec> = Arc::new(codec);
        self.readers.insert(codec.name(), codec);
        self
    }

    /// Makes `codec` the codec that writes, and adds it to the codecs that can read.
    #[must_use]
    pub fn writing(mut self, codec: impl Codec) -> Self {
        let codec: Arc<dyn Codec> = Arc::new(codec);
        self.readers.insert(codec.name(), Arc::clone(&codec));
        self.writer = codec;
        self
    }

    /// Returns the format of the codec that writes.
    pub fn format(&self) -> Format {
        self.writer.format()
    }

    /// Encodes a message for `stream`.
    ///
    /// # Errors
    ///
    /// The content cannot be represented or sealed. The message is invalid; a retry fails again.
    pub fn encode<M: Message>(
        &self,
        stream: &StreamId,
        message: &M,
    ) -> Result<EncodedMessage, CodecError> {
        self.seal(stream, message.kind(), message.encode(self.writer.format())?)
    }

    /// Encodes a message whose type is erased.
    ///
    /// # Errors
    ///
    /// As [`Codecs::encode`].
    pub fn encode_any(
        &self,
        stream: &StreamId,
        message: &crate::message::AnyMessage,
    ) -> Result<EncodedMessage, CodecError> {
        self.seal(stream, message.kind(), message.encode(self.writer.format())?)
    }

    fn seal(
        &self,
        stream: &StreamId,
        kind: &MessageKind,
        bytes: Vec<u8>,
    ) -> Result<EncodedMessage, CodecError> {
        Ok(EncodedMessage {
            name: Cow::Borrowed(kind.name),
            version: kind.version,
            codec: self.writer.name(),
            bytes: self.writer.seal(stream, kind.name, bytes)?,
        })
    }

    /// Decodes a message of `stream`.
    ///
    /// # Errors
    ///
    /// As [`Message::decode`], or [`DecodeError::UnknownCodec`].
    pub fn decode<M: Message>(
        &self,
        stream: &StreamId,
        content: &EncodedMessage,
    ) -> Result<M, DecodeError> {
        let (format, bytes) = self.open(stream, content)?;
        M::decode(&content.name, content.version, format, &bytes)
    }

    /// Decodes an event of `stream`.
    ///
    /// # Errors
    ///
    /// As [`EventSet::decode_event`], or [`DecodeError::UnknownCodec`].
    pub fn decode_event<S: EventSet>(
        &self,
        stream: &StreamId,
        content: &EncodedMessage,
    ) -> Result<S::Event, DecodeError> {
        let (format, bytes) = self.open(stream, content)?;
        S::decode_event(stream.category(), &content.name, content.version, format, &bytes)
    }

    /// Opens the content of a message of `stream`: its format and bytes.
    ///
    /// # Errors
    ///
    /// The content's codec is not registered, or cannot open the bytes.
    pub fn open<'b>(
        &self,
        stream: &StreamId,
        content: &'b EncodedMessage,
    ) -> Result<(Format, Cow<'b, [u8]>), DecodeError> {
        let codec = self.reader(&content.codec)?;
        let bytes = codec.open(stream, &content.name, &content.bytes).map_err(|source| {
            DecodeError::Malformed {
                name: content.name.to_string(),
                version: content.version,
                source,
            }
        })?;
        Ok((codec.format(), bytes))
    }

    fn reader(&self, name: &str) -> Result<&Arc<dyn Codec>, DecodeError> {
        self.readers.get(name).ok_or_else(|| DecodeError::UnknownCodec { codec: name.to_owned() })
    }

    /// Encodes a state for a snapshot of `stream`: the codec's name and the bytes.
    ///
    /// # Errors
    ///
    /// The state cannot be represented or sealed, or is larger than [`MAX_PAYLOAD_BYTES`].
    pub fn encode_state<S: serde::Serialize>(
        &self,
        stream: &StreamId,
        state: &S,
    ) -> Result<(String, Vec<u8>), CodecError> {
        let bytes = encode_value(self.writer.format(), state)?;
        if bytes.len() > MAX_PAYLOAD_BYTES {
            let size = bytes.len();
            return Err(format!(
                "{size} bytes are more than the {MAX_PAYLOAD_BYTES} of a snapshot"
            )
            .into());
        }
        let bytes = self.writer.seal(stream, "$snapshot", bytes)?;
        Ok((self.writer.name().into_owned(), bytes))
    }

    /// Decodes a state from a snapshot of `stream`.
    ///
    /// # Errors
    ///
    /// The bytes are not such a state; fold the events instead.
    pub fn decode_state<S: serde::de::DeserializeOwned>(
        &self,
        stream: &StreamId,
        codec: &str,
        bytes: &[u8],
    ) -> Result<S, CodecError> {
        let codec = self.reader(codec)?;
        let bytes = codec.open(stream, "$snapshot", bytes)?;
        decode_value(codec.format(), &bytes)
    }
}
