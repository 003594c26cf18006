//! Recording the results of rows, in one transaction per partition.

use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::message::ReplyOutcome;
use composable_rust_core::queue::{Outbox as _, OutboxKind, OutboxRow, QueueChange, Settlement};
use composable_rust_core::store::{StoreError, validate_rows};

use crate::metrics;
use crate::panic::guarded_future;
use crate::worker::context::WorkerContext;
use crate::worker::deliveries::queue_label;
use crate::worker::outbox::call_limits::CircuitChange;
use crate::worker::outbox::dispatcher::{Dispatcher, ExecutedRow, executor_of, is_to_instance};
use crate::worker::outbox::execution::RowExecutor;
use crate::worker::outcome::{Failure, truncate_error};
use crate::worker::queued_message::{metadata, reply_to};
use crate::worker::retry::dependency_backoff;
use crate::worker::worker_id::WorkerId;

/// A batch of settlements, and the outcome of writing each.
pub(super) struct SettledBatch {
    partition: u16,
    rows: Vec<(ExecutedRow, QueueChange)>,
    outcomes: Vec<SettleOutcome>,
}

/// The outcome of writing a row's settlement.
#[derive(Clone)]
enum SettleOutcome {
    Written,
    /// The row is another process's, or the outcome is unknown.
    NotOurs,
    /// The store cannot hold the settlement.
    Invalid(String),
}

impl<E: RowExecutor> Dispatcher<E> {
    /// Records the results of all attempts that have ended.
    pub(super) fn finish(&mut self, first: Option<ExecutedRow>) {
        let mut finished: Vec<ExecutedRow> = first.into_iter().collect();
        while let Some(next) = self.running.try_join_next() {
            finished.extend(next.ok());
        }
        let now = self.context.now();
        for mut ended in finished {
            if let Entry::Occupied(mut window) = self.windows.entry(executor_of(&ended.key)) {
                window.get_mut().last_progress = now;
                window.get_mut().count = window.get().count.saturating_sub(1);
                if window.get().count == 0 {
                    window.remove();
                }
            }
            self.record_call(&mut ended, now);
            // The row that blocked this one was decided about meanwhile, so the lane is read again.
            let is_first = self.lanes.is_first(&ended.key, ended.read_id);
            if ended.row.behind_parked && (!is_first || self.unconfirmed.contains_key(&ended.key)) {
                self.release(&mut ended);
                continue;
            }
            if let Some(change) = self.change(&mut ended) {
                self.unsettled.entry(ended.key.queue.partition).or_default().push((ended, change));
            } else {
                self.release(&mut ended);
                self.back_off(&ended, now);
            }
        }
        self.settle();
    }

    /// Lets other rows begin in the place of a row whose result is recorded. Before that, a suspect
    /// that crashes the process would make it a suspect again.
    fn release(&mut self, ended: &mut ExecutedRow) {
        self.executing.remove(&ended.key);
        if let Some(suspicion) = ended.suspicion.take() {
            self.quarantine.end(suspicion, &executor_of(&ended.key));
        }
    }

    /// Begins to write the settlements of the partitions that have no write in flight.
    fn settle(&mut self) {
        for (partition, mut ended) in std::mem::take(&mut self.unsettled) {
            if self.partitions_settling.contains(&partition) {
                self.unsettled.insert(partition, ended);
                continue;
            }
            // The rows that blocked these were decided about meanwhile, so the lanes are read
            // again.
            ended.retain_mut(|(of, _)| {
                let is_kept = !of.row.behind_parked || !self.unconfirmed.contains_key(&of.key);
                if !is_kept {
                    self.release(of);
                }
                is_kept
            });
            if ended.is_empty() {
                continue;
            }
            self.partitions_settling.insert(partition);
            let context = Arc::clone(&self.context);
            if ended.iter().any(|(_, change)| matches!(change, QueueChange::Parked { .. })) {
                self.partitions_parking.insert(partition);
            }
            let settlements: Vec<_> = ended.iter().map(|of| self.with_lane(of)).collect();
            self.settling.spawn(async move {
                let written = guarded_future(write_all(&context, partition, &settlements)).await;
                let outcomes =
                    written.unwrap_or_else(|_| vec![SettleOutcome::NotOurs; settlements.len()]);
                SettledBatch { partition, rows: ended, outcomes }
            });
        }
    }

    /// Records the outcome of a call in the gateway's limits.
    fn record_call(&mut self, ended: &mut ExecutedRow, now: Duration) {
        let name = &ended.key.queue.target;
        let (Some(call), Some(gateway)) = (ended.call.take(), self.gateways.get(name.as_str()))
        else {
            return;
        };
        let mut limits = gateway.limits();
        if let Some(change) = limits.end(&call, ended.execution.call, now) {
            metrics::OPEN_CIRCUITS.set_count([name], limits.open_circuits() as u64);
            if change == CircuitChange::Opened {
                tracing::warn!(
                    gateway = %name, key = call.breaker_key(),
                    "most calls of the gateway fail; opening its circuit breaker"
                );
            }
        }
        drop(limits);
        for limit in call.key_limits() {
            self.lanes.limit_is_due(&(name.clone(), limit), now);
        }
    }

    /// Returns the change of a row's state; `None` if the row is only deferred.
    fn change(&mut self, ended: &mut ExecutedRow) -> Option<QueueChange> {
        let row = &ended.row;
        let failures = row.attempts + 1;
        let failure = match std::mem::replace(&mut ended.execution.result, Ok(Vec::new())) {
            Ok(_) if row.behind_parked => {
                return Some(QueueChange::Parked { attempts: row.attempts, error: None });
            }
            Ok(rows) => {
                return Some(match validate_rows(&rows) {
                    Ok(()) => QueueChange::Done(rows),
                    Err(error) => parked(row, failures, error.to_string()),
                });
            }
            Err(failure) => failure,
        };
        match failure {
            Failure::Failed(error) => {
                let backoff = self.retry_policy(&row.queue).backoff_after(failures);
                Some(match backoff {
                    Some(retry_after) => {
                        let error = truncate_error(error);
                        QueueChange::Failed { attempts: failures, retry_after, error }
                    }
                    None => parked(row, failures, error),
                })
            }
            Failure::Poison(error) => Some(parked(row, failures, error)),
            Failure::Crashed { .. } if row.queue.kind == OutboxKind::Call => {
                Some(exhausted(row, &failure))
            }
            Failure::Crashed { .. } => Some(parked(row, row.attempts, failure.to_string())),
            Failure::Unavailable(_)
            | Failure::Fenced
            | Failure::StaleEpoch(_)
            | Failure::LogRewound(_) => {
                tracing::debug!(
                    queue = %WorkerId::of_queue(row.queue.kind, &row.queue.target),
                    error = %failure, "failed to execute a row; retrying"
                );
                retry_uncounted(ended, failure.to_string())
            }
            Failure::Stuck(error) => {
                let is_first = self.lanes.deferrals(&ended.key) == 0;
                deferred(ended, is_first, error)
            }
            Failure::NeedsNewerCode(newer) => {
                let worker = WorkerId::of_queue(row.queue.kind, &row.queue.target).to_string();
                let encounter = self.context.meet(&worker, &newer, &row.message.row.id);
                self.context.leases.withdraw(&worker, encounter.is_first);
                deferred(ended, encounter.is_first, newer.reason)
            }
        }
    }

    /// Continues after a write has ended.
    pub(super) fn conclude(&mut self, settled: Option<SettledBatch>) {
        let Some(SettledBatch { partition, rows, outcomes }) = settled else { return };
        self.partitions_settling.remove(&partition);
        self.partitions_parking.remove(&partition);
        let invalid = self.advance(rows, outcomes);
        for of in invalid {
            self.executing.insert(of.0.key.clone());
            self.unsettled.entry(partition).or_default().push(of);
        }
        self.settle();
    }

    /// Continues the lanes of rows whose settlements were written. Returns the rows whose
    /// settlements the store cannot hold, to be parked instead.
    fn advance(
        &mut self,
        rows: Vec<(ExecutedRow, QueueChange)>,
        outcomes: Vec<SettleOutcome>,
    ) -> Vec<(ExecutedRow, QueueChange)> {
        let now = self.context.now();
        let mut invalid = Vec::new();
        for ((mut ended, change), outcome) in rows.into_iter().zip(outcomes) {
            self.release(&mut ended);
            // The row may have been read again.
            if let Some((read_id, row)) = self.lanes.first(&ended.key) {
                if row.position == ended.row.position {
                    ended.read_id = read_id;
                }
            }
            match outcome {
                SettleOutcome::Written => {}
                SettleOutcome::NotOurs => {
                    self.context.leases.lost(&ended.held);
                    continue;
                }
                SettleOutcome::Invalid(error) if matches!(change, QueueChange::Parked { .. }) => {
                    tracing::error!(
                        queue = %WorkerId::of_queue(ended.row.queue.kind, &ended.row.queue.target),
                        id = %ended.row.message.row.id, sender = ?ended.row.message.sender, error,
                        "failed to park a row; its lane waits until another process takes the lease"
                    );
                    self.lanes.set_aside(&ended.key, ended.read_id);
                    continue;
                }
                SettleOutcome::Invalid(error) => {
                    let error = format!("the settlement cannot be stored: {error}");
                    let change = parked(&ended.row, ended.row.attempts + 1, error);
                    invalid.push((ended, change));
                    continue;
                }
            }
            if !matches!(change, QueueChange::Failed { .. }) {
                let worker = &ended.held.lease.worker;
                self.context.shared.unknowns.gone(worker, &ended.row.message.row.id);
            }
            match change {
                QueueChange::Failed { attempts, .. } if attempts == ended.row.attempts => {
                    self.lanes.attempt_ended(&ended.key, ended.read_id);
                    self.back_off(&ended, now);
                }
                QueueChange::Failed { attempts, retry_after, .. } => {
                    self.lanes.attempt_ended(&ended.key, ended.read_id);
                    self.lanes.retry(&ended.key, ended.read_id, attempts, now, retry_after);
                }
                QueueChange::Done(_) => self.lanes.advance(&ended.key, ended.read_id, now),
                QueueChange::Parked { .. } => {
                    if self.lanes.is_first(&ended.key, ended.read_id) {
                        self.lanes.remove(&ended.key);
                    }
                }
                QueueChange::Begun { .. } => {}
            }
        }
        invalid
    }

    /// Defers a row that is retried: until its recipient is retried, if that is stuck.
    fn back_off(&mut self, ended: &ExecutedRow, now: Duration) {
        self.lanes.back_off(&ended.key, ended.read_id, now, dependency_backoff);
        if !is_to_instance(&ended.key) {
            return;
        }
        let next = self.context.shared.stuck.next_attempt(&ended.key.recipient, now);
        if next > now && self.lanes.is_first(&ended.key, ended.read_id) {
            self.lanes.wait_for_instance(&ended.key, now, next.saturating_sub(now));
        }
    }

    /// Returns the settlement of a row and, if it is parked, of the rows in memory behind it.
    fn with_lane(&self, of: &(ExecutedRow, QueueChange)) -> Vec<Settlement> {
        let (head, change) = of;
        let mut settlements = vec![settlement(of)];
        if matches!(change, QueueChange::Parked { .. })
            && self.lanes.is_first(&head.key, head.read_id)
        {
            for row in self.lanes.behind_first(&head.key) {
                let change = QueueChange::Parked { attempts: row.attempts, error: None };
                let (lease, queue) = (head.held.lease.clone(), row.queue.clone());
                settlements.push(Settlement { lease, queue, position: row.position, change });
            }
        }
        settlements
    }
}

impl SettleOutcome {
    /// Returns the outcome of a row: the first of the results, which are all consumed. The rows
    /// behind it may be gone.
    fn of(ours: &mut dyn Iterator<Item = bool>) -> Self {
        let own = ours.next();
        ours.for_each(drop);
        if own == Some(true) { Self::Written } else { Self::NotOurs }
    }
}

fn settlement((ended, change): &(ExecutedRow, QueueChange)) -> Settlement {
    Settlement {
        lease: ended.held.lease.clone(),
        queue: ended.row.queue.clone(),
        position: ended.row.position,
        change: change.clone(),
    }
}

/// Returns the change after an attempt that does not count: none, unless the attempt was recorded.
fn retry_uncounted(ended: &ExecutedRow, error: String) -> Option<QueueChange> {
    let (attempts, retry_after) = (ended.row.attempts, Duration::ZERO);
    let error = truncate_error(error);
    ended.is_recorded.then_some(QueueChange::Failed { attempts, retry_after, error })
}

/// Returns the change of a row that is deferred: the error is stored the first time, so that
/// operators see it wherever they look.
fn deferred(ended: &ExecutedRow, is_first: bool, error: String) -> Option<QueueChange> {
    let (attempts, retry_after) = (ended.row.attempts, dependency_backoff(5));
    let error = truncate_error(error);
    let is_stored = is_first || ended.is_recorded;
    is_stored.then_some(QueueChange::Failed { attempts, retry_after, error })
}

/// Returns the change of a call that crashed the process in every attempt: the reply to its caller.
fn exhausted(row: &OutboxRow, failure: &Failure) -> QueueChange {
    let target = &row.queue.target;
    tracing::error!(
        gateway = %target, id = %row.message.row.id, error = %failure,
        "a call has no attempts left; replying `Exhausted`"
    );
    // An erased call is not replied to.
    let metadata = metadata(&row.message.row.metadata).ok().flatten();
    let outcome = ReplyOutcome::Exhausted;
    let replies = metadata.map(|of| reply_to(&row.message, of, target, outcome, None));
    QueueChange::Done(replies.unwrap_or_default())
}

fn parked(row: &OutboxRow, attempts: u32, error: String) -> QueueChange {
    let error = truncate_error(error);
    metrics::MESSAGES_PARKED.increment([&queue_label(row.queue.kind, &row.queue.target)]);
    tracing::error!(
        queue = %WorkerId::of_queue(row.queue.kind, &row.queue.target),
        id = %row.message.row.id, sender = ?row.message.sender, recipient = row.message.row.recipient,
        attempts, error,
        "a message cannot be handled; parking it"
    );
    QueueChange::Parked { attempts, error: Some(error) }
}

/// Writes the settlements of rows, each with those of the rows behind it. If the store cannot hold
/// all of them, each is written by itself, so that only the invalid ones are left out.
async fn write_all(
    context: &WorkerContext,
    partition: u16,
    settlements: &[Vec<Settlement>],
) -> Vec<SettleOutcome> {
    match write(context, partition, &settlements.concat()).await {
        Ok(ours) => {
            let mut ours = ours.into_iter();
            let mut take = |count| SettleOutcome::of(&mut ours.by_ref().take(count));
            settlements.iter().map(|of_one| take(of_one.len())).collect()
        }
        Err(error) if settlements.len() == 1 => vec![SettleOutcome::Invalid(error)],
        Err(error) => {
            tracing::warn!(error, "a batch of settlements is invalid; writing them one by one");
            let mut outcomes = Vec::with_capacity(settlements.len());
            for of_one in settlements {
                outcomes.push(match write(context, partition, of_one).await {
                    Ok(ours) => SettleOutcome::of(&mut ours.into_iter()),
                    Err(error) => SettleOutcome::Invalid(error),
                });
            }
            outcomes
        }
    }
}

/// Writes settlements in one transaction, retrying until the outcome is known. Returns `true` for
/// each whose lease was this process's.
///
/// # Errors
///
/// The store cannot hold one of them; none is written.
async fn write(
    context: &WorkerContext,
    partition: u16,
    settlements: &[Settlement],
) -> Result<Vec<bool>, String> {
    let mut tries = 0;
    loop {
        match context.store().settle(partition, settlements).await {
            Ok(settled) => return Ok(settled),
            Err(StoreError::Invalid(error)) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "failed to record outbox settlements; retrying");
                if context.stop.is_cancelled() && tries > 5 {
                    return Ok(vec![false; settlements.len()]);
                }
                context.clock().sleep(dependency_backoff(tries)).await;
                tries += 1;
            }
        }
    }
}
