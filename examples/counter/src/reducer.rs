//! The counter as a reducer: in memory.

use composable_rust::prelude::*;

/// Counts up and down.
#[derive(Debug, Clone, Copy)]
pub struct Tally;

/// What can happen to a tally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TallyAction {
    /// One more.
    Increment,
    /// One less.
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
