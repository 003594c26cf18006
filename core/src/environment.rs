//! Everything nondeterministic besides store and bus.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::Timestamp;

/// Time, as the runtime sees it.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;

    /// Time since some moment that stays the same; it never goes back, whatever happens to the wall
    /// clock. Leases are measured by it.
    fn monotonic(&self) -> Duration {
        let micros = u64::try_from(self.now().as_micros()).unwrap_or(0);
        Duration::from_micros(micros)
    }

    /// Completes once `duration` has passed.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// Ids of messages that come from outside. Everything else is derived from them.
pub trait IdGenerator: Debug + Send + Sync + 'static {
    /// A new id, different from every other.
    fn new_id(&self) -> Uuid;
}

/// Chance, for jitter.
pub trait Rng: Debug + Send + Sync + 'static {
    /// 64 random bits.
    fn next_u64(&self) -> u64;
}
