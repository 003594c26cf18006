//! Dead letters: messages that could not be handled, for operators.

use std::sync::Arc;

use composable_rust_core::queue::{DeadLetter, DeadLetterDecision, DeadLetters as _, Leases as _};
use composable_rust_core::store::StoreError;
use futures_util::{Stream, TryStreamExt as _, stream};

use crate::app::context::AppContext;
use crate::app::queues::under_seized_lease;
use crate::worker::dead_letters::{record_discarded, replies_to};
use crate::worker::worker_id::WorkerId;

/// The dead letters of a log: see [`App::dead_letters`](crate::App::dead_letters).
#[derive(Clone)]
pub struct DeadLetters(Arc<AppContext>);

impl std::fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DeadLetters").field(&self.0.log.id).finish()
    }
}

/// The error of a decision about a dead letter.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DeadLetterError {
    /// The dead letter is resolved, or waits behind another one: decide about that one first.
    #[error("there is no such dead letter at the head of its queue")]
    NotAtHead,
    /// The store is unavailable. Retry.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DeadLetters {
    pub(crate) fn new(shared: &Arc<AppContext>) -> Self {
        Self(Arc::clone(shared))
    }

    /// Returns all dead letters, in order of partitions, queues and positions. A decision is
    /// possible about each [head](DeadLetter::is_head), before those that wait behind it. Decisions
    /// during the listing do not prolong it; a message that becomes a head in a part already listed
    /// is in the next listing.
    ///
    /// # Errors
    ///
    /// The stream ends with a [`StoreError`] if the store cannot be read.
    pub fn all(&self) -> impl Stream<Item = Result<DeadLetter, StoreError>> + Send + use<> {
        const PAGE: usize = 500;
        let store = self.0.store.clone();
        let pages = stream::try_unfold((store, None, false), |(store, after, ended)| async move {
            if ended {
                return Ok::<_, StoreError>(None);
            }
            let page = store.dead_letters(after, PAGE).await?;
            let ended = page.len() < PAGE;
            let after = page.last().map(|letter| (letter.queue.clone(), letter.position));
            Ok(Some((stream::iter(page.into_iter().map(Ok)), (store, after, ended))))
        });
        pages.try_flatten()
    }

    /// Redrives a dead letter: the message is retried, then those that wait behind it, in order.
    /// The worker of its queue carries the decision out, within about a second; if no running
    /// process works the queue, this call does.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError`]; each variant says what to do.
    pub async fn redrive(&self, letter: &DeadLetter) -> Result<(), DeadLetterError> {
        self.decide(letter, DeadLetterDecision::Redrive).await
    }

    /// Discards a dead letter: its sender gets the reply `Undelivered` (for a call, `Exhausted`).
    /// If the dead letter is an event that blocks the publication of its stream, the event is left
    /// out. Messages that wait behind the dead letter stay until they are decided about. The worker
    /// of its queue carries the decision out, within about a second; if no running process works
    /// the queue, this call does.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError`]; each variant says what to do.
    pub async fn discard(&self, letter: &DeadLetter) -> Result<(), DeadLetterError> {
        self.decide(letter, DeadLetterDecision::Discard).await
    }

    async fn decide(
        &self,
        letter: &DeadLetter,
        decision: DeadLetterDecision,
    ) -> Result<(), DeadLetterError> {
        let (partition, id) = (letter.queue.partition, letter.message.row.id);
        if !self.0.store.decide_dead_letter(partition, id, decision).await? {
            return Err(DeadLetterError::NotAtHead);
        }
        self.carry_out_alone(letter).await.map_err(DeadLetterError::Store)
    }

    /// Carries a decision out if no running process works the queue of the dead letter.
    async fn carry_out_alone(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        let (store, queue) = (&self.0.store, &letter.queue);
        let worker = WorkerId::of_queue(queue.kind, &queue.target).to_string();
        if !store.load_leases(&[worker]).await?.members.is_empty() {
            return Ok(());
        }
        let decided = store.decided_dead_letters(std::slice::from_ref(queue), usize::MAX).await?;
        let id = letter.message.row.id;
        let Some(letter) = decided.into_iter().find(|of| of.message.row.id == id) else {
            return Ok(());
        };
        let mut replies = replies_to(&letter)?;
        if letter.decision == Some(DeadLetterDecision::Discard)
            && !record_discarded(&self.0, &letter.queue, &letter.message).await?
        {
            replies.clear();
        }
        under_seized_lease(&self.0, queue, async |lease| {
            store.resolve_dead_letter(&lease, &letter, &replies).await
        })
        .await?;
        Ok(())
    }
}
