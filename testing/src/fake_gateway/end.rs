//! The end of a test with a fake gateway.

use composable_rust_core::Gateway;

use super::gateway::FakeGateway;
use super::script::{Problem, Script};
use crate::failure::{Failure, code, list};

impl<G: Gateway> FakeGateway<G> {
    /// Asserts that every call was expected and every answer was used. Dropping the fake asserts
    /// the same; the failure then shows another line.
    ///
    /// # Panics
    ///
    /// Panics if one of the [checks](Self#checks) fails.
    #[track_caller]
    pub fn finish(mut self) {
        self.is_asserting = false;
        let failure = self.lock().failure();
        if let Some(failure) = failure {
            failure.raise();
        }
    }
}

impl<G: Gateway> Drop for FakeGateway<G> {
    fn drop(&mut self) {
        if !self.is_asserting {
            return;
        }
        let Some(failure) = self.lock().failure() else { return };
        let failure = failure
            .text(format!("The fake was made at {} and dropped without `finish()`.", self.made));
        if std::thread::panicking() {
            // Maybe the cause of the test's failure.
            eprintln!("{failure}");
        } else {
            failure.raise();
        }
    }
}

impl<G: Gateway> Script<G> {
    /// Returns the failure of the test so far.
    fn failure(&self) -> Option<Failure> {
        self.problems.first().map(super::script::Problem::failure).or_else(|| self.answers_left())
    }

    fn answers_left(&self) -> Option<Failure> {
        let left: Vec<_> = self.answers.iter().flat_map(|answers| &answers.left).collect();
        if left.is_empty() || !self.exhaustive {
            return None;
        }
        Some(
            Failure::new(format!(
                "The test ends, and no call of `{}` asked for these answers.",
                G::NAME
            ))
            .block(list(&left))
            .text(
                "If the program is right, remove them, or let the test wait until the calls are \
                 made. If this test is not about that, say `.non_exhaustive()`.\n\n\
                 A test that returns an error ends before its calls: this failure then hides the \
                 error. Use `unwrap` instead of `?` to see it.",
            ),
        )
    }
}

impl<G: Gateway> Problem<G> {
    fn failure(&self) -> Failure {
        match self {
            Self::Unexpected(request) => Failure::new(format!(
                "`{}` was called with `{}`, and the test does not say what it answers.",
                G::NAME,
                code(request, false)
            ))
            .text("If the program is right, add the answer:")
            .block(".answers([FakeAnswer::done(…)])"),
            Self::KeyReused { key, first, request } => Failure::new(format!(
                "`{}` was called with the idempotency key of another request.",
                G::NAME
            ))
            .diff(&code(first, true), &code(request, true))
            .text(format!(
                "The key is {key:?}. A service answers with the outcome of the first request, or \
                 with an error. Give each action a key of its own."
            )),
            Self::OtherKey { request, keys: [first, second] } => Failure::new(format!(
                "`{}` was called with `{}` again, under another idempotency key, while the outcome \
                 was unknown.",
                G::NAME,
                code(request, false)
            ))
            .diff(first, second)
            .text("The service may act twice. Give both calls the same key:")
            .block(".idempotency_key(\"…\")")
            .text("If the requests are two actions, say `.allow_equal_requests()`."),
        }
    }
}
