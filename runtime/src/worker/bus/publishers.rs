//! The publishers that this process has open.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use composable_rust_core::bus::SharedPublisher;
use composable_rust_core::environment::Clock;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::panic::lock;

/// Minimum time for which a publisher stays open while other relays wait.
const SLOT_TURN: Duration = Duration::from_secs(1);
/// Idle time after which a publisher is closed.
const CLOSE_AFTER: Duration = Duration::from_secs(60);

/// The name of a relay, and its partition of the log.
pub(crate) type PublisherKey = (String, u16);

/// The publishers of all relays. No more are open at a time than the bus allows: a relay that needs
/// one more waits for its turn, and closes the least recently used one.
pub(crate) struct Publishers {
    slots: Arc<Semaphore>,
    /// The publishers that are not in use.
    unused: Mutex<BTreeMap<PublisherKey, OpenPublisher>>,
    returned: Notify,
    /// Held by the relay that waits for a slot; the others queue for it.
    queue: tokio::sync::Mutex<()>,
}

/// The right to have a publisher open.
pub(crate) struct PublisherSlot {
    _permit: OwnedSemaphorePermit,
    /// The monotonic time at which the publisher was opened.
    since: Duration,
}

/// An open publisher.
pub(crate) struct OpenPublisher {
    pub(crate) publisher: SharedPublisher,
    /// The offset of the last event that is on the topic.
    pub(crate) published: u64,
    /// The monotonic time of the last use.
    pub(crate) used: Duration,
    pub(crate) slot: PublisherSlot,
}

impl Publishers {
    /// Returns publishers of which at most `limit` are open at a time.
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

    /// Returns `true` if a relay's publisher is open and not in use.
    pub(crate) fn is_unused(&self, key: &PublisherKey) -> bool {
        self.unused().contains_key(key)
    }

    /// Closes a relay's publisher, unless it is in use.
    pub(crate) fn close(&self, key: &PublisherKey) {
        drop(self.take(key));
    }

    /// Closes a relay's publisher if it was idle for a while.
    pub(crate) fn close_if_unused(&self, key: &PublisherKey, now: Duration) {
        let is_old = |open: &OpenPublisher| now.saturating_sub(open.used) >= CLOSE_AFTER;
        let is_old = self.unused().get(key).is_some_and(is_old);
        if is_old {
            self.close(key);
        }
    }

    /// Waits until one more publisher may be opened.
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
                // The permit is dropped at once, and acquired in the next iteration.
                _ = self.slots.acquire() => {}
                () = self.returned.notified() => {}
                () = clock.sleep(wait) => {}
            }
        }
    }

    /// Closes the least recently used publisher among those that were open for their minimum time.
    /// If there is none, returns the time until there may be one.
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
        lock(&self.unused)
    }
}
