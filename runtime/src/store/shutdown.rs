//! Shutting a store down.

use std::pin::pin;
use std::time::Duration;

use super::{Store, StoreReducer};

/// The time that a shutdown waits for the effects that it cancelled. Only a future that blocks its
/// thread needs more than a moment.
const GRACE: Duration = Duration::from_secs(1);

impl<R: StoreReducer> Store<R> {
    /// Shuts the store down: rejects further actions, lets running effects finish for up to
    /// `within`, then cancels the others. Returns the number of cancelled effects.
    ///
    /// Effects may bring actions back until the end. A delay that would end after the deadline is
    /// cancelled at once. Subscriptions end. The state can still be read.
    ///
    /// # Cancel safety
    ///
    /// A dropped call leaves the store closed and its effects running; call it again.
    ///
    /// # Example: an effect that cannot finish is cancelled
    ///
    /// ```
    /// # use composable_rust_core::{effects, prelude::*};
    /// # use composable_rust_runtime::Store;
    /// # use composable_rust_runtime::reducer_store::ActionError;
    /// # use std::time::Duration;
    /// # struct Reminder;
    /// # impl Reducer for Reminder { type State = (); type Action = (); type Environment = ();
    /// #   fn reduce(&self, _: &mut (), _: (), _: &()) -> Effects<()> {
    /// #     effects![after(Duration::from_secs(3_600), ())] } }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::new(Reminder, (), ());
    /// store.send(()).await?; // sets a reminder in an hour
    /// assert_eq!(store.shutdown(Duration::from_secs(5)).await, 1);
    /// assert!(matches!(store.send(()).await, Err(ActionError::Closed)));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn shutdown(&self, within: Duration) -> usize {
        let shared = &self.shared;
        {
            let mut core = shared.lock();
            core.closed = true;
            let deadline = shared.clock.now() + within;
            core.running.stop_after(deadline);
        }
        shared.room.notify_waiters();
        self.idle_within(within).await;
        shared.lock().running.stop();
        self.idle_within(GRACE).await;
        let mut core = shared.lock();
        core.actions.end();
        core.recorded.end();
        core.changed = None;
        core.running.stopped()
    }

    /// Completes when no effect runs, or `duration` has passed.
    async fn idle_within(&self, duration: Duration) {
        let mut idle = pin!(self.shared.idle.notified());
        idle.as_mut().enable();
        if self.shared.lock().running.len() > 0 {
            tokio::select! {
                biased;
                () = idle => {}
                () = self.shared.clock.sleep(duration) => {}
            }
        }
    }
}
