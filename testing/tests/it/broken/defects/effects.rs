//! Effects and timers that are lost or outlive their cause.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use composable_rust_core::{
    Append, AppendOutcome, Due, EventStore as _, ExpectedVersion, TimerChange, Timestamp, Version,
};
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
    |append| append.cancels_timers = false
);

changing!(
    /// Clears the timers after it has changed them.
    ClearsTimersLast,
    |append| if append.cancels_timers {
        append.timers.clear();
    }
);

changing!(
    /// Fires without looking at the timer.
    IgnoresFires,
    |append| append.fired_timers.clear()
);

changing!(
    /// Deletes what is fired after the timers are changed.
    FiresAfterArming,
    |append| {
        let fires = std::mem::take(&mut append.fired_timers);
        append.timers.retain(|change| match change {
            TimerChange::Arm(timer) => fires.iter().all(|firing| firing.id != timer.id),
            TimerChange::Cancel { .. } => true,
        });
        append.fired_timers = fires;
    }
);

changing!(
    /// Arms everything for now.
    DueAtOnce,
    |append| for change in &mut append.timers {
        if let TimerChange::Arm(timer) = change {
            timer.due = Due::After(Duration::ZERO);
        }
    }
);

/// Looks at the timers before anything else.
pub(crate) struct VoidFirst;

impl Defect for VoidFirst {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
        let timers = store.timers();
        let is_armed = |append: &Append| {
            append.fired_timers.iter().all(|firing| {
                timers.iter().any(|timer| (&timer.id, timer.arming) == (&firing.id, firing.arming))
            })
        };
        if batch.iter().all(is_armed) {
            return store.append_events(partition, batch).await;
        }
        Ok(vec![AppendOutcome::StaleTimers(vec![0]); batch.len()])
    }
}

/// Looks at the version before it looks at what is fired.
pub(crate) struct ConflictsBeforeVoid;

impl Defect for ConflictsBeforeVoid {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
        let mut verdicts = store.append_events(partition, batch).await?;
        for (verdict, append) in verdicts.iter_mut().zip(batch) {
            let actual = Version::new(store.events(&append.stream).len() as u64);
            if matches!(verdict, AppendOutcome::StaleTimers(_)) && !append.expected.admits(actual) {
                *verdict = AppendOutcome::Conflict { actual };
            }
        }
        Ok(verdicts)
    }
}

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
            if matches!(verdict, AppendOutcome::Conflict { .. }) {
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
