//! Searches that end in time.

use std::time::{Duration, Instant};

use crate::Admin;

/// The time at which a search ends; `None` if it takes as long as it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    pub(crate) fn has_passed(self) -> bool {
        self.0.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

impl Admin {
    /// Returns the same operations, whose searches end after about this time: they return what they
    /// have found until then, and the place at which to continue. Each examines at least one part
    /// of the store.
    #[must_use]
    pub fn within(&self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self.clone() }
    }

    /// Returns the deadline of a search that begins now.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline(self.patience.map(|patience| Instant::now() + patience))
    }
}
