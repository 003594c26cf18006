//! Reading a store as operators do: by name, by time, by what waits.

use std::future::Future;

use crate::event::StoredEvent;
use crate::queue::{Checkpoint, DueTimer, InboxEntry, LeaseSnapshot, Process, TimerQueue};
use crate::store::StoreError;
use crate::{CorrelationId, StreamId, Timestamp, Version};

/// The reads of operators' tools. No worker calls them.
///
/// Each call is one statement that is bounded by the arguments: it reads pages by an index, or
/// examines a range of offsets. None counts a table.
pub trait Inspection: Send + Sync + 'static {
    /// Returns up to `limit` streams of one partition whose names start with `prefix`, in the order
    /// of the bytes of their names, beginning after the stream `after`.
    fn list_streams(
        &self,
        partition: u16,
        prefix: &str,
        after: Option<&StreamId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<StreamSummary>, StoreError>> + Send;

    /// Returns up to `limit` events of a range of one partition that match a filter, newest first.
    /// The store examines the whole range unless it reaches the limit.
    fn search_log(
        &self,
        range: LogRange,
        filter: &EventFilter,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<StoredEvent>, StoreError>> + Send;

    /// Returns up to `limit` overridden events of one partition as they were appended, in the order
    /// of the bytes of their streams' names and of versions, beginning after the given one.
    fn list_overridden(
        &self,
        partition: u16,
        after: Option<&StoredEvent>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<StoredEvent>, StoreError>> + Send;

    /// Returns the queues that have armed timers, due or not, in order.
    fn timer_queues(&self) -> impl Future<Output = Result<Vec<TimerQueue>, StoreError>> + Send;

    /// Returns up to `limit` armed timers of a queue in the order of their deadlines, streams and
    /// ids, beginning after that of the given timer.
    fn list_timers(
        &self,
        queue: &TimerQueue,
        after: Option<&TimerEntry>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<TimerEntry>, StoreError>> + Send;

    /// Returns the armed timers of a stream, in order of ids.
    fn timers_of(
        &self,
        stream: &StreamId,
    ) -> impl Future<Output = Result<Vec<TimerEntry>, StoreError>> + Send;

    /// Returns up to `limit` inbox entries of a stream, in descending order of versions and message
    /// ids.
    fn inbox_of(
        &self,
        stream: &StreamId,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<InboxEntry>, StoreError>> + Send;

    /// Returns the leases and members of all workers, and the pauses.
    fn all_leases(&self) -> impl Future<Output = Result<LeaseSnapshot, StoreError>> + Send;

    /// Returns the processes that were [introduced](crate::queue::Leases::introduce), each with the
    /// time of its start, in order of these times. Some of them may not run any more.
    fn all_processes(
        &self,
    ) -> impl Future<Output = Result<Vec<(Process, Timestamp)>, StoreError>> + Send;

    /// Returns the checkpoints of all followers and consumers, in order of names and partitions.
    fn all_checkpoints(
        &self,
    ) -> impl Future<Output = Result<Vec<NamedCheckpoint>, StoreError>> + Send;

    /// Examines the store: its facts, such as the server's version and the sizes of tables, and the
    /// conditions that are known to cause trouble.
    fn examine(&self) -> impl Future<Output = Result<Vec<Finding>, StoreError>> + Send;
}

/// A stream, as a list of streams shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSummary {
    /// The stream.
    pub stream: StreamId,
    /// The version: the number of events.
    pub version: Version,
    /// The time of the first event.
    pub created_at: Timestamp,
    /// The time of the last event.
    pub changed_at: Timestamp,
    /// The stored name of the last event: [`CLOSED`](crate::event::CLOSED) if the stream is closed.
    pub last_event: String,
}

/// A range of offsets of one log partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRange {
    /// The partition.
    pub partition: u16,
    /// The offset before the first one of the range.
    pub after: u64,
    /// The last offset of the range.
    pub until: u64,
}

/// A filter of events. Every event matches the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// The category of the streams.
    pub category: Option<String>,
    /// A part of the streams' names.
    pub stream_contains: Option<String>,
    /// The stored names of the events, of which any matches. An overridden event has the name under
    /// which it was appended. Empty: all names.
    pub names: Vec<String>,
    /// The correlation id in the metadata.
    pub correlation: Option<CorrelationId>,
}

impl EventFilter {
    /// Returns `true` if an event that is not overridden matches.
    pub fn matches(&self, event: &StoredEvent) -> bool {
        let correlation = |id| event.metadata().is_some_and(|of| of.correlation_id == id);
        self.category.as_ref().is_none_or(|category| event.stream.category() == category)
            && self.stream_contains.as_ref().is_none_or(|part| event.stream.as_str().contains(part))
            && (self.names.is_empty() || self.names.iter().any(|name| name == event.name()))
            && self.correlation.is_none_or(correlation)
    }
}

/// An armed timer, due or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimerEntry {
    /// The timer.
    pub timer: DueTimer,
    /// The error of its last attempt.
    pub last_error: Option<String>,
}

/// A checkpoint with the name of its follower or consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedCheckpoint {
    /// The name under which the checkpoint is stored.
    pub name: String,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
}

/// The result of one check of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The stable name of the check, such as `server-version`.
    pub check: &'static str,
    /// The severity.
    pub severity: Severity,
    /// A description of the finding.
    pub found: String,
    /// The remedy; empty for a fact.
    pub remedy: String,
}

impl Finding {
    /// Creates a fact, which needs no action.
    pub fn fact(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, severity: Severity::Fact, found: found.into(), remedy: String::new() }
    }

    /// Creates a finding that needs attention, with what to do about it.
    pub fn warning(
        check: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (found, remedy) = (found.into(), remedy.into());
        Self { check, severity: Severity::Warning, found, remedy }
    }

    /// Creates a finding that loses events, stops workers or will, with what to do about it.
    pub fn fault(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Fault, ..Self::warning(check, found, remedy) }
    }
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A fact.
    Fact,
    /// A condition that will cause trouble, or slows the store down.
    Warning,
    /// A condition that loses events or stops workers.
    Fault,
}

impl Severity {
    /// Returns the name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fact => "fact",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }
}
