//! The pure half of Composable Rust: reducers and aggregates, effects as values, messages, streams,
//! composition, and the ports. It reads no clock, spawns nothing, and knows neither tokio nor sqlx.
//!
//! Use it through the facade crate `composable-rust`, which has the guide.

extern crate self as composable_rust_core;

mod adoption;
mod aggregate;
mod aggregate_reducer;
mod append;
mod binary;
mod bounded;
mod codec;
mod composition;
mod context;
mod decision;
mod effect;
mod effect_list;
pub mod event;
mod event_bus;
mod event_store;
mod gateway;
mod id;
mod log_secret;
mod message;
mod metadata;
mod ports;
mod position;
mod projection;
mod queue;
mod reaction;
mod reducer;
mod reply;
pub mod schema;
mod shared_event_bus;
mod shared_event_store;
mod snapshot;
mod stream;
mod target;
mod timestamp;
mod validate;
mod version;
mod wire;

pub use adoption::Adoption;
pub use aggregate::Aggregate;
pub use aggregate_reducer::AggregateReducer;
pub use append::{
    Append, AppendOutcome, Due, NewInboxEntry, NewOutboxRow, NewTimer, Receipt, TimerArming,
    TimerChange,
};
pub use codec::{BincodeCodec, Codec, CodecError, Codecs, JsonCodec};
pub use composable_rust_macros::Message;
pub use composition::{
    Combined, ForEach, IfLet, Scoped, combine_reducers, for_each, if_let, scope_reducer,
};
pub use context::{Context, Incoming};
pub use decision::{
    Decision, DecisionExt, IntoEvent, Outcome, record, record_all, reject, repeat, unchanged,
};
pub use effect::{
    DatabaseEffect, DbOperation, DbOutcome, Effect, Effects, database, future, parallel, publish,
    sequential,
};
pub use effect_list::{EffectList, IntoEffect};
pub use event::{EncodedMessage, NewEvent, Recorded, StoredContent, StoredEvent};
pub use event_bus::{
    BusError, BusMessage, BusRecord, Delivery, EventBus, GroupOffset, PublishError, Publisher,
    PublisherName, ResumePosition, TopicOffset, TopicState, TopicStatus,
};
pub use event_store::{
    DEFAULT_PARTITIONS, EventStore, LogInfo, MAX_APPEND_BYTES, MAX_METADATA_BYTES,
    MAX_PAYLOAD_BYTES, StaleSnapshots, StoreError, StreamRow, subscribe,
};
pub use gateway::{CallError, CallOutcome, Gateway, ReceivesOutcome};
pub use id::Id;
pub use log_secret::LogSecret;
pub use message::{AnyMessage, DecodeError, EncodeError, Format, Message, MessageKind};
pub use metadata::{CorrelationId, EventId, MessageId, Metadata, ReturnAddress, Seal};
pub use ports::{Clock, IdGenerator, Rng};
pub use position::{InvalidPosition, Position};
pub use projection::{
    BlockedStream, Projection, ProjectionError, ProjectionRecord, ProjectionState, ReadModel,
};
pub use queue::{
    ArmedTimer, Checkpoint, CheckpointAdvance, Checkpoints, DeadLetter, DeadLetterDecision,
    DeadLetters, DueTimer, DueTimers, Inbox, InboxEntry, Lease, LeaseAction, LeaseRequest,
    LeaseSnapshot, LeaseStatus, Leases, Outbox, OutboxKind, OutboxMessage, OutboxRow, Queue,
    QueueChange, QueuePosition, QueueSummary, Settlement, TimerQueue, TimerSettlement, Timers,
};
pub use reaction::{
    After, Call, CallGateway, Cancel, Delay, Dispatch, DispatchCommand, EffectId, Reaction,
    Reactions, ReplyMode, SendReply, Tell, after, at, call, cancel, dispatch, reply_to, tell,
};
pub use reducer::Reducer;
pub use reply::{InReplyTo, RawReply, ReplyOutcome, ReplySource, ReturnPath, Tag};
pub use shared_event_bus::{SharedDelivery, SharedEventBus, SharedPublisher};
pub use shared_event_store::SharedEventStore;
pub use snapshot::{Fingerprint, Snapshot};
pub use stream::{InvalidId, MAX_CATEGORY_BYTES, MAX_ID_BYTES, StreamId};
pub use target::{Receives, Reply, Target, TargetExt};
pub use timestamp::{InvalidTimestamp, Timestamp};
pub use validate::{
    validate_batch, validate_enqueue, validate_partition, validate_rows, validate_settlements,
    validate_timer_settlements,
};
pub use version::{ExpectedVersion, Version};

/// Verbs, the traits that users implement, and few types.
pub mod prelude {
    pub use crate::{
        Aggregate, Context, Decision, DecisionExt, Effect, Effects, Id, Message, Reactions,
        Reducer, Reply, Target, TargetExt, Timestamp, after, at, call, cancel, combine_reducers,
        dispatch, effects, for_each, future, if_let, parallel, publish, record, record_all, reject,
        repeat, scope_reducer, sequential, tell, unchanged,
    };
}

/// What the macros expand to. Not for users.
#[doc(hidden)]
pub mod __private {
    pub use crate::context::derive_id;
    pub use crate::effect_list::put;
    pub use crate::event_bus::is_topic_name;
    pub use crate::gateway::IsCallOutcome;
    pub use crate::message::{decode_content, decode_value, encode_content, encode_value, stored};
    pub use crate::target::IsReply;
    pub use serde;
}
