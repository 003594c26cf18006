//! Sets of events that are read together.

use std::fmt::Debug;

use crate::codec::{DecodeError, Format};
use crate::message::MessageKind;
use crate::{Message, Target};

/// The events of one or several targets, as projections and policies read them.
///
/// Every [`Target`] is the set of its own events. `#[derive(EventSet)]` makes an enum the set of
/// several targets' events, in one of two ways.
///
/// # All events of several targets
///
/// Each variant is named after a target in scope and holds that target's events. Events are decoded
/// by their target, so upcasters apply, and two targets may use the same stored name.
/// `#[event_set(of = path)]` on a variant names the target where the variant's name does not.
///
/// ```
/// use composable_rust_core::codec::Format;
/// use composable_rust_core::{EventSet, Message, Target};
///
/// # #[derive(Debug, Clone, PartialEq, Message)]
/// # enum Command { Act }
/// #[derive(Debug, Clone, PartialEq, Message)]
/// enum SubscriptionEvent { Activated, Cancelled }
///
/// #[derive(Debug, Clone, PartialEq, Message)]
/// enum InvoiceEvent { Opened { cents: u64 }, Paid }
///
/// enum Subscription {}
/// # impl Target for Subscription {
/// #     const NAME: &'static str = "subscription";
/// #     type Command = Command;
/// #     type Event = SubscriptionEvent;
/// #     type Rejection = std::convert::Infallible;
/// # }
/// enum Invoice {}
/// # impl Target for Invoice {
/// #     const NAME: &'static str = "invoice";
/// #     type Command = Command;
/// #     type Event = InvoiceEvent;
/// #     type Rejection = std::convert::Infallible;
/// # }
///
/// #[derive(Debug, Clone, PartialEq, EventSet)]
/// enum Billing {
///     Subscription(SubscriptionEvent),
///     Invoice(InvoiceEvent),
/// }
///
/// assert_eq!(Billing::CATEGORIES, ["subscription", "invoice"]);
/// let paid = Billing::decode_event("invoice", "invoice.paid", 1, Format::Json, b"{}")?;
/// assert_eq!(paid, Billing::Invoice(InvoiceEvent::Paid));
/// # Ok::<(), composable_rust_core::codec::DecodeError>(())
/// ```
///
/// # Some events of several targets
///
/// A [`Message`] of one's own reads the events that it declares, under their stored names;
/// `#[message(other)]` stands for all others. `#[event_set(A, B)]` on the enum names the targets.
/// The enum does not compile if none of them records an event of that name, or if one records a
/// newer version of it.
///
/// ```
/// # use composable_rust_core::codec::Format;
/// # use composable_rust_core::{EventSet, Message, Target};
/// # #[derive(Debug, Clone, PartialEq, Message)]
/// # enum Command { Act }
/// # #[derive(Debug, Clone, PartialEq, Message)]
/// # enum SubscriptionEvent { Activated, Cancelled }
/// # #[derive(Debug, Clone, PartialEq, Message)]
/// # enum InvoiceEvent { Opened { cents: u64 }, Paid }
/// # enum Subscription {}
/// # impl Target for Subscription {
/// #     const NAME: &'static str = "subscription";
/// #     type Command = Command;
/// #     type Event = SubscriptionEvent;
/// #     type Rejection = std::convert::Infallible;
/// # }
/// # enum Invoice {}
/// # impl Target for Invoice {
/// #     const NAME: &'static str = "invoice";
/// #     type Command = Command;
/// #     type Event = InvoiceEvent;
/// #     type Rejection = std::convert::Infallible;
/// # }
/// #[derive(Debug, Clone, PartialEq, Message, EventSet)]
/// #[event_set(Subscription, Invoice)]
/// enum Open {
///     #[message(name = "invoice.opened")]
///     Opened { cents: u64 },
///     #[message(name = "subscription.cancelled")]
///     Cancelled,
///     #[message(other)]
///     Other,
/// }
///
/// let paid = Open::decode_event("invoice", "invoice.paid", 1, Format::Json, b"{}")?;
/// assert_eq!(paid, Open::Other);
/// # Ok::<(), composable_rust_core::codec::DecodeError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a set of events",
    label = "neither an aggregate, nor a `Target`, nor an `EventSet`",
    note = "name an aggregate; or an enum with `#[derive(EventSet)]`, which has a variant \
            `Order(OrderEvent)` for each aggregate that is read"
)]
pub trait EventSet: 'static {
    /// The decoded events.
    type Event: Debug + Clone + PartialEq + Send + Sync + 'static;
    /// The stream categories of the events: the names of their targets.
    const CATEGORIES: &'static [&'static str];

    /// Decodes an event of a stream of `category`.
    ///
    /// # Errors
    ///
    /// As [`Message::decode`].
    fn decode_event(
        category: &str,
        name: &str,
        version: u16,
        format: Format,
        bytes: &[u8],
    ) -> Result<Self::Event, DecodeError>;
}

#[diagnostic::do_not_recommend]
impl<T: Target> EventSet for T {
    type Event = T::Event;
    const CATEGORIES: &'static [&'static str] = &[T::NAME];

    fn decode_event(
        _: &str,
        name: &str,
        version: u16,
        format: Format,
        bytes: &[u8],
    ) -> Result<T::Event, DecodeError> {
        T::Event::decode(name, version, format, bytes)
    }
}

/// The bound on the field of a variant of a set: the event type of the variant's target.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "the events of this variant's aggregate are `{Event}`, not `{Self}`",
    label = "not the aggregate's events",
    note = "a variant is named after its aggregate and holds that aggregate's events: write \
            `{Event}` here, or name another aggregate with `#[event_set(of = path::To::It)]`"
)]
pub trait EventsAre<Event> {}

#[diagnostic::do_not_recommend]
impl<E> EventsAre<E> for E {}

/// Fails to compile if `E` is not the event type of `T`. Called by the derive.
#[doc(hidden)]
pub const fn event_of<T: Target, E: EventsAre<T::Event>>() {}

/// Fails to compile if two categories are equal. Called by the derive.
#[doc(hidden)]
pub const fn distinct(categories: &[&str]) {
    let mut i = 0;
    while i < categories.len() {
        let mut j = 0;
        while j < i {
            assert!(
                !equal(categories[i], categories[j]),
                "two aggregates of an event set have the same NAME"
            );
            j += 1;
        }
        i += 1;
    }
}

/// Fails to compile if an event that a partial set declares is recorded by none of its targets, or
/// in a newer version. Called by the derive.
#[doc(hidden)]
pub const fn declared(own: &MessageKind, targets: &[&[MessageKind]]) {
    let (mut is_recorded, mut i) = (false, 0);
    while i < targets.len() {
        let mut j = 0;
        while j < targets[i].len() {
            let of_target = &targets[i][j];
            if equal(own.name, of_target.name) {
                is_recorded = true;
                assert!(
                    own.version >= of_target.version,
                    "the aggregate records a newer version of this event: raise `version` here too, \
                     and read older ones with `from(…)`"
                );
            }
            j += 1;
        }
        i += 1;
    }
    assert!(
        is_recorded,
        "no aggregate of this event set records an event of this name: write its stored name, such \
         as `#[message(name = \"invoice.opened\")]`"
    );
}

const fn equal(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}
