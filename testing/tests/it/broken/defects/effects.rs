//! Outbox rows and timers that are lost or outlive their cause.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use composable_rust_core::store::{
    Append, AppendOutcome, Due, EventStore as _, ExpectedVersion, TimerChange,
};
use composable_rust_core::{Timestamp, Version};
use composable_rust_testing::{InMemoryEventStore, Intercept, StoredTimer};

use super::super::store::Backing;

changing!(
    /// Stores outbox rows and timers only together with events.
    NeedsEventsForEffects,
    |append| if append.events.is_empty() {
        append.outbox.clear();
        append.timers.clear();
    }
);

changing!(
    /// Stores no outbox rows.
    ForgetsOutbox,
    |append| append.outbox.clear()
);

changing!(
    /// Makes only the last timer change of an append.
    MakesOneTimerChange,
    |append| {
        let last = append.timers.pop();
        append.timers = last.into_iter().collect();
    }
);

changing!(
    /// Never cancels the timers of completed streams.
    KeepsTimersOfCompleted,
    |append| append.cancels_timers = false
);

changing!(
    /// Cancels the timers after it has changed them.
    ClearsTimersLast,
    |append| if append.cancels_timers {
        append.timers.clear();
    }
);

changing!(
    /// Fires without checking the timer.
    IgnoresFires,
    |append| append.fired_timers.clear()
);

changing!(
    /// Deletes the fired timer after the timers are changed.
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
    /// Makes every timer due at once.
    DueAtOnce,
    |append| for change in &mut append.timers {
        if let TimerChange::Arm(timer) = change {
            timer.due = Due::After(Duration::ZERO);
        }
    }
);

appending!(
    /// Checks the timers before anything else.
    ChecksTimersFirst,
    |store, partition, batch| {
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
);

answering!(
    /// Checks the version before the fired timer.
    ChecksVersionsBeforeTimers,
    |store, append, outcome| {
        let actual = Version::new(store.events(&append.stream).len() as u64);
        if matches!(outcome, AppendOutcome::StaleTimers(_)) && !append.expected.admits(actual) {
            *outcome = AppendOutcome::Conflict { actual };
        }
    }
);

appending!(
    /// Changes timers and stores rows before it checks the append.
    KeepsRowsOfConflicts,
    |store, partition, batch| {
        let outcomes = store.append_events(partition, batch).await?;
        for (outcome, append) in outcomes.iter().zip(batch) {
            if matches!(outcome, AppendOutcome::Conflict { .. }) {
                let mut effects = Append::new(append.stream.clone(), ExpectedVersion::Any);
                effects.outbox.clone_from(&append.outbox);
                store.append_events(partition, &[effects]).await?;
            }
        }
        Ok(outcomes)
    }
);

/// Timers never change: a timer stays as first seen, whatever its stream.
#[derive(Default)]
pub(crate) struct TimersByIdOnly(Mutex<BTreeMap<String, StoredTimer>>);

impl Intercept<InMemoryEventStore> for TimersByIdOnly {}

impl Backing for TimersByIdOnly {
    fn timers(&self, timers: Vec<StoredTimer>) -> Vec<StoredTimer> {
        let mut seen = self.0.lock().expect("no other task panicked");
        for mut timer in timers {
            timer.due = Timestamp::EPOCH;
            seen.entry(timer.id.clone()).or_insert(timer);
        }
        seen.values().cloned().collect()
    }
}
