//! The hooks of a layer, and the calls that pass them.

use std::future::Future;
use std::time::Duration;

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::StoredEvent;
use composable_rust_core::queue::{
    Checkpoint, CheckpointAdvance, Checkpoints, DeadLetter, DeadLetterDecision, DeadLetters,
    DueTimers, Inbox, InboxEntry, Lease, LeaseRequest, LeaseSnapshot, Leases, Outbox,
    OutboxMessage, OutboxRow, Process, Queue, QueuePosition, QueueSummary, Settlement, TimerQueue,
    TimerSettlement, Timers,
};
use composable_rust_core::store::{
    Append, AppendOutcome, EventFilter, EventStore, Finding, Fingerprint, Inspection, LogInfo,
    LogRange, NamedCheckpoint, PoolStatus, Presence, Snapshot, StaleSnapshots, StoreError,
    StoreVitals, StreamRow, StreamSummary, TimerEntry,
};
use composable_rust_core::{EventId, MessageId, Position, StreamId, Timestamp, Version};
use futures_util::stream::{BoxStream, Stream, StreamExt as _, TryStreamExt as _};
use uuid::Uuid;

use super::Intercepted;

/// The rows of a load.
pub type StreamRows<'a> = BoxStream<'a, Result<StreamRow, StoreError>>;

/// The kind of a call to an event store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// An append.
    Append,
    /// A read: a load, a page of the log, heads, a snapshot, an inbox entry, or a read of leases,
    /// checkpoints, queues or timers.
    Read,
    /// A change of leases, checkpoints, queues, timers or the inbox.
    Write,
    /// A change of snapshots or of stored events: erasing, closing, overriding.
    Upkeep,
    /// A wait for events or for work.
    Wait,
    /// A reading of the store's clock.
    Clock,
}

/// A call to an event store, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreCall {
    /// The name of the method, such as `append_events`.
    pub method: &'static str,
    /// The kind of the method.
    pub kind: CallKind,
}

/// Declares the hooks of every method, and the store that calls them. Methods with `changed by`
/// have a hook for their answer.
macro_rules! hooks {
    ($($port:ident {
        $($kind:ident fn $method:ident($($arg:ident: $ty:ty),*) -> $out:ty
            $(, changed by $after:ident)?;)*
    })*) => {
        /// The hooks of a layer between an event store and its caller. All pass calls on
        /// unchanged by default, so that a layer contains only the hooks that it needs.
        ///
        /// - [`call`](Self::call) surrounds every call but loads, and [`load`](Self::load) every
        ///   load, whatever the method.
        /// - A hook with the name of a method replaces that method. The others still surround it,
        ///   unless the replacement makes the call by itself.
        /// - A hook `after_…` changes the answer of a read.
        ///
        /// The store behind the layer is of type `S`: a layer for any store is generic over it.
        ///
        /// # Example: a store that loses the answer of every settlement
        ///
        /// ```
        /// use composable_rust_core::queue::Outbox as _;
        /// use composable_rust_core::store::{EventStore, StoreError};
        /// use composable_rust_testing::{InMemoryEventStore, Intercept, Intercepted, StoreCall};
        ///
        /// struct LosesSettlements;
        ///
        /// impl<S: EventStore> Intercept<S> for LosesSettlements {
        ///     async fn call<T: Send>(
        ///         &self,
        ///         call: StoreCall,
        ///         made: impl Future<Output = Result<T, StoreError>> + Send,
        ///     ) -> Result<T, StoreError> {
        ///         let answer = made.await;
        ///         if call.method == "settle" {
        ///             return Err(StoreError::unavailable("the answer is lost"));
        ///         }
        ///         answer
        ///     }
        /// }
        ///
        /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
        /// let store = Intercepted::layered(InMemoryEventStore::new(), LosesSettlements);
        /// assert!(store.heads().await.is_ok());
        /// assert!(store.settle(0, &[]).await.is_err());
        /// # });
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        pub trait Intercept<S: EventStore>: Send + Sync + 'static {
            /// Surrounds the future of a call. A call that is not awaited has no effect.
            fn call<T: Send>(
                &self,
                call: StoreCall,
                made: impl Future<Output = Result<T, StoreError>> + Send,
            ) -> impl Future<Output = Result<T, StoreError>> + Send {
                let _ = call;
                made
            }

            /// Surrounds the rows of a load. A load whose rows are not read has no effect.
            fn load<'a>(&'a self, call: StoreCall, rows: StreamRows<'a>) -> StreamRows<'a> {
                let _ = call;
                rows
            }

            /// Replaces `attend`. A layer that simulates a process whose leases can expire returns
            /// `None`.
            fn attend(&self, store: &S, holder: Uuid) -> Option<Box<dyn Presence>> {
                store.attend(holder)
            }

            /// Replaces `load_events`.
            fn load_events<'a>(
                &'a self,
                store: &'a S,
                stream: &'a StreamId,
                after: Version,
            ) -> StreamRows<'a> {
                let call = StoreCall { method: "load_events", kind: CallKind::Read };
                self.load(call, store.load_events(stream, after).map_ok(StreamRow::Event).boxed())
            }

            /// Replaces `load_with_snapshot`.
            fn load_with_snapshot<'a>(
                &'a self,
                store: &'a S,
                stream: &'a StreamId,
                fingerprint: Fingerprint,
            ) -> StreamRows<'a> {
                let call = StoreCall { method: "load_with_snapshot", kind: CallKind::Read };
                self.load(call, store.load_with_snapshot(stream, fingerprint).boxed())
            }

            $($(
                #[doc = concat!("Replaces `", stringify!($method), "`.")]
                fn $method(
                    &self,
                    store: &S,
                    $($arg: $ty),*
                ) -> impl Future<Output = Result<$out, StoreError>> + Send {
                    let call = StoreCall {
                        method: stringify!($method),
                        kind: CallKind::$kind,
                    };
                    self.call(call, $port::$method(store $(, $arg)*))
                }

                $(
                    #[doc = concat!("Changes the answer of `", stringify!($method), "`.")]
                    fn $after(&self, answer: $out) -> $out {
                        answer
                    }
                )?
            )*)*
        }

        hooks! { @stores $($port {
            $(fn $method($($arg: $ty),*) -> $out $(, changed by $after)?;)*
        })* }
    };
    (@stores EventStore { $($methods:tt)* } $($port:ident { $($port_methods:tt)* })*) => {
        impl<S: EventStore, I: Intercept<S>> EventStore for Intercepted<S, I> {
            fn log(&self) -> LogInfo {
                self.inner().log()
            }

            fn attend(&self, holder: Uuid) -> Option<Box<dyn Presence>> {
                self.layer().attend(self.inner(), holder)
            }

            fn system(&self) -> &'static str {
                self.inner().system()
            }

            fn pools(&self) -> Vec<PoolStatus> {
                self.inner().pools()
            }

            fn load_events<'a>(
                &'a self,
                stream: &'a StreamId,
                after: Version,
            ) -> impl Stream<Item = Result<StoredEvent, StoreError>> + Send + 'a {
                let rows = self.layer().load_events(self.inner(), stream, after);
                rows.try_filter_map(async |row| match row {
                    StreamRow::Event(event) => Ok(Some(event)),
                    StreamRow::Snapshot(_) => Ok(None),
                })
            }

            fn load_with_snapshot<'a>(
                &'a self,
                stream: &'a StreamId,
                fingerprint: Fingerprint,
            ) -> impl Stream<Item = Result<StreamRow, StoreError>> + Send + 'a {
                self.layer().load_with_snapshot(self.inner(), stream, fingerprint)
            }

            hooks! { @methods $($methods)* }
        }

        $(impl<S: EventStore, I: Intercept<S>> $port for Intercepted<S, I> {
            hooks! { @methods $($port_methods)* }
        })*
    };
    (@methods $(fn $method:ident($($arg:ident: $ty:ty),*) -> $out:ty
        $(, changed by $after:ident)?;)*) => {
        $(async fn $method(&self $(, $arg: $ty)*) -> Result<$out, StoreError> {
            let answer = self.layer().$method(self.inner() $(, $arg)*).await?;
            $(let answer = self.layer().$after(answer);)?
            Ok(answer)
        })*
    };
}

hooks! {
    EventStore {
        Append fn append_events(partition: u16, batch: &[Append]) -> Vec<AppendOutcome>;
        Read fn read_log(after: &[Position], limit: usize) -> Vec<StoredEvent>,
            changed by after_read_log;
        Read fn heads() -> Vec<Position>, changed by after_heads;
        Wait fn wait_for_events(after: &[Position]) -> ();
        Upkeep fn save_snapshot(stream: &StreamId, snapshot: &Snapshot, last: EventId) -> ();
        Upkeep fn delete_snapshots(stream: &StreamId, which: StaleSnapshots) -> ();
        Read fn load_snapshot(stream: &StreamId, fingerprint: Fingerprint) -> Option<Snapshot>,
            changed by after_load_snapshot;
        Upkeep fn erase_stream(stream: &StreamId) -> u64;
        Upkeep fn close_stream(
            stream: &StreamId,
            expected: Version,
            event_id: EventId
        ) -> AppendOutcome;
        Upkeep fn override_event(
            stream: &StreamId,
            version: Version,
            replacement: &EncodedMessage
        ) -> ();
        Clock fn now() -> Timestamp;
        Clock fn vitals() -> StoreVitals;
    }
    Leases {
        Read fn load_leases(workers: &[String]) -> LeaseSnapshot, changed by after_load_leases;
        Write fn change_leases(request: &LeaseRequest) -> Vec<bool>;
        Write fn pause(name: &str, by: Option<&str>) -> ();
        Write fn resume(name: &str) -> ();
        Write fn introduce(process: &Process) -> ();
    }
    Checkpoints {
        Read fn load_checkpoints(name: &str) -> Vec<Checkpoint>,
            changed by after_load_checkpoints;
        Write fn save_checkpoints(name: &str, to: &[Checkpoint]) -> ();
        Write fn rewind(worker: &str, to: Checkpoint) -> ();
    }
    Outbox {
        Write fn enqueue(
            partition: u16,
            rows: &[OutboxMessage],
            advance: Option<&CheckpointAdvance>
        ) -> bool;
        Write fn park(partition: u16, rows: &[OutboxMessage], error: &str) -> ();
        Read fn read_outbox(after: &[(Queue, QueuePosition)], limit: usize) -> Vec<OutboxRow>,
            changed by after_read_outbox;
        Read fn last_positions(queues: &[Queue]) -> Vec<QueuePosition>,
            changed by after_last_positions;
        Read fn summarize_queues(limit: usize) -> Vec<QueueSummary>,
            changed by after_summarize_queues;
        Read fn count_waiting(queues: &[Queue], limit: usize) -> Vec<usize>,
            changed by after_count_waiting;
        Read fn queued_streams(queue: &Queue) -> Vec<StreamId>, changed by after_queued_streams;
        Write fn settle(partition: u16, settlements: &[Settlement]) -> Vec<bool>;
        Wait fn wait_for_work(seen: u64) -> u64;
        Wait fn wake_workers() -> ();
    }
    Timers {
        Read fn due_timers(queues: &[TimerQueue], limit: usize) -> DueTimers,
            changed by after_due_timers;
        Write fn settle_timers(partition: u16, settlements: &[TimerSettlement]) -> ();
    }
    DeadLetters {
        Read fn dead_letters(
            after: Option<(Queue, QueuePosition)>,
            limit: usize
        ) -> Vec<DeadLetter>, changed by after_dead_letters;
        Write fn decide_dead_letter(
            partition: u16,
            id: Uuid,
            decision: DeadLetterDecision
        ) -> bool;
        Read fn decided_dead_letters(queues: &[Queue], limit: usize) -> Vec<DeadLetter>,
            changed by after_decided_dead_letters;
        Write fn resolve_dead_letter(
            lease: &Lease,
            letter: &DeadLetter,
            replies: &[OutboxMessage]
        ) -> bool;
    }
    Inbox {
        Read fn load_inbox_entry(stream: &StreamId, message_id: MessageId) -> Option<InboxEntry>,
            changed by after_load_inbox_entry;
        Write fn prune_inbox(partition: u16, age: Duration, limit: usize) -> u64;
    }
    Inspection {
        Read fn list_streams(
            partition: u16,
            prefix: &str,
            after: Option<&StreamId>,
            limit: usize
        ) -> Vec<StreamSummary>;
        Read fn search_log(
            range: LogRange,
            filter: &EventFilter,
            limit: usize
        ) -> Vec<StoredEvent>;
        Read fn list_overridden(
            partition: u16,
            after: Option<&StoredEvent>,
            limit: usize
        ) -> Vec<StoredEvent>;
        Read fn timer_queues() -> Vec<TimerQueue>;
        Read fn list_timers(
            queue: &TimerQueue,
            after: Option<&TimerEntry>,
            limit: usize
        ) -> Vec<TimerEntry>;
        Read fn timers_of(stream: &StreamId) -> Vec<TimerEntry>;
        Read fn inbox_of(stream: &StreamId, limit: usize) -> Vec<InboxEntry>;
        Read fn all_leases() -> LeaseSnapshot;
        Read fn all_processes() -> Vec<(Process, Timestamp)>;
        Read fn all_checkpoints() -> Vec<NamedCheckpoint>;
        Read fn examine() -> Vec<Finding>;
    }
}
