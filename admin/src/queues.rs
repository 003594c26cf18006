//! The queues of effects and due timers.

use std::collections::BTreeMap;

use composable_rust_core::StreamId;
use composable_rust_core::queue::{OutboxKind, Queue};
use composable_rust_runtime::operations::{QueueStatus, WaitingMessage};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use uuid::Uuid;

use crate::{Admin, AdminError, Intent, MessageView, Operator};

/// A queue of one log partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueView {
    /// The kind of the messages, such as `dispatch`.
    pub kind: &'static str,
    /// The name of the target, gateway or policy.
    pub target: String,
    /// The log partition.
    pub partition: u16,
    /// The number of messages that wait. Counting ends at 10,000.
    pub depth: u64,
    /// The age of the first message in seconds; for timers, the time since the first was due.
    pub oldest_seconds: u64,
    /// The last error of the first message that has one.
    pub last_error: Option<String>,
    /// The number of dead letters. Counting ends at 10,000.
    pub dead_letters: u64,
    /// `true` if a running process has announced that it works the queue; `None` while the log is
    /// paused, when no process announces anything.
    pub has_worker: Option<bool>,
}

impl From<QueueStatus> for QueueView {
    fn from(of: QueueStatus) -> Self {
        Self {
            kind: of.queue.kind.as_str(),
            target: of.queue.target,
            partition: of.queue.partition,
            depth: of.rows,
            oldest_seconds: of.oldest.as_secs(),
            last_error: of.last_error,
            dead_letters: of.dead_letters,
            has_worker: of.has_worker,
        }
    }
}

impl QueueView {
    /// Returns one queue for each kind and target, in order, with the sums and maxima of its
    /// partitions. Such a queue has a worker if all of its partitions that have messages do.
    pub fn merged(queues: &[Self]) -> Vec<Self> {
        let mut merged: BTreeMap<(&str, &str), Self> = BTreeMap::new();
        for queue in queues {
            let of = merged.entry((queue.kind, &queue.target)).or_insert_with(|| Self {
                depth: 0,
                dead_letters: 0,
                ..queue.clone()
            });
            of.depth += queue.depth;
            of.dead_letters += queue.dead_letters;
            of.oldest_seconds = of.oldest_seconds.max(queue.oldest_seconds);
            of.has_worker = of.has_worker.zip(queue.has_worker).map(|(one, other)| one && other);
            of.last_error = of.last_error.take().or_else(|| queue.last_error.clone());
        }
        merged.into_values().collect()
    }
}

/// A message that waits in a queue.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WaitingView {
    /// The kind of the queue.
    pub kind: &'static str,
    /// The name of the target, gateway or policy.
    pub target: String,
    /// The log partition.
    pub partition: u16,
    /// The number of failed attempts.
    pub attempts: u32,
    /// The message.
    pub message: MessageView,
}

impl Admin {
    /// Returns the queues that have messages, due timers or dead letters, in order of partitions,
    /// kinds and targets.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn queues(&self) -> Result<Vec<QueueView>, AdminError> {
        let all = self.app.queues().all().await?;
        Ok(all.into_iter().map(QueueView::from).collect())
    }

    /// Returns up to `limit` messages of the queues of a kind and target, in the order of each
    /// partition.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn waiting(
        &self,
        kind: OutboxKind,
        target: &str,
        limit: usize,
    ) -> Result<Vec<WaitingView>, AdminError> {
        let mut found = Vec::new();
        for partition in 0..self.log().partitions {
            let queue = Queue { partition, kind, target: target.to_owned() };
            let messages = self.app.queues().messages(&queue);
            let mut messages = std::pin::pin!(messages.take(limit.saturating_sub(found.len())));
            while let Some(message) = messages.try_next().await? {
                found.push(self.waiting_view(&message));
            }
        }
        Ok(found)
    }

    /// Returns the messages from and to a stream among the first `limit` of every queue.
    pub(crate) async fn waiting_of(
        &self,
        stream: &StreamId,
        limit: usize,
    ) -> Result<Vec<WaitingView>, AdminError> {
        let is_of = |of: &WaitingMessage| {
            of.queued.sender == *stream || of.queued.row.recipient == stream.as_str()
        };
        self.waiting_where(limit, is_of).await
    }

    pub(crate) async fn waiting_where(
        &self,
        limit: usize,
        matches: impl Fn(&WaitingMessage) -> bool,
    ) -> Result<Vec<WaitingView>, AdminError> {
        let mut found = Vec::new();
        for status in self.app.queues().all().await? {
            if status.rows == 0 || status.queue.kind == OutboxKind::Timer {
                continue;
            }
            let messages = self.app.queues().messages(&status.queue).take(limit);
            let mut messages = std::pin::pin!(messages);
            while let Some(message) = messages.try_next().await? {
                if matches(&message) {
                    found.push(self.waiting_view(&message));
                }
            }
        }
        Ok(found)
    }

    /// Returns a waiting message by its id.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`]: no message of this id waits; it may have been handled.
    pub async fn find_message(&self, id: Uuid) -> Result<WaitingView, AdminError> {
        Ok(self.waiting_view(&self.find_waiting(id).await?))
    }

    /// Moves a waiting message to the dead letters, with the operator's name and reason as its
    /// error.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`]: no message of this id waits; it may have been handled.
    pub async fn park(&self, id: Uuid) -> Result<(), AdminError> {
        self.audited(Intent::new("queues park", id.to_string()), async || {
            let Operator { name, reason } = &self.operator;
            let reason = format!("parked by {name}: {reason}");
            let message = self.find_waiting(id).await?;
            if !self.app.queues().park(&message, &reason).await? {
                return Err(handled_meanwhile(id));
            }
            Ok(((), "parked".to_owned()))
        })
        .await
    }

    /// Deletes a waiting message. Its sender gets the reply `Undelivered`, or `Exhausted` for a
    /// call.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`]: no message of this id waits; it may have been handled.
    pub async fn discard_waiting(&self, id: Uuid) -> Result<(), AdminError> {
        self.audited(Intent::new("queues discard", id.to_string()), async || {
            let message = self.find_waiting(id).await?;
            if !self.app.queues().discard(&message).await? {
                return Err(handled_meanwhile(id));
            }
            Ok(((), "discarded".to_owned()))
        })
        .await
    }

    async fn find_waiting(&self, id: Uuid) -> Result<WaitingMessage, AdminError> {
        for status in self.app.queues().all().await? {
            let mut messages = std::pin::pin!(self.app.queues().messages(&status.queue));
            while let Some(message) = messages.try_next().await? {
                if message.queued.row.id == id {
                    return Ok(message);
                }
            }
        }
        Err(AdminError::not_found("waiting message", id.to_string()))
    }

    fn waiting_view(&self, of: &WaitingMessage) -> WaitingView {
        let (queue, row) = (&of.queue, &of.queued.row);
        WaitingView {
            kind: queue.kind.as_str(),
            target: queue.target.clone(),
            partition: queue.partition,
            attempts: of.attempts,
            message: self.message_view(
                row.id,
                (queue.kind, &queue.target),
                (&of.queued.sender, &row.recipient),
                (&row.content, &row.metadata),
            ),
        }
    }
}

fn handled_meanwhile(id: Uuid) -> AdminError {
    AdminError::NotFound {
        what: "waiting message",
        name: id.to_string(),
        hint: "; it was handled meanwhile".to_owned(),
    }
}
