//! Running one case on one read model.

use std::future::Future;

use super::ReadModelBackend;
use super::cases::cases;
use crate::suite::{self, Case, Failure};

/// Runs one case on the read model behind `backend`.
///
/// # Errors
///
/// [`Failure`] holds the reason for which the read model fails the case.
pub async fn run<B: ReadModelBackend>(case: Case<B>, backend: B) -> Result<(), Failure> {
    suite::run(case, (case.body)(backend)).await
}

/// The body of the tests that [`read_model_conformance!`](crate::read_model_conformance!)
/// generates: makes a backend and runs the case called `name` on it, on two threads.
///
/// # Panics
///
/// If the read model fails the case, or the suite has no such case.
pub fn check<B, F>(name: &str, factory: impl Fn() -> F)
where
    B: ReadModelBackend,
    F: Future<Output = B>,
{
    suite::check(&cases(), name, "", async |case| run(case, factory().await).await);
}
