//! The metrics of queues: attempts to handle their messages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use composable_rust_core::queue::OutboxKind;

use crate::metrics::{DELIVERY_ATTEMPTS, DELIVERY_DURATION, TIMER_LATENESS};
use crate::panic::lock;
use crate::worker::outcome::Failure;
use crate::worker::worker_id::WorkerId;

/// Returns the label of a queue: its kind and target, or the relay whose parked streams it holds.
pub(crate) fn queue_label(kind: OutboxKind, target: &str) -> String {
    match WorkerId::of_queue(kind, target) {
        relay @ WorkerId::Relay { .. } => relay.to_string(),
        _ => format!("{}/{target}", kind.as_str()),
    }
}

/// The metrics of all queues of a process. Their series are looked up once, because a lookup
/// allocates.
#[derive(Default)]
pub(crate) struct DeliveryMetrics(Mutex<BTreeMap<OutboxKind, BTreeMap<String, Arc<OfQueue>>>>);

struct OfQueue {
    label: String,
    target: String,
    /// The attempts by the index of their outcome.
    attempts: [OnceLock<metrics::Counter>; OUTCOMES.len()],
    duration: OnceLock<metrics::Histogram>,
    lateness: OnceLock<metrics::Histogram>,
}

const OUTCOMES: [&str; 8] =
    ["handled", "failed", "unavailable", "stuck", "poison", "crashed", "unknown", "fenced"];

impl DeliveryMetrics {
    /// Records an attempt to handle a message, and, if it was handled, the time since it was
    /// queued.
    pub(crate) fn attempted<T>(
        &self,
        (kind, target): (OutboxKind, &str),
        result: &Result<T, Failure>,
        waited: Duration,
    ) {
        let of = self.of(kind, target);
        of.attempted(result);
        if result.is_ok() {
            of.duration.get_or_init(|| DELIVERY_DURATION.of([&of.label])).record(waited);
        }
    }

    /// Records an attempt to fire a timer of an aggregate type, and, if it is the first, the time
    /// since the deadline.
    pub(crate) fn fired<T>(
        &self,
        aggregate: &str,
        result: &Result<T, Failure>,
        lateness: Option<Duration>,
    ) {
        let of = self.of(OutboxKind::Timer, aggregate);
        of.attempted(result);
        if let Some(lateness) = lateness {
            of.lateness.get_or_init(|| TIMER_LATENESS.of([&of.target])).record(lateness);
        }
    }

    fn of(&self, kind: OutboxKind, target: &str) -> Arc<OfQueue> {
        let mut queues = lock(&self.0);
        let of_kind = queues.entry(kind).or_default();
        if let Some(of) = of_kind.get(target) {
            return Arc::clone(of);
        }
        let of = Arc::new(OfQueue {
            label: queue_label(kind, target),
            target: target.to_owned(),
            attempts: Default::default(),
            duration: OnceLock::new(),
            lateness: OnceLock::new(),
        });
        of_kind.insert(target.to_owned(), Arc::clone(&of));
        of
    }
}

impl OfQueue {
    fn attempted<T>(&self, result: &Result<T, Failure>) {
        let outcome = outcome(result);
        let attempts = &self.attempts[outcome];
        attempts
            .get_or_init(|| DELIVERY_ATTEMPTS.of([&self.label, OUTCOMES[outcome]]))
            .increment(1);
    }
}

/// Returns the index of an outcome.
fn outcome<T>(result: &Result<T, Failure>) -> usize {
    let name = result.as_ref().err().map_or("handled", Failure::kind);
    OUTCOMES.iter().position(|known| *known == name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::unknown_messages::NewerCode;

    #[test]
    fn every_outcome_has_a_series() {
        let text = String::new;
        let newer = NewerCode { what: text(), reason: text() };
        let failures = [
            Failure::Failed(text()),
            Failure::Unavailable(text()),
            Failure::Stuck(text()),
            Failure::Poison(text()),
            Failure::Crashed { attempts: 1 },
            Failure::NeedsNewerCode(newer),
            Failure::Fenced,
        ];
        let indexes: Vec<_> = failures.into_iter().map(|of| outcome(&Err::<(), _>(of))).collect();
        assert_eq!(indexes, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(outcome(&Ok(())), 0);
    }
}
