//! What goes wrong: by a script, or by seeded chance.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{Clock, StoreError};
use rand::Rng as _;
use rand::rngs::StdRng;

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the call does what it always does.
    None,
    /// The store does not do it and is reported as unavailable.
    FailBefore,
    /// The store does it and is reported as unavailable: an answer that was lost. A load fails
    /// after its last row.
    FailAfter,
    /// The call takes this much longer.
    Delay(Duration),
    /// Nothing is appended, and every append of the batch is told that it lost on version. Without
    /// effect on what is no append.
    Conflict,
}

/// How often each fault happens by chance, from 0 (never) to 1 (always).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Chances {
    /// Of [`Fault::FailBefore`].
    pub fail_before: f64,
    /// Of [`Fault::FailAfter`].
    pub fail_after: f64,
    /// Of [`Fault::Conflict`].
    pub conflict: f64,
    /// Of [`Fault::Delay`], by a random part of `longest_delay`.
    pub delay: f64,
    /// The longest delay.
    pub longest_delay: Duration,
}

/// What a [`FaultyEventStore`](super::FaultyEventStore) was asked and what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultCounts {
    /// Calls that append.
    pub appends: u64,
    /// Calls that read.
    pub reads: u64,
    /// Calls that write to leases, queues or checkpoints.
    pub writes: u64,
    /// Calls that failed before.
    pub failed_before: u64,
    /// Calls that failed after.
    pub failed_after: u64,
    /// Calls that were told of a conflict that there was not.
    pub conflicts: u64,
    /// Calls that were delayed.
    pub delayed: u64,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) appends: VecDeque<Fault>,
    pub(super) reads: VecDeque<Fault>,
    pub(super) writes: VecDeque<Fault>,
    pub(super) chance: Option<(StdRng, Chances)>,
    pub(super) clock: Option<Arc<dyn Clock>>,
    pub(super) counts: FaultCounts,
}

#[derive(Clone, Copy)]
pub(super) enum Call {
    Append,
    Read,
    Write,
}

impl Plan {
    pub(super) fn next(&mut self, call: Call) -> Fault {
        let script = match call {
            Call::Append => {
                self.counts.appends += 1;
                &mut self.appends
            }
            Call::Read => {
                self.counts.reads += 1;
                &mut self.reads
            }
            Call::Write => {
                self.counts.writes += 1;
                &mut self.writes
            }
        };
        let fault = script.pop_front().or_else(|| self.by_chance()).unwrap_or(Fault::None);
        let fault = match (fault, call) {
            (Fault::Conflict, Call::Read | Call::Write) => Fault::None,
            (fault, _) => fault,
        };
        match fault {
            Fault::None => {}
            Fault::FailBefore => self.counts.failed_before += 1,
            Fault::FailAfter => self.counts.failed_after += 1,
            Fault::Delay(_) => self.counts.delayed += 1,
            Fault::Conflict => self.counts.conflicts += 1,
        }
        fault
    }

    fn by_chance(&mut self) -> Option<Fault> {
        let (rng, chances) = self.chance.as_mut()?;
        // Drawn whether used or not, so that each call takes the same from the generator.
        let (roll, part): (f64, f64) = (rng.random(), rng.random());
        let delay = Fault::Delay(chances.longest_delay.mul_f64(part));
        let mut below = 0.0;
        let faults = [
            (chances.fail_before, Fault::FailBefore),
            (chances.fail_after, Fault::FailAfter),
            (chances.conflict, Fault::Conflict),
            (chances.delay, delay),
        ];
        faults.into_iter().find_map(|(chance, fault)| {
            below += chance;
            (roll < below).then_some(fault)
        })
    }
}

pub(super) fn injected(when: &str) -> StoreError {
    StoreError::unavailable(format!("injected fault: failed {when} the call"))
}
