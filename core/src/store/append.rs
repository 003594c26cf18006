//! One append: everything that commits together.

use std::time::Duration;

use uuid::Uuid;

use crate::codec::EncodedMessage;
use crate::event::NewEvent;
use crate::queue::{ArmedTimer, InboxEntry, OutboxKind};
use crate::store::ExpectedVersion;
use crate::{MessageId, Position, StreamId, Timestamp, Version};

/// Everything that one step of one stream commits: all of it or nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Append {
    /// The stream.
    pub stream: StreamId,
    /// What the writer requires of it.
    pub expected: ExpectedVersion,
    /// Events, in order; none checks the version and stores the rest.
    pub events: Vec<NewEvent>,
    /// What the inbox remembers of the messages that this append handles.
    pub inbox: Vec<NewInboxEntry>,
    /// Effects to be executed after the commit, in order.
    pub outbox: Vec<NewOutboxRow>,
    /// Timers that this append fires: it requires exactly these armings and deletes them, before
    /// `timers` are changed.
    pub fired_timers: Vec<ArmedTimer>,
    /// `true` if all timers that were armed before go, parked ones too, before `timers` are changed: the
    /// instance is finished, or was before a later message of the append.
    pub cancels_timers: bool,
    /// Timers to be armed or cancelled, in order; one of the id that is parked goes with it.
    pub timers: Vec<TimerChange>,
}

impl Append {
    /// An append of nothing: it only checks the version.
    pub fn new(stream: StreamId, expected: ExpectedVersion) -> Self {
        Self {
            stream,
            expected,
            events: Vec::new(),
            inbox: Vec::new(),
            outbox: Vec::new(),
            fired_timers: Vec::new(),
            timers: Vec::new(),
            cancels_timers: false,
        }
    }

    /// The same with `events`.
    #[must_use]
    pub fn with_events(mut self, events: Vec<NewEvent>) -> Self {
        self.events = events;
        self
    }

    /// The same with `marks`.
    #[must_use]
    pub fn with_inbox(mut self, marks: Vec<NewInboxEntry>) -> Self {
        self.inbox = marks;
        self
    }

    /// Bytes of payloads and metadata; what bounds a batch.
    pub fn size(&self) -> usize {
        let events = self.events.iter().map(|e| e.content.bytes.len() + e.metadata.len());
        let marks = self.inbox.iter().map(|m| m.outcome.len());
        let outbox = self.outbox.iter().map(|o| o.content.bytes.len() + o.metadata.len());
        let timers = self.timers.iter().map(|t| match t {
            TimerChange::Arm(timer) => timer.content.bytes.len() + timer.metadata.len(),
            TimerChange::Cancel { .. } => 0,
        });
        events.sum::<usize>() + marks.sum::<usize>() + outbox.sum::<usize>() + timers.sum::<usize>()
    }
}

/// A message's entry in the inbox, made by the append that handles it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInboxEntry {
    /// The message.
    pub message_id: MessageId,
    /// Of the message's content: the same id with another digest is another message.
    pub digest: u128,
    /// Index in the append of the first event that the message caused.
    pub first_event: u32,
    /// How many events it caused.
    pub event_count: u32,
    /// What it was answered, opaque to the store.
    pub outcome: Vec<u8>,
}

/// Where a stream stood once a message was handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The version of the stream then.
    pub version: Version,
    /// The place in the log of the last event that the message caused; `None` if it caused none.
    pub position: Option<Position>,
}

/// An effect to be executed after the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOutboxRow {
    /// Unique, and the same when the same append is sent again; the message id of what it sends.
    pub id: Uuid,
    /// What executes it.
    pub kind: OutboxKind,
    /// The target's or gateway's name.
    pub target: String,
    /// The addressed instance's stream; empty for a gateway.
    pub recipient: String,
    /// The command or request.
    pub content: EncodedMessage,
    /// [`Metadata`](crate::Metadata) as JSON text.
    pub metadata: String,
}

/// A timer to be armed or cancelled. Timer ids are scoped to the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimerChange {
    /// Arms a timer; one under the same id is replaced.
    Arm(NewTimer),
    /// Cancels a timer; without effect if there is none.
    Cancel {
        /// The timer.
        id: String,
    },
}

/// Identifies one arming of a timer: the effect that armed it. No two armings of a timer id are
/// equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerArming {
    /// The message whose handling armed the timer.
    pub armed_by: MessageId,
    /// The index of the arming effect among the effects of that message.
    pub effect_index: u32,
}

/// A timer to be armed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTimer {
    /// Scoped to the stream.
    pub id: String,
    /// The arming.
    pub arming: TimerArming,
    /// When it fires.
    pub due: Due,
    /// The command it delivers.
    pub content: EncodedMessage,
    /// [`Metadata`](crate::Metadata) as JSON text.
    pub metadata: String,
}

/// When a timer fires, by the store's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// So long after the append commits.
    After(Duration),
    /// At this moment.
    At(Timestamp),
}

/// What became of one append of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppendOutcome {
    /// It is committed, now or by an earlier call with the same content.
    Committed {
        /// The version after its last event.
        version: Version,
        /// The place in the log of its last event; `None` if it has none.
        position: Option<Position>,
        /// The version at which the stream stands: above `version` if an earlier call committed the
        /// append, and the stream has moved on since. The caller's state is then not the current one.
        actual: Version,
    },
    /// Nothing of it was written: these of its messages were handled before.
    Duplicate(Vec<InboxEntry>),
    /// Nothing of it was written: the stream is not where the writer requires it. Load it and
    /// decide again; the same append cannot succeed.
    Conflict {
        /// Where the stream stands.
        actual: Version,
    },
    /// Nothing of it was written: the stream is closed.
    Closed,
    /// Nothing of it was written: these of the timers that it fires (by index) are not armed so any
    /// more, and never will be again.
    StaleTimers(Vec<usize>),
}
