//! The general concept.

use crate::Effects;

/// A pure function from a state and an action to a new state and effects.
///
/// It does no I/O, reads no clock and makes no ids of its own: what it needs comes through the
/// environment, and what should happen goes out as effects.
///
/// # Example: a counter
///
/// ```
/// use composable_rust_core::prelude::*;
///
/// struct Counter;
/// #[derive(Debug, Clone, PartialEq)]
/// enum Action { Increment, Reset }
///
/// impl Reducer for Counter {
///     type State = i64;
///     type Action = Action;
///     type Environment = ();
///
///     fn reduce(&self, count: &mut i64, action: Action, _: &()) -> Effects<Action> {
///         match action {
///             Action::Increment => *count += 1,
///             Action::Reset => *count = 0,
///         }
///         Effects::none()
///     }
/// }
///
/// let mut count = 0;
/// assert!(Counter.reduce(&mut count, Action::Increment, &()).is_empty());
/// assert_eq!(count, 1);
/// ```
pub trait Reducer {
    /// What is known.
    type State;
    /// What can happen.
    type Action;
    /// What the reducer may look at besides state and action, and what its futures use.
    type Environment;

    /// Changes `state` as `action` says, and says what follows.
    fn reduce(
        &self,
        state: &mut Self::State,
        action: Self::Action,
        env: &Self::Environment,
    ) -> Effects<Self::Action>;
}
