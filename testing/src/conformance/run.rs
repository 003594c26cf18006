//! Running one case on one store.

use std::future::Future;

use super::StoreBackend;
use super::cases::CASES;
use super::subject::StoreUnderTest;
use crate::suite::{self, Case, Failure};

/// Runs one case on the store behind `backend`, whose log is empty.
///
/// # Errors
///
/// [`Failure`] holds the reason for which the store fails the case.
pub async fn run(case: Case<StoreUnderTest>, backend: impl StoreBackend) -> Result<(), Failure> {
    suite::run(case, (case.body)(StoreUnderTest::new(backend))).await
}

/// The body of the tests that [`conformance!`](crate::conformance!) generates: makes a store of
/// `partitions` log partitions and runs the case called `name` on it, on two threads.
///
/// # Panics
///
/// If the store fails the case, or the suite has no such case.
pub fn check<B, F>(name: &str, partitions: u16, factory: impl Fn(u16) -> F)
where
    B: StoreBackend,
    F: Future<Output = B>,
{
    suite::check(CASES, name, &format!(" with {partitions} partition(s)"), async |case| {
        run(case, factory(partitions).await).await
    });
}
