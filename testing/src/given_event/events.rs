use std::fmt;
use std::marker::PhantomData;

use composable_rust_core::codec::Codecs;
use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::message::Hears;
use composable_rust_core::{
    CorrelationId, EventId, EventSet, Heard, Id, Message, Metadata, Position, Recorded, Target,
    Timestamp, Version,
};
use uuid::Uuid;

use super::sent::Sent;
use crate::SequentialIds;
use crate::encoding::message_failure;
use crate::failure::{Failure, code, pretty, type_code};

/// An event that the instance `id` has recorded; the start of the test of a policy, a follower or a
/// projection.
///
/// ```text
/// given_event(&id, event).policy(policy).then([(id, command)])
/// given_event(&id, event).follower(recipient).then([id])
/// given_event(&id, event).projection(&projection, &model).await.then(value)
/// ```
///
/// [`event`](GivenEvents::event) adds events, [`at`](GivenEvents::at) and [`by`](GivenEvents::by)
/// give the last one a time and a user, and [`read_as`](GivenEvents::read_as) reads them as a set.
/// All versions count from 1, all positions are those of one log.
///
/// # Checks
///
/// - Each event, and each command of a policy or follower, survives encoding in the default codec
///   and in JSON.
/// - A policy or follower that is called twice returns the same.
/// - A policy's commands are not internal.
/// - A projection can be rebuilt: it projects the events again after `clear`.
///
/// # Example: a policy, which is a function of its own
///
/// ```
/// use composable_rust_core::prelude::*;
/// use composable_rust_core::Recorded;
/// use composable_rust_testing::given_event;
/// # #[derive(Debug, Clone, PartialEq, Message)]
/// # enum OrderCommand { Ship }
/// # #[derive(Debug, Clone, PartialEq, Message)]
/// # enum OrderEvent { Placed, Shipped }
/// # enum Order {}
/// # impl Target for Order {
/// #     const NAME: &'static str = "order";
/// #     type Command = OrderCommand;
/// #     type Event = OrderEvent;
/// #     type Rejection = std::convert::Infallible;
/// # }
/// # #[derive(Debug, Clone, PartialEq, Message)]
/// # enum InvoiceCommand { Write }
/// # #[derive(Debug, Clone, PartialEq, Message)]
/// # enum InvoiceEvent { Written }
/// # enum Invoice {}
/// # impl Target for Invoice {
/// #     const NAME: &'static str = "invoice";
/// #     type Command = InvoiceCommand;
/// #     type Event = InvoiceEvent;
/// #     type Rejection = std::convert::Infallible;
/// # }
///
/// fn invoice_shipped(recorded: &Recorded<OrderEvent>) -> Option<(Id<Invoice>, InvoiceCommand)> {
///     match recorded.event {
///         OrderEvent::Placed => None,
///         OrderEvent::Shipped => {
///             Some((Invoice::id(recorded.stream.id()), InvoiceCommand::Write))
///         }
///     }
/// }
///
/// let order = Order::id("7");
/// given_event(&order, OrderEvent::Shipped)
///     .policy(invoice_shipped)
///     .then([(Invoice::id("7"), InvoiceCommand::Write)]);
/// given_event(&order, OrderEvent::Placed).policy(invoice_shipped).then([]);
/// ```
///
/// # Panics
///
/// Panics if the event does not survive encoding.
#[must_use = "nothing is tested before `.policy(…)`, `.follower(…)` or `.projection(…)`"]
#[track_caller]
pub fn given_event<T: Target>(id: &Id<T>, event: T::Event) -> GivenEvents<T> {
    GivenEvents { stored: Vec::new(), set: PhantomData }.event(id, event)
}

/// Events before they are handed to a policy, a follower or a projection; see [`given_event`].
pub struct GivenEvents<S: EventSet> {
    pub(super) stored: Vec<StoredEvent>,
    set: PhantomData<fn() -> S>,
}

#[expect(clippy::needless_pass_by_value, reason = "a test writes the event where it happens")]
impl<S: EventSet> GivenEvents<S> {
    /// Adds an event that the instance `id`, of any target, has recorded.
    ///
    /// # Panics
    ///
    /// Panics if the event does not survive encoding.
    #[must_use]
    #[track_caller]
    pub fn event<T: Target>(mut self, id: &Id<T>, event: T::Event) -> Self {
        if let Some(failure) = message_failure("The given event", &event) {
            failure.raise();
        }
        let stream = id.stream();
        let content = Codecs::default().encode(&stream, &event);
        let content = content.unwrap_or_else(|error| panic!("it was encoded before: {error}"));
        let earlier = self.stored.iter().filter(|other| other.stream == stream).count();
        let number = self.stored.len() as u64 + 1;
        let id = SequentialIds::nth(number);
        self.stored.push(StoredEvent {
            id: EventId(id),
            stream,
            version: Version::new(earlier as u64 + 1),
            position: Position::new(0, number),
            content: StoredContent::Present(content),
            metadata: text(&metadata(id, None)),
            recorded_at: Timestamp::EPOCH,
        });
        self
    }

    /// Sets the time at which the last event was recorded. Default: [`Timestamp::EPOCH`].
    #[must_use]
    pub fn at(mut self, recorded_at: Timestamp) -> Self {
        if let Some(last) = self.stored.last_mut() {
            last.recorded_at = recorded_at;
        }
        self
    }

    /// Sets the user for whom the last event was recorded. Default: none.
    #[must_use]
    pub fn by(mut self, user: impl Into<String>) -> Self {
        if let Some(last) = self.stored.last_mut() {
            last.metadata = text(&metadata(last.id.0, Some(user.into())));
        }
        self
    }

    /// Erases the content of the last event, as [`erase_stream`] does: a policy does not see it,
    /// and a projection's `erase` is called.
    ///
    /// [`erase_stream`]: composable_rust_core::store::EventStore::erase_stream
    #[must_use]
    pub fn erased(mut self) -> Self {
        if let Some(last) = self.stored.last_mut() {
            (last.content, last.metadata) = (StoredContent::Erased, String::new());
        }
        self
    }

    /// Reads the events as those of another set, for a policy over several targets or over some of
    /// their events. A projection always reads its own set.
    #[must_use]
    pub fn read_as<Other: EventSet>(self) -> GivenEvents<Other> {
        GivenEvents { stored: self.stored, set: PhantomData }
    }

    /// Applies a policy to the events, in order.
    ///
    /// # Panics
    ///
    /// Panics if an event is none of the set's, or if a check of [`given_event`] fails.
    #[track_caller]
    pub fn policy<T: Target, C>(
        self,
        policy: impl Fn(&Recorded<S::Event>) -> C,
    ) -> Sent<S, (Id<T>, T::Command)>
    where
        C: IntoIterator<Item = (Id<T>, T::Command)>,
    {
        let sent = self.twice("policy", &|recorded| policy(recorded).into_iter().collect());
        for (_, command) in &sent {
            if command.kind().internal {
                let command = code(command, false);
                Failure::new(format!(
                    "The policy sends `{command}`, which is internal: only the runtime delivers it."
                ))
                .text(
                    "An app refuses to send it. Give the target a command that others may send; or \
                     let it hear the event itself: `follows` and a variant `Heard(Heard<…>)`.",
                )
                .raise();
            }
            if let Some(failure) = message_failure("The command", command) {
                failure.raise();
            }
        }
        let item = |(id, command): &(Id<T>, T::Command)| {
            format!("({}, {})", id_code(id), code(command, false))
        };
        Sent::new(self, "policy", "commands", sent, item)
    }

    /// Applies `apply` to all events, twice.
    #[track_caller]
    fn twice<I: fmt::Debug + PartialEq>(
        &self,
        what: &str,
        apply: &dyn Fn(&Recorded<S::Event>) -> Vec<I>,
    ) -> Vec<I> {
        let recorded: Vec<_> = self.stored.iter().filter_map(decoded::<S>).collect();
        let all = || recorded.iter().flat_map(apply).collect::<Vec<_>>();
        let (first, second) = (all(), all());
        if first != second {
            Failure::new(format!("The {what} was called twice and returned different things."))
                .diff(&pretty(&first), &pretty(&second))
                .text(
                    "After a crash it is called again, so it may look only at the event: no clock, \
                     no random number, no `HashMap` whose order shows.",
                )
                .raise();
        }
        first
    }
}

impl<S: Target> GivenEvents<S> {
    /// Hands the events to a follower's function, which names the recipients, in order.
    ///
    /// # Panics
    ///
    /// Panics if a check of [`given_event`] fails.
    #[track_caller]
    pub fn follower<T: Target<Command: Hears<S>>, C>(
        self,
        recipients: impl Fn(&Recorded<<S as Target>::Event>) -> C,
    ) -> Sent<S, Id<T>>
    where
        C: IntoIterator<Item = Id<T>>,
    {
        let sent = self.twice("follower", &|recorded| recipients(recorded).into_iter().collect());
        for recorded in self.stored.iter().filter_map(decoded::<S>) {
            let heard = Heard::<S>::new(&recorded).map(T::Command::hear);
            if let Some(failure) = heard.and_then(|of| message_failure("What is heard", &of)) {
                failure.raise();
            }
        }
        Sent::new(self, "follower", "recipients", sent, id_code::<T>)
    }
}

/// Decodes an event; `None` if it was erased.
#[track_caller]
pub(super) fn decoded<S: EventSet>(stored: &StoredEvent) -> Option<Recorded<S::Event>> {
    let content = stored.content.present()?;
    match Codecs::default().decode_event::<S>(&stored.stream, content) {
        Ok(event) => Some(stored.decoded(event)),
        Err(error) => Failure::new(format!(
            "The event `{}` of {} cannot be read as `{}`.",
            content.name,
            stored.stream,
            type_code::<S>()
        ))
        .block(crate::encoding::reasons(&error))
        .raise(),
    }
}

fn id_code<T: Target>(id: &Id<T>) -> String {
    format!("{}::id({:?})", type_code::<T>(), id.as_str())
}

fn metadata(id: Uuid, user: Option<String>) -> Metadata {
    Metadata {
        correlation_id: CorrelationId(id),
        causation_id: id,
        user,
        user_from: None,
        traceparent: None,
        return_addresses: Vec::new(),
        reply: None,
        follower: None,
    }
}

fn text(metadata: &Metadata) -> String {
    serde_json::to_string(metadata).unwrap_or_else(|_| unreachable!("texts and ids are JSON"))
}

impl<S: EventSet> fmt::Debug for GivenEvents<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GivenEvents").field(&self.stored).finish()
    }
}
