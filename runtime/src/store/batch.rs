//! The effects of one action, and waiting for them.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::panic::lock;

use super::EffectError;

/// The effects of one action, those of the actions that they bring back included.
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

    /// Removes an effect. The effects that follow from it must have entered before, so that the
    /// count is zero only at the end.
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

/// A handle of an action that was reduced. Dropping the handle stops nothing.
#[derive(Debug)]
pub struct SendHandle(Option<Arc<Batch>>);

impl SendHandle {
    pub(super) fn new(batch: Option<Arc<Batch>>) -> Self {
        Self(batch)
    }

    /// Completes when all effects of the action have ended: those that it returned, those of the
    /// actions that they brought back, and so on.
    ///
    /// Effects that were cancelled or replaced have ended. If a reducer rearms a delay each time,
    /// the call never completes.
    ///
    /// # Errors
    ///
    /// The first failure among the effects. Other effects are not affected by it, except that the
    /// rest of a sequence is skipped after a step that failed.
    ///
    /// # Cancel safety
    ///
    /// Safe: call it again.
    pub async fn finished(&self) -> Result<(), EffectError> {
        match &self.0 {
            Some(batch) => batch.finished().await,
            None => Ok(()),
        }
    }
}
