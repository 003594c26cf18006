//! The script of a fake gateway, and the record of its calls.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use composable_rust_core::Gateway;
use composable_rust_core::environment::Clock;

use super::answer::{AnswerKind, FakeAnswer};

/// One attempt of a call that a [`FakeGateway`](crate::FakeGateway) received.
pub struct FakeCall<G: Gateway> {
    /// The request.
    pub request: G::Request,
    /// The idempotency key.
    pub idempotency_key: String,
}

impl<G: Gateway> Clone for FakeCall<G> {
    fn clone(&self) -> Self {
        let (request, idempotency_key) = (self.request.clone(), self.idempotency_key.clone());
        Self { request, idempotency_key }
    }
}

impl<G: Gateway> fmt::Debug for FakeCall<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeCall")
            .field("request", &self.request)
            .field("idempotency_key", &self.idempotency_key)
            .finish()
    }
}

type Predicate<G> = Box<dyn Fn(&<G as Gateway>::Request) -> bool + Send + Sync>;
type Fallback<G> = Box<dyn Fn(&<G as Gateway>::Request) -> FakeAnswer<G> + Send + Sync>;

/// The answers to the requests that satisfy a predicate, in order.
pub(super) struct Answers<G: Gateway> {
    pub(super) is_meant: Option<Predicate<G>>,
    pub(super) left: VecDeque<FakeAnswer<G>>,
}

/// The outcome of a key so far.
struct KeyHistory<G: Gateway> {
    request: G::Request,
    /// The answer that decided the call.
    decided: Option<FakeAnswer<G>>,
    /// `true` if the call may have happened although no answer decided it.
    is_unknown: bool,
}

/// The script of a fake gateway, and the record of its calls.
pub(super) struct Script<G: Gateway> {
    /// The answers to requests of a predicate, then those to any request.
    pub(super) answers: Vec<Answers<G>>,
    pub(super) fallback: Option<Fallback<G>>,
    pub(super) calls: Vec<FakeCall<G>>,
    pub(super) problems: Vec<Problem<G>>,
    pub(super) exhaustive: bool,
    pub(super) allows_equal_requests: bool,
    pub(super) clock: Option<Arc<dyn Clock>>,
    keys: BTreeMap<String, KeyHistory<G>>,
}

/// A call that the test did not expect.
pub(super) enum Problem<G: Gateway> {
    /// No answer is scripted.
    Unexpected(G::Request),
    /// The key was used for another request.
    KeyReused { key: String, first: G::Request, request: G::Request },
    /// The outcome of an equal request under another key is unknown.
    OtherKey { request: G::Request, keys: [String; 2] },
}

impl<G: Gateway> Script<G> {
    pub(super) fn new() -> Self {
        Self {
            answers: Vec::new(),
            fallback: None,
            calls: Vec::new(),
            problems: Vec::new(),
            exhaustive: true,
            allows_equal_requests: false,
            clock: None,
            keys: BTreeMap::new(),
        }
    }

    pub(super) fn add(
        &mut self,
        is_meant: Option<Predicate<G>>,
        answers: impl IntoIterator<Item = FakeAnswer<G>>,
    ) {
        let left = answers.into_iter().collect();
        self.answers.push(Answers { is_meant, left });
        // Stable: the order of the script remains. Predicates come first.
        self.answers.sort_by_key(|answers| answers.is_meant.is_none());
    }

    /// Records a call and returns its answer; `None` if the test does not expect the call.
    pub(super) fn answer(&mut self, request: &G::Request, key: &str) -> Option<FakeAnswer<G>> {
        self.calls.push(FakeCall { request: request.clone(), idempotency_key: key.to_owned() });
        if let Some(known) = self.keys.get(key) {
            if known.request != *request {
                let (key, first) = (key.to_owned(), known.request.clone());
                let request = request.clone();
                self.problems.push(Problem::KeyReused { key, first, request });
                return None;
            }
            // As a service does that recognises the key.
            if let Some(decided) = &known.decided {
                return Some(decided.clone());
            }
        } else if let Some(other) = self.unknown_key(request) {
            let (request, keys) = (request.clone(), [other, key.to_owned()]);
            self.problems.push(Problem::OtherKey { request, keys });
        }
        let scripted = self.answers.iter_mut().find(|answers| {
            let is_meant = answers.is_meant.as_ref().is_none_or(|is_meant| is_meant(request));
            is_meant && !answers.left.is_empty()
        });
        let scripted = scripted.and_then(|answers| answers.left.pop_front());
        let answer = scripted.or_else(|| self.fallback.as_ref().map(|answer| answer(request)));
        let Some(answer) = answer else {
            self.problems.push(Problem::Unexpected(request.clone()));
            return None;
        };
        self.keys.entry(key.to_owned()).or_insert_with(|| KeyHistory {
            request: request.clone(),
            decided: None,
            is_unknown: false,
        });
        Some(answer)
    }

    /// Records the end of an attempt: its answer, or none if the caller has given up.
    pub(super) fn ended(&mut self, key: &str, answer: Option<&FakeAnswer<G>>) {
        let Some(history) = self.keys.get_mut(key) else { return };
        match answer.map(|answer| (answer, &answer.kind)) {
            Some((answer, AnswerKind::Done(_) | AnswerKind::Decline(_))) => {
                history.decided.get_or_insert_with(|| answer.clone());
            }
            Some((_, AnswerKind::Unreachable(_))) => {}
            Some((_, AnswerKind::Fail(_) | AnswerKind::Hang)) | None => history.is_unknown = true,
        }
    }

    /// Returns the key of an equal request whose outcome is unknown.
    fn unknown_key(&self, request: &G::Request) -> Option<String> {
        let mut keys = self.keys.iter().filter(|_| !self.allows_equal_requests);
        let unknown =
            keys.find(|(_, of)| of.is_unknown && of.decided.is_none() && of.request == *request);
        unknown.map(|(key, _)| key.clone())
    }
}
