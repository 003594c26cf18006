//! Running one case on one read model.

use std::future::Future;
use std::time::Duration;

use super::ReadModelBackend;
use crate::conformance::{Failure, outcome_within};

/// How long a case may take; only a case that hangs ever does.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs the case called `name` on the read model behind `backend`.
///
/// # Errors
///
/// [`Failure`] holds what the case found.
pub async fn run<B, C>(name: &str, backend: B, case: impl FnOnce(B) -> C) -> Result<(), Failure>
where
    B: ReadModelBackend,
    C: Future<Output = ()> + Send + 'static,
{
    outcome_within(name, case(backend), LIMIT).await
}

/// What a test that [`read_model_conformance!`](crate::read_model_conformance!) generates does: makes
/// a backend and runs a case on it, on two threads.
///
/// # Panics
///
/// When the read model does not pass.
pub fn check<B, F, C>(name: &str, factory: impl Fn() -> F, case: impl FnOnce(B) -> C)
where
    B: ReadModelBackend,
    F: Future<Output = B>,
    C: Future<Output = ()> + Send + 'static,
{
    let threads =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = threads
        .expect("the operating system gives threads")
        .block_on(async { run(name, factory().await, case).await });
    if let Err(Failure(found)) = outcome {
        panic!("{name}: {found}");
    }
}

/// Generates the tests of the conformance suite of read models.
///
/// The argument is the path of an `async fn()` that makes a
/// [`ReadModelBackend`](crate::read_model_conformance::ReadModelBackend).
#[macro_export]
macro_rules! read_model_conformance {
    ($factory:path) => {
        #[cfg(test)]
        mod read_model_conformance {
            #[allow(unused_imports, reason = "the factory's path may be absolute")]
            use super::*;
            $crate::__read_model_cases!([$crate::__read_model_tests]($factory));
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __read_model_cases {
    ([$($callback:tt)*] $arguments:tt) => {
        $($callback)*! {
            $arguments
            nothing_is_known_of_an_unknown_projection,
            a_projection_belongs_to_the_log_that_it_was_first_locked_for,
            a_dropped_transaction_leaves_nothing_behind,
            writes_and_checkpoints_commit_together,
            checkpoints_come_back_as_they_went_in,
            checkpoints_move_only_from_where_they_are,
            of_several_moves_one_late_one_is_enough,
            a_lower_epoch_is_refused,
            without_moves_the_epoch_is_looked_at,
            of_two_at_once_one_is_late,
            whoever_forgets_waits_for_whoever_projects,
            forgetting_begins_anew,
            projections_are_apart,
            states_come_back_as_they_went_in,
            one_is_being_rebuilt_until_it_runs,
            of_two_that_change_the_state_one_is_late,
            loading_does_not_wait,
            waiting_streams_come_back_as_they_went_in,
            waiting_streams_commit_with_the_rest,
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __read_model_tests {
    (($factory:path) $($case:ident,)*) => {
        $(
            #[test]
            fn $case() {
                $crate::read_model_conformance::check(
                    stringify!($case),
                    $factory,
                    $crate::read_model_conformance::cases::$case,
                );
            }
        )*
    };
}
