//! The event store port with its type erased.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, Stream, StreamExt as _};

use uuid::Uuid;

use crate::codec::EncodedMessage;
use crate::event::StoredEvent;
use crate::queue::{
    Checkpoint, CheckpointAdvance, Checkpoints, DeadLetter, DeadLetterDecision, DeadLetters,
    DueTimers, Inbox, InboxEntry, Lease, LeaseRequest, LeaseSnapshot, Leases, Outbox,
    OutboxMessage, OutboxRow, Process, Queue, QueuePosition, QueueSummary, Settlement, TimerQueue,
    TimerSettlement, Timers,
};
use crate::store::{
    Append, AppendOutcome, EventFilter, EventStore, Finding, Fingerprint, Inspection, LogInfo,
    LogRange, NamedCheckpoint, PoolStatus, Presence, Snapshot, StaleSnapshots, StoreError,
    StoreVitals, StreamRow, StreamSummary, TimerEntry,
};
use crate::{EventId, MessageId, Position, StreamId, Timestamp, Version};

/// An [`EventStore`] whose type is erased, as an app holds it. Cheap to clone.
#[derive(Clone)]
pub struct SharedEventStore(Arc<dyn DynEventStore>);

impl SharedEventStore {
    /// Erases the type of `store`.
    pub fn new(store: impl EventStore) -> Self {
        Self(Arc::new(store))
    }
}

impl fmt::Debug for SharedEventStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedEventStore").field(&self.0.log()).finish()
    }
}

/// Declares the object-safe counterpart of [`EventStore`] and the conversions in both directions.
macro_rules! erase {
    (
        EventStore { $(fn $name:ident($($arg:ident: $by:ident $ty:ty),*) -> $out:ty;)* }
        $($port:ident {
            $(fn $method:ident($($marg:ident: $mby:ident $mty:ty),*) -> $mout:ty;)*
        })*
    ) => {
        #[allow(clippy::elidable_lifetime_names, reason = "needless only where nothing is borrowed")]
        trait DynEventStore: Send + Sync {
            fn log(&self) -> LogInfo;
            fn attend(&self, holder: Uuid) -> Option<Box<dyn Presence>>;
            fn system(&self) -> &'static str;
            fn pools(&self) -> Vec<PoolStatus>;
            fn load_events<'a>(&'a self, stream: &'a StreamId, after: Version)
                -> BoxStream<'a, Result<StoredEvent, StoreError>>;
            fn load_with_snapshot<'a>(&'a self, stream: &'a StreamId, fingerprint: Fingerprint)
                -> BoxStream<'a, Result<StreamRow, StoreError>>;
            $(fn $name<'a>(&'a self $(, $arg: erase!(@arg $by 'a $ty))*)
                -> BoxFuture<'a, Result<$out, StoreError>>;)*
            $($(fn $method<'a>(&'a self $(, $marg: erase!(@arg $mby 'a $mty))*)
                -> BoxFuture<'a, Result<$mout, StoreError>>;)*)*
        }

        #[allow(clippy::elidable_lifetime_names, reason = "needless only where nothing is borrowed")]
        impl<S: EventStore> DynEventStore for S {
            fn log(&self) -> LogInfo {
                EventStore::log(self)
            }
            fn attend(&self, holder: Uuid) -> Option<Box<dyn Presence>> {
                EventStore::attend(self, holder)
            }
            fn system(&self) -> &'static str {
                EventStore::system(self)
            }
            fn pools(&self) -> Vec<PoolStatus> {
                EventStore::pools(self)
            }
            fn load_events<'a>(&'a self, stream: &'a StreamId, after: Version)
                -> BoxStream<'a, Result<StoredEvent, StoreError>> {
                EventStore::load_events(self, stream, after).boxed()
            }
            fn load_with_snapshot<'a>(&'a self, stream: &'a StreamId, fingerprint: Fingerprint)
                -> BoxStream<'a, Result<StreamRow, StoreError>> {
                EventStore::load_with_snapshot(self, stream, fingerprint).boxed()
            }
            $(fn $name<'a>(&'a self $(, $arg: erase!(@arg $by 'a $ty))*)
                -> BoxFuture<'a, Result<$out, StoreError>> {
                Box::pin(EventStore::$name(self $(, $arg)*))
            })*
            $($(fn $method<'a>(&'a self $(, $marg: erase!(@arg $mby 'a $mty))*)
                -> BoxFuture<'a, Result<$mout, StoreError>> {
                Box::pin($port::$method(self $(, $marg)*))
            })*)*
        }

        $(impl $port for SharedEventStore {
            $(async fn $method(&self $(, $marg: erase!(@arg $mby $mty))*) -> Result<$mout, StoreError> {
                self.0.$method($($marg),*).await
            })*
        })*

        impl EventStore for SharedEventStore {
            fn log(&self) -> LogInfo {
                self.0.log()
            }
            fn attend(&self, holder: Uuid) -> Option<Box<dyn Presence>> {
                self.0.attend(holder)
            }
            fn system(&self) -> &'static str {
                self.0.system()
            }
            fn pools(&self) -> Vec<PoolStatus> {
                self.0.pools()
            }
            fn load_events<'a>(&'a self, stream: &'a StreamId, after: Version)
                -> impl Stream<Item = Result<StoredEvent, StoreError>> + Send + 'a {
                self.0.load_events(stream, after)
            }
            fn load_with_snapshot<'a>(&'a self, stream: &'a StreamId, fingerprint: Fingerprint)
                -> impl Stream<Item = Result<StreamRow, StoreError>> + Send + 'a {
                self.0.load_with_snapshot(stream, fingerprint)
            }
            $(async fn $name(&self $(, $arg: erase!(@arg $by $ty))*) -> Result<$out, StoreError> {
                self.0.$name($($arg),*).await
            })*
        }
    };
    (@arg borrowed $l:lifetime $ty:ty) => { &$l $ty };
    (@arg maybe $l:lifetime $ty:ty) => { Option<&$l $ty> };
    (@arg owned $l:lifetime $ty:ty) => { $ty };
    (@arg borrowed $ty:ty) => { &$ty };
    (@arg maybe $ty:ty) => { Option<&$ty> };
    (@arg owned $ty:ty) => { $ty };
}

erase! {
    EventStore {
        fn append_events(partition: owned u16, batch: borrowed [Append]) -> Vec<AppendOutcome>;
        fn read_log(after: borrowed [Position], limit: owned usize) -> Vec<StoredEvent>;
        fn heads() -> Vec<Position>;
        fn wait_for_events(after: borrowed [Position]) -> ();
        fn save_snapshot(stream: borrowed StreamId, snapshot: borrowed Snapshot, last: owned EventId) -> ();
        fn delete_snapshots(stream: borrowed StreamId, which: owned StaleSnapshots) -> ();
        fn load_snapshot(stream: borrowed StreamId, fingerprint: owned Fingerprint) -> Option<Snapshot>;
        fn erase_stream(stream: borrowed StreamId) -> u64;
        fn close_stream(stream: borrowed StreamId, expected: owned Version, event_id: owned EventId) -> AppendOutcome;
        fn override_event(stream: borrowed StreamId, version: owned Version, replacement: borrowed EncodedMessage) -> ();
        fn now() -> Timestamp;
        fn vitals() -> StoreVitals;
    }
    Leases {
        fn load_leases(workers: borrowed [String]) -> LeaseSnapshot;
        fn change_leases(request: borrowed LeaseRequest) -> Vec<bool>;
        fn pause(name: borrowed str, by: maybe str) -> ();
        fn resume(name: borrowed str) -> ();
        fn introduce(process: borrowed Process) -> ();
    }
    Checkpoints {
        fn load_checkpoints(name: borrowed str) -> Vec<Checkpoint>;
        fn save_checkpoints(name: borrowed str, to: borrowed [Checkpoint]) -> ();
        fn rewind(worker: borrowed str, to: owned Checkpoint) -> ();
    }
    Outbox {
        fn enqueue(partition: owned u16, rows: borrowed [OutboxMessage], advance: maybe CheckpointAdvance) -> bool;
        fn park(partition: owned u16, rows: borrowed [OutboxMessage], error: borrowed str) -> ();
        fn read_outbox(after: borrowed [(Queue, QueuePosition)], limit: owned usize) -> Vec<OutboxRow>;
        fn last_positions(queues: borrowed [Queue]) -> Vec<QueuePosition>;
        fn summarize_queues(limit: owned usize) -> Vec<QueueSummary>;
        fn count_waiting(queues: borrowed [Queue], limit: owned usize) -> Vec<usize>;
        fn queued_streams(queue: borrowed Queue) -> Vec<StreamId>;
        fn settle(partition: owned u16, settlements: borrowed [Settlement]) -> Vec<bool>;
        fn wait_for_work(seen: owned u64) -> u64;
        fn wake_workers() -> ();
    }
    Timers {
        fn due_timers(queues: borrowed [TimerQueue], limit: owned usize) -> DueTimers;
        fn settle_timers(partition: owned u16, settlements: borrowed [TimerSettlement]) -> ();
    }
    DeadLetters {
        fn dead_letters(after: owned Option<(Queue, QueuePosition)>, limit: owned usize) -> Vec<DeadLetter>;
        fn decide_dead_letter(partition: owned u16, id: owned Uuid, decision: owned DeadLetterDecision) -> bool;
        fn decided_dead_letters(queues: borrowed [Queue], limit: owned usize) -> Vec<DeadLetter>;
        fn resolve_dead_letter(lease: borrowed Lease, letter: borrowed DeadLetter, replies: borrowed [OutboxMessage]) -> bool;
    }
    Inspection {
        fn list_streams(partition: owned u16, prefix: borrowed str, after: maybe StreamId, limit: owned usize) -> Vec<StreamSummary>;
        fn search_log(range: owned LogRange, filter: borrowed EventFilter, limit: owned usize) -> Vec<StoredEvent>;
        fn list_overridden(partition: owned u16, after: maybe StoredEvent, limit: owned usize) -> Vec<StoredEvent>;
        fn timer_queues() -> Vec<TimerQueue>;
        fn list_timers(queue: borrowed TimerQueue, after: maybe TimerEntry, limit: owned usize) -> Vec<TimerEntry>;
        fn timers_of(stream: borrowed StreamId) -> Vec<TimerEntry>;
        fn inbox_of(stream: borrowed StreamId, limit: owned usize) -> Vec<InboxEntry>;
        fn all_leases() -> LeaseSnapshot;
        fn all_processes() -> Vec<(Process, Timestamp)>;
        fn all_checkpoints() -> Vec<NamedCheckpoint>;
        fn examine() -> Vec<Finding>;
    }
    Inbox {
        fn load_inbox_entry(stream: borrowed StreamId, message_id: owned MessageId) -> Option<InboxEntry>;
        fn prune_inbox(partition: owned u16, age: owned Duration, limit: owned usize) -> u64;
    }
}
