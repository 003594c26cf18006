//! Events that an aggregate hears from other instances.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::codec::content::decode_content;
use crate::codec::{DecodeError, EncodeError, Format};
use crate::{EventId, Id, Message, Recorded, Target, TargetExt, Timestamp, Version};

/// An event of `T`, as another instance hears it.
///
/// A command enum with a variant `SomeName(Heard<T>)` can follow the events of `T`: the app's
/// builder names the recipient of each event with `follows`. Only the runtime delivers the variant;
/// no other instance, no caller and no other service can send it.
///
/// # Example: a renewal that follows its subscription
///
/// ```
/// use composable_rust_core::prelude::*;
/// use composable_rust_core::Heard;
/// use serde::{Deserialize, Serialize};
///
/// # #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
/// # struct Subscription;
/// # #[derive(Debug, Clone, PartialEq, Message)]
/// # enum SubscriptionCommand { Cancel }
/// #[derive(Debug, Clone, PartialEq, Message)]
/// enum SubscriptionEvent { Activated { cents: u64 }, Cancelled }
/// # impl Aggregate for Subscription {
/// #     const NAME: &'static str = "subscription";
/// #     type Command = SubscriptionCommand;
/// #     type Event = SubscriptionEvent;
/// #     type Rejection = std::convert::Infallible;
/// #     type Environment = ();
/// #     fn decide(&self, _: SubscriptionCommand, _: &Context<Self>) -> Decision<Self> {
/// #         record(SubscriptionEvent::Cancelled)
/// #     }
/// #     fn apply(&mut self, _: SubscriptionEvent) {}
/// # }
///
/// #[derive(Debug, Clone, PartialEq, Message)]
/// enum RenewalCommand {
///     #[message(internal)]
///     Heard(Heard<Subscription>),
/// }
///
/// #[derive(Debug, Clone, PartialEq, Message)]
/// enum RenewalEvent { Begun { cents: u64 }, Ended }
///
/// #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
/// struct Renewal { cents: Option<u64> }
///
/// impl Aggregate for Renewal {
///     const NAME: &'static str = "renewal";
///     type Command = RenewalCommand;
///     type Event = RenewalEvent;
///     type Rejection = std::convert::Infallible;
///     type Environment = ();
///
///     fn decide(&self, command: RenewalCommand, _: &Context<Self>) -> Decision<Self> {
///         let RenewalCommand::Heard(heard) = command;
///         match heard.event {
///             SubscriptionEvent::Activated { cents } => record(RenewalEvent::Begun { cents }),
///             SubscriptionEvent::Cancelled => record(RenewalEvent::Ended),
///         }
///     }
///
///     fn apply(&mut self, event: RenewalEvent) {
///         self.cents = match event {
///             RenewalEvent::Begun { cents } => Some(cents),
///             RenewalEvent::Ended => None,
///         };
///     }
/// }
///
/// let heard = Heard::of(&Subscription::id("7"), SubscriptionEvent::Cancelled);
/// let command = RenewalCommand::Heard(heard);
/// assert!(command.kind().internal);
/// ```
pub struct Heard<T: Target> {
    /// The instance that recorded the event.
    pub id: Id<T>,
    /// The event.
    pub event: T::Event,
    /// The event's unique id.
    pub event_id: EventId,
    /// The version of the instance at the event, from 1.
    pub version: Version,
    /// The time at which the event was recorded, by the clock of its store. It is earlier than
    /// [`Context::now`](crate::Context::now), the time at which the event is heard.
    pub recorded_at: Timestamp,
}

impl<T: Target> Heard<T> {
    /// Creates the message for a recorded event; `None` if the event's stream is not one of `T`.
    pub fn new(recorded: &Recorded<T::Event>) -> Option<Self> {
        Some(Self {
            id: Id::of_stream(&recorded.stream)?,
            event: recorded.event.clone(),
            event_id: recorded.id,
            version: recorded.version,
            recorded_at: recorded.recorded_at,
        })
    }

    /// Creates the message for an event of a test, as if it were the first of the instance `id`:
    /// see [`Recorded::of`].
    pub fn of(id: &Id<T>, event: T::Event) -> Self {
        let Recorded { event, id: event_id, version, recorded_at, .. } = Recorded::of(id, event);
        Self { id: id.clone(), event, event_id, version, recorded_at }
    }
}

/// A command type with a variant for the events of `T`; derived for each variant that holds a
/// [`Heard`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no variant for the events of `{T}`",
    label = "nothing in `{Self}` takes a `Heard<{T}>`",
    note = "add `SomeName(Heard<{T}>)` to it"
)]
pub trait Hears<T: Target>: Message {
    /// Returns the command that delivers the event.
    fn hear(heard: Heard<T>) -> Self;
}

/// The stored content of a variant that holds a [`Heard`].
///
/// It is the same for all targets: the event's shape is that of its own name and version.
#[doc(hidden)]
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Heard")]
pub struct HeardContent {
    id: String,
    event_id: String,
    version: u64,
    recorded_at: Timestamp,
    /// The event's name and version, and its content as JSON text.
    name: String,
    schema: u16,
    content: String,
}

impl HeardContent {
    fn of<T: Target>(heard: &Heard<T>) -> Result<Self, EncodeError> {
        let kind = heard.event.kind();
        Ok(Self {
            id: heard.id.as_str().to_owned(),
            event_id: heard.event_id.to_string(),
            version: heard.version.get(),
            recorded_at: heard.recorded_at,
            name: kind.name.to_owned(),
            schema: kind.version,
            content: String::from_utf8_lossy(&heard.event.encode(Format::Json)?).into_owned(),
        })
    }

    fn heard<T: Target>(self) -> Result<Heard<T>, DecodeError> {
        let Self { id, event_id, version, recorded_at, name, schema, content } = self;
        let malformed =
            |source| DecodeError::Malformed { name: name.clone(), version: schema, source };
        let event_id: Uuid =
            event_id.parse().map_err(|error: uuid::Error| malformed(error.into()))?;
        Ok(Heard {
            id: T::parse_id(&id).map_err(|error| malformed(error.into()))?,
            event: T::Event::decode(&name, schema, Format::Json, content.as_bytes())?,
            event_id: EventId(event_id),
            version: Version::new(version),
            recorded_at,
        })
    }
}

/// Decodes the content of a variant that holds a [`Heard`]. For code that the derive generates.
///
/// # Errors
///
/// As [`decode_content`]; an event that only newer code can decode gives the error of the event.
#[doc(hidden)]
pub fn decode_heard<T: Target>(
    name: &str,
    version: u16,
    format: Format,
    bytes: &[u8],
) -> Result<Heard<T>, DecodeError> {
    decode_content::<HeardContent>(name, version, format, bytes)?.heard()
}

impl<T: Target> Clone for Heard<T> {
    fn clone(&self) -> Self {
        let Self { id, event, event_id, version, recorded_at } = self;
        let (id, event) = (id.clone(), event.clone());
        Self { id, event, event_id: *event_id, version: *version, recorded_at: *recorded_at }
    }
}

impl<T: Target> PartialEq for Heard<T> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
            && self.event == other.event
            && self.event_id == other.event_id
            && self.version == other.version
            && self.recorded_at == other.recorded_at
    }
}

impl<T: Target> fmt::Debug for Heard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heard")
            .field("id", &self.id)
            .field("event", &self.event)
            .field("event_id", &self.event_id)
            .field("version", &self.version)
            .field("recorded_at", &self.recorded_at)
            .finish()
    }
}

impl<T: Target> Serialize for Heard<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        HeardContent::of(self).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de, T: Target> Deserialize<'de> for Heard<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        HeardContent::deserialize(deserializer)?.heard().map_err(de::Error::custom)
    }
}
