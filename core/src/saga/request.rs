//! The requests of a saga's steps.

use std::fmt;

use super::step::{ErasedRequest, Meaning, Sending};
use super::{Calls, HasPartner, LinearSaga, Partner, SagaReply, SagaStep};
use crate::effect::{Call, Dispatch};
use crate::message::ReplyOutcome;
use crate::{Gateway, Target};

/// A request of a step: a [`dispatch`](crate::dispatch) or [`call`](crate::call), without a tag.
///
/// # Replies
///
/// | Reply | Meaning |
/// |---|---|
/// | `Recorded`, `Done` | done, unless `done_if` or `refused_if` says otherwise |
/// | `Rejected`, `Undelivered`, `Failed` | refused |
/// | `Exhausted`, `Unstorable` | unknown: the same as a timeout |
/// | `Unchanged` | none: the saga waits on |
///
/// # Idempotency keys
///
/// A call without a key gets the key `do Charge` or `undo Charge` of its task, so a call that is
/// repeated after a timeout is the same call for the gateway.
pub trait SagaRequest: Sized {
    /// The target or gateway.
    type Partner: Partner;

    #[doc(hidden)]
    fn judged(self) -> JudgedRequest<Self::Partner>;

    /// Sets the events or responses that mean that the task is done. The saga waits on after any
    /// other. Default: all.
    fn done_if(
        self,
        is_done: impl Fn(&<Self::Partner as Partner>::Answer) -> bool + 'static,
    ) -> JudgedRequest<Self::Partner> {
        JudgedRequest { done: Some(Box::new(is_done)), ..self.judged() }
    }

    /// Sets the events or responses that mean that the task is refused: it did not happen.
    /// Default: none.
    fn refused_if(
        self,
        is_refused: impl Fn(&<Self::Partner as Partner>::Answer) -> bool + 'static,
    ) -> JudgedRequest<Self::Partner> {
        JudgedRequest { refused: Some(Box::new(is_refused)), ..self.judged() }
    }

    /// Returns the step that this request does and `undo` undoes.
    ///
    /// The saga undoes a step that timed out. So the target must accept the undoing of a request
    /// that it has rejected or that has not reached it, and reject that request from then on. Any
    /// request may be repeated.
    fn undo<S, U, I, J>(self, undo: U) -> SagaStep<S>
    where
        S: LinearSaga,
        S::Partners: HasPartner<Self::Partner, I> + HasPartner<U::Partner, J>,
        U: SagaRequest,
    {
        SagaStep::of(self.judged().erase(), Some(undo.judged().erase()))
    }

    /// Returns the step that this request does, and that needs no undoing.
    fn no_undo<S, I>(self) -> SagaStep<S>
    where
        S: LinearSaga,
        S::Partners: HasPartner<Self::Partner, I>,
    {
        SagaStep::of(self.judged().erase(), None)
    }
}

type Predicate<M> = Box<dyn Fn(&M) -> bool>;

/// A request with the meaning of its replies.
#[must_use = "a request does nothing unless it is part of a step"]
pub struct JudgedRequest<P: Partner> {
    sending: Sending,
    detached: bool,
    done: Option<Predicate<P::Answer>>,
    refused: Option<Predicate<P::Answer>>,
}

impl<P: Partner> JudgedRequest<P> {
    fn erase(self) -> ErasedRequest {
        let Self { sending, detached, done, refused } = self;
        let judge = move |reply: &SagaReply| judge::<P>(reply, done.as_ref(), refused.as_ref());
        ErasedRequest { sending, detached, judge: Box::new(judge) }
    }
}

fn judge<P: Partner>(
    reply: &SagaReply,
    done: Option<&Predicate<P::Answer>>,
    refused: Option<&Predicate<P::Answer>>,
) -> Meaning {
    if reply.source() != P::SOURCE {
        return Meaning::Waits;
    }
    match reply.outcome() {
        ReplyOutcome::Rejected | ReplyOutcome::Undelivered | ReplyOutcome::Failed => {
            Meaning::Refused
        }
        ReplyOutcome::Exhausted | ReplyOutcome::Unstorable => Meaning::Unknown,
        ReplyOutcome::Unchanged => Meaning::Waits,
        ReplyOutcome::Recorded | ReplyOutcome::Done => match reply.content::<P::Answer>() {
            Some(answer) if refused.is_some_and(|is_refused| is_refused(answer)) => {
                Meaning::Refused
            }
            Some(answer) if done.is_none_or(|is_done| is_done(answer)) => Meaning::Done,
            _ => Meaning::Waits,
        },
    }
}

impl<P: Partner> SagaRequest for JudgedRequest<P> {
    type Partner = P;

    fn judged(self) -> Self {
        self
    }
}

impl<T: Target> SagaRequest for Dispatch<T, ()> {
    type Partner = T;

    fn judged(self) -> JudgedRequest<T> {
        let (dispatch, detached) = self.untagged();
        let sending = Sending::Dispatch(Box::new(dispatch));
        JudgedRequest { sending, detached, done: None, refused: None }
    }
}

impl<G: Gateway> SagaRequest for Call<G, ()> {
    type Partner = Calls<G>;

    fn judged(self) -> JudgedRequest<Calls<G>> {
        let (call, detached) = self.untagged();
        let sending = Sending::Call(Box::new(call));
        JudgedRequest { sending, detached, done: None, refused: None }
    }
}

impl<P: Partner> fmt::Debug for JudgedRequest<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JudgedRequest").field("sending", &self.sending).finish_non_exhaustive()
    }
}
