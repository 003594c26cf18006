//! Waking the thread of a subscription.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Wakes a waiting thread. A wake-up is not lost if the thread starts to wait later.
#[derive(Debug, Default, Clone)]
pub(crate) struct ThreadWaker(Arc<(Mutex<bool>, Condvar)>);

impl ThreadWaker {
    pub(crate) fn wake(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_one();
    }

    /// Waits until the thread was woken since the last call, at most for `limit`.
    pub(crate) fn wait(&self, limit: Duration) {
        let woken = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.1.wait_timeout_while(woken, limit, |woken| !*woken);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}
