//! Clients that are dropped on a thread of their own: ending one waits for its threads.

use std::ops::Deref;
use std::thread;

/// Drops its content without blocking whoever drops it.
#[derive(Debug)]
pub(crate) struct DropInBackground<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> DropInBackground<T> {
    pub(crate) fn new(client: T) -> Self {
        Self(Some(client))
    }
}

impl<T: Send + 'static> Deref for DropInBackground<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl<T: Send + 'static> Drop for DropInBackground<T> {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            let name = "composable-rust-bus-drop".to_owned();
            // Where no thread is to be had, the closure is dropped here, and the client with it.
            let _ = thread::Builder::new().name(name).spawn(move || drop(client));
        }
    }
}
