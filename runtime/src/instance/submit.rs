//! Submitting a command to an instance: the only way into a mailbox.

use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{Aggregate, Id, Message as _};
use tokio::sync::oneshot;
use tracing::Span;

use crate::instance::in_progress::InProgress;
use crate::instance::message::{
    Completion, MailboxEntry, PendingCommand, SubmitError, SubmitResult,
};
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
        let clock = &self.shared.clock;
        let (started, command) = (clock.monotonic(), pending.command.kind().name);
        let deadline = clock.sleep(within);
        let completion = tokio::select! {
            biased;
            completion = self.complete(id, pending, in_progress) => completion,
            () = deadline => Completion::without_outcome(SubmitError::DeadlinePassed),
        };
        let duration = clock.monotonic().saturating_sub(started);
        self.metrics.completed(command, &completion, duration);
        completion.result
    }

    async fn complete(
        self: &Arc<Self>,
        id: &Id<A>,
        pending: PendingCommand<A::Command>,
        in_progress: Option<InProgress>,
    ) -> Completion<A> {
        let instance = self.instance(id);
        let Ok(capacity) = Arc::clone(&instance.capacity).acquire_owned().await else {
            return Completion::without_outcome(SubmitError::ShuttingDown);
        };
        let (result, completed) = oneshot::channel();
        let span = Span::current();
        let entry =
            MailboxEntry { pending, result, arrival: 0, in_progress, span, _capacity: capacity };
        if instance.push(entry) {
            let runtime = Arc::clone(self);
            self.shared.tasks.spawn(async move { runtime.drain(&instance).await });
        } else {
            // A caller that waits does not keep the instance in memory.
            drop(instance);
        }
        let failed = |_| Completion::without_outcome(SubmitError::DrainFailed);
        completed.await.unwrap_or_else(failed)
    }
}
