//! The publishers that this process has open.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use composable_rust_core::{Clock, SharedPublisher};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The time that a publisher stays open while others wait.
const SLOT_TURN: Duration = Duration::from_secs(1);
/// The time after which a publisher that is not used is closed.
const CLOSE_AFTER: Duration = Duration::from_secs(60);

/// A relay, by its name, and its partition of the log.
pub(crate) type PublisherKey = (String, u16);

/// The publishers of all relays, of which no more are open at a time than the bus allows. A relay that
/// needs one when that many are open waits for its turn, and closes the one that was not used for
/// longest.
pub(crate) struct Publishers {
    slots: Arc<Semaphore>,
    /// Those that are not in use.
    unused: Mutex<BTreeMap<PublisherKey, OpenPublisher>>,
    returned: Notify,
    /// Relays that wait for a slot, first come, first served.
    queue: tokio::sync::Mutex<()>,
}

/// The right to have a publisher open.
pub(crate) struct PublisherSlot {
    _permit: OwnedSemaphorePermit,
    /// In monotonic time.
    since: Duration,
}

pub(crate) struct OpenPublisher {
    pub(crate) publisher: SharedPublisher,
    /// The offset up to which everything is on the topic.
    pub(crate) published: u64,
    /// The last use, in monotonic time.
    pub(crate) used: Duration,
    pub(crate) slot: PublisherSlot,
}

impl Publishers {
    /// With the largest number that may be open at a time.
    pub(crate) fn new(limit: Option<usize>) -> Self {
        let limit = limit.map_or(Semaphore::MAX_PERMITS, |n| n.clamp(1, Semaphore::MAX_PERMITS));
        Self {
            slots: Arc::new(Semaphore::new(limit)),
            unused: Mutex::default(),
            returned: Notify::new(),
            queue: tokio::sync::Mutex::default(),
        }
    }

    /// Takes the publisher of a relay, if it is open.
    pub(crate) fn take(&self, key: &PublisherKey) -> Option<OpenPublisher> {
        self.unused().remove(key)
    }

    /// Keeps a publisher open for the next use.
    pub(crate) fn put_back(&self, key: &PublisherKey, publisher: OpenPublisher) {
        self.unused().insert(key.clone(), publisher);
        self.returned.notify_one();
    }

    /// Closes a relay's publisher, unless it is in use.
    pub(crate) fn close(&self, key: &PublisherKey) {
        drop(self.take(key));
    }

    /// Closes a relay's publisher if there was no use for it for a while.
    pub(crate) fn close_if_unused(&self, key: &PublisherKey, now: Duration) {
        let is_old = |open: &OpenPublisher| now.saturating_sub(open.used) >= CLOSE_AFTER;
        let is_old = self.unused().get(key).is_some_and(is_old);
        if is_old {
            self.close(key);
        }
    }

    /// Waits until another publisher may be opened.
    pub(crate) async fn slot(&self, clock: &dyn Clock) -> PublisherSlot {
        let _first = self.queue.lock().await;
        loop {
            let slots = Arc::clone(&self.slots);
            if let Ok(permit) = slots.try_acquire_owned() {
                return PublisherSlot { _permit: permit, since: clock.monotonic() };
            }
            let Some(wait) = self.close_one(clock.monotonic()) else { continue };
            tokio::select! {
                biased;
                // Dropped at once, and taken in the next round.
                _ = self.slots.acquire() => {}
                () = self.returned.notified() => {}
                () = clock.sleep(wait) => {}
            }
        }
    }

    /// Closes the publisher that was not used for longest among those that had their turn. If there is
    /// none, returns the time until there may be one.
    fn close_one(&self, now: Duration) -> Option<Duration> {
        let rest = |open: &OpenPublisher| (open.slot.since + SLOT_TURN).saturating_sub(now);
        let key = {
            let unused = self.unused();
            let had_their_turn = unused.iter().filter(|(_, open)| rest(open).is_zero());
            let Some((key, _)) = had_their_turn.min_by_key(|(_, open)| open.used) else {
                return Some(unused.values().map(rest).min().unwrap_or(SLOT_TURN));
            };
            key.clone()
        };
        self.close(&key);
        None
    }

    fn unused(&self) -> MutexGuard<'_, BTreeMap<PublisherKey, OpenPublisher>> {
        self.unused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
