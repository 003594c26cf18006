//! What could not be handled, for operators.

use std::sync::Arc;

use composable_rust_core::{DeadLetter, DeadLetterDecision, StoreError, WorkQueues as _};
use futures_util::{Stream, TryStreamExt as _, stream};

use crate::app::queues::under_seized_lease;
use crate::instance::runtime::AppContext;
use crate::worker::leases::worker_of;
use crate::worker::outbox::dead_letters::{answers_to, mark_refused};

/// The dead letters of a log: see [`App::dead_letters`](crate::App::dead_letters).
#[derive(Clone)]
pub struct DeadLetters(Arc<AppContext>);

impl std::fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DeadLetters").field(&self.0.log.id).finish()
    }
}

/// Why a decision about a dead letter was not kept.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DeadLetterError {
    /// There is none any more, or it stands behind another: decide about that one first.
    #[error("there is no such dead letter at the head of its queue")]
    NotAtHead,
    /// The store cannot be reached. Try again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DeadLetters {
    pub(crate) fn new(shared: &Arc<AppContext>) -> Self {
        Self(Arc::clone(shared))
    }

    /// All of them, in order of partitions, then queues and places. Those that can be decided about
    /// are at the [head](DeadLetter::is_head) of what stands behind them. The listing ends, whatever is
    /// decided meanwhile; what becomes a head behind it is for the next one.
    ///
    /// # Errors
    ///
    /// The stream ends with a [`StoreError`] when the store cannot be read on.
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

    /// Lets a dead letter be tried again, and what stands behind it after it, in order. The worker of
    /// its queue does it, within a second or so; if no running process works the queue, this call.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError`]; each variant says what to do.
    pub async fn redrive(&self, letter: &DeadLetter) -> Result<(), DeadLetterError> {
        self.decide(letter, DeadLetterDecision::Redrive).await
    }

    /// Gives a dead letter up for good: its sender is answered `Undelivered` (of a call,
    /// `Exhausted`); of a stream that is not published on, the event in the way is left out. What
    /// stands behind it stays until it is decided about. The worker of its queue does it, within a second
    /// or so; if no running process works the queue, this call.
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

    /// Carries a decision out if no running process works the letter's queue.
    async fn carry_out_alone(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        let (store, queue) = (&self.0.store, &letter.queue);
        let worker = worker_of(queue.kind, &queue.target);
        if !store.load_leases(&[worker]).await?.members.is_empty() {
            return Ok(());
        }
        let decided = store.decided_dead_letters(std::slice::from_ref(queue), usize::MAX).await?;
        let id = letter.message.row.id;
        let Some(letter) = decided.into_iter().find(|of| of.message.row.id == id) else {
            return Ok(());
        };
        let mut answers = answers_to(&letter)?;
        if letter.decision == Some(DeadLetterDecision::Discard)
            && !mark_refused(&self.0, &letter.queue, &letter.message).await?
        {
            answers.clear();
        }
        under_seized_lease(&self.0, queue, async |lease| {
            store.resolve_dead_letter(&lease, &letter, &answers).await
        })
        .await?;
        Ok(())
    }
}
