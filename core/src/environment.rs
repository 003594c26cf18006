//! Ports to everything nondeterministic except the store and the bus.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::Timestamp;

/// A clock.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Returns the current time.
    fn now(&self) -> Timestamp;

    /// Returns the time since a fixed moment. It never goes back, whatever happens to the wall
    /// clock; leases are measured by it.
    fn monotonic(&self) -> Duration {
        let micros = u64::try_from(self.now().as_micros()).unwrap_or(0);
        Duration::from_micros(micros)
    }

    /// Completes once `duration` has passed.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// A source of ids for messages that come from outside. All other ids are derived from these.
pub trait IdGenerator: Debug + Send + Sync + 'static {
    /// Returns an id that differs from every other.
    fn new_id(&self) -> Uuid;
}

/// A source of randomness, for jitter.
pub trait Rng: Debug + Send + Sync + 'static {
    /// Returns 64 random bits.
    fn next_u64(&self) -> u64;
}
