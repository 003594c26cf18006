//! What no code that this process runs knows, and what waits for it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use composable_rust_core::{DecodeError, Timestamp};

use crate::encode::describe;

/// Places of one name that are remembered at most; further ones wait without being counted.
const MAX_PLACES: usize = 10_000;
/// A place that was not met for so long is another process's by now, or gone.
const STALE: Duration = Duration::from_secs(900);

/// Why something waits for newer code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Newer {
    /// What is unknown: a name, with the version if that is what is unknown.
    pub(crate) what: String,
    /// The error in words.
    pub(crate) reason: String,
}

impl Newer {
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
        Some(Self { what, reason: describe(error) })
    }

    /// Of a target, gateway, policy or projection that is not registered.
    pub(crate) fn unregistered(kind: &str, name: &str) -> Self {
        Self { what: format!("{kind} `{name}`"), reason: format!("no {kind} is called `{name}`") }
    }
}

/// Something that no code of this process knows: see [`App::unknown`](crate::App::unknown).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unknown {
    /// The name, with the version if only that is unknown, such as "`order.held`".
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
    /// `true` if one of them waited for [`Settings::unknown_after`](crate::Settings::unknown_after):
    /// no running code knows it.
    pub is_overdue: bool,
}

/// How a place was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meeting {
    /// Whether it is the first time.
    pub(crate) is_first: bool,
    /// Whether it has waited for so long that no running code knows it.
    pub(crate) is_overdue: bool,
}

/// Everything unknown that waits, by worker and name.
#[derive(Debug, Default)]
pub(crate) struct Unknowns(Mutex<BTreeMap<(String, String), Waiting>>);

#[derive(Debug)]
struct Waiting {
    since: Timestamp,
    /// When each place was met first and last, in monotonic time.
    places: BTreeMap<String, (Duration, Duration)>,
    is_overdue: bool,
}

/// The time of a meeting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: Timestamp,
    pub(crate) monotonic: Duration,
    /// How long something is unknown until no running code knows it.
    pub(crate) overdue_after: Duration,
}

impl Unknowns {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker has come upon something that it does not know. Warns when it does so for the first
    /// time, and once more when it is overdue.
    pub(crate) fn meet(
        &self,
        worker: &str,
        newer: &Newer,
        place: &dyn std::fmt::Display,
        at: Moment,
    ) -> Meeting {
        let (Newer { what, reason }, place) = (newer, place.to_string());
        let mut unknown = self.lock();
        let of = unknown.entry((worker.to_owned(), what.clone())).or_insert_with(|| {
            tracing::warn!(worker, what, place, reason, "it waits for newer code");
            Waiting { since: at.now, places: BTreeMap::new(), is_overdue: false }
        });
        let is_first = !of.places.contains_key(&place);
        if is_first && of.places.len() >= MAX_PLACES {
            return Meeting { is_first: false, is_overdue: of.is_overdue };
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
        Meeting { is_first, is_overdue }
    }

    /// What waited at a place does so no more.
    pub(crate) fn gone(&self, worker: &str, place: &dyn std::fmt::Display) {
        let mut unknown = self.lock();
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
        self.lock().retain(|(worker, what), of| {
            let before = of.places.len();
            of.places.retain(|_, (_, last)| now.saturating_sub(*last) < STALE);
            if of.places.len() < before {
                gauge(worker, what, of.places.len());
            }
            !of.places.is_empty()
        });
    }

    pub(crate) fn all(&self) -> Vec<Unknown> {
        let unknown = self.lock();
        let all = unknown.iter().map(|((worker, what), of)| Unknown {
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
    let (worker, what) = (worker.to_owned(), what.to_owned());
    #[expect(clippy::cast_precision_loss, reason = "counting ends long before")]
    metrics::gauge!("composable_rust_unknown", "worker" => worker, "what" => what)
        .set(waiting as f64);
}
