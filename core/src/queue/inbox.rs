//! The inbox: the messages that streams have handled.

use std::future::Future;
use std::time::Duration;

use crate::store::StoreError;
use crate::{MessageId, Receipt, StreamId};

/// A message's entry in the inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxEntry {
    /// The message.
    pub message_id: MessageId,
    /// The digest of the message's content. The same id with another digest is another message.
    pub digest: u128,
    /// The state of the stream once the message was handled.
    pub receipt: Receipt,
    /// The outcome for the sender, opaque to the store.
    pub outcome: Vec<u8>,
}

/// The port to the inbox.
///
/// Appends write its entries ([`Append::inbox`](crate::store::Append::inbox)).
///
/// # Cancel safety
///
/// A dropped call that writes may still commit. Treat it as [`StoreError::Unavailable`].
pub trait Inbox: Send + Sync + 'static {
    /// Reads the inbox entry of a message.
    ///
    /// The read takes no lock, so its result proves nothing about an append that may still be
    /// committing.
    fn load_inbox_entry(
        &self,
        stream: &StreamId,
        message_id: MessageId,
    ) -> impl Future<Output = Result<Option<InboxEntry>, StoreError>> + Send;

    /// Deletes up to `limit` entries of a partition that are older than `age` and whose message is
    /// no longer in an outbox, among the timers or among the dead letters. Returns the number of
    /// deleted entries.
    fn prune_inbox(
        &self,
        partition: u16,
        age: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;
}
