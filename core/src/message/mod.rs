//! Messages with their types erased, their metadata, and stored replies.

#[expect(clippy::module_inception, reason = "the file has the name of its trait")]
pub(crate) mod message;
pub(crate) mod metadata;
pub(crate) mod reply;
pub(crate) mod wire;

pub use message::{AnyMessage, MessageKind};
pub use metadata::{ReturnAddress, Seal};
pub use reply::{InReplyTo, RawReply, ReplyOutcome, ReplySource, Tag};

pub use crate::context::Incoming;
pub use crate::gateway::ReceivesOutcome;
pub use crate::heard::Hears;
pub use crate::ids::derive_id;
pub use crate::target::Receives;
