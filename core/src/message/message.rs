//! Durable messages: events, commands, rejections, requests.

use std::any::Any;
use std::convert::Infallible;
use std::fmt::{self, Debug};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::StreamId;
use crate::codec::{Codecs, DecodeError, EncodeError, EncodedMessage, Format};
use crate::message::{RawReply, ReplySource};
use crate::schema::SchemaTracer;

/// The stable name and version of a [`Message`] variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageKind {
    /// The stored name, such as `order.placed`. It must stay stable: when the Rust variant is
    /// renamed, keep the name with `#[message(name = "…")]`.
    pub name: &'static str,
    /// The version of the content's shape, counted from 1.
    pub version: u16,
    /// `true` if only the runtime may deliver the message: replies, call outcomes and timeouts.
    pub internal: bool,
    /// The HTTP status of a response with this rejection, from `#[message(status = …)]`; `None`
    /// without the attribute. Only HTTP adapters read it.
    pub status: Option<u16>,
    /// The first paragraph of the variant's doc comment, in one line; empty without one. Documents
    /// of an API show it.
    pub summary: &'static str,
}

/// A durable type: an enum whose variants have stable names, versions, and contents that are
/// encoded on their own. Derived, never written by hand.
///
/// Each variant is stored as its name, its version, and its content as a struct with named fields.
/// A unit variant has no content; a variant with one unnamed field has that field's content. So
/// reordering or adding variants is safe, and so is renaming a Rust variant under a kept name.
/// Changing the fields of a content needs a new version and an upcaster:
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
    /// The kinds of all variants, in the order of declaration.
    const KINDS: &'static [MessageKind];

    /// Returns the variant's name and version.
    fn kind(&self) -> &'static MessageKind;

    /// Encodes the content of the variant.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] if the content has a type that the format does not support, or more than
    /// [`MAX_PAYLOAD_BYTES`](crate::limits::MAX_PAYLOAD_BYTES). The message is at fault, not the
    /// store.
    fn encode(&self, format: Format) -> Result<Vec<u8>, EncodeError>;

    /// Decodes a message of this or an older version.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] distinguishes a name or version that this code does not know from bytes that
    /// it cannot read.
    fn decode(name: &str, version: u16, format: Format, bytes: &[u8]) -> Result<Self, DecodeError>;

    /// Reports the shape of every variant to `tracer`.
    fn trace(tracer: &mut SchemaTracer);

    /// Returns the message's `Display` text; `None` if the type does not implement `Display`.
    fn display(&self) -> Option<String> {
        None
    }

    /// `true` if a variant `#[message(other)]` stands for all messages of unknown names. Such an
    /// enum reads a part of what others store. The messages of an aggregate cannot be one.
    const HAS_OTHER: bool = false;

    /// The targets and gateways whose replies and outcomes the type takes.
    const REPLIES: &'static [ReplySource] = &[];

    /// Returns the message that delivers a reply.
    ///
    /// # Errors
    ///
    /// As [`Message::decode`]; [`DecodeError::UnknownName`] if no variant takes the reply.
    fn receive_raw(reply: &RawReply<'_>) -> Result<Self, DecodeError> {
        reply.unknown()
    }
}

/// The bound on the type of a message's field.
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

/// Fails to compile for a field that cannot be stored, with advice. Called by the derive.
#[doc(hidden)]
pub const fn stored<T: Stored>() {}

/// The `Display` text of a message whose type may lack `Display`. Called by the derive: in its
/// code, `(&Displayed(self)).text()` prefers [`WithDisplay`], which needs one reference less.
#[doc(hidden)]
#[derive(Debug)]
pub struct Displayed<'m, M>(pub &'m M);

#[doc(hidden)]
pub trait WithDisplay {
    fn text(&self) -> Option<String>;
}

impl<M: fmt::Display> WithDisplay for Displayed<'_, M> {
    fn text(&self) -> Option<String> {
        Some(self.0.to_string())
    }
}

#[doc(hidden)]
pub trait WithoutDisplay {
    fn text(&self) -> Option<String>;
}

impl<M> WithoutDisplay for &Displayed<'_, M> {
    fn text(&self) -> Option<String> {
        None
    }
}

/// The bound on the type of a field that older versions lack.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "versions without this field have no value for it: `{Self}` has no `Default`",
    label = "no value for older versions",
    note = "say which: `#[message(since = …, default = …)]`"
)]
pub trait Missing {
    /// Returns the value of the field in versions without it.
    fn missing() -> Self;
}

#[diagnostic::do_not_recommend]
impl<T: Default> Missing for T {
    fn missing() -> Self {
        Self::default()
    }
}

/// Returns the value of a field in versions without it. Called by the derive.
#[doc(hidden)]
pub fn missing<T: Missing>() -> T {
    T::missing()
}

/// The message type without messages: for aggregates that reject nothing.
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

/// A message with its type erased, which can still be printed, compared and encoded.
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
    fn diagnose(&self, format: Format) -> Option<String>;
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

    fn diagnose(&self, format: Format) -> Option<String> {
        crate::schema::diagnose(self, format)
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

    /// Returns the variant's name and version.
    pub fn kind(&self) -> &'static MessageKind {
        self.0.kind()
    }

    /// Encodes the content of the variant.
    ///
    /// # Errors
    ///
    /// As [`Message::encode`].
    pub fn encode(&self, format: Format) -> Result<Vec<u8>, EncodeError> {
        self.0.encode(format)
    }

    /// Decodes another message of the same type that was encoded for `stream`.
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

    /// Returns the reason why the message cannot be stored, as [`schema::diagnose`] does.
    ///
    /// [`schema::diagnose`]: crate::schema::diagnose
    pub fn diagnose(&self, format: Format) -> Option<String> {
        self.0.diagnose(format)
    }

    /// Returns the message if it is an `M`.
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
