//! What no code that this process runs knows, and what waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use composable_rust_core::{DecodeError, Timestamp};

use crate::error::error_chain;
use crate::metrics::UNKNOWN;
use crate::panic::lock;

/// Places of one name that are remembered at most; further ones wait without being counted.
const MAX_PLACES: usize = 10_000;
/// Names that a process tells apart at most, since it was started: anybody may send new ones.
const MAX_NAMES: usize = 200;
/// What all further names are called together.
const FURTHER_NAMES: &str = "further names";
/// A place that was not met for so long is another process's by now, or gone.
const STALE_AFTER: Duration = Duration::from_secs(900);

/// Why something waits for newer code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewerCode {
    /// What is unknown: a name, with the version if that is what is unknown.
    pub(crate) what: String,
    /// The error in words.
    pub(crate) reason: String,
}

impl NewerCode {
    /// Of a message that cannot be decoded; `None` if newer code would not know it either.
    pub(crate) fn of(error: &DecodeError) -> Option<Self> {
        if !error.is_newer() {
            return None;
        }
        let what = match error {
            DecodeError::UnknownName { name } => format!("`{name}`"),
            DecodeError::UnknownVersion { name, version, .. } => {
                format!("`{name}` version {version}")
            }
            DecodeError::UnknownTag { name, version, .. } => {
                format!("the tag of `{name}` version {version}")
            }
            other => other.to_string(),
        };
        Some(Self { what, reason: error_chain(error) })
    }

    /// Of a target, gateway, policy or projection that is not registered.
    pub(crate) fn unregistered(kind: &str, name: &str) -> Self {
        Self { what: format!("{kind} `{name}`"), reason: format!("no {kind} is called `{name}`") }
    }
}

/// Something that no code of this process knows: see [`App::unknown`](crate::App::unknown).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownMessage {
    /// The name, with the version if only that is unknown, such as "`order.held`". A process tells 200
    /// names apart; what has another is shown under `further names`.
    pub what: String,
    /// The worker that met it, such as `dispatch/order`, `follow/audit` or `project/orders`.
    pub worker: String,
    /// The number of rows or events that were met and wait for it. What stands behind them is not
    /// counted. Counting ends at 10,000.
    pub waiting: u64,
    /// One of them: the id of a row, of a timer's message, or the position of an event.
    pub example: String,
    /// The time when this process met it first.
    pub since: Timestamp,
    /// `true` if one of them waited for [`Settings::unknown_message_grace`](crate::Settings::unknown_message_grace):
    /// no running code knows it.
    pub is_overdue: bool,
}

/// How a place was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encounter {
    /// Whether it is the first time.
    pub(crate) is_first: bool,
    /// Whether it has waited for so long that no running code knows it.
    pub(crate) is_overdue: bool,
}

/// Everything unknown that waits.
#[derive(Debug, Default)]
pub(crate) struct UnknownMessages(Mutex<Encounters>);

#[derive(Debug, Default)]
struct Encounters {
    /// By worker and name.
    waiting: BTreeMap<(String, String), WaitingEncounter>,
    /// All names that are told apart.
    names: BTreeSet<String>,
}

impl Encounters {
    /// The name under which something is kept.
    fn name(&mut self, what: &str) -> String {
        if self.names.len() < MAX_NAMES && !self.names.contains(what) {
            self.names.insert(what.to_owned());
        }
        if self.names.contains(what) { what.to_owned() } else { FURTHER_NAMES.to_owned() }
    }
}

#[derive(Debug)]
struct WaitingEncounter {
    since: Timestamp,
    /// When each place was met first and last, in monotonic time.
    places: BTreeMap<String, (Duration, Duration)>,
    is_overdue: bool,
}

/// The time of a meeting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeenAt {
    pub(crate) now: Timestamp,
    pub(crate) monotonic: Duration,
    /// How long something is unknown until no running code knows it.
    pub(crate) overdue_after: Duration,
}

impl UnknownMessages {
    fn lock(&self) -> MutexGuard<'_, Encounters> {
        lock(&self.0)
    }

    /// A worker has come upon something that it does not know. Warns when it does so for the first
    /// time, and once more when it is overdue.
    pub(crate) fn meet(
        &self,
        worker: &str,
        newer: &NewerCode,
        place: &dyn std::fmt::Display,
        at: SeenAt,
    ) -> Encounter {
        let (reason, place) = (&newer.reason, place.to_string());
        let mut unknown = self.lock();
        let what = &unknown.name(&newer.what);
        let key = (worker.to_owned(), what.clone());
        let of = unknown.waiting.entry(key).or_insert_with(|| {
            tracing::warn!(worker, what, place, reason, "it waits for newer code");
            WaitingEncounter { since: at.now, places: BTreeMap::new(), is_overdue: false }
        });
        let is_first = !of.places.contains_key(&place);
        if is_first && of.places.len() >= MAX_PLACES {
            return Encounter { is_first: false, is_overdue: of.is_overdue };
        }
        let (first, last) = of.places.entry(place.clone()).or_insert((at.monotonic, at.monotonic));
        *last = at.monotonic;
        let is_overdue = last.saturating_sub(*first) >= at.overdue_after;
        let waiting = of.places.len();
        if is_overdue && !std::mem::replace(&mut of.is_overdue, true) {
            tracing::warn!(
                worker,
                what,
                waiting,
                place,
                reason,
                "no running code knows it: deploy code that does, override the event, or park or \
                 discard the rows"
            );
        }
        gauge(worker, what, waiting);
        Encounter { is_first, is_overdue }
    }

    /// Returns the time for which a worker has known that something waits at a place.
    pub(crate) fn waited(
        &self,
        worker: &str,
        place: &dyn std::fmt::Display,
        now: Duration,
    ) -> Option<Duration> {
        let (unknown, place) = (self.lock(), place.to_string());
        let mut of_worker = unknown.waiting.iter().filter(|((of, _), _)| of == worker);
        let (first, _) = of_worker.find_map(|(_, waiting)| waiting.places.get(&place))?;
        Some(now.saturating_sub(*first))
    }

    /// What waited at a place does so no more.
    pub(crate) fn gone(&self, worker: &str, place: &dyn std::fmt::Display) {
        let unknown = &mut self.lock().waiting;
        if unknown.is_empty() {
            return;
        }
        let place = place.to_string();
        unknown.retain(|(of, what), waiting| {
            if of == worker && waiting.places.remove(&place).is_some() {
                gauge(worker, what, waiting.places.len());
            }
            !waiting.places.is_empty()
        });
    }

    /// Forgets what was not met for a while.
    pub(crate) fn forget_stale(&self, now: Duration) {
        self.lock().waiting.retain(|(worker, what), of| {
            let before = of.places.len();
            of.places.retain(|_, (_, last)| now.saturating_sub(*last) < STALE_AFTER);
            if of.places.len() < before {
                gauge(worker, what, of.places.len());
            }
            !of.places.is_empty()
        });
    }

    pub(crate) fn all(&self) -> Vec<UnknownMessage> {
        let unknown = self.lock();
        let all = unknown.waiting.iter().map(|((worker, what), of)| UnknownMessage {
            what: what.clone(),
            worker: worker.clone(),
            waiting: of.places.len() as u64,
            example: of.places.keys().next().cloned().unwrap_or_default(),
            since: of.since,
            is_overdue: of.is_overdue,
        });
        all.collect()
    }
}

fn gauge(worker: &str, what: &str, waiting: usize) {
    UNKNOWN.set_count([worker, what], waiting as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_end_are_shown_together() {
        let unknowns = UnknownMessages::default();
        let overdue_after = Duration::from_secs(600);
        let at = SeenAt { now: Timestamp::EPOCH, monotonic: Duration::ZERO, overdue_after };
        for n in 0..1_000 {
            let newer = NewerCode { what: format!("`{n}`"), reason: String::new() };
            assert!(unknowns.meet("w", &newer, &n, at).is_first);
            assert!(!unknowns.meet("w", &newer, &n, at).is_first);
        }
        let all = unknowns.all();
        assert_eq!(all.len(), MAX_NAMES + 1);
        let further = all.iter().find(|of| of.what == FURTHER_NAMES).unwrap();
        assert_eq!(further.waiting, 1_000 - MAX_NAMES as u64);
        for n in 0..1_000 {
            unknowns.gone("w", &n);
        }
        assert!(unknowns.all().is_empty());
    }
}
