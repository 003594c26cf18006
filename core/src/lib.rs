//! The pure half of Composable Rust: reducers and aggregates, effects as values, messages, streams,
//! composition, and the ports. It reads no clock, spawns nothing, and knows neither tokio nor sqlx.
//!
//! Use it through the facade crate `composable-rust`, which has the guide.

extern crate self as composable_rust_core;

pub mod bus;
pub mod codec;
pub mod composition;
pub mod effect;
pub mod environment;
pub mod event;
pub mod message;
pub mod projection;
pub mod queue;
pub mod saga;
pub mod schema;
pub mod store;
pub mod trace;

mod aggregate;
mod context;
mod decision;
mod event_set;
mod gateway;
mod heard;
mod id;
mod ids;
mod limits;
mod position;
mod reducer;
mod stream;
mod target;
mod timestamp;
mod version;

pub use aggregate::Aggregate;
pub use composable_rust_macros::{EventSet, Message};
pub use composition::combine::combine_reducers;
pub use composition::for_each::for_each;
pub use composition::if_let::if_let;
pub use composition::scope::scope_reducer;
pub use context::Context;
pub use decision::{
    Decision, DecisionExt, IntoEvent, Outcome, record, record_all, reject, repeat, unchanged,
};
pub use effect::effect::{Effect, Effects, database, future, parallel, publish, sequential};
pub use effect::reaction::{Reactions, after, at, call, cancel, dispatch, reply_to, tell};
pub use event::Recorded;
pub use event_set::EventSet;
pub use gateway::{CallError, CallOutcome, Gateway};
pub use heard::Heard;
pub use id::Id;
pub use message::message::Message;
pub use message::metadata::{CorrelationId, EventId, MessageId, Metadata};
pub use message::reply::ReturnPath;
pub use position::{InvalidPosition, Position};
pub use projection::{Projection, ProjectionError};
pub use reducer::Reducer;
pub use saga::{LinearSaga, Saga, SagaContext, SagaRequest, SagaStep};
pub use store::append::Receipt;
pub use stream::{InvalidId, StreamId};
pub use target::{Reply, Target, TargetExt};
pub use timestamp::{InvalidTimestamp, Timestamp};
pub use version::Version;

/// The verbs, the traits that programs implement, and their most frequent types.
pub mod prelude {
    pub use crate::{
        Aggregate, Context, Decision, DecisionExt, Effect, Effects, EventSet, Heard, Id,
        LinearSaga, Message, Reactions, Reducer, Reply, Saga, SagaContext, SagaRequest, SagaStep,
        Target, TargetExt, Timestamp, after, at, call, cancel, combine_reducers, dispatch, effects,
        for_each, future, if_let, parallel, publish, record, record_all, reject, repeat,
        scope_reducer, sequential, tell, unchanged,
    };
}

/// Names that the macros expand to. Not for users.
#[doc(hidden)]
pub mod __private {
    pub use crate::codec::content::{OTHER, decode_content, encode_content};
    pub use crate::codec::{DecodeError, EncodeError, Format};
    pub use crate::effect::effect_list::put;
    pub use crate::event_set::{declared, distinct, event_of};
    pub use crate::gateway::IsCallOutcome;
    pub use crate::heard::{HeardContent, decode_heard};
    pub use crate::message::message::{Displayed, WithDisplay, WithoutDisplay, missing, stored};
    pub use crate::message::{
        Hears, MessageKind, RawReply, Receives, ReceivesOutcome, ReplySource,
    };
    pub use crate::target::IsReply;
    pub use serde;
}
