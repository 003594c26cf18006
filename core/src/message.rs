//! Everything durable: events, commands, rejections, requests.

use std::any::Any;
use std::convert::Infallible;
use std::fmt::{self, Debug};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::MAX_PAYLOAD_BYTES;
use crate::binary;
use crate::schema::SchemaTracer;
use crate::{Codecs, EncodedMessage, RawReply, ReplySource, StreamId};

/// One variant of a [`Message`]: its stable name and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageKind {
    /// Stable: what is stored, such as `order.placed`. Renaming the Rust variant keeps it only
    /// with `#[message(name = "…")]`.
    pub name: &'static str,
    /// The version of the content's shape, from 1.
    pub version: u16,
    /// Whether only the runtime may deliver it: replies, answers and timeouts.
    pub internal: bool,
}

/// The two ways in which content becomes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The bincode wire format.
    Binary,
    /// JSON.
    Json,
}

/// A durable type: an enum whose variants have stable names, versions, and contents that are
/// encoded on their own. Derived, never written by hand.
///
/// Each variant is stored as its name, its version, and its content as a struct with named fields
/// (a unit variant has no content, a variant with one unnamed field has that field's). So renaming
/// a Rust variant under a kept name, reordering variants and adding some are safe. Changing a
/// content's fields needs a new version and an upcaster:
///
/// ```
/// use composable_rust_core::Message;
/// use serde::Deserialize;
///
/// #[derive(Debug, Clone, PartialEq, Message)]
/// enum OrderEvent {
///     #[message(version = 2, from(1 = PlacedV1))]
///     Placed { sku: String, count: u32 },
///     #[message(name = "order.sent")]
///     Shipped,
/// }
///
/// #[derive(Deserialize)]
/// struct PlacedV1 {
///     sku: String,
/// }
///
/// impl From<PlacedV1> for OrderEvent {
///     fn from(old: PlacedV1) -> Self {
///         OrderEvent::Placed { sku: old.sku, count: 1 }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored: it is not a `Message`",
    label = "not a `Message`",
    note = "add `#[derive(Debug, Clone, PartialEq, Message)]` to `{Self}`"
)]
pub trait Message: Debug + Clone + PartialEq + Send + Sync + Sized + 'static {
    /// Every variant, in the order of their declaration.
    const KINDS: &'static [MessageKind];

    /// The variant's name and version.
    fn kind(&self) -> &'static MessageKind;

    /// The content of the variant as bytes.
    ///
    /// # Errors
    ///
    /// When the content cannot be represented: a type that the format does not support, or more
    /// than [`MAX_PAYLOAD_BYTES`](crate::MAX_PAYLOAD_BYTES). The message is at fault, not the store.
    fn encode(&self, format: Format) -> Result<Vec<u8>, EncodeError>;

    /// Reads a message of this or an older version.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] tells a name or version that this code does not know from bytes that it
    /// cannot read.
    fn decode(name: &str, version: u16, format: Format, bytes: &[u8]) -> Result<Self, DecodeError>;

    /// Tells `tracer` the shape of every variant.
    fn trace(tracer: &mut SchemaTracer);

    /// Whose replies and answers it takes.
    const REPLIES: &'static [ReplySource] = &[];

    /// The message that delivers a reply.
    ///
    /// # Errors
    ///
    /// As [`Message::decode`]; [`DecodeError::UnknownName`] if no variant takes it.
    fn receive_raw(reply: &RawReply<'_>) -> Result<Self, DecodeError> {
        reply.unknown()
    }
}

/// A message that cannot be encoded.
#[derive(Debug, thiserror::Error)]
#[error("`{name}` cannot be encoded")]
pub struct EncodeError {
    name: String,
    source: binary::Error,
}

/// Why stored bytes are not a message of the wanted type.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// No variant has this name: written by newer code, or the variant was removed or renamed.
    /// Deploy the code that knows it, or give the variant its old name with
    /// `#[message(name = "…")]`.
    #[error("no variant is called `{name}`")]
    UnknownName {
        /// What is stored.
        name: String,
    },
    /// A version that this code does not read: written by newer code, or an old one whose
    /// upcaster is missing.
    #[error(
        "`{name}` is known in version {known} and older ones with an upcaster, not in {version}"
    )]
    UnknownVersion {
        /// What is stored.
        name: String,
        /// What is stored.
        version: u16,
        /// What this code writes.
        known: u16,
    },
    /// The bytes are not what the version says. Add a version for the shape that was stored, or
    /// override the event.
    #[error("the content of `{name}` version {version} cannot be read")]
    Malformed {
        /// What is stored.
        name: String,
        /// What is stored.
        version: u16,
        /// What the format says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The tag of a reply is not one of this code's, though the version of its variant is: a field
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
    /// No codec of this name is registered. Register the one that wrote the row.
    #[error("no codec is called `{codec}`")]
    UnknownCodec {
        /// What is stored.
        codec: String,
    },
}

impl DecodeError {
    /// Returns `true` if newer code may know it: a name without a variant, a version above the known
    /// one, an unknown tag.
    pub fn is_newer(&self) -> bool {
        match self {
            Self::UnknownName { .. } | Self::UnknownTag { .. } => true,
            Self::UnknownVersion { version, known, .. } => version > known,
            _ => false,
        }
    }
}

/// What a field of a message is.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored in a message",
    label = "not both `Serialize` and `Deserialize`",
    note = "add `#[derive(Serialize, Deserialize)]` of serde to the types in it, or say how it is \
            written with `#[serde(with = \"…\")]` on the field"
)]
pub trait Stored {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Stored for T {}

/// Says of a field that cannot be stored what to do; what the derive calls.
#[doc(hidden)]
pub const fn stored<T: Stored>() {}

/// Encodes the content of a variant; what the derive calls.
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

/// Decodes the content of a variant; what the derive calls.
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

/// Any serde value as bytes of `format`: for states and tags, which have no names.
#[doc(hidden)]
pub fn encode_value<T: Serialize + ?Sized>(
    format: Format,
    value: &T,
) -> Result<Vec<u8>, binary::Error> {
    match format {
        Format::Binary => binary::encode(value),
        Format::Json => serde_json::to_vec(value).map_err(Into::into),
    }
}

/// The inverse of [`encode_value`].
#[doc(hidden)]
pub fn decode_value<T: DeserializeOwned>(format: Format, bytes: &[u8]) -> Result<T, binary::Error> {
    match format {
        Format::Binary => binary::decode(bytes),
        Format::Json => serde_json::from_slice(bytes).map_err(Into::into),
    }
}

/// No message at all: for aggregates that reject nothing.
impl Message for Infallible {
    const KINDS: &'static [MessageKind] = &[];

    fn kind(&self) -> &'static MessageKind {
        match *self {}
    }

    fn encode(&self, _: Format) -> Result<Vec<u8>, EncodeError> {
        match *self {}
    }

    fn decode(name: &str, _: u16, _: Format, _: &[u8]) -> Result<Self, DecodeError> {
        Err(DecodeError::UnknownName { name: name.to_owned() })
    }

    fn trace(_: &mut SchemaTracer) {}
}

/// A message whose type is erased, and which still prints, compares and encodes.
pub struct AnyMessage(Box<dyn Erased>);

trait Erased: Send + Sync {
    fn kind(&self) -> &'static MessageKind;
    fn encode(&self, format: Format) -> Result<Vec<u8>, EncodeError>;
    fn decode_alike(
        &self,
        codecs: &Codecs,
        stream: &StreamId,
        content: &EncodedMessage,
    ) -> Result<AnyMessage, DecodeError>;
    fn debug(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
    fn boxed(&self) -> Box<dyn Erased>;
    fn equals(&self, other: &dyn Any) -> bool;
    fn any(&self) -> &dyn Any;
}

impl<M: Message> Erased for M {
    fn kind(&self) -> &'static MessageKind {
        Message::kind(self)
    }

    fn encode(&self, format: Format) -> Result<Vec<u8>, EncodeError> {
        Message::encode(self, format)
    }

    fn decode_alike(
        &self,
        codecs: &Codecs,
        stream: &StreamId,
        content: &EncodedMessage,
    ) -> Result<AnyMessage, DecodeError> {
        codecs.decode::<M>(stream, content).map(AnyMessage::new)
    }

    fn debug(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt(f)
    }

    fn boxed(&self) -> Box<dyn Erased> {
        Box::new(self.clone())
    }

    fn equals(&self, other: &dyn Any) -> bool {
        other.downcast_ref::<M>() == Some(self)
    }

    fn any(&self) -> &dyn Any {
        self
    }
}

impl AnyMessage {
    /// Erases the type of `message`.
    pub fn new<M: Message>(message: M) -> Self {
        Self(Box::new(message))
    }

    /// The variant's name and version.
    pub fn kind(&self) -> &'static MessageKind {
        self.0.kind()
    }

    /// The content of the variant as bytes.
    ///
    /// # Errors
    ///
    /// As [`Message::encode`].
    pub fn encode(&self, format: Format) -> Result<Vec<u8>, EncodeError> {
        self.0.encode(format)
    }

    /// Decodes another message of the same type, which was encoded for `stream`.
    ///
    /// # Errors
    ///
    /// As [`Codecs::decode`].
    pub fn decode_alike(
        &self,
        codecs: &Codecs,
        stream: &StreamId,
        content: &EncodedMessage,
    ) -> Result<Self, DecodeError> {
        self.0.decode_alike(codecs, stream, content)
    }

    /// The message, if it is an `M`.
    pub fn downcast_ref<M: Message>(&self) -> Option<&M> {
        self.0.any().downcast_ref()
    }
}

impl Clone for AnyMessage {
    fn clone(&self) -> Self {
        Self(self.0.boxed())
    }
}

impl PartialEq for AnyMessage {
    fn eq(&self, other: &Self) -> bool {
        self.0.equals(other.0.any())
    }
}

impl Debug for AnyMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.debug(f)
    }
}
