//! The [`Reducer`] trait.

use crate::Effects;

/// A pure function from a state and an action to a new state and effects.
///
/// A reducer does no I/O, reads no clock and makes no ids of its own: its inputs come through the
/// environment, and its effects describe what should happen.
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
    /// The state that the reducer changes.
    type State;
    /// The actions that the reducer handles.
    type Action;
    /// The dependencies that the reducer and the futures of its effects use.
    type Environment;

    /// Applies `action` to `state` and returns the effects that follow.
    fn reduce(
        &self,
        state: &mut Self::State,
        action: Self::Action,
        env: &Self::Environment,
    ) -> Effects<Self::Action>;
}
