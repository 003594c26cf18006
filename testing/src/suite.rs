//! The harness of the conformance suites: their cases, and the tests that run them.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures_util::future::BoxFuture;

/// The time limit of a case; only a case that hangs reaches it.
const LIMIT: Duration = Duration::from_secs(120);

/// A case of a conformance suite, on a subject `S`.
pub struct Case<S> {
    /// The part of the suite that the case belongs to.
    pub theme: &'static str,
    /// The name of the case, which is also the name of its function.
    pub name: &'static str,
    pub(crate) body: fn(S) -> BoxFuture<'static, ()>,
}

impl<S> Clone for Case<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Case<S> {}

impl<S> fmt::Debug for Case<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.theme, self.name)
    }
}

/// The reason for which an implementation fails a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub String);

/// Runs `body`, which belongs to `case`, for at most two minutes.
pub(crate) async fn run<S>(
    case: Case<S>,
    body: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Failure> {
    let task = tokio::spawn(body);
    let stop = task.abort_handle();
    match tokio::time::timeout(LIMIT, task).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure(match error.try_into_panic() {
            Ok(panic) => message(&*panic),
            Err(error) => error.to_string(),
        })),
        Err(_) => {
            stop.abort();
            Err(Failure(format!("{} did not finish within {LIMIT:?}", case.name)))
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

/// Runs a case of `cases` in a runtime of two threads; `setting` describes the subject.
pub(crate) fn check<S>(
    cases: &[Case<S>],
    name: &str,
    setting: &str,
    outcome: impl AsyncFnOnce(Case<S>) -> Result<(), Failure>,
) {
    let case = cases.iter().find(|case| case.name == name);
    let case = *case.unwrap_or_else(|| panic!("the suite has no case {name}"));
    let threads =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let threads = threads.expect("failed to start the threads of a case");
    if let Err(Failure(reason)) = threads.block_on(outcome(case)) {
        panic!("{name}{setting}: {reason}");
    }
}

/// Lists a suite's cases, from the table that its tests are generated from.
macro_rules! case_list {
    (() $($theme:ident { $($case:ident,)* })*) => {
        [$($($crate::suite::Case {
            theme: stringify!($theme),
            name: stringify!($case),
            body: |subject| Box::pin($theme::$case(subject)),
        },)*)*]
    };
}

pub(crate) use case_list;

/// Generates a test of each case, in a module of each theme. `$check` runs the case of a name.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    (($check:expr) $($theme:ident { $($case:ident,)* })*) => {
        $(mod $theme {
            #[allow(unused_imports, reason = "the factory's path may be absolute")]
            use super::*;
            $(
                #[test]
                fn $case() {
                    ($check)(stringify!($case));
                }
            )*
        })*
    };
}
