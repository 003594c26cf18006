//! The sends in progress that a second send with the same key does not wait for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use composable_rust_core::{MessageId, StreamId};

use crate::panic::lock;

/// The sends in progress in this process that were told apart by
/// [`SendCommand::unless_in_progress`](crate::SendCommand::unless_in_progress).
#[derive(Debug, Clone, Default)]
pub(crate) struct SendsInProgress(Arc<Mutex<BTreeSet<(StreamId, MessageId)>>>);

/// One send in progress, until it is dropped.
#[derive(Debug)]
pub(crate) struct InProgress {
    sends: SendsInProgress,
    send: (StreamId, MessageId),
}

impl SendsInProgress {
    /// Registers a send; `None` if one with the same id is in progress.
    pub(crate) fn begin(&self, stream: StreamId, id: MessageId) -> Option<InProgress> {
        let send = (stream, id);
        let is_first = lock(&self.0).insert(send.clone());
        is_first.then(|| InProgress { sends: self.clone(), send })
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        lock(&self.sends.0).remove(&self.send);
    }
}
