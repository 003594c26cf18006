//! Projecting a page of events, in transactions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::projection::{BlockedStream, ReadModel};
use composable_rust_core::queue::{Checkpoint, Outbox as _, OutboxMessage};
use composable_rust_core::store::StoreError;
use composable_rust_core::{EventSet, Position, Projection, StreamId, Version};
use futures_util::TryFutureExt as _;

use super::{RunFailure, Runner, STATE_POLL_INTERVAL, queue_of};
use crate::app::unknown_messages::NewerCode;
use crate::worker::outcome::Failure;
use crate::worker::projection::registered::{PoisonPolicy, before, failure_of, is_active, queued};

/// Target duration of a transaction, which holds locks: in SQLite those of the whole file.
const TARGET_TRANSACTION_TIME: Duration = Duration::from_millis(50);
/// Maximum events of a transaction.
const MAX_BATCH: usize = 4_096;

/// A failure of a transaction, with the index of the event that it concerns.
type TransactionFailure = (Failure, Option<usize>);

impl<P, M> Runner<'_, P, M>
where
    P: Projection,
    M: ReadModel<Connection = P::Connection>,
{
    /// Projects events in order, in short transactions.
    pub(super) async fn project_page(&mut self, events: &[StoredEvent]) -> Result<(), RunFailure> {
        self.look_at_queue(events).await?;
        let mut rest = events;
        while !rest.is_empty() && self.may_continue() {
            let count = rest.len().min(self.batch);
            let started = self.context.now();
            let Err((failure, index)) = self.transaction(&rest[..count]).await else {
                rest = &rest[count..];
                self.pace(self.context.now().saturating_sub(started));
                continue;
            };
            let at = index.map(|index| rest[index].position);
            match (failure, index) {
                (Failure::Poison(_) | Failure::NeedsNewerCode(_), Some(index)) if index > 0 => {
                    // The events before it are projected first. An event that fails only at the
                    // commit, or because of an ignored error, is found by halving.
                    self.batch = index.min(count / 2);
                }
                (Failure::Poison(reason), Some(_))
                    if self.registered.settings.poison == PoisonPolicy::Park =>
                {
                    let event = &rest[0];
                    tracing::warn!(
                        projection = P::NAME, stream = ?event.stream, at = %event.position, reason,
                        "failed to project an event; queueing it and later events of its stream"
                    );
                    self.block(event).await?;
                }
                (Failure::NeedsNewerCode(newer), Some(index)) => {
                    let at = rest[index].position;
                    self.pause_before(at, newer).await?;
                    let others = |event: &StoredEvent| event.position.partition != at.partition;
                    rest = &rest[rest.iter().position(others).unwrap_or(rest.len())..];
                }
                (failure, _) => return Err(RunFailure { failure, at }),
            }
        }
        Ok(())
    }

    /// Pauses a partition before an event that needs newer code, unless no running code knows it.
    async fn pause_before(&mut self, at: Position, newer: NewerCode) -> Result<(), RunFailure> {
        let worker = &self.held.lease.worker;
        let encounter = self.context.meet(worker, &newer, &at);
        if encounter.is_overdue {
            return Err(RunFailure { failure: Failure::NeedsNewerCode(newer), at: Some(at) });
        }
        self.context.leases.withdraw(worker, encounter.is_first);
        self.needs_newer_code(&newer.what, encounter.is_first).await?;
        self.paused.insert(at.partition, self.context.now() + STATE_POLL_INTERVAL);
        Ok(())
    }

    /// Adapts the size of transactions to their duration.
    fn pace(&mut self, duration: Duration) {
        if duration > TARGET_TRANSACTION_TIME * 2 {
            self.batch = (self.batch / 2).max(1);
        } else if duration < TARGET_TRANSACTION_TIME / 2 {
            self.batch = (self.batch * 2).min(MAX_BATCH);
        }
    }

    /// Loads which blocked streams of these events have queued events: they may have been projected
    /// since.
    async fn look_at_queue(&mut self, events: &[StoredEvent]) -> Result<(), StoreError> {
        self.queued.clear();
        let blocked = events.iter().filter(|event| self.blocked.contains_key(&event.stream));
        let partitions: BTreeSet<u16> = blocked.map(|event| event.position.partition).collect();
        for partition in partitions {
            let streams = self.context.store().queued_streams(&queue_of::<P>(partition)).await?;
            let streams = streams.into_iter().filter(|s| self.blocked.contains_key(s));
            self.queued.extend(streams.map(|stream| (stream, None)));
        }
        Ok(())
    }

    /// Begins a transaction under the projection's lock.
    ///
    /// # Errors
    ///
    /// [`Failure::Fenced`]: also if the projection is paused or has failed.
    async fn begin_writing(&self) -> Result<M::Transaction, Failure> {
        let begin = self.registered.model.begin();
        let mut transaction = self.registered.within(self.context.clock(), begin).await?;
        let record = self.lock(&mut transaction, self.held.lease.epoch).await?;
        if is_active(&record.state) { Ok(transaction) } else { Err(Failure::Fenced) }
    }

    /// Projects events in one transaction.
    async fn transaction(&mut self, events: &[StoredEvent]) -> Result<(), TransactionFailure> {
        let mut queued = self.queued.clone();
        let (blocked, due): (Vec<_>, Vec<_>) = events
            .iter()
            .enumerate()
            .filter(|(_, event)| {
                <P::Events as EventSet>::CATEGORIES.contains(&event.stream.category())
            })
            .partition(|(_, event)| stays_queued(&mut queued, event));
        // Blocked events are queued first: an event that is queued twice is projected once, but
        // none is lost. No transaction is open meanwhile, which may lock the very file that the log
        // is in.
        let blocked = blocked.into_iter().map(|(_, event)| event);
        self.queue(blocked).await.map_err(|error| (error.into(), None))?;
        let mut transaction = self.begin_writing().await.map_err(|failure| (failure, None))?;
        let mut unblocked = BTreeSet::new();
        for (index, event) in due {
            let projected = self.project_due(event, &mut transaction, &mut unblocked).await;
            projected.map_err(|failure| (failure, Some(index)))?;
        }
        let Some(last) = events.len().checked_sub(1) else { return Ok(()) };
        let to = checkpoints_after(events);
        let (registered, context) = (self.registered, self.context);
        let (model, epoch) = (&registered.model, self.held.lease.epoch);
        let ending = async {
            model.advance(&mut transaction, P::NAME, epoch, &to).await?;
            model.commit(transaction).await
        };
        let ended = registered.within(context.clock(), ending.map_err(failure_of)).await;
        ended.map_err(|failure| (failure, Some(last)))?;
        for to in to {
            let next = Position::new(to.partition, self.offset(to.partition) + 1);
            context.shared.unknowns.gone(&self.held.lease.worker, &next);
            self.at.get_or_insert_default().insert(to.partition, to);
        }
        for stream in unblocked {
            self.blocked.remove(&stream);
        }
        self.queued = queued;
        self.failures.went_well();
        registered.has_moved();
        Ok(())
    }

    /// Projects an event, and ends the blockage of its stream.
    async fn project_due(
        &self,
        event: &StoredEvent,
        transaction: &mut M::Transaction,
        unblocked: &mut BTreeSet<StreamId>,
    ) -> Result<(), Failure> {
        let (registered, context) = (self.registered, self.context);
        let (model, stream) = (&registered.model, &event.stream);
        if self.blocked.contains_key(stream) && !unblocked.contains(stream) {
            // An error here can be that of an earlier event, if the projection has ignored it.
            let unblocking = async {
                let found = model.find_blocked(transaction, P::NAME, stream).await?;
                let is_done = found.is_some_and(|blocked| blocked.version >= event.version);
                if !is_done {
                    model.clear_blocked(transaction, P::NAME, stream).await?;
                }
                Ok::<_, StoreError>(is_done)
            };
            if registered.within(context.clock(), unblocking.map_err(failure_of)).await? {
                return Ok(());
            }
            unblocked.insert(stream.clone());
        }
        registered.project(&context.shared, event, transaction).await
    }

    /// Queues events of blocked streams.
    async fn queue<'e>(
        &self,
        events: impl Iterator<Item = &'e StoredEvent>,
    ) -> Result<(), StoreError> {
        let mut rows: BTreeMap<u16, Vec<OutboxMessage>> = BTreeMap::new();
        for event in events {
            if let Some(blockage_id) = self.blocked.get(&event.stream) {
                let row = queued(&self.context.shared, P::NAME, event, *blockage_id);
                rows.entry(event.position.partition).or_default().push(row);
            }
        }
        for (partition, rows) in rows {
            self.context.store().enqueue(partition, &rows, None).await?;
            self.context.has_queued(partition, &rows);
        }
        Ok(())
    }

    /// Blocks the stream of an event from the event on.
    async fn block(&mut self, event: &StoredEvent) -> Result<(), Failure> {
        let (registered, clock) = (self.registered, self.context.clock());
        let model = &registered.model;
        let mut transaction = self.begin_writing().await?;
        let (stream, blockage_id) = (event.stream.clone(), self.context.shared.ids.new_id());
        let blocked = BlockedStream { stream, version: before(event), blockage_id };
        let setting = model.set_blocked(&mut transaction, P::NAME, &blocked);
        registered.within(clock, setting).await?;
        registered.within(clock, model.commit(transaction)).await?;
        self.blocked.insert(blocked.stream.clone(), blockage_id);
        self.queued.insert(blocked.stream, Some(event.version));
        Ok(())
    }
}

/// Returns `true` if an event is queued behind others of its stream. An erasure is not, unless it
/// could not be projected itself: queued events before it are erased too, and later ones are
/// projected.
fn stays_queued(queued: &mut BTreeMap<StreamId, Option<Version>>, event: &StoredEvent) -> bool {
    let Some(set_aside) = queued.get(&event.stream) else { return false };
    let stays = event.content != StoredContent::Erased || *set_aside == Some(event.version);
    if !stays {
        queued.remove(&event.stream);
    }
    stays
}

/// Returns the checkpoints after events in order.
fn checkpoints_after(events: &[StoredEvent]) -> Vec<Checkpoint> {
    let checkpoint = |event: &StoredEvent| {
        let Position { partition, offset } = event.position;
        (partition, Checkpoint { partition, offset, event_id: Some(event.id) })
    };
    events.iter().map(checkpoint).collect::<BTreeMap<_, _>>().into_values().collect()
}
