//! The answers of a fake gateway.

use std::fmt;
use std::time::Duration;

use composable_rust_core::Gateway;

/// An answer of a [`FakeGateway`](crate::FakeGateway) to one attempt of a call.
pub struct FakeAnswer<G: Gateway> {
    pub(super) kind: AnswerKind<G>,
    pub(super) delay: Duration,
}

pub(super) enum AnswerKind<G: Gateway> {
    Done(G::Response),
    Decline(G::Failure),
    Fail(String),
    Unreachable(String),
    Hang,
}

impl<G: Gateway> FakeAnswer<G> {
    fn new(kind: AnswerKind<G>) -> Self {
        Self { kind, delay: Duration::ZERO }
    }

    /// The service's response: the outcome is `CallOutcome::Done`.
    pub fn done(response: G::Response) -> Self {
        Self::new(AnswerKind::Done(response))
    }

    /// A permanent refusal: the outcome is `CallOutcome::Failed`.
    pub fn decline(failure: G::Failure) -> Self {
        Self::new(AnswerKind::Decline(failure))
    }

    /// An error after which the call may have happened (`CallError::Retry`). The runtime counts an
    /// attempt and retries.
    pub fn fail(error: impl Into<String>) -> Self {
        Self::new(AnswerKind::Fail(error.into()))
    }

    /// An error without a request (`CallError::Unreachable`). The runtime retries without counting
    /// attempts.
    pub fn unreachable(error: impl Into<String>) -> Self {
        Self::new(AnswerKind::Unreachable(error.into()))
    }

    /// No answer: the attempt ends with the gateway's timeout.
    pub fn hang() -> Self {
        Self::new(AnswerKind::Hang)
    }

    /// Delays the answer by `delay` on the app's clock. An answer that is later than the gateway's
    /// timeout never arrives.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

impl<G: Gateway> Clone for FakeAnswer<G> {
    fn clone(&self) -> Self {
        let kind = match &self.kind {
            AnswerKind::Done(response) => AnswerKind::Done(response.clone()),
            AnswerKind::Decline(failure) => AnswerKind::Decline(failure.clone()),
            AnswerKind::Fail(error) => AnswerKind::Fail(error.clone()),
            AnswerKind::Unreachable(error) => AnswerKind::Unreachable(error.clone()),
            AnswerKind::Hang => AnswerKind::Hang,
        };
        Self { kind, delay: self.delay }
    }
}

/// Prints the answer as the code that makes it.
impl<G: Gateway> fmt::Debug for FakeAnswer<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeAnswer::")?;
        match &self.kind {
            AnswerKind::Done(response) => write!(f, "done({response:?})")?,
            AnswerKind::Decline(failure) => write!(f, "decline({failure:?})")?,
            AnswerKind::Fail(error) => write!(f, "fail({error:?})")?,
            AnswerKind::Unreachable(error) => write!(f, "unreachable({error:?})")?,
            AnswerKind::Hang => f.write_str("hang()")?,
        }
        match self.delay {
            Duration::ZERO => Ok(()),
            delay => write!(f, ".after({})", crate::failure::duration_code(delay)),
        }
    }
}
