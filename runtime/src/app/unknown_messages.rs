//! Names that this process does not know, and the messages that wait for newer code.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use composable_rust_core::Timestamp;
use composable_rust_core::codec::DecodeError;

use crate::error::error_chain;
use crate::metrics::UNKNOWN;
use crate::panic::lock;

/// The maximum number of tracked messages per name; further ones wait without being counted.
const MAX_PLACES: usize = 10_000;
/// The maximum number of names that a process distinguishes: other services may send any number.
const MAX_NAMES: usize = 200;
/// The collective name of all further names.
const FURTHER_NAMES: &str = "further names";
/// The time without an encounter after which a message is forgotten: another process has taken it
/// over, or it is gone.
const STALE_AFTER: Duration = Duration::from_secs(900);

/// The reason why a message waits for newer code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewerCode {
    /// The unknown name, with the version if only the version is unknown.
    pub(crate) what: String,
    /// The description of the error.
    pub(crate) reason: String,
}

impl NewerCode {
    /// The reason of a decoding error; `None` if newer code could not decode the message either.
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

    /// The reason of a target, gateway, policy or projection that is not registered.
    pub(crate) fn unregistered(kind: &str, name: &str) -> Self {
        Self {
            what: format!("{kind} `{name}`"),
            reason: format!("no {kind} `{name}` is registered"),
        }
    }
}

/// A name that this process does not know: see
/// [`App::unknown_messages`](crate::App::unknown_messages).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownMessage {
    /// The name, with the version if only the version is unknown, such as "`order.held`". A process
    /// distinguishes 200 names; all others are shown as `further names`.
    pub what: String,
    /// The worker that met the name, such as `dispatch/order`, `follow/audit` or `project/orders`.
    pub worker: String,
    /// The number of rows or events that wait, without those behind them. Counting ends at 10,000.
    pub waiting: u64,
    /// One of the messages: the id of a row or of a timer's message, or the position of an event.
    pub example: String,
    /// The time at which this process met the name first.
    pub since: Timestamp,
    /// `true` if a message has waited for
    /// [`Settings::unknown_message_grace`](crate::settings::Settings::unknown_message_grace): no
    /// running process knows the name.
    pub is_overdue: bool,
}

/// An encounter with an unknown message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encounter {
    /// `true` if this process meets the message for the first time.
    pub(crate) is_first: bool,
    /// `true` if the message has waited for so long that no running process can know the name.
    pub(crate) is_overdue: bool,
}

/// The messages that wait for newer code.
#[derive(Debug, Default)]
pub(crate) struct UnknownMessages(Mutex<Encounters>);

#[derive(Debug, Default)]
struct Encounters {
    /// The messages by worker and name.
    waiting: BTreeMap<(String, String), WaitingEncounter>,
    /// The names that are distinguished.
    names: BTreeSet<String>,
}

impl Encounters {
    /// Returns the name under which `what` is tracked.
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
    /// The monotonic times of the first and the last encounter of each message.
    places: BTreeMap<String, (Duration, Duration)>,
    is_overdue: bool,
}

/// The time of an encounter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeenAt {
    pub(crate) now: Timestamp,
    pub(crate) monotonic: Duration,
    /// The time after which no running process can know the name.
    pub(crate) overdue_after: Duration,
}

impl UnknownMessages {
    fn lock(&self) -> MutexGuard<'_, Encounters> {
        lock(&self.0)
    }

    /// Records that a worker has met an unknown message. Warns at the first encounter with the
    /// name, and once more when it is overdue.
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
        let waiting = unknown.waiting.entry(key).or_insert_with(|| {
            tracing::warn!(
                worker,
                what,
                place,
                reason,
                "met an unknown name; its messages wait for newer code"
            );
            WaitingEncounter { since: at.now, places: BTreeMap::new(), is_overdue: false }
        });
        let is_first = !waiting.places.contains_key(&place);
        if is_first && waiting.places.len() >= MAX_PLACES {
            return Encounter { is_first: false, is_overdue: waiting.is_overdue };
        }
        let (first, last) =
            waiting.places.entry(place.clone()).or_insert((at.monotonic, at.monotonic));
        *last = at.monotonic;
        let is_overdue = last.saturating_sub(*first) >= at.overdue_after;
        let count = waiting.places.len();
        if is_overdue && !std::mem::replace(&mut waiting.is_overdue, true) {
            tracing::warn!(
                worker,
                what,
                waiting = count,
                place,
                reason,
                "no running process knows the name; its messages wait: deploy code that does, override \
                 the event, or park or discard the rows"
            );
        }
        set_gauge(worker, what, count);
        Encounter { is_first, is_overdue }
    }

    /// Returns the time since a worker first met the message at a place.
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

    /// Returns `true` if no message waits for newer code.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Records that the message at a place does not wait any more.
    pub(crate) fn gone(&self, worker: &str, place: &dyn std::fmt::Display) {
        let unknown = &mut self.lock().waiting;
        if unknown.is_empty() {
            return;
        }
        let place = place.to_string();
        unknown.retain(|(of, what), waiting| {
            if of == worker && waiting.places.remove(&place).is_some() {
                set_gauge(worker, what, waiting.places.len());
            }
            !waiting.places.is_empty()
        });
    }

    /// Forgets messages that were not met for [`STALE_AFTER`].
    pub(crate) fn forget_stale(&self, now: Duration) {
        self.lock().waiting.retain(|(worker, what), waiting| {
            let before = waiting.places.len();
            waiting.places.retain(|_, (_, last)| now.saturating_sub(*last) < STALE_AFTER);
            if waiting.places.len() < before {
                set_gauge(worker, what, waiting.places.len());
            }
            !waiting.places.is_empty()
        });
    }

    pub(crate) fn all(&self) -> Vec<UnknownMessage> {
        let unknown = self.lock();
        let all = unknown.waiting.iter().map(|((worker, what), waiting)| UnknownMessage {
            what: what.clone(),
            worker: worker.clone(),
            waiting: waiting.places.len() as u64,
            example: waiting.places.keys().next().cloned().unwrap_or_default(),
            since: waiting.since,
            is_overdue: waiting.is_overdue,
        });
        all.collect()
    }
}

fn set_gauge(worker: &str, what: &str, waiting: usize) {
    UNKNOWN.set_count([worker, what], waiting as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_limit_are_shown_together() {
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
