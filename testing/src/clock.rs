//! A clock that moves only when a test moves it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use composable_rust_core::Timestamp;
use composable_rust_core::environment::Clock;
use futures_util::future::BoxFuture;

/// The number of yields to other tasks at each moment at which [`MockClock::elapse`] woke one.
const YIELDS: usize = 64;

/// A [`Clock`] that moves only when a test moves it. Clones share their time.
///
/// It starts at [`Timestamp::EPOCH`], as `given` and `AggregateReducer` do. Sleepers wake in the
/// order of their deadlines, those of one deadline in the order in which they began to sleep.
///
/// # Example: a timeout without waiting
///
/// ```
/// use std::time::Duration;
///
/// use composable_rust_core::Timestamp;
/// use composable_rust_core::environment::Clock;
/// use composable_rust_testing::MockClock;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let clock = MockClock::new();
/// let sleeper = tokio::spawn({
///     let clock = clock.clone();
///     async move {
///         clock.sleep(Duration::from_secs(3600)).await;
///         clock.now()
///     }
/// });
/// clock.elapse(Duration::from_secs(7200)).await;
/// assert_eq!(sleeper.await.unwrap(), Timestamp::EPOCH + Duration::from_secs(3600));
/// # }
/// ```
#[derive(Clone, Default)]
pub struct MockClock(Arc<Mutex<Time>>);

struct Time {
    now: Timestamp,
    laid_down: u64,
    /// The number of sleeps within operations: see [`MockClock::sleep_in_operation`].
    operations: u64,
    sleepers: BTreeMap<(Timestamp, u64), Waker>,
}

impl Default for Time {
    fn default() -> Self {
        Self { now: Timestamp::EPOCH, laid_down: 0, operations: 0, sleepers: BTreeMap::new() }
    }
}

impl MockClock {
    /// A clock at [`Timestamp::EPOCH`].
    pub fn new() -> Self {
        Self::default()
    }

    /// A clock at `now`.
    pub fn at(now: Timestamp) -> Self {
        let clock = Self::new();
        clock.set(now);
        clock
    }

    /// Moves the time forward at once, and wakes the sleepers whose deadline has passed. They see
    /// the new time; a task that sleeps again does so from there. Where tasks sleep repeatedly, use
    /// [`MockClock::elapse`].
    pub fn advance(&self, duration: Duration) {
        let now = self.time().now + duration;
        self.set(now);
    }

    /// Sets the time, forward or back. Going back wakes no sleeper.
    pub fn set(&self, now: Timestamp) {
        let mut time = self.time();
        time.now = now;
        let asleep = match now.as_micros().checked_add(1) {
            Some(next) => time.sleepers.split_off(&(Timestamp::from_micros(next), 0)),
            None => BTreeMap::new(),
        };
        let awake = std::mem::replace(&mut time.sleepers, asleep);
        drop(time);
        awake.into_values().for_each(Waker::wake);
    }

    /// Moves the time forward from deadline to deadline: tasks woken at a deadline run at that
    /// moment, and may sleep again, before the clock moves on.
    ///
    /// In a runtime of several threads the woken tasks run elsewhere and may see a later time; use
    /// the default, current-thread `#[tokio::test]`.
    ///
    /// # Cancel safety
    ///
    /// A dropped call leaves the clock at the deadline it had reached.
    pub async fn elapse(&self, duration: Duration) {
        let until = self.time().now + duration;
        Self::let_others_run().await;
        while let Some(deadline) = self.next_deadline().filter(|deadline| *deadline <= until) {
            self.set(deadline);
            Self::let_others_run().await;
        }
        self.set(until);
        Self::let_others_run().await;
    }

    /// The deadline of the first sleeper.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.time().sleepers.keys().next().map(|(deadline, _)| *deadline)
    }

    /// The number of sleepers.
    pub fn sleepers(&self) -> usize {
        self.time().sleepers.len()
    }

    /// Returns the number of times that a task began to sleep.
    pub(crate) fn sleeps(&self) -> u64 {
        self.time().laid_down
    }

    /// Sleeps within an operation of a read model, which a world therefore does not wait for.
    pub(crate) async fn sleep_in_operation(&self, duration: Duration) {
        struct Asleep<'a>(&'a MockClock);

        impl Drop for Asleep<'_> {
            fn drop(&mut self) {
                self.0.time().operations -= 1;
            }
        }

        self.time().operations += 1;
        let _asleep = Asleep(self);
        self.sleep(duration).await;
    }

    /// Returns the number of operations that sleep.
    pub(crate) fn sleeping_operations(&self) -> u64 {
        self.time().operations
    }

    async fn let_others_run() {
        for _ in 0..YIELDS {
            tokio::task::yield_now().await;
        }
    }

    fn time(&self) -> MutexGuard<'_, Time> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for MockClock {
    fn now(&self) -> Timestamp {
        self.time().now
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut time = self.time();
        time.laid_down += 1;
        let key = (time.now + duration, time.laid_down);
        Box::pin(Sleep { clock: self.clone(), key })
    }
}

impl fmt::Debug for MockClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockClock")
            .field("now", &self.now())
            .field("sleepers", &self.sleepers())
            .finish()
    }
}

struct Sleep {
    clock: MockClock,
    key: (Timestamp, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut time = self.clock.time();
        if self.key.0 <= time.now {
            return Poll::Ready(());
        }
        time.sleepers.insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.clock.time().sleepers.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn sleepers_wake_in_order_of_deadlines() {
        let clock = MockClock::new();
        let woken = Arc::new(Mutex::new(Vec::new()));
        for seconds in [3, 1, 2, 1] {
            let (clock, woken) = (clock.clone(), Arc::clone(&woken));
            tokio::spawn(async move {
                clock.sleep(SECOND * seconds).await;
                woken.lock().unwrap().push(seconds);
            });
        }
        clock.elapse(Duration::ZERO).await;
        assert_eq!((clock.sleepers(), woken.lock().unwrap().len()), (4, 0));
        clock.advance(SECOND * 3);
        tokio::task::yield_now().await;
        assert_eq!(*woken.lock().unwrap(), [1, 1, 2, 3]);
    }

    #[tokio::test]
    async fn elapse_stops_at_every_deadline() {
        let clock = MockClock::at(Timestamp::from_micros(5));
        let ticks = tokio::spawn({
            let clock = clock.clone();
            async move {
                let mut ticks = Vec::new();
                for _ in 0..3 {
                    clock.sleep(SECOND).await;
                    ticks.push(clock.now().since(Timestamp::from_micros(5)));
                }
                ticks
            }
        });
        clock.elapse(SECOND * 10).await;
        assert_eq!(ticks.await.unwrap(), [SECOND, SECOND * 2, SECOND * 3]);
        assert_eq!(clock.now(), Timestamp::from_micros(5) + SECOND * 10);
    }

    #[test]
    fn a_dropped_sleep_is_removed() {
        let clock = MockClock::new();
        let mut sleep = clock.sleep(SECOND);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        assert_eq!(clock.next_deadline(), Some(Timestamp::EPOCH + SECOND));
        drop(sleep);
        assert_eq!(clock.next_deadline(), None);
    }
}
