//! An append: everything that commits together.

use std::time::Duration;

use uuid::Uuid;

use crate::codec::EncodedMessage;
use crate::event::NewEvent;
use crate::queue::{ArmedTimer, InboxEntry, OutboxKind};
use crate::store::ExpectedVersion;
use crate::{MessageId, Position, StreamId, Timestamp, Version};

/// The events of one step of one stream, and everything that commits with them. All of it commits,
/// or nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Append {
    /// The stream.
    pub stream: StreamId,
    /// The version at which the writer requires the stream.
    pub expected: ExpectedVersion,
    /// The events, in order. An append without events checks the version and stores the rest.
    pub events: Vec<NewEvent>,
    /// The inbox entries of the messages that this append handles.
    pub inbox: Vec<NewInboxEntry>,
    /// The effects to execute after the commit, in order.
    pub outbox: Vec<NewOutboxRow>,
    /// The timers that this append fires. The store requires exactly these armings and deletes them
    /// before it applies `timers`.
    pub fired_timers: Vec<ArmedTimer>,
    /// `true` if the store cancels all timers of the stream, including parked ones, before it
    /// applies `timers`: the instance is finished, or was finished before a later message of the
    /// append.
    pub cancels_timers: bool,
    /// The timer changes, applied in order. Arming or cancelling a timer also removes a parked
    /// timer of the same id.
    pub timers: Vec<TimerChange>,
}

impl Append {
    /// Creates an append that only checks the version.
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

    /// Sets the events.
    #[must_use]
    pub fn with_events(mut self, events: Vec<NewEvent>) -> Self {
        self.events = events;
        self
    }

    /// Sets the inbox entries.
    #[must_use]
    pub fn with_inbox(mut self, marks: Vec<NewInboxEntry>) -> Self {
        self.inbox = marks;
        self
    }

    /// Returns the bytes of payloads and metadata, which limit the size of a batch.
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

/// A message's entry in the inbox, as the append that handles the message creates it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInboxEntry {
    /// The message.
    pub message_id: MessageId,
    /// The digest of the message's content. The same id with another digest is another message.
    pub digest: u128,
    /// The index, in the append, of the first event that the message caused.
    pub first_event: u32,
    /// The number of events that the message caused.
    pub event_count: u32,
    /// The outcome that the sender got, opaque to the store.
    pub outcome: Vec<u8>,
}

/// The state of a stream after a message was handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The version of the stream.
    pub version: Version,
    /// The position of the last event that the message caused; `None` if it caused none.
    pub position: Option<Position>,
}

/// An effect to execute after the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOutboxRow {
    /// The id of the message that the effect sends: unique, and the same when the append is
    /// repeated.
    pub id: Uuid,
    /// The kind of the effect, which determines its executor.
    pub kind: OutboxKind,
    /// The target's or gateway's name.
    pub target: String,
    /// The stream of the addressed instance; empty for a gateway.
    pub recipient: String,
    /// The command or request.
    pub content: EncodedMessage,
    /// [`Metadata`](crate::Metadata) as JSON text.
    pub metadata: String,
}

/// A change to a timer. Timer ids are scoped to the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimerChange {
    /// Arms a timer; replaces the timer of the same id.
    Arm(NewTimer),
    /// Cancels a timer; no effect if there is none.
    Cancel {
        /// The id of the timer.
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

/// A timer to arm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTimer {
    /// The id, scoped to the stream.
    pub id: String,
    /// The arming.
    pub arming: TimerArming,
    /// The deadline.
    pub due: Due,
    /// The command that the timer delivers.
    pub content: EncodedMessage,
    /// [`Metadata`](crate::Metadata) as JSON text.
    pub metadata: String,
}

/// The deadline of a timer, by the store's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// This long after the append commits.
    After(Duration),
    /// At this moment.
    At(Timestamp),
}

/// The outcome of one append of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The append is committed, by this call or by an earlier call with the same content.
    Committed {
        /// The version after the append's last event.
        version: Version,
        /// The position of the append's last event; `None` if it has none.
        position: Option<Position>,
        /// The current version of the stream. It is above `version` if an earlier call committed
        /// the append and the stream has moved on since; the caller's state is then outdated.
        actual: Version,
    },
    /// Nothing was written, because these messages of the append were handled before.
    Duplicate(Vec<InboxEntry>),
    /// Nothing was written, because the stream is not at the expected version. Load it and decide
    /// again; the same append cannot succeed.
    Conflict {
        /// The current version of the stream.
        actual: Version,
    },
    /// Nothing was written, because the stream is closed.
    Closed,
    /// Nothing was written, because these fired timers (indexes into `fired_timers`) have been
    /// cancelled or re-armed.
    StaleTimers(Vec<usize>),
}
