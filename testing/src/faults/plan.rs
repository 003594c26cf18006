//! The planned faults: by a script, or by seeded chance.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::environment::Clock;
use composable_rust_core::store::StoreError;
use rand::Rng as _;
use rand::rngs::StdRng;

use crate::intercept::CallKind;

/// The fault of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No fault.
    None,
    /// The call fails as unavailable without an effect.
    FailBefore,
    /// The call has its effect and fails as unavailable: a lost response. A load fails after its
    /// last row.
    FailAfter,
    /// The call is delayed by this time.
    Delay(Duration),
    /// Nothing is appended, and every append of the batch returns a conflict. Without effect on
    /// calls other than appends.
    Conflict,
}

/// The probability of each fault, from 0 (never) to 1 (always).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Chances {
    /// The probability of [`Fault::FailBefore`].
    pub fail_before: f64,
    /// The probability of [`Fault::FailAfter`].
    pub fail_after: f64,
    /// The probability of [`Fault::Conflict`].
    pub conflict: f64,
    /// The probability of [`Fault::Delay`], by a random part of `longest_delay`.
    pub delay: f64,
    /// The longest delay.
    pub longest_delay: Duration,
}

/// The calls and faults of a [`FaultyEventStore`](super::FaultyEventStore).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultCounts {
    /// The number of appends.
    pub appends: u64,
    /// The number of reads.
    pub reads: u64,
    /// The number of writes to leases, queues, checkpoints or the inbox.
    pub writes: u64,
    /// The number of calls that failed without an effect.
    pub failed_before: u64,
    /// The number of calls that failed after their effect.
    pub failed_after: u64,
    /// The number of appends that returned a false conflict.
    pub conflicts: u64,
    /// The number of delayed calls.
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

impl Plan {
    pub(super) fn next(&mut self, kind: CallKind) -> Fault {
        let script = match kind {
            CallKind::Append => {
                self.counts.appends += 1;
                &mut self.appends
            }
            CallKind::Read => {
                self.counts.reads += 1;
                &mut self.reads
            }
            CallKind::Write => {
                self.counts.writes += 1;
                &mut self.writes
            }
            CallKind::Upkeep | CallKind::Wait | CallKind::Clock => return Fault::None,
        };
        let fault = script.pop_front().or_else(|| self.by_chance()).unwrap_or(Fault::None);
        let fault = match (fault, kind) {
            (Fault::Conflict, CallKind::Read | CallKind::Write) => Fault::None,
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
        // Both numbers are always drawn, so that each call takes the same number from the
        // generator.
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
