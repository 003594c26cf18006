//! Targets of commands, and their replies.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::message::MessageKind;
use crate::message::wire::Wire;
use crate::{Aggregate, Id, InvalidId, Message};

/// The message types of a receiver of commands.
///
/// Every [`Aggregate`] is a target. The contract of another service is a target without being an
/// aggregate here.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an aggregate",
    label = "neither an `Aggregate` nor another service's `Target`",
    note = "implement `Aggregate` for `{Self}`; or `Target`, if its instances live in another service"
)]
pub trait Target: Sized + 'static {
    /// The stream category.
    const NAME: &'static str;
    /// The commands that the target handles.
    type Command: Message;
    /// The events that the target replies with.
    type Event: Message;
    /// The rejections that the target replies with.
    type Rejection: Message;
}

#[diagnostic::do_not_recommend]
impl<A: Aggregate> Target for A {
    const NAME: &'static str = A::NAME;
    type Command = A::Command;
    type Event = A::Event;
    type Rejection = A::Rejection;
}

/// Constructors of a target's ids, such as `Order::id("42")`.
pub trait TargetExt: Target {
    /// The category of the target's streams: [`Target::NAME`], under an unambiguous name.
    const CATEGORY: &'static str = Self::NAME;

    /// Returns the id of an instance, from a text that the program itself wrote.
    ///
    /// # Panics
    ///
    /// Panics if the text is not an id; parse texts from outside with [`TargetExt::parse_id`].
    #[track_caller]
    fn id(text: impl Into<String>) -> Id<Self> {
        let text = text.into();
        match Id::parse(text.as_str()) {
            Ok(id) => id,
            Err(error) => panic!("`{text}` is not an id of `{}`: {error}", Self::NAME),
        }
    }

    /// Parses the id of an instance, from a text that came from outside.
    ///
    /// # Errors
    ///
    /// [`InvalidId`] names the broken rule; ask the sender for another id.
    fn parse_id(text: &str) -> Result<Id<Self>, InvalidId> {
        Id::parse(text)
    }

    /// Returns the id of the instance that a request with this idempotency key creates.
    ///
    /// The same key always gives the same id, so a repeated request finds the instance that the
    /// first one created.
    fn id_from(key: &str) -> Id<Self> {
        Self::id(crate::MessageId::from_key(&format!("{}\0{key}", Self::NAME)).to_string())
    }
}

impl<T: Target> TargetExt for T {}

/// The reply to a command that was dispatched to `T`.
pub enum Reply<T: Target> {
    /// The command recorded an event, or repeated one; several events give several replies.
    Recorded(T::Event),
    /// The command was rejected.
    Rejected(T::Rejection),
    /// The command changed nothing.
    Unchanged,
    /// The command never arrived: an operator refused it, or its instance is closed.
    Undelivered,
}

/// A command type with a variant for the replies of `T`; derived for each variant that holds a
/// [`Reply`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no variant for the replies of `{T}`",
    label = "nothing in `{Self}` takes a `Reply<{T}>`",
    note = "add `SomeName(Reply<{T}>)` to it, or use `tell` if no reply is wanted"
)]
pub trait Receives<T: Target>: Message {
    /// The tag that travels with the return address and comes back with every reply.
    type Tag: Serialize + DeserializeOwned + fmt::Debug + Clone + PartialEq + Send + Sync + 'static;

    /// The variant's name and version.
    const KIND: &'static MessageKind;
    /// The number of fields in the tag.
    const FIELDS: u16;

    /// Returns the command that delivers the reply.
    fn receive(tag: Self::Tag, reply: Reply<T>) -> Self;

    /// Returns the tag in its stored form.
    #[doc(hidden)]
    fn stored_tag(tag: &Self::Tag) -> crate::message::Tag {
        crate::message::Tag::new(Self::KIND, Self::FIELDS, tag)
    }
}

/// The target of a reply variant's type; lets the derive name the target under any alias of the
/// type.
///
/// `C` is the command type. Without it, the compiler would assume that two variants may have the
/// same target: an upstream crate might implement a trait that names no local type.
#[doc(hidden)]
pub trait IsReply<C> {
    type Target: Target;
}

impl<T: Target, C> IsReply<C> for Reply<T> {
    type Target = T;
}

impl<T: Target> Clone for Reply<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Recorded(event) => Self::Recorded(event.clone()),
            Self::Rejected(rejection) => Self::Rejected(rejection.clone()),
            Self::Unchanged => Self::Unchanged,
            Self::Undelivered => Self::Undelivered,
        }
    }
}

impl<T: Target> PartialEq for Reply<T> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Recorded(a), Self::Recorded(b)) => a == b,
            (Self::Rejected(a), Self::Rejected(b)) => a == b,
            (Self::Unchanged, Self::Unchanged) | (Self::Undelivered, Self::Undelivered) => true,
            _ => false,
        }
    }
}

impl<T: Target> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recorded(event) => f.debug_tuple("Recorded").field(event).finish(),
            Self::Rejected(rejection) => f.debug_tuple("Rejected").field(rejection).finish(),
            Self::Unchanged => f.write_str("Unchanged"),
            Self::Undelivered => f.write_str("Undelivered"),
        }
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Outcome {
    Recorded,
    Rejected,
    Unchanged,
    Undelivered,
}

impl<T: Target> Serialize for Reply<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let wire = match self {
            Self::Recorded(event) => Wire::of(Outcome::Recorded, event),
            Self::Rejected(rejection) => Wire::of(Outcome::Rejected, rejection),
            Self::Unchanged => Ok(Wire::empty(Outcome::Unchanged)),
            Self::Undelivered => Ok(Wire::empty(Outcome::Undelivered)),
        };
        wire.map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de, T: Target> Deserialize<'de> for Reply<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::<Outcome>::deserialize(deserializer)?;
        Ok(match wire.outcome {
            Outcome::Recorded => Self::Recorded(wire.message()?),
            Outcome::Rejected => Self::Rejected(wire.message()?),
            Outcome::Unchanged => Self::Unchanged,
            Outcome::Undelivered => Self::Undelivered,
        })
    }
}
