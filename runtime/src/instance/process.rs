//! Draining a mailbox: decides all waiting commands, appends them as one, completes them.

use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::queue::ArmedTimer;
use composable_rust_core::store::{Append, AppendOutcome, EventStore as _, StoreError};
use composable_rust_core::{Aggregate, Id, StreamId, Version};
use tracing::{Instrument as _, Span};

use crate::backoff::Backoff;
use crate::error::SendError;
use crate::instance::completion::{Outcomes, callers_left, fail_all};
use crate::instance::decide::{DecidedBatch, decide};
use crate::instance::decide_context::DecideContext;
use crate::instance::load::LoadedState;
use crate::instance::mailbox::Instance;
use crate::instance::message::{CommandOutcome, MailboxEntry, SubmitError};
use crate::instance::runtime::AggregateRuntime;
use crate::spans;

/// The outcome of one attempt to commit a batch.
enum AttemptOutcome {
    /// All callers got their results.
    Done,
    /// Commands are left, and the stream may have moved on: catch up and decide them again.
    Conflict,
    /// Commands are left: decide them again on the same state.
    Retry,
    /// Nothing was written, as the store rejects the append: decide the commands one by one.
    Faulty(String),
    /// No caller waits any more; the append may still commit.
    Abandoned,
    /// The partition's writer ended; the append may have been committed.
    UnknownOutcome,
}

/// [`AttemptOutcome::Done`] if no command is left, otherwise `left`.
fn done_or<A: Aggregate>(entries: &[MailboxEntry<A>], left: AttemptOutcome) -> AttemptOutcome {
    if entries.is_empty() { AttemptOutcome::Done } else { left }
}

/// Aborts the drain on drop, unless it has ended regularly: neither a panic outside the guarded
/// code nor the end of the tokio runtime may leave a mailbox without a drain.
struct DrainGuard<'a, A: Aggregate> {
    instance: &'a Instance<A>,
    has_ended: bool,
}

impl<A: Aggregate> Drop for DrainGuard<'_, A> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.instance.abort_drain();
        }
    }
}

impl<A: Aggregate> AggregateRuntime<A> {
    /// Handles batches of commands until the mailbox is empty.
    pub(crate) async fn drain(self: &Arc<Self>, instance: &Arc<Instance<A>>) {
        let mut guard = DrainGuard { instance, has_ended: false };
        while let Some(entries) = instance.take(self.shared.settings.max_commands_per_append) {
            self.process(instance, entries).await;
        }
        guard.has_ended = true;
    }

    /// Decides and appends until each command is completed or its caller has given up.
    async fn process(
        self: &Arc<Self>,
        instance: &Arc<Instance<A>>,
        mut entries: Vec<MailboxEntry<A>>,
    ) {
        let mut backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(100));
        loop {
            entries.retain(|entry| !entry.result.is_closed());
            if entries.is_empty() {
                return;
            }
            let base = tokio::select! {
                biased;
                base = self.committed(instance).instrument(entries[0].span.clone()) => base,
                () = callers_left(&mut entries) => return,
            };
            let (base, fresh_until) = match base {
                Ok(base) => base,
                Err(error) if error.is_transient() => {
                    tracing::warn!(stream = ?instance.stream, %error, "failed to load the instance; retrying");
                    self.pause(&mut backoff).await;
                    continue;
                }
                Err(error) => return fail_all(entries, &error.into()),
            };
            if base.closed {
                // No commit can be under way any more, so what the inbox holds now is final.
                if self.complete_recorded(instance, &mut entries, |_| true).await.is_ok() {
                    return fail_all(entries, &SendError::Closed);
                }
                self.pause(&mut backoff).await;
                continue;
            }
            match self.attempt(instance, &base, fresh_until, &mut entries).await {
                AttemptOutcome::Done => return,
                AttemptOutcome::Retry => {}
                AttemptOutcome::Abandoned => instance.forget(),
                AttemptOutcome::Faulty(_) if entries.len() > 1 => {
                    for entry in entries {
                        Box::pin(self.process(instance, vec![entry])).await;
                    }
                    return;
                }
                AttemptOutcome::Faulty(reason) => {
                    return fail_all(entries, &SendError::Unstorable(reason));
                }
                AttemptOutcome::UnknownOutcome => {
                    return fail_all(entries, &SendError::OutcomeUnknown);
                }
                AttemptOutcome::Conflict => {
                    self.pause(&mut backoff).await;
                    tokio::select! {
                        biased;
                        () = self.catch_up_or_forget(instance) => {}
                        () = callers_left(&mut entries) => return,
                    }
                }
            }
        }
    }

    async fn pause(&self, backoff: &mut Backoff) {
        backoff.wait(&*self.shared.clock, &*self.shared.rng).await;
    }

    async fn catch_up_or_forget(&self, instance: &Instance<A>) {
        if let Err(error) = self.catch_up(instance).await {
            tracing::debug!(stream = ?instance.stream, %error, "failed to catch up with the stream; loading the instance again");
            instance.forget();
        }
    }

    /// Makes one attempt to commit all commands as one append.
    async fn attempt(
        self: &Arc<Self>,
        instance: &Arc<Instance<A>>,
        base: &LoadedState<A>,
        fresh_until: u64,
        entries: &mut Vec<MailboxEntry<A>>,
    ) -> AttemptOutcome {
        let batch = self.decide_batch(instance, base, entries);
        // A command that fails now may be a retry of one already recorded, so look it up first.
        let failed: Vec<_> =
            batch.outcomes.iter().map(CommandOutcome::fails_outside_domain).collect();
        if failed.contains(&true) {
            let before = entries.len();
            let looked_up = self.complete_recorded(instance, entries, |index| failed[index]).await;
            if looked_up.is_err() || entries.len() < before {
                return done_or(entries, AttemptOutcome::Conflict);
            }
        }
        // The outcomes need no append if they change nothing and the state was read after every
        // command arrived.
        if batch.stores_nothing() && entries.iter().all(|entry| entry.arrival < fresh_until) {
            let outcomes =
                Outcomes { by_command: batch.outcomes, before: base.version, last: None };
            outcomes.complete(entries, |_, _| true);
            return AttemptOutcome::Done;
        }
        self.commit_batch(instance, base.version, batch, entries).await
    }

    /// Decides the commands. Those that the append has no room for return to the mailbox.
    fn decide_batch(
        &self,
        instance: &Instance<A>,
        base: &LoadedState<A>,
        entries: &mut Vec<MailboxEntry<A>>,
    ) -> DecidedBatch<A> {
        let context = self.decide_context(&instance.id, &instance.stream);
        let commands: Vec<_> = entries.iter().map(|entry| &entry.pending).collect();
        let span = spans::decide(&instance.stream, &spans_of(entries));
        let batch = span.in_scope(|| decide(&context, base, &commands));
        instance.put_back(entries.split_off(batch.outcomes.len()));
        batch
    }

    /// Returns the surroundings of the decisions of an instance.
    pub(crate) fn decide_context<'a>(
        &'a self,
        id: &'a Id<A>,
        stream: &'a StreamId,
    ) -> DecideContext<'a, A> {
        DecideContext {
            log: self.shared.log.id,
            id,
            stream,
            env: &self.env,
            storage: self.shared.storage(),
            max_bytes: self.shared.settings.max_bytes_per_batch,
            remote: &self.shared.remote,
            known: &self.shared.known,
            published: &self.shared.published,
        }
    }

    /// Appends a batch that was decided at version `before`, and completes the commands whose
    /// outcomes are then known.
    async fn commit_batch(
        self: &Arc<Self>,
        instance: &Arc<Instance<A>>,
        before: Version,
        batch: DecidedBatch<A>,
        entries: &mut Vec<MailboxEntry<A>>,
    ) -> AttemptOutcome {
        let fresh_until = instance.lock().next_arrival;
        let DecidedBatch { append, after, outcomes } = batch;
        let fired_timers = append.fired_timers.clone();
        let inbox: Vec<_> = append.inbox.iter().map(|entry| entry.message_id).collect();
        let has_finished = after.state.is_finished() && !append.events.is_empty();
        let outcome = match self.append(append, entries).await {
            None => return AttemptOutcome::Abandoned,
            Some(Ok(outcome)) => outcome,
            Some(Err(StoreError::Invalid(reason))) => return AttemptOutcome::Faulty(reason),
            Some(Err(_)) => return AttemptOutcome::UnknownOutcome,
        };
        match outcome {
            AppendOutcome::Committed { version, position, actual } if actual > version => {
                // An earlier call has committed the append, maybe before these commands arrived,
                // and the stream has moved on. Only outcomes that are stored are certain.
                tracing::debug!(
                    stream = ?instance.stream, %version, %actual,
                    "the append was committed by an earlier call and the stream has moved on; \
                     deciding the commands without a stored outcome again"
                );
                Outcomes { by_command: outcomes, before, last: position }.complete(
                    entries,
                    |entry, outcome| {
                        outcome.has_events() || inbox.contains(&entry.pending.message_id())
                    },
                );
                done_or(entries, AttemptOutcome::Conflict)
            }
            AppendOutcome::Committed { position, .. } => {
                instance.commit(after, fresh_until);
                self.save_snapshot(instance);
                if has_finished {
                    self.instances.retire(&instance.id);
                }
                Outcomes { by_command: outcomes, before, last: position }
                    .complete(entries, |_, _| true);
                AttemptOutcome::Done
            }
            AppendOutcome::Duplicate(inbox) => {
                self.complete_duplicates(instance, entries, &inbox);
                done_or(entries, AttemptOutcome::Conflict)
            }
            AppendOutcome::Conflict { actual } => {
                self.metrics.conflicts.increment(1);
                self.check_conflict(instance, before, actual).await;
                AttemptOutcome::Conflict
            }
            AppendOutcome::Closed => AttemptOutcome::Conflict,
            AppendOutcome::StaleTimers(indexes) => {
                let stale = indexes.iter().filter_map(|index| fired_timers.get(*index));
                complete_stale_timers(entries, &stale.collect::<Vec<_>>());
                done_or(entries, AttemptOutcome::Retry)
            }
        }
    }

    /// Appends; `None` once every caller has given up.
    async fn append(
        &self,
        append: Append,
        entries: &mut [MailboxEntry<A>],
    ) -> Option<Result<AppendOutcome, StoreError>> {
        let system = self.shared.store.system();
        let span = spans::append(system, &append.stream, append.events.len(), &spans_of(entries));
        let appended = async {
            self.prepare_append().await?;
            self.shared.writer.append(append).await
        };
        let appended = appended.instrument(span.clone());
        let outcome = tokio::select! {
            biased;
            outcome = appended => Some(outcome),
            () = callers_left(entries) => None,
        };
        match &outcome {
            Some(Ok(AppendOutcome::Conflict { .. })) => spans::failed(&span, "conflict"),
            Some(Ok(_)) | None => {}
            Some(Err(StoreError::Invalid(_))) => spans::failed(&span, "invalid"),
            Some(Err(StoreError::Unavailable(_))) => spans::failed(&span, "unavailable"),
        }
        outcome
    }

    /// Reads what must be known before the first append, again and again: nothing is sent yet, so
    /// an outage makes no outcome unknown.
    async fn prepare_append(&self) -> Result<(), StoreError> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        loop {
            match self.shared.before_append().await {
                Err(StoreError::Unavailable(error)) => {
                    tracing::debug!(%error, "failed to read the heads of the log; retrying");
                    self.pause(&mut backoff).await;
                }
                prepared => return prepared,
            }
        }
    }

    /// Drops the state, and the snapshots above `actual`, if the log has lost events.
    async fn check_conflict(&self, instance: &Instance<A>, before: Version, actual: Version) {
        let stream = &instance.stream;
        tracing::debug!(?stream, %before, %actual, "the append conflicts with another writer's; deciding again");
        if actual < before {
            tracing::error!(
                ?stream, %before, %actual,
                "the log has lost events of the stream; loading the instance again"
            );
            self.delete_snapshots(instance, actual).await;
            instance.forget();
        }
    }
}

/// Returns the spans of the commands.
fn spans_of<A: Aggregate>(entries: &[MailboxEntry<A>]) -> Vec<&Span> {
    entries.iter().map(|entry| &entry.span).collect()
}

/// Completes the commands of stale timers; the others stay in `entries`.
fn complete_stale_timers<A: Aggregate>(entries: &mut Vec<MailboxEntry<A>>, stale: &[&ArmedTimer]) {
    for entry in std::mem::take(entries) {
        match &entry.pending.fired_timer {
            Some(timer) if stale.contains(&timer) => entry.complete(Err(SubmitError::StaleTimer)),
            _ => entries.push(entry),
        }
    }
}
