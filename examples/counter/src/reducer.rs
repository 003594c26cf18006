//! The counter as a reducer, which is in memory.

use composable_rust::prelude::*;

/// A counter in memory.
#[derive(Debug, Clone, Copy)]
pub struct Tally;

/// The actions of a tally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TallyAction {
    /// Add one.
    Increment,
    /// Subtract one.
    Decrement,
}

impl Reducer for Tally {
    type State = i64;
    type Action = TallyAction;
    type Environment = ();

    fn reduce(&self, count: &mut i64, action: TallyAction, _: &()) -> Effects<TallyAction> {
        match action {
            TallyAction::Increment => *count += 1,
            TallyAction::Decrement => *count -= 1,
        }
        Effects::none()
    }
}
