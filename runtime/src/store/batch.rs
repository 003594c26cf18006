//! What one action set in motion, and waiting for it.

use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use std::sync::Arc;

use tokio::sync::Notify;

use crate::panic::lock;

use super::EffectError;

/// The effects that one action set in motion, transitively.
#[derive(Debug, Default)]
pub(super) struct Batch {
    running: AtomicUsize,
    over: Notify,
    failure: Mutex<Option<EffectError>>,
}

impl Batch {
    pub(super) fn enter(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    /// Called after what follows has entered, so that the count is zero only at the end.
    pub(super) fn leave(&self) {
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.over.notify_waiters();
        }
    }

    /// Keeps the first failure.
    pub(super) fn fail(&self, error: EffectError) {
        lock(&self.failure).get_or_insert(error);
    }

    fn is_over(&self) -> bool {
        self.running.load(Ordering::Acquire) == 0
    }

    async fn finished(&self) -> Result<(), EffectError> {
        let mut over = pin!(self.over.notified());
        over.as_mut().enable();
        if !self.is_over() {
            over.await;
        }
        match &*lock(&self.failure) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }
}

/// An action that was reduced. Dropping it stops nothing.
#[derive(Debug)]
pub struct SendHandle(Option<Arc<Batch>>);

impl SendHandle {
    pub(super) fn new(batch: Option<Arc<Batch>>) -> Self {
        Self(batch)
    }

    /// Completes when everything that the action set in motion is over: its effects, the actions
    /// that they brought back, the effects of these, and so on.
    ///
    /// Effects that were cancelled or replaced are over. A reducer that rearms a delay for ever is
    /// never finished.
    ///
    /// # Errors
    ///
    /// The first failure among them. The others did not suffer from it, except that the rest of a
    /// sequence is left out after a step that failed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: call it again.
    pub async fn finished(&self) -> Result<(), EffectError> {
        match &self.0 {
            Some(batch) => batch.finished().await,
            None => Ok(()),
        }
    }
}
