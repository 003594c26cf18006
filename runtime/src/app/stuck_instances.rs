//! Instances that cannot be loaded, and the backoff of their retries.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use composable_rust_core::environment::{Clock, Rng};
use composable_rust_core::{StreamId, Timestamp};
use tokio::sync::mpsc;

use crate::error::{LoadError, error_chain};
use crate::metrics::STUCK_INSTANCES;
use crate::panic::lock;

/// The wait after the first failed load; it doubles up to [`MAX_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// The longest wait between two attempts at one instance.
const MAX_WAIT: Duration = Duration::from_secs(300);
/// The time for which an attempt in progress blocks other attempts at the instance.
const RETRY_CLAIM: Duration = Duration::from_secs(15);
/// The period over which the retries of all instances are spread after events were overridden.
const RETRY_SPREAD: Duration = Duration::from_secs(1);
/// The maximum number of tracked instances; further ones are retried every few seconds.
const MAX_INSTANCES: usize = 100_000;
/// The time without a retry that is due after which an instance is forgotten: another process has
/// taken it over, or nothing waits for it.
const STALE_AFTER: Duration = Duration::from_secs(900);

/// An instance whose stream this process cannot load: see
/// [`App::stuck_instances`](crate::App::stuck_instances).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StuckInstance {
    /// The instance's stream.
    pub stream: StreamId,
    /// The time of the first failed load.
    pub since: Timestamp,
    /// The number of failed loads that the backoff counts.
    pub attempts: u32,
    /// The last load's error.
    pub last_error: String,
    /// The time from which the next message or timer loads the instance again.
    pub next_attempt: Timestamp,
}

/// The stuck instances of a process.
#[derive(Debug, Default)]
pub(crate) struct StuckInstances(Mutex<Registry>);

#[derive(Debug, Default)]
struct Registry {
    /// The instances by the names of their streams.
    instances: BTreeMap<String, StuckEntry>,
    /// The number of stuck instances of each aggregate.
    counts: BTreeMap<String, u64>,
    retries: Vec<mpsc::UnboundedSender<StreamId>>,
}

#[derive(Debug)]
struct StuckEntry {
    stream: StreamId,
    since: Timestamp,
    attempts: u32,
    last_error: String,
    /// The monotonic time of the next attempt.
    next: Duration,
    /// `true` while an attempt is under way.
    is_claimed: bool,
}

impl StuckInstances {
    fn lock(&self) -> MutexGuard<'_, Registry> {
        lock(&self.0)
    }

    /// Returns `true` if no instance is stuck.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().instances.is_empty()
    }

    /// Subscribes to the streams whose messages and timers can be retried at once.
    pub(crate) fn retries(&self) -> mpsc::UnboundedReceiver<StreamId> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().retries.push(sender);
        receiver
    }

    /// Claims an attempt at an instance.
    ///
    /// # Errors
    ///
    /// The instance is stuck and not due. The error is the monotonic time of the next attempt.
    pub(crate) fn admit(&self, stream: &str, now: Duration) -> Result<(), Duration> {
        match self.lock().instances.get_mut(stream) {
            None => Ok(()),
            Some(instance) if now < instance.next => Err(instance.next),
            Some(instance) => {
                (instance.next, instance.is_claimed) = (now + RETRY_CLAIM, true);
                Ok(())
            }
        }
    }

    /// Returns the monotonic time of the next attempt at an instance: `now`, if it is not stuck.
    pub(crate) fn next_attempt(&self, stream: &str, now: Duration) -> Duration {
        self.lock().instances.get(stream).map_or(now, |instance| instance.next.max(now))
    }

    /// Returns the last load's error of an instance, if it is stuck.
    pub(crate) fn last_error(&self, stream: &str) -> Option<String> {
        self.lock().instances.get(stream).map(|instance| instance.last_error.clone())
    }

    /// Schedules retries of all instances within [`RETRY_SPREAD`], because events were overridden.
    pub(crate) fn retry_all(&self, now: Duration, rng: &dyn Rng) {
        let mut state = self.lock();
        let mut streams = Vec::new();
        for instance in state.instances.values_mut().filter(|instance| !instance.is_claimed) {
            let spread = u64::try_from(RETRY_SPREAD.as_micros()).unwrap_or(u64::MAX);
            let soon = now + Duration::from_micros(rng.next_u64() % spread);
            if soon < instance.next {
                instance.next = soon;
                streams.push(instance.stream.clone());
            }
        }
        for stream in streams {
            state.retry(&stream);
        }
    }

    /// Records a load that failed permanently. Attempts before the next one is due, such as those
    /// for callers, do not prolong the wait.
    pub(crate) fn failed(
        &self,
        stream: &StreamId,
        error: &LoadError,
        (clock, rng): (&dyn Clock, &dyn Rng),
    ) {
        let now = clock.monotonic();
        let mut state = self.lock();
        let is_first = !state.instances.contains_key(stream.as_str());
        if is_first && state.instances.len() >= MAX_INSTANCES {
            return;
        }
        let instance =
            state.instances.entry(stream.as_str().to_owned()).or_insert_with(|| StuckEntry {
                stream: stream.clone(),
                since: clock.now(),
                attempts: 0,
                last_error: String::new(),
                next: now,
                is_claimed: false,
            });
        instance.last_error = error_chain(error);
        if !std::mem::take(&mut instance.is_claimed) && now < instance.next {
            return;
        }
        instance.attempts = instance.attempts.saturating_add(1);
        let retry_in = wait_after(instance.attempts, rng);
        instance.next = now + retry_in;
        if is_first {
            // The warning about unknown messages covers instances that wait for newer code.
            if !matches!(error, LoadError::NewerSchema { .. }) {
                let error = &instance.last_error;
                tracing::warn!(
                    ?stream,
                    error,
                    ?retry_in,
                    "failed to load the instance; its messages and timers wait; retrying"
                );
            }
            state.count(stream, 1);
        }
    }

    /// Records that an instance was loaded.
    pub(crate) fn recovered(&self, stream: &StreamId) {
        let mut state = self.lock();
        let Some(instance) = state.instances.remove(stream.as_str()) else { return };
        let StuckEntry { attempts, .. } = instance;
        tracing::info!(
            ?stream,
            attempts,
            "loaded an instance that was stuck; resuming its messages"
        );
        state.count(stream, -1);
        state.retry(stream);
    }

    /// Forgets instances that were not retried for [`STALE_AFTER`].
    pub(crate) fn forget_stale(&self, now: Duration) {
        let mut state = self.lock();
        let is_stale = |entry: &&StuckEntry| now.saturating_sub(entry.next) > STALE_AFTER;
        let forgotten = state.instances.values().filter(is_stale);
        let forgotten = forgotten.map(|entry| entry.stream.clone());
        for stream in forgotten.collect::<Vec<_>>() {
            state.instances.remove(stream.as_str());
            state.count(&stream, -1);
            state.retry(&stream);
        }
    }

    pub(crate) fn all(&self, clock: &dyn Clock) -> Vec<StuckInstance> {
        let (now, monotonic) = (clock.now(), clock.monotonic());
        let state = self.lock();
        let all = state.instances.values().map(|entry| StuckInstance {
            stream: entry.stream.clone(),
            since: entry.since,
            attempts: entry.attempts,
            last_error: entry.last_error.clone(),
            next_attempt: now + entry.next.saturating_sub(monotonic),
        });
        all.collect()
    }
}

impl Registry {
    fn retry(&mut self, stream: &StreamId) {
        self.retries.retain(|retries| retries.send(stream.clone()).is_ok());
    }

    fn count(&mut self, stream: &StreamId, change: i64) {
        let aggregate = stream.category();
        let count = self.counts.entry(aggregate.to_owned()).or_default();
        *count = count.saturating_add_signed(change);
        STUCK_INSTANCES.set_count([aggregate], *count);
    }
}

/// Returns the wait before the next attempt: exponential, half of it random, so that instances that
/// got stuck together are not retried together.
fn wait_after(attempts: u32, rng: &dyn Rng) -> Duration {
    let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1).min(20));
    let ceiling = FIRST_WAIT.saturating_mul(doubled).min(MAX_WAIT);
    let half = u64::try_from(ceiling.as_micros() / 2).unwrap_or(u64::MAX);
    Duration::from_micros(half + rng.next_u64() % half)
}
