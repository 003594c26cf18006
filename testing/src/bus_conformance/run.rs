//! Running one case on one bus.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::BusBackend;
use super::cases::CASES;
use super::subject::BusUnderTest;
use crate::conformance::{Failure, outcome_within};

/// How long a case may take; only a case that hangs ever does.
const LIMIT: Duration = Duration::from_secs(120);

/// One case of the suite.
#[derive(Clone, Copy)]
pub struct BusCase {
    /// What it is about.
    pub theme: &'static str,
    /// What it shows.
    pub name: &'static str,
    pub(super) body: fn(BusUnderTest) -> BoxFuture<'static, ()>,
}

impl fmt::Debug for BusCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.theme, self.name)
    }
}

/// Runs one case on the bus behind `backend`.
///
/// # Errors
///
/// [`Failure`] holds what the case found.
pub async fn run(case: BusCase, backend: impl BusBackend) -> Result<(), Failure> {
    let body = async move { (case.body)(BusUnderTest::new(backend).await).await };
    outcome_within(&format!("{case:?}"), body, LIMIT).await
}

/// What a test that [`bus_conformance!`](crate::bus_conformance!) generates does: makes a backend
/// and runs the case of that name on it, on two threads.
///
/// # Panics
///
/// When the bus does not pass, and when there is no such case.
pub fn check<B, F>(theme: &str, name: &str, factory: impl Fn() -> F)
where
    B: BusBackend,
    F: Future<Output = B>,
{
    let case = CASES.iter().find(|case| (case.theme, case.name) == (theme, name));
    let Some(case) = case else { panic!("there is no case {theme}::{name}") };
    let threads =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = threads
        .expect("the operating system gives threads")
        .block_on(async { run(*case, factory().await).await });
    if let Err(Failure(found)) = outcome {
        panic!("{theme}::{name}: {found}");
    }
}
