//! Running one case on one store.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::StoreBackend;
use super::cases::CASES;
use super::subject::StoreUnderTest;

/// How long a case may take; only a case that hangs ever does.
const LIMIT: Duration = Duration::from_secs(120);

/// One case of the suite.
#[derive(Clone, Copy)]
pub struct Case {
    /// What it is about.
    pub theme: &'static str,
    /// What it shows.
    pub name: &'static str,
    pub(super) body: fn(StoreUnderTest) -> BoxFuture<'static, ()>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.theme, self.name)
    }
}

/// Why a store does not pass a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub String);

/// Runs one case on the store behind `backend`, which holds nothing yet.
///
/// # Errors
///
/// [`Failure`] holds what the case found.
pub async fn run(case: Case, backend: impl StoreBackend) -> Result<(), Failure> {
    run_within(case, backend, LIMIT).await
}

async fn run_within(
    case: Case,
    backend: impl StoreBackend,
    limit: Duration,
) -> Result<(), Failure> {
    outcome_within(&format!("{case:?}"), (case.body)(StoreUnderTest::new(backend)), limit).await
}

/// How the case of that name ends if it is left alone for at most `limit`.
pub(crate) async fn outcome_within(
    case: &str,
    body: impl Future<Output = ()> + Send + 'static,
    limit: Duration,
) -> Result<(), Failure> {
    let task = tokio::spawn(body);
    let stop = task.abort_handle();
    match tokio::time::timeout(limit, task).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure(match error.try_into_panic() {
            Ok(panic) => message(&*panic),
            Err(error) => error.to_string(),
        })),
        Err(_) => {
            stop.abort();
            Err(Failure(format!("{case} was not done after {limit:?}")))
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

/// What a test that [`conformance!`](crate::conformance!) generates does: makes a store of
/// `partitions` log partitions and runs the case of that name on it, on two threads.
///
/// # Panics
///
/// When the store does not pass, and when there is no such case.
pub fn check<B, F>(theme: &str, name: &str, partitions: u16, factory: impl Fn(u16) -> F)
where
    B: StoreBackend,
    F: Future<Output = B>,
{
    let case = CASES.iter().find(|case| (case.theme, case.name) == (theme, name));
    let Some(case) = case else { panic!("there is no case {theme}::{name}") };
    let threads =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = threads
        .expect("the operating system gives threads")
        .block_on(async { run(*case, factory(partitions).await).await });
    if let Err(Failure(found)) = outcome {
        panic!("{theme}::{name} with {partitions} partition(s): {found}");
    }
}
