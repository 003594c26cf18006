//! The fake gateway.

use std::fmt;
use std::future::pending;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use composable_rust_core::environment::Clock;
use composable_rust_core::{CallError, Gateway};

use super::answer::{AnswerKind, FakeAnswer};
use super::script::{FakeCall, Script};

/// A [`Gateway`] with the name and messages of `G`, whose answers a test scripts.
///
/// Register a clone in the place of `G`, and keep the first one: [`finish`](Self::finish), or
/// dropping it, asserts that every call was expected and every answer was used. Each *attempt* uses
/// one answer: the first that is left of those [for its request](Self::answers_to), then of those
/// for [any request](Self::answers), then the one of the [fallback](Self::answers_with).
///
/// # Checks
///
/// The test fails if
///
/// - a call has no answer,
/// - a key was used for another request,
/// - a request whose outcome is unknown, because the fake failed or hung, is made again under
///   another key: the service may act twice. Set
///   [`Call::idempotency_key`](composable_rust_core::effect::Call::idempotency_key), or, if equal
///   requests are different actions, [`allow_equal_requests`](Self::allow_equal_requests),
/// - an answer is left, unless the fake is [`non_exhaustive`](Self::non_exhaustive).
///
/// A key whose call was answered with [`done`](FakeAnswer::done) or
/// [`decline`](FakeAnswer::decline) gets the same answer again, as from a service that recognises
/// it.
///
/// # Example: a bank that fails once
///
/// ```
/// use composable_rust_core::prelude::*;
/// use composable_rust_core::{CallError, Gateway};
/// use composable_rust_testing::{FakeAnswer, FakeGateway};
///
/// struct Bank;
///
/// #[derive(Debug, Clone, PartialEq, Message)]
/// enum BankRequest { Charge { cents: u64 } }
///
/// #[derive(Debug, Clone, PartialEq, Message)]
/// enum BankResponse { Charged }
///
/// #[derive(Debug, Clone, PartialEq, Message)]
/// enum BankFailure { Declined }
///
/// impl Gateway for Bank {
///     const NAME: &'static str = "bank";
///     type Request = BankRequest;
///     type Response = BankResponse;
///     type Failure = BankFailure;
///
///     async fn call(
///         &self,
///         _: BankRequest,
///         _: &str,
///     ) -> Result<BankResponse, CallError<BankFailure>> {
///         unimplemented!("an HTTP request")
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let bank = FakeGateway::<Bank>::new()
///     .answers([FakeAnswer::fail("503"), FakeAnswer::done(BankResponse::Charged)]);
///
/// // An app with `.gateway(bank.clone())` makes these calls.
/// let charge = BankRequest::Charge { cents: 500 };
/// assert!(matches!(bank.call(charge.clone(), "key").await, Err(CallError::Retry(_))));
/// assert_eq!(bank.call(charge.clone(), "key").await.unwrap(), BankResponse::Charged);
///
/// assert_eq!(bank.requests(), [charge.clone(), charge]);
/// bank.finish();
/// # }
/// ```
pub struct FakeGateway<G: Gateway> {
    pub(super) script: Arc<Mutex<Script<G>>>,
    pub(super) made: &'static Location<'static>,
    /// `true` if dropping it asserts that the test has expected everything.
    pub(super) is_asserting: bool,
}

impl<G: Gateway> FakeGateway<G> {
    /// A fake that expects no call.
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "it knows the line that made it")]
    pub fn new() -> Self {
        let script = Arc::new(Mutex::new(Script::new()));
        Self { script, made: Location::caller(), is_asserting: true }
    }

    /// Adds answers to the next attempts, in order.
    #[must_use]
    pub fn answers(self, answers: impl IntoIterator<Item = FakeAnswer<G>>) -> Self {
        self.push(answers);
        self
    }

    /// Adds answers to the next attempts of requests that satisfy `is_meant`, in order. They come
    /// before those of [`answers`](Self::answers).
    #[must_use]
    pub fn answers_to(
        self,
        is_meant: impl Fn(&G::Request) -> bool + Send + Sync + 'static,
        answers: impl IntoIterator<Item = FakeAnswer<G>>,
    ) -> Self {
        self.lock().add(Some(Box::new(is_meant)), answers);
        self
    }

    /// Sets the answer to every attempt for which no answer is left.
    #[must_use]
    pub fn answers_with(
        self,
        answer: impl Fn(&G::Request) -> FakeAnswer<G> + Send + Sync + 'static,
    ) -> Self {
        self.lock().fallback = Some(Box::new(answer));
        self
    }

    /// Adds answers to the next attempts as [`answers`](Self::answers) does, during the test.
    pub fn push(&self, answers: impl IntoIterator<Item = FakeAnswer<G>>) {
        self.lock().add(None, answers);
    }

    /// Allows that a request is made under another key while the outcome of an equal one is
    /// unknown: the two are different actions, such as equal charges of two customers.
    #[must_use]
    pub fn allow_equal_requests(self) -> Self {
        self.lock().allows_equal_requests = true;
        self
    }

    /// Allows that answers are left at the end.
    #[must_use]
    pub fn non_exhaustive(self) -> Self {
        self.lock().exhaustive = false;
        self
    }

    /// Returns the attempts so far, with their keys, in order.
    pub fn calls(&self) -> Vec<FakeCall<G>> {
        self.lock().calls.clone()
    }

    /// Returns the requests of the attempts so far, in order.
    pub fn requests(&self) -> Vec<G::Request> {
        self.lock().calls.iter().map(|call| call.request.clone()).collect()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Script<G>> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<G: Gateway> Gateway for FakeGateway<G> {
    const NAME: &'static str = G::NAME;
    type Request = G::Request;
    type Response = G::Response;
    type Failure = G::Failure;

    async fn call(
        &self,
        request: G::Request,
        idempotency_key: &str,
    ) -> Result<G::Response, CallError<G::Failure>> {
        let (answer, clock) = {
            let mut script = self.lock();
            (script.answer(&request, idempotency_key), script.clock.clone())
        };
        let Some(answer) = answer else {
            return Err(CallError::Retry(format!("the test does not expect {request:?}").into()));
        };
        let mut attempt = Attempt { gateway: self, key: idempotency_key, answer: None };
        if !answer.delay.is_zero() {
            let Some(clock) = clock else {
                panic!("a delayed answer needs the clock of an app that registers the fake");
            };
            clock.sleep(answer.delay).await;
        }
        attempt.answer = Some(answer.clone());
        match answer.kind {
            AnswerKind::Done(response) => Ok(response),
            AnswerKind::Decline(failure) => Err(CallError::Failed(failure)),
            AnswerKind::Fail(error) => Err(CallError::Retry(error.into())),
            AnswerKind::Unreachable(error) => Err(CallError::Unreachable(error.into())),
            AnswerKind::Hang => pending().await,
        }
    }

    fn use_clock(&self, clock: Arc<dyn Clock>) {
        self.lock().clock = Some(clock);
    }
}

/// An attempt, whose end is recorded also if the caller drops it.
struct Attempt<'a, G: Gateway> {
    gateway: &'a FakeGateway<G>,
    key: &'a str,
    answer: Option<FakeAnswer<G>>,
}

impl<G: Gateway> Drop for Attempt<'_, G> {
    fn drop(&mut self) {
        self.gateway.lock().ended(self.key, self.answer.as_ref());
    }
}

/// A clone shares the script and the record. Only the first one, when dropped, asserts that the
/// test has expected everything.
impl<G: Gateway> Clone for FakeGateway<G> {
    fn clone(&self) -> Self {
        let script = Arc::clone(&self.script);
        Self { script, made: self.made, is_asserting: false }
    }
}

impl<G: Gateway> fmt::Debug for FakeGateway<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeGateway")
            .field("name", &G::NAME)
            .field("calls", &self.lock().calls)
            .finish_non_exhaustive()
    }
}
