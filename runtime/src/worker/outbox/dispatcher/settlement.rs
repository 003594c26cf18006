//! Writing what became of rows, in one transaction for each partition.

use std::collections::btree_map::Entry;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{
    Outbox as _, OutboxKind, OutboxRow, QueueChange, ReplyOutcome, Settlement, StoreError,
    validate_rows,
};
use futures_util::FutureExt as _;

use crate::worker::context::{WorkerContext, kept, metadata};
use crate::worker::leases::worker_of;
use crate::worker::outbox::dead_letters::answer;
use crate::worker::outbox::dispatcher::{Dispatcher, ExecutedRow, is_to_instance, window_of};
use crate::worker::outbox::execute::Executed;
use crate::worker::retry::wait_for_others;

/// A batch of settlements, and the outcome of writing each.
pub(super) struct SettledBatch {
    partition: u16,
    ended: Vec<(ExecutedRow, QueueChange)>,
    outcomes: Vec<SettleOutcome>,
}

/// The outcome of writing a settlement.
#[derive(Clone)]
enum SettleOutcome {
    Written,
    /// The row is another process's, or the outcome is unknown.
    NotOurs,
    /// The store cannot hold the settlement.
    Invalid(String),
}

impl Dispatcher {
    /// Says what became of everything that has ended, in one transaction for each partition.
    pub(super) fn finish(&mut self, first: Option<ExecutedRow>) {
        let mut finished: Vec<ExecutedRow> = first.into_iter().collect();
        while let Some(next) = self.running.try_join_next() {
            finished.extend(next.ok());
        }
        let now = self.work.now();
        for mut ended in finished {
            if let Entry::Occupied(mut window) = self.windows.entry(window_of(&ended.key)) {
                window.get_mut().moved = now;
                window.get_mut().busy = window.get().busy.saturating_sub(1);
                if window.get().busy == 0 {
                    window.remove();
                }
            }
            self.record(&ended, now);
            // What it stood behind was decided about meanwhile: it is read anew.
            let is_first = self.lanes.is_first(&ended.key, ended.serial);
            if ended.row.behind_parked && (!is_first || self.doubtful.contains_key(&ended.key)) {
                self.leave(&mut ended);
                continue;
            }
            if let Some(change) = self.change(&mut ended) {
                self.unsettled.entry(ended.key.0.partition).or_default().push((ended, change));
            } else {
                self.leave(&mut ended);
                self.put_off(&ended, now);
            }
        }
        self.settle();
    }

    /// Lets others begin in the place of a row of which everything is on record. Before that, a suspect
    /// that killed the process would have it blamed, too.
    fn leave(&mut self, ended: &mut ExecutedRow) {
        self.executing.remove(&ended.key);
        if let Some(suspicion) = ended.suspicion.take() {
            self.quarantine.end(suspicion, &window_of(&ended.key));
        }
    }

    /// Writes what is to be written of those partitions of which nothing is being written.
    fn settle(&mut self) {
        for (partition, mut ended) in std::mem::take(&mut self.unsettled) {
            if self.partitions_settling.contains(&partition) {
                self.unsettled.insert(partition, ended);
                continue;
            }
            // What they stand behind was decided about while they waited: they are read anew.
            ended.retain_mut(|(of, _)| {
                let is_kept = !of.row.behind_parked || !self.doubtful.contains_key(&of.key);
                if !is_kept {
                    self.leave(of);
                }
                is_kept
            });
            if ended.is_empty() {
                continue;
            }
            self.partitions_settling.insert(partition);
            let work = Arc::clone(&self.work);
            if ended.iter().any(|(_, change)| matches!(change, QueueChange::Parked { .. })) {
                self.partitions_parking.insert(partition);
            }
            let settlements: Vec<_> = ended.iter().map(|of| self.with_lane(of)).collect();
            self.settling.spawn(async move {
                let written = AssertUnwindSafe(work.settled(partition, &settlements));
                let outcomes = written.catch_unwind().await;
                let outcomes =
                    outcomes.unwrap_or_else(|_| vec![SettleOutcome::NotOurs; settlements.len()]);
                SettledBatch { partition, ended, outcomes }
            });
        }
    }

    fn record(&mut self, ended: &ExecutedRow, now: Duration) {
        let breaker = self.breakers.get_mut(&ended.key.0.target);
        let (Some(call), Some(breaker)) = (ended.call, breaker) else { return };
        let failed = match &ended.executed {
            Executed::Done(_) => false,
            Executed::Failed(_) | Executed::Exhausted(..) | Executed::Waiting(_) => true,
            Executed::Erased
            | Executed::Poison(_)
            | Executed::Killed(_)
            | Executed::Stuck(_)
            | Executed::NotBegun(_)
            | Executed::Newer(_) => return breaker.withdraw(call),
        };
        if breaker.record(call, failed, now) {
            tracing::warn!(
                gateway = %ended.key.0.target, "most calls of the gateway fail; its calls wait"
            );
        }
    }

    /// What is to be written about a row; nothing, if it is only put off.
    fn change(&mut self, ended: &mut ExecutedRow) -> Option<QueueChange> {
        let row = &ended.row;
        let failures = row.attempts + 1;
        Some(match std::mem::replace(&mut ended.executed, Executed::Done(Vec::new())) {
            Executed::Done(_) if row.behind_parked => {
                QueueChange::Parked { attempts: row.attempts, error: None }
            }
            Executed::Erased => QueueChange::Done(Vec::new()),
            Executed::Done(rows) => match validate_rows(&rows) {
                Ok(()) => QueueChange::Done(rows),
                Err(error) => parked(row, failures, error.to_string()),
            },
            Executed::Exhausted(error, answer) => {
                tracing::warn!(gateway = %row.queue.target, error, "a call is out of attempts");
                QueueChange::Done(answer)
            }
            Executed::Failed(error) => {
                match self.work.attempts_of(&row.queue).wait_after(failures) {
                    Some(retry_after) => {
                        let error = kept(error);
                        QueueChange::Failed { attempts: failures, retry_after, error }
                    }
                    None => parked(row, failures, error),
                }
            }
            Executed::Poison(error) => parked(row, failures, error),
            Executed::Killed(error) if row.queue.kind == OutboxKind::Call => {
                tracing::error!(
                    gateway = %row.queue.target, id = %row.message.row.id, error,
                    "a call is answered `Exhausted`"
                );
                let (target, outcome) = (&row.queue.target, ReplyOutcome::Exhausted);
                // What was erased is not answered.
                let metadata = metadata(&row.message.row.metadata).ok().flatten();
                let answers = metadata.map(|of| answer(&row.message, of, target, outcome, None));
                QueueChange::Done(answers.unwrap_or_default())
            }
            Executed::Killed(error) => parked(row, row.attempts, error),
            Executed::Waiting(reason) | Executed::NotBegun(reason) => {
                tracing::debug!(target = %row.queue.target, reason, "an effect waits");
                return taken_back(ended, reason);
            }
            Executed::Stuck(reason) => {
                let is_first = self.lanes.times_put_off(&ended.key) == 0;
                if !is_first && !ended.is_recorded {
                    return None;
                }
                // Kept once, so that operators see it wherever they look.
                let (attempts, retry_after) = (row.attempts, wait_for_others(5));
                QueueChange::Failed { attempts, retry_after, error: kept(reason) }
            }
            Executed::Newer(newer) => {
                let worker = worker_of(row.queue.kind, &row.queue.target);
                let meeting = self.work.meet(&worker, &newer, &row.message.row.id);
                self.work.leases.withdraw(&worker, meeting.is_first);
                if !meeting.is_first && !ended.is_recorded {
                    return None;
                }
                // Kept once, so that operators see it wherever they look.
                let (attempts, retry_after) = (row.attempts, wait_for_others(5));
                QueueChange::Failed { attempts, retry_after, error: kept(newer.reason) }
            }
        })
    }

    pub(super) fn conclude(&mut self, settled: Option<SettledBatch>) {
        let Some(SettledBatch { partition, ended, outcomes }) = settled else { return };
        self.partitions_settling.remove(&partition);
        self.partitions_parking.remove(&partition);
        let invalid = self.go_on(ended, outcomes);
        for of in invalid {
            self.executing.insert(of.0.key.clone());
            self.unsettled.entry(partition).or_default().push(of);
        }
        self.settle();
    }

    /// What was written decides what its lanes do next. Gives the rows whose settlements the store
    /// cannot hold, to be parked instead.
    fn go_on(
        &mut self,
        ended: Vec<(ExecutedRow, QueueChange)>,
        outcomes: Vec<SettleOutcome>,
    ) -> Vec<(ExecutedRow, QueueChange)> {
        let now = self.work.now();
        let mut invalid = Vec::new();
        for ((mut ended, change), outcome) in ended.into_iter().zip(outcomes) {
            self.leave(&mut ended);
            // It may have been read anew.
            if let Some((serial, row)) = self.lanes.first(&ended.key) {
                if row.position == ended.row.position {
                    ended.serial = serial;
                }
            }
            match outcome {
                SettleOutcome::Written => {}
                SettleOutcome::NotOurs => {
                    self.work.leases.lost(&ended.held);
                    continue;
                }
                SettleOutcome::Invalid(error) if matches!(change, QueueChange::Parked { .. }) => {
                    tracing::error!(
                        queue = %worker_of(ended.row.queue.kind, &ended.row.queue.target),
                        id = %ended.row.message.row.id, sender = ?ended.row.message.sender, error,
                        "failed to park a message; it and those behind it wait until the lease changes"
                    );
                    self.lanes.set_aside(&ended.key, ended.serial);
                    continue;
                }
                SettleOutcome::Invalid(error) => {
                    let error = format!("its settlement cannot be stored: {error}");
                    let change = parked(&ended.row, ended.row.attempts + 1, error);
                    invalid.push((ended, change));
                    continue;
                }
            }
            if !matches!(change, QueueChange::Failed { .. }) {
                let worker = &ended.held.lease.worker;
                self.work.shared.unknowns.gone(worker, &ended.row.message.row.id);
            }
            match change {
                QueueChange::Failed { attempts, .. } if attempts == ended.row.attempts => {
                    self.lanes.has_ended(&ended.key, ended.serial);
                    self.put_off(&ended, now);
                }
                QueueChange::Failed { attempts, retry_after, .. } => {
                    self.lanes.has_ended(&ended.key, ended.serial);
                    self.lanes.retry(&ended.key, ended.serial, attempts, now, retry_after);
                }
                QueueChange::Done(_) => self.lanes.advance(&ended.key, ended.serial, now),
                QueueChange::Parked { .. } => {
                    if self.lanes.is_first(&ended.key, ended.serial) {
                        self.lanes.remove(&ended.key);
                    }
                }
                QueueChange::Begun { .. } => {}
            }
        }
        invalid
    }

    /// Has a row wait that is tried again: until its recipient is, if that is stuck.
    fn put_off(&mut self, ended: &ExecutedRow, now: Duration) {
        self.lanes.put_off(&ended.key, ended.serial, now, wait_for_others);
        if !is_to_instance(&ended.key) {
            return;
        }
        let next = self.work.shared.stuck.next_attempt(&ended.key.2, now);
        if next > now && self.lanes.is_first(&ended.key, ended.serial) {
            self.lanes.wait_for_instance(&ended.key, now, next.saturating_sub(now));
        }
    }

    /// The settlement of a row and, if it is parked, of what is in memory behind it.
    fn with_lane(&self, of: &(ExecutedRow, QueueChange)) -> Vec<Settlement> {
        let (head, change) = of;
        let mut settlements = vec![settlement(of)];
        if matches!(change, QueueChange::Parked { .. })
            && self.lanes.is_first(&head.key, head.serial)
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
    /// The row's own comes first; those behind it may be gone. Reads all.
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

/// What is to be written about an attempt that does not count: nothing, unless it is on record.
fn taken_back(ended: &ExecutedRow, reason: String) -> Option<QueueChange> {
    let (attempts, retry_after) = (ended.row.attempts, Duration::ZERO);
    let error = kept(reason);
    ended.is_recorded.then_some(QueueChange::Failed { attempts, retry_after, error })
}

fn parked(row: &OutboxRow, attempts: u32, error: String) -> QueueChange {
    let error = kept(error);
    tracing::error!(
        queue = %worker_of(row.queue.kind, &row.queue.target),
        id = %row.message.row.id, sender = ?row.message.sender, recipient = row.message.row.recipient,
        attempts, error,
        "a message cannot be handled and is parked"
    );
    QueueChange::Parked { attempts, error: Some(error) }
}

impl WorkerContext {
    /// Writes settlements, each with those that belong to it. If the store cannot hold all of them,
    /// each is written by itself, so that only the invalid are left out.
    async fn settled(&self, partition: u16, settlements: &[Vec<Settlement>]) -> Vec<SettleOutcome> {
        match self.write(partition, &settlements.concat()).await {
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
                    outcomes.push(match self.write(partition, of_one).await {
                        Ok(ours) => SettleOutcome::of(&mut ours.into_iter()),
                        Err(error) => SettleOutcome::Invalid(error),
                    });
                }
                outcomes
            }
        }
    }

    /// Writes settlements in one transaction, again and again until the outcome is known. Gives which
    /// were this process's.
    ///
    /// # Errors
    ///
    /// The store cannot hold one of them; none is written.
    async fn write(&self, partition: u16, settlements: &[Settlement]) -> Result<Vec<bool>, String> {
        let mut tries = 0;
        loop {
            match self.store().settle(partition, settlements).await {
                Ok(settled) => return Ok(settled),
                Err(StoreError::Invalid(error)) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "what became of effects is not yet written");
                    if self.stop.is_cancelled() && tries > 5 {
                        return Ok(vec![false; settlements.len()]);
                    }
                    self.clock().sleep(wait_for_others(tries)).await;
                    tries += 1;
                }
            }
        }
    }
}
