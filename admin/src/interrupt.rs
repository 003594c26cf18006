//! Ending long operations early.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Admin;

/// A request to end long operations early, such as after Ctrl-C. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Ends the operations that were created [until](Admin::until) it.
    pub fn interrupt(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns `true` if the operations are to end.
    pub fn is_interrupted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Admin {
    /// Returns the same operations, of which long ones end early when they are interrupted: they
    /// return, and record in the operators' stream, what they have done until then.
    #[must_use]
    pub fn until(&self, interrupt: &Interrupt) -> Self {
        Self { interrupt: interrupt.clone(), ..self.clone() }
    }
}
