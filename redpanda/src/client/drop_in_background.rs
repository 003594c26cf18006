//! Closing clients on a thread of their own, because closing one waits for its threads.

use std::ops::Deref;
use std::thread;

/// A value that is dropped on another thread, so that dropping it never blocks.
#[derive(Debug)]
pub(crate) struct DropInBackground<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> DropInBackground<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T: Send + 'static> Deref for DropInBackground<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("the value is present until it is dropped")
    }
}

impl<T: Send + 'static> Drop for DropInBackground<T> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            let name = "composable-rust-bus-drop".to_owned();
            // If the thread cannot be started, the closure is dropped here and the value with it.
            let _ = thread::Builder::new().name(name).spawn(move || drop(value));
        }
    }
}
