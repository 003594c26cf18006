//! The content of messages as bytes.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::binary;
use crate::codec::CodecError;
use crate::limits::MAX_PAYLOAD_BYTES;
use crate::message::MessageKind;

/// The serialization format of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The bincode wire format.
    Binary,
    /// JSON.
    Json,
}

/// The content of a message as bytes, with the name, version and codec with which to read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedMessage {
    /// The stable name, such as `order.placed`.
    pub name: Cow<'static, str>,
    /// The version of the content's shape, from 1.
    pub version: u16,
    /// The [`Codec`](crate::codec::Codec) (and key) that wrote the bytes.
    pub codec: Cow<'static, str>,
    /// The content.
    pub bytes: Vec<u8>,
}

/// A message that cannot be encoded.
#[derive(Debug, thiserror::Error)]
#[error("`{name}` cannot be encoded")]
pub struct EncodeError {
    name: String,
    source: CodecError,
}

/// The error of stored bytes that are not a message of the requested type.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// No variant has this name: written by newer code, or the variant was removed or renamed.
    /// Deploy the code that knows it, or give the variant its old name with
    /// `#[message(name = "…")]`.
    #[error("no variant is called `{name}`")]
    UnknownName {
        /// The stored name.
        name: String,
    },
    /// A version that this code does not read: written by newer code, or an old one whose
    /// upcaster is missing.
    #[error(
        "`{name}` is known in version {known} and older ones with an upcaster, not in {version}"
    )]
    UnknownVersion {
        /// The stored name.
        name: String,
        /// The stored version.
        version: u16,
        /// The version that this code writes.
        known: u16,
    },
    /// The bytes do not have the shape of the version. Add a version for the shape that was stored,
    /// or override the event.
    #[error("the content of `{name}` version {version} cannot be read")]
    Malformed {
        /// The stored name.
        name: String,
        /// The stored version.
        version: u16,
        /// The error of the format or of the codec.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The tag of a reply is unknown to this code, but the version of its variant is known: a field
    /// or an enum in it was changed without a new version. Deploy the code that sent the request.
    #[error("the tag of a reply for `{name}` version {version} is unknown")]
    UnknownTag {
        /// The stored name of the reply variant.
        name: String,
        /// The stored version of the reply variant.
        version: u16,
        /// The error of the format.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No codec of this name is registered. Register the codec that wrote the row.
    #[error("no codec is called `{codec}`")]
    UnknownCodec {
        /// The stored codec name.
        codec: String,
    },
}

impl EncodeError {
    /// Creates the error of a variant `#[message(other)]`. For code that the derive generates.
    #[doc(hidden)]
    pub fn other() -> Self {
        let source = "it stands for messages that this code does not know, and cannot be stored";
        Self { name: OTHER.name.to_owned(), source: source.into() }
    }
}

/// The kind of a variant `#[message(other)]`. For code that the derive generates.
#[doc(hidden)]
pub static OTHER: MessageKind =
    MessageKind { name: "$other", version: 1, internal: true, status: None, summary: "" };

impl DecodeError {
    /// Returns `true` if newer code may decode the message: its name has no variant, its version is
    /// above the known version, or its tag is unknown.
    pub fn is_newer(&self) -> bool {
        match self {
            Self::UnknownName { .. } | Self::UnknownTag { .. } => true,
            Self::UnknownVersion { version, known, .. } => version > known,
            _ => false,
        }
    }
}

/// Encodes the content of a variant. For code that the derive generates.
#[doc(hidden)]
pub fn encode_content<T: Serialize>(
    kind: &MessageKind,
    format: Format,
    content: &T,
) -> Result<Vec<u8>, EncodeError> {
    let refuse = |source| EncodeError { name: kind.name.to_owned(), source };
    let bytes = encode_value(format, content).map_err(refuse)?;
    if bytes.len() > MAX_PAYLOAD_BYTES {
        let length = bytes.len();
        return Err(refuse(
            format!("{length} bytes are more than the {MAX_PAYLOAD_BYTES} of a payload").into(),
        ));
    }
    Ok(bytes)
}

/// Decodes the content of a variant. For code that the derive generates.
#[doc(hidden)]
pub fn decode_content<T: DeserializeOwned>(
    name: &str,
    version: u16,
    format: Format,
    bytes: &[u8],
) -> Result<T, DecodeError> {
    decode_value(format, bytes).map_err(|source| DecodeError::Malformed {
        name: name.to_owned(),
        version,
        source,
    })
}

/// Encodes a value that has no stable name, such as a state or a tag.
///
/// # Errors
///
/// The serializer's error.
pub fn encode_value<T: Serialize + ?Sized>(
    format: Format,
    value: &T,
) -> Result<Vec<u8>, CodecError> {
    match format {
        Format::Binary => binary::encode(value),
        Format::Json => serde_json::to_vec(value).map_err(Into::into),
    }
}

/// Decodes a value that [`encode_value`] encoded.
///
/// # Errors
///
/// The deserializer's error: the bytes are not a `T` in this format.
pub fn decode_value<T: DeserializeOwned>(format: Format, bytes: &[u8]) -> Result<T, CodecError> {
    match format {
        Format::Binary => binary::decode(bytes),
        Format::Json => serde_json::from_slice(bytes).map_err(Into::into),
    }
}
