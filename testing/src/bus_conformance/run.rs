//! Running one case on one bus.

use std::future::Future;

use super::BusBackend;
use super::cases::CASES;
use super::subject::BusUnderTest;
use crate::suite::{self, Case, Failure};

/// Runs one case on the bus behind `backend`.
///
/// # Errors
///
/// [`Failure`] holds the reason for which the bus fails the case.
pub async fn run(case: Case<BusUnderTest>, backend: impl BusBackend) -> Result<(), Failure> {
    suite::run(case, async move { (case.body)(BusUnderTest::new(backend).await).await }).await
}

/// The body of the tests that [`bus_conformance!`](crate::bus_conformance!) generates: makes a
/// backend and runs the case called `name` on it, on two threads.
///
/// # Panics
///
/// If the bus fails the case, or the suite has no such case.
pub fn check<B, F>(name: &str, factory: impl Fn() -> F)
where
    B: BusBackend,
    F: Future<Output = B>,
{
    suite::check(CASES, name, "", async |case| run(case, factory().await).await);
}
