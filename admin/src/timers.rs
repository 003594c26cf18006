//! Armed timers, due or not.

use std::fmt;
use std::str::FromStr;

use composable_rust_core::queue::{ArmedTimer, DueTimer, OutboxKind, TimerQueue};
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
    /// The arming, in which it differs from timers of the same id before and after it.
    pub arming: Arming,
    /// The deadline.
    pub due: Timestamp,
    /// The number of failed attempts.
    pub attempts: u32,
    /// The error of the last attempt.
    pub last_error: Option<String>,
    /// The message that the timer delivers; its sender is the stream.
    pub message: MessageView,
}

/// One arming of a timer, printed as `MESSAGE/INDEX`: the message that armed it, and the index of
/// the effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arming(TimerArming);

impl fmt::Display for Arming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.armed_by.0, self.0.effect_index)
    }
}

/// A text is not an [`Arming`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the `arming` of a timer")]
pub struct InvalidArming(String);

impl FromStr for Arming {
    type Err = InvalidArming;

    fn from_str(text: &str) -> Result<Self, InvalidArming> {
        let parsed = text.split_once('/').and_then(|(message, index)| {
            let armed_by = MessageId(message.parse().ok()?);
            Some(Self(TimerArming { armed_by, effect_index: index.parse().ok()? }))
        });
        parsed.ok_or_else(|| InvalidArming(text.to_owned()))
    }
}

impl Serialize for Arming {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A timer as it was seen: one arming of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimerRef {
    /// The stream.
    pub stream: StreamId,
    /// The id of the timer.
    pub id: String,
    /// The arming.
    pub arming: Arming,
}

impl From<&TimerView> for TimerRef {
    fn from(of: &TimerView) -> Self {
        Self { stream: of.message.sender.clone(), id: of.id.clone(), arming: of.arming }
    }
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

    /// Makes a timer due at once, if it is armed as it was seen. It fires as it would have at its
    /// deadline.
    ///
    /// # Errors
    ///
    /// [`AdminError::TimerGone`]: look again, before you decide about another arming.
    /// [`AdminError::Store`]: the timer may be due; calling it again is safe.
    pub async fn fire_timer(&self, timer: &TimerRef) -> Result<(), AdminError> {
        let TimerRef { stream, id, .. } = timer;
        let intent = Intent::new("timers fire", format!("{stream} {id}"));
        self.audited(intent, async || {
            let seen = self.seen_timer(timer).await?;
            let DueTimer { timer: armed, due, content, metadata, .. } = seen;
            let again = TimerChange::Arm(NewTimer {
                id: armed.id.clone(),
                // The same arming, so that its message is still known for an effect.
                arming: armed.arming,
                due: Due::At(self.store().now().await?),
                content,
                metadata,
            });
            self.change_timer(stream, armed, vec![again]).await?;
            Ok(((), format!("due at once instead of at {due}")))
        })
        .await
    }

    /// Cancels a timer, if it is armed as it was seen: its message is never delivered.
    ///
    /// # Errors
    ///
    /// [`AdminError::TimerGone`]: look again, before you decide about another arming.
    /// [`AdminError::Store`]: the timer may be cancelled; calling it again is safe.
    pub async fn cancel_timer(&self, timer: &TimerRef) -> Result<(), AdminError> {
        let TimerRef { stream, id, .. } = timer;
        let intent = Intent::new("timers cancel", format!("{stream} {id}"));
        self.audited(intent, async || {
            let armed = self.seen_timer(timer).await?;
            let due = armed.due;
            self.change_timer(stream, armed.timer, Vec::new()).await?;
            Ok(((), format!("cancelled before {due}")))
        })
        .await
    }

    /// Returns a timer, if it is armed as it was seen.
    async fn seen_timer(&self, seen: &TimerRef) -> Result<DueTimer, AdminError> {
        let TimerRef { stream, id, arming } = seen;
        let timers = self.store().timers_of(stream).await?;
        let mut timers = timers.into_iter().map(|of| of.timer);
        let found = timers.find(|of| of.timer.id == *id && of.timer.arming == arming.0);
        found.ok_or_else(|| AdminError::TimerGone { stream: stream.clone(), id: id.clone() })
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
        arming: ArmedTimer,
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
            arming: Arming(timer.timer.arming),
            due: timer.due,
            attempts: timer.attempts,
            last_error: of.last_error.clone(),
            message: self.message_view(
                id,
                (OutboxKind::Timer, timer.stream.category()),
                (&timer.stream, timer.stream.as_str()),
                (&timer.content, &timer.metadata),
            ),
        }
    }
}
