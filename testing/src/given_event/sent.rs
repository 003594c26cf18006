use std::fmt;
use std::panic::Location;

use composable_rust_core::EventSet;

use super::events::GivenEvents;
use crate::failure::{Failure, pretty};

/// The commands of a policy, or the recipients that a follower names, until the test has asserted
/// them; see [`given_event`](crate::given_event).
pub struct Sent<S: EventSet, I: fmt::Debug> {
    given: Option<GivenEvents<S>>,
    unsaid: Unasserted<I>,
}

struct Unasserted<I: fmt::Debug> {
    /// `policy` or `follower`.
    what: &'static str,
    /// `commands` or `recipients`.
    items: &'static str,
    sent: Vec<I>,
    code: fn(&I) -> String,
    line: &'static Location<'static>,
    is_said: bool,
}

impl<S: EventSet, I: fmt::Debug + PartialEq> Sent<S, I> {
    #[track_caller]
    pub(super) fn new(
        given: GivenEvents<S>,
        what: &'static str,
        items: &'static str,
        sent: Vec<I>,
        code: fn(&I) -> String,
    ) -> Self {
        let line = Location::caller();
        let unsaid = Unasserted { what, items, sent, code, line, is_said: false };
        Self { given: Some(given), unsaid }
    }

    /// Asserts the commands, or the recipients, in order; `then([])` that there are none. The same
    /// events can then be handed to another policy, follower or projection.
    ///
    /// # Panics
    ///
    /// Panics if there are others.
    #[track_caller]
    pub fn then(mut self, expected: impl IntoIterator<Item = I>) -> GivenEvents<S> {
        self.unsaid.is_said = true;
        let Unasserted { what, items, sent, .. } = &self.unsaid;
        let expected: Vec<_> = expected.into_iter().collect();
        if expected != *sent {
            Failure::new(format!("The {what} returned other {items} than the test expects."))
                .diff(&pretty(&expected), &pretty(sent))
                .text(format!("If the {what} is right, write:"))
                .block(self.unsaid.code())
                .raise();
        }
        match self.given.take() {
            Some(given) => given,
            None => unreachable!("it is taken once"),
        }
    }
}

impl<I: fmt::Debug> Unasserted<I> {
    fn code(&self) -> String {
        let items: Vec<_> = self.sent.iter().map(self.code).collect();
        format!(".then([{}])", items.join(", "))
    }
}

impl<I: fmt::Debug> Drop for Unasserted<I> {
    fn drop(&mut self) {
        if self.is_said || std::thread::panicking() {
            return;
        }
        let Self { what, items, line, .. } = &*self;
        Failure::new(format!("The test does not say which {items} the {what} returns."))
            .text(format!("If the {what} is right, write:"))
            .block(self.code())
            .text(format!("The {what} was called at {line}."))
            .raise();
    }
}

impl<S: EventSet, I: fmt::Debug> fmt::Debug for Sent<S, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sent").field("sent", &self.unsaid.sent).finish_non_exhaustive()
    }
}
