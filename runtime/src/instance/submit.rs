//! Submitting a command to an instance: the only way into a mailbox.

use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{Aggregate, Id};
use tokio::sync::oneshot;

use crate::instance::in_progress::InProgress;
use crate::instance::message::{MailboxEntry, PendingCommand, SubmitError, SubmitResult};
use crate::instance::runtime::AggregateRuntime;

impl<A: Aggregate> AggregateRuntime<A> {
    /// Puts a command into the mailbox of instance `id` and waits for the result.
    ///
    /// Waits while the mailbox is full.
    ///
    /// # Cancel safety
    ///
    /// After the future is dropped, and after the deadline, the command may still be recorded. The
    /// result of another submission with the same message id tells.
    pub(crate) async fn submit(
        self: &Arc<Self>,
        id: &Id<A>,
        pending: PendingCommand<A::Command>,
        in_progress: Option<InProgress>,
        within: Duration,
    ) -> SubmitResult<A> {
        let deadline = self.shared.clock.sleep(within);
        tokio::select! {
            biased;
            result = self.complete(id, pending, in_progress) => result,
            () = deadline => Err(SubmitError::DeadlinePassed),
        }
    }

    async fn complete(
        self: &Arc<Self>,
        id: &Id<A>,
        pending: PendingCommand<A::Command>,
        in_progress: Option<InProgress>,
    ) -> SubmitResult<A> {
        let instance = self.instance(id);
        let capacity = Arc::clone(&instance.capacity).acquire_owned().await;
        let capacity = capacity.map_err(|_| SubmitError::ShuttingDown)?;
        let (result, completed) = oneshot::channel();
        let entry = MailboxEntry { pending, result, arrival: 0, in_progress, _capacity: capacity };
        if instance.push(entry) {
            let runtime = Arc::clone(self);
            self.shared.tasks.spawn(async move { runtime.drain(&instance).await });
        } else {
            // A caller that waits does not keep the instance in memory.
            drop(instance);
        }
        completed.await.unwrap_or(Err(SubmitError::DrainFailed))
    }
}
