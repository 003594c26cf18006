//! Effects and timers that are lost or outlive their cause.

use std::collections::BTreeMap;
use std::sync::Mutex;

use composable_rust_core::{Append, EventStore as _, ExpectedVersion, Timestamp, Verdict};
use composable_rust_testing::{InMemoryEventStore, StoredTimer};

use super::super::store::{Defect, Verdicts};

changing!(
    /// Stores effects and timers only beside events.
    NeedsEventsForEffects,
    |append| if append.events.is_empty() {
        append.outbox.clear();
        append.timers.clear();
    }
);

changing!(
    /// Stores no effects.
    ForgetsOutbox,
    |append| append.outbox.clear()
);

changing!(
    /// Makes only the last change of an append to the timers.
    MakesOneTimerChange,
    |append| {
        let last = append.timers.pop();
        append.timers = last.into_iter().collect();
    }
);

changing!(
    /// Never removes the timers of what is finished.
    KeepsTimersOfFinished,
    |append| append.finished = false
);

/// Changes timers and stores effects before it looks whether the append is admitted.
pub(crate) struct KeepsEffectsOfLosers;

impl Defect for KeepsEffectsOfLosers {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
        let verdicts = store.append_events(partition, batch).await?;
        for (verdict, append) in verdicts.iter().zip(batch) {
            if matches!(verdict, Verdict::Conflict { .. }) {
                let mut effects = Append::new(append.stream.clone(), ExpectedVersion::Any);
                effects.outbox.clone_from(&append.outbox);
                store.append_events(partition, &[effects]).await?;
            }
        }
        Ok(verdicts)
    }
}

/// Timers never move: what is armed stays as first seen, of whatever stream.
#[derive(Default)]
pub(crate) struct TimersByIdOnly(Mutex<BTreeMap<String, StoredTimer>>);

impl Defect for TimersByIdOnly {
    fn timers(&self, timers: Vec<StoredTimer>) -> Vec<StoredTimer> {
        let mut seen = self.0.lock().expect("not poisoned");
        for mut timer in timers {
            timer.due = Timestamp::EPOCH;
            seen.entry(timer.id.clone()).or_insert(timer);
        }
        seen.values().cloned().collect()
    }
}
