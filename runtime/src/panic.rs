//! Calling users' code, which may panic.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;

/// Calls `code`; if it panics, returns the panic's message.
///
/// The caller discards whatever state the code has left half changed.
pub(crate) fn guarded<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|panic| message(&*panic))
}

/// As [`guarded`], for a future.
pub(crate) fn guarded_future<F: Future>(
    future: F,
) -> impl Future<Output = Result<F::Output, String>> {
    AssertUnwindSafe(future).catch_unwind().map(|output| output.map_err(|panic| message(&*panic)))
}

/// Locks `mutex`, also after a panic of a thread that held the lock.
///
/// Users' code that runs under a lock is [`guarded`], so that no panic leaves data half changed.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the message of a panic.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_message_of_a_panic_is_returned() {
        assert_eq!(guarded(|| 1), Ok(1));
        assert_eq!(guarded(|| panic!("literal")), Err::<(), _>("literal".to_owned()));
        let formatted = guarded_future(async { panic!("formatted {}", 1) });
        assert_eq!(formatted.await, Err::<(), _>("formatted 1".to_owned()));
        let other = guarded(|| std::panic::panic_any(1));
        assert_eq!(other, Err::<(), _>("no message".to_owned()));
    }

    #[test]
    fn a_poisoned_mutex_is_locked() {
        let mutex = Mutex::new(1);
        let poisoned = guarded(|| {
            let _lock = lock(&mutex);
            panic!("poison")
        });
        assert_eq!(poisoned, Err::<(), _>("poison".to_owned()));
        assert_eq!(*lock(&mutex), 1);
    }
}
