//! Decisions: the results of `decide`.

use smallvec::SmallVec;

use crate::{Aggregate, Message, Reactions};

/// The result of [`Aggregate::decide`]: an [`Outcome`], or the aggregate's rejection. `?` works in
/// `decide`.
pub type Decision<A> = Result<Outcome<A>, <A as Aggregate>::Rejection>;

/// The result of an accepted command, created by [`record`], [`record_all`], [`unchanged`] and
/// [`repeat`].
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a decision does nothing unless `decide` returns it"]
pub struct Outcome<A: Aggregate> {
    /// The events to record, in order; if `repeated`, the events to reply with.
    pub events: SmallVec<[A::Event; 1]>,
    /// `true` if the events are only sent as the reply, not recorded.
    pub repeated: bool,
    /// The durable effects that commit with the events, besides those of `react`.
    pub effects: Reactions<A::Command>,
}

impl<A: Aggregate> Outcome<A> {
    fn new(events: SmallVec<[A::Event; 1]>, repeated: bool) -> Self {
        Self { events, repeated, effects: Reactions::none() }
    }
}

/// A value that is an event of type `E`. Only `E` implements it; it makes the compiler name the
/// type that a wrong event should have.
#[diagnostic::on_unimplemented(
    message = "expected an event of type `{E}`, found `{Self}`",
    label = "not a `{E}`",
    note = "an aggregate records what its `type Event` names"
)]
pub trait IntoEvent<E> {
    /// Returns the event.
    fn into_event(self) -> E;
}

impl<E: Message> IntoEvent<E> for E {
    fn into_event(self) -> E {
        self
    }
}

/// With a single implementation, the compiler would infer the aggregate's event type from the
/// recorded value and report the aggregate as wrong. No value is a [`Nothing`].
impl<E: Message> IntoEvent<Nothing> for E {
    fn into_event(self) -> Nothing {
        unreachable!("no aggregate has such events")
    }
}

#[doc(hidden)]
#[derive(Debug)]
pub enum Nothing {}

/// Records one event.
///
/// # Errors
///
/// Never; the return type is that of `decide`.
#[must_use = "a decision does nothing unless `decide` returns it"]
#[inline]
pub fn record<A: Aggregate>(event: impl IntoEvent<A::Event>) -> Decision<A> {
    let mut events = SmallVec::new();
    events.push(event.into_event());
    Ok(Outcome::new(events, false))
}

/// Records several events, in order, all or none. Without events, it is the same as [`unchanged`].
///
/// # Errors
///
/// Never; the return type is that of `decide`.
#[must_use = "a decision does nothing unless `decide` returns it"]
pub fn record_all<A: Aggregate, E: IntoEvent<A::Event>>(
    events: impl IntoIterator<Item = E>,
) -> Decision<A> {
    Ok(Outcome::new(events.into_iter().map(E::into_event).collect(), false))
}

/// Rejects the command.
///
/// # Errors
///
/// Always, with the rejection.
#[must_use = "a decision does nothing unless `decide` returns it"]
#[inline]
pub fn reject<A: Aggregate>(rejection: A::Rejection) -> Decision<A> {
    Err(rejection)
}

/// Accepts the command and changes nothing.
///
/// # Errors
///
/// Never; the return type is that of `decide`.
#[must_use = "a decision does nothing unless `decide` returns it"]
pub fn unchanged<A: Aggregate>() -> Decision<A> {
    Ok(Outcome::new(SmallVec::new(), false))
}

/// Replies with an event without recording it: an idempotent repeat of an earlier event, or a query
/// answered with data.
///
/// # Errors
///
/// Never; the return type is that of `decide`.
#[must_use = "a decision does nothing unless `decide` returns it"]
pub fn repeat<A: Aggregate>(event: impl IntoEvent<A::Event>) -> Decision<A> {
    let mut events = SmallVec::new();
    events.push(event.into_event());
    Ok(Outcome::new(events, true))
}

/// Attaches durable effects to a decision.
pub trait DecisionExt<A: Aggregate> {
    /// The same decision with `effects`, which commit with its events, or alone if it has none. A
    /// rejection stays as it is.
    ///
    /// For facts that must not pass through events or state (a card token); what follows from an
    /// event belongs in [`Aggregate::react`].
    ///
    /// # Errors
    ///
    /// When the decision is a rejection.
    #[must_use = "a decision does nothing unless `decide` returns it"]
    fn with(self, effects: Reactions<A::Command>) -> Decision<A>;
}

impl<A: Aggregate> DecisionExt<A> for Result<Outcome<A>, A::Rejection> {
    fn with(self, effects: Reactions<A::Command>) -> Decision<A> {
        self.map(|mut outcome| {
            outcome.effects = outcome.effects.merge(effects);
            outcome
        })
    }
}
