//! Waiting until a workflow has come to rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::message::ReplySource;
use composable_rust_core::queue::{
    Checkpoints as _, Outbox as _, OutboxKind, Queue, QueuePosition, TimerQueue, Timers as _,
};
use composable_rust_core::store::{EventStore as _, StoreError};
use composable_rust_core::{CorrelationId, Position};

use crate::app::app::App;
use crate::app::context::AppContext;
use crate::worker::queued_message::metadata;
use crate::worker::worker_id::WorkerId;

/// The first pause between two looks, which doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(250);
/// The number of rows or events that are read at a time.
const PAGE: usize = 500;

/// The error of [`App::settled`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The workflow has not come to rest within the deadline.
    #[error("the workflow has not come to rest within the deadline: {waiting}")]
    DeadlinePassed {
        /// The work that was found last and has still to be done.
        waiting: String,
    },
    /// The store is unavailable. Try again.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
}

impl App {
    /// Waits until everything that a workflow has set in motion in this service has come to rest:
    /// its messages in the queues are handled, its timers that are due have fired, and the policies
    /// of this process have processed its events. Returns a position of each partition up to which
    /// the log has all of its events, for
    /// [`ProjectionHandle::wait_for`](crate::operations::ProjectionHandle::wait_for).
    ///
    /// A workflow consists of the messages and events with one correlation id: see
    /// [`SendCommand::correlated`](crate::SendCommand::correlated). Timers that are due later, dead
    /// letters, and messages that other services handle are not waited for. Each look reads the
    /// rows that wait in the queues, so this is for services whose queues are short.
    ///
    /// # Errors
    ///
    /// [`SettleError`]; each variant says what to do.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future has no effect.
    pub async fn settled(
        &self,
        correlation: CorrelationId,
        deadline: Duration,
    ) -> Result<Vec<Position>, SettleError> {
        let shared = Arc::clone(self.context());
        let late = shared.clock.sleep(deadline);
        let mut waiting = "nothing was looked at".to_owned();
        let watch = async {
            let workflow = Workflow { app: self, shared: &shared, correlation };
            let mut pause = MIN_PAUSE;
            loop {
                let heads = shared.store.heads().await?;
                match workflow.find(&heads).await? {
                    None => return Ok(heads),
                    Some(found) => waiting = found,
                }
                shared.clock.sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        };
        let settled = tokio::select! {
            biased;
            settled = watch => Some(settled),
            () = late => None,
        };
        settled.unwrap_or(Err(SettleError::DeadlinePassed { waiting }))
    }
}

struct Workflow<'a> {
    app: &'a App,
    shared: &'a AppContext,
    correlation: CorrelationId,
}

impl Workflow<'_> {
    /// Returns something that is still to be done, if anything is. All events of a workflow at rest
    /// are at or before `heads`.
    ///
    /// What is to be done is a message or an unprocessed event at any time. A message that is
    /// handled between the looks at both has left an event after `heads`, which are therefore
    /// compared with the log last.
    async fn find(&self, heads: &[Position]) -> Result<Option<String>, StoreError> {
        if let Some(found) = self.unprocessed_event(heads).await? {
            return Ok(Some(found));
        }
        if let Some(found) = self.row().await? {
            return Ok(Some(found));
        }
        if let Some(found) = self.due_timer().await? {
            return Ok(Some(found));
        }
        self.event(heads.to_vec(), |_, _| Some("a new event".to_owned())).await
    }

    fn is_own(&self, text: &str) -> bool {
        matches!(metadata(text), Ok(Some(of)) if of.correlation_id == self.correlation)
    }

    /// Returns the description of the first event of the workflow after the given positions that
    /// has one.
    async fn event(
        &self,
        mut after: Vec<Position>,
        describe: impl Fn(&str, Position) -> Option<String>,
    ) -> Result<Option<String>, StoreError> {
        loop {
            let events = self.shared.store.read_log(&after, PAGE).await?;
            let own = events.iter().filter(|event| self.is_own(&event.metadata));
            let mut found = own.filter_map(|event| {
                let what = describe(event.stream.category(), event.position)?;
                Some(format!("{what}, `{}` of {}", event.name(), event.stream))
            });
            if let Some(found) = found.next() {
                return Ok(Some(found));
            }
            let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
            for event in &events {
                let Position { partition, offset } = event.position;
                *counts.entry(partition).or_default() += 1;
                for at in after.iter_mut().filter(|at| at.partition == partition) {
                    at.offset = at.offset.max(offset);
                }
            }
            after.retain(|at| counts.get(&at.partition).is_some_and(|count| *count >= PAGE));
            if after.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Finds an event up to `heads` that a policy has not processed.
    async fn unprocessed_event(&self, heads: &[Position]) -> Result<Option<String>, StoreError> {
        let mut done: Vec<(String, &[&str], BTreeMap<u16, u64>)> = Vec::new();
        for (name, categories, from_start) in self.app.policies_of_log() {
            let worker = WorkerId::Policy(name.to_owned()).to_string();
            let stored = self.shared.store.load_checkpoints(&worker).await?;
            let stored: BTreeMap<u16, u64> =
                stored.into_iter().map(|at| (at.partition, at.offset)).collect();
            // A policy that has not begun yet begins at the end that the log had before the first
            // append of this process, unless told otherwise.
            let ends = self.shared.first_ends.get().map(Vec::as_slice).unwrap_or_default();
            let begins_at = |head: &Position| {
                let end = ends.iter().find(|end| end.partition == head.partition).unwrap_or(head);
                if from_start { 0 } else { end.offset }
            };
            let of = |head: &Position| {
                let offset = stored.get(&head.partition).copied();
                (head.partition, offset.unwrap_or_else(|| begins_at(head)))
            };
            done.push((name.to_owned(), categories, heads.iter().map(of).collect()));
        }
        let first = |head: &Position| {
            let offsets = done.iter().filter_map(|(_, _, at)| at.get(&head.partition));
            Some(Position::new(head.partition, *offsets.min()?))
                .filter(|at| at.offset < head.offset)
        };
        let after: Vec<Position> = heads.iter().filter_map(first).collect();
        if after.is_empty() {
            return Ok(None);
        }
        let is_behind = |category: &str, at: Position| {
            let policy = done.iter().find(|(_, of, done)| {
                of.contains(&category)
                    && done.get(&at.partition).is_some_and(|done| *done < at.offset)
            });
            policy.map(|(name, _, _)| format!("the policy `{name}` has not processed an event"))
        };
        self.event(after, is_behind).await
    }

    /// Finds a message in a queue.
    async fn row(&self) -> Result<Option<String>, StoreError> {
        let queues = self.queues().into_iter();
        let mut after: Vec<_> = queues.map(|queue| (queue, QueuePosition::default())).collect();
        // The first page of all queues is one statement, so that a message that moves from one
        // queue to another is not missed.
        while !after.is_empty() {
            let rows = self.shared.store.read_outbox(&after, PAGE).await?;
            if let Some(row) = rows.iter().find(|row| self.is_own(&row.message.row.metadata)) {
                let (queue, name) = (&row.queue, &row.message.row.content.name);
                let queue = WorkerId::of_queue(queue.kind, &queue.target);
                return Ok(Some(format!("`{name}` from {} is in {queue}", row.message.sender)));
            }
            let mut last: BTreeMap<Queue, (QueuePosition, usize)> = BTreeMap::new();
            for row in rows {
                let of = last.entry(row.queue).or_default();
                *of = (row.position, of.1 + 1);
            }
            let full = last.into_iter().filter(|(_, (_, count))| *count >= PAGE);
            after = full.map(|(queue, (position, _))| (queue, position)).collect();
        }
        Ok(None)
    }

    /// Finds a timer that is due.
    async fn due_timer(&self) -> Result<Option<String>, StoreError> {
        let names = self.app.registry().names();
        let queues = names.flat_map(|category| {
            let category = category.to_owned();
            let of = move |partition| TimerQueue { partition, category: category.clone() };
            (0..self.shared.log.partitions).map(of)
        });
        let due = self.shared.store.due_timers(&queues.collect::<Vec<_>>(), PAGE).await?;
        let own = due.timers.iter().find(|timer| self.is_own(&timer.metadata));
        Ok(own.map(|timer| format!("the timer `{}` of {} is due", timer.timer.id, timer.stream)))
    }

    /// Returns the queues of this service, also those that other processes work.
    fn queues(&self) -> BTreeSet<Queue> {
        let elsewhere = self.shared.known.iter().flat_map(|of| match of {
            ReplySource::Target(name) => {
                vec![(OutboxKind::Dispatch, *name), (OutboxKind::Bulk, *name)]
            }
            ReplySource::Gateway(name) => vec![(OutboxKind::Call, *name)],
        });
        let elsewhere = elsewhere.map(|(kind, target)| (kind, target.to_owned()));
        let all = self.app.queues_of_workers().into_iter().chain(elsewhere);
        let partitions = 0..self.shared.log.partitions;
        let queue = |partition, kind, target| Queue { partition, kind, target };
        all.flat_map(|(kind, target)| {
            partitions.clone().map(move |partition| queue(partition, kind, target.clone()))
        })
        .collect()
    }
}
