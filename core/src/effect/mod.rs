//! The effects behind the verbs: those of a reducer, and the durable reactions of an aggregate.

#[expect(clippy::module_inception, reason = "the file has the name of its type")]
pub(crate) mod effect;
pub(crate) mod effect_list;
pub(crate) mod idempotency_key;
pub(crate) mod reaction;
pub(crate) mod tag;

pub use effect::{DatabaseEffect, DbOperation, DbOutcome};
pub use effect_list::{EffectList, IntoEffect};
pub use idempotency_key::IdempotencyKey;
pub use reaction::{
    After, Call, CallGateway, Cancel, Delay, Dispatch, DispatchCommand, EffectId, Reaction,
    ReplyMode, SendReply, Tell,
};
#[doc(hidden)]
pub use tag::{OutcomeTag, ReplyTag};
