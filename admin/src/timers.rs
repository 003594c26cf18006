//! Armed timers, due or not.

use composable_rust_core::queue::TimerQueue;
use composable_rust_core::store::{
    Append, AppendOutcome, Due, EventStore as _, ExpectedVersion, Inspection as _, NewInboxEntry,
    NewTimer, TimerArming, TimerChange, TimerEntry,
};
use composable_rust_core::{MessageId, StreamId, Timestamp};
use serde::Serialize;
use uuid::Uuid;

use crate::{Admin, AdminError, Intent, MessageView};

/// A query of timers, in the order of their deadlines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimerQuery {
    /// The category of the streams.
    pub category: Option<String>,
    /// The time before which the timers are due.
    pub due_before: Option<Timestamp>,
    /// The maximum number of entries.
    pub limit: usize,
}

/// An armed timer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TimerView {
    /// The id, which is unique within the stream.
    pub id: String,
    /// The deadline.
    pub due: Timestamp,
    /// The number of failed attempts.
    pub attempts: u32,
    /// The error of the last attempt.
    pub last_error: Option<String>,
    /// The message that the timer delivers; its sender is the stream.
    pub message: MessageView,
}

impl Admin {
    /// Returns the armed timers in the order of their deadlines, up to the limit of the query.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn timers(&self, query: &TimerQuery) -> Result<Vec<TimerView>, AdminError> {
        let mut found = Vec::new();
        for queue in self.store().timer_queues().await? {
            if query.category.as_ref().is_some_and(|category| *category != queue.category) {
                continue;
            }
            found.extend(self.timers_of_queue(&queue, query).await?);
        }
        found.sort_by(|one, other| {
            (one.timer.due, &one.timer.stream).cmp(&(other.timer.due, &other.timer.stream))
        });
        found.truncate(query.limit);
        Ok(found.iter().map(|timer| self.timer_view(timer)).collect())
    }

    async fn timers_of_queue(
        &self,
        queue: &TimerQueue,
        query: &TimerQuery,
    ) -> Result<Vec<TimerEntry>, AdminError> {
        let mut timers = self.store().list_timers(queue, None, query.limit).await?;
        timers.retain(|of| query.due_before.is_none_or(|moment| of.timer.due < moment));
        Ok(timers)
    }

    /// Returns a timer of a stream.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`]: no such timer is armed.
    pub async fn timer(&self, stream: &StreamId, id: &str) -> Result<TimerView, AdminError> {
        Ok(self.timer_view(&self.find_timer(stream, id).await?))
    }

    /// Makes a timer due at once. It fires as it would have at its deadline.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`]: no such timer is armed. [`AdminError::TimerGone`]: look again.
    pub async fn fire_timer(&self, stream: &StreamId, id: &str) -> Result<(), AdminError> {
        let intent = Intent::new("timers fire", format!("{stream} {id}"));
        self.audited(intent, async || {
            let TimerEntry { timer, .. } = self.find_timer(stream, id).await?;
            let arming = TimerArming { armed_by: MessageId(Uuid::new_v4()), effect_index: 0 };
            let again = TimerChange::Arm(NewTimer {
                id: id.to_owned(),
                arming,
                due: Due::At(self.store().now().await?),
                content: timer.content.clone(),
                metadata: timer.metadata.clone(),
            });
            self.change_timer(stream, timer.timer, vec![again]).await?;
            Ok(((), format!("due at once instead of at {}", timer.due)))
        })
        .await
    }

    /// Cancels a timer: its message is never delivered.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`]: no such timer is armed. [`AdminError::TimerGone`]: look again.
    pub async fn cancel_timer(&self, stream: &StreamId, id: &str) -> Result<(), AdminError> {
        let intent = Intent::new("timers cancel", format!("{stream} {id}"));
        self.audited(intent, async || {
            let TimerEntry { timer, .. } = self.find_timer(stream, id).await?;
            self.change_timer(stream, timer.timer, Vec::new()).await?;
            Ok(((), format!("cancelled before {}", timer.due)))
        })
        .await
    }

    async fn find_timer(&self, stream: &StreamId, id: &str) -> Result<TimerEntry, AdminError> {
        let timers = self.store().timers_of(stream).await?;
        let known: Vec<String> = timers.iter().map(|of| of.timer.timer.id.clone()).collect();
        let found = timers.into_iter().find(|of| of.timer.timer.id == id);
        found.ok_or_else(|| AdminError::NotFound {
            what: "timer",
            name: format!("{id} of {stream}"),
            hint: if known.is_empty() {
                "; the stream has no timers".to_owned()
            } else {
                format!("; its timers are: {}", known.join(", "))
            },
        })
    }

    /// Removes exactly this arming of a timer, and applies changes in the same transaction.
    async fn change_timer(
        &self,
        stream: &StreamId,
        arming: composable_rust_core::queue::ArmedTimer,
        timers: Vec<TimerChange>,
    ) -> Result<(), AdminError> {
        let id = arming.id.clone();
        let mut append = Append::new(stream.clone(), ExpectedVersion::Any);
        append.fired_timers = vec![arming];
        // Recognises the append if it is repeated.
        append.inbox = vec![NewInboxEntry {
            message_id: MessageId(Uuid::new_v4()),
            digest: 0,
            first_event: 0,
            event_count: 0,
            outcome: Vec::new(),
        }];
        append.timers = timers;
        let partition = self.log().partition_of(stream);
        let outcomes = self.store().append_events(partition, &[append]).await?;
        match outcomes.first() {
            Some(AppendOutcome::Committed { .. }) => {
                self.store_wakes().await;
                Ok(())
            }
            _ => Err(AdminError::TimerGone { stream: stream.clone(), id }),
        }
    }

    async fn store_wakes(&self) {
        use composable_rust_core::queue::Outbox as _;
        if let Err(error) = self.store().wake_workers().await {
            tracing::debug!(%error, "failed to wake the workers; they poll");
        }
    }

    pub(crate) fn timer_view(&self, of: &TimerEntry) -> TimerView {
        let timer = &of.timer;
        let id = timer.timer.message_id(self.log().id, &timer.stream).0;
        TimerView {
            id: timer.timer.id.clone(),
            due: timer.due,
            attempts: timer.attempts,
            last_error: of.last_error.clone(),
            message: self.message_view(
                id,
                &timer.stream,
                timer.stream.as_str(),
                (&timer.content, &timer.metadata),
            ),
        }
    }
}
