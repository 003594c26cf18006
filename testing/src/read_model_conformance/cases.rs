//! The table of the cases, which the generated tests and [`cases`] share.

use super::{ReadModelBackend, blocked, checkpoints, rebuilds, records, states, transactions};
use crate::suite::{Case, case_list};

/// Passes the table of all cases to a macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __read_model_cases {
    ([$($callback:tt)*] $arguments:tt) => {
        $($callback)*! {
            $arguments
            records {
                an_unknown_projection_has_no_record,
                a_projection_belongs_to_the_log_it_was_first_locked_for,
                projections_are_separate,
            }
            transactions {
                a_dropped_transaction_leaves_nothing_behind,
                writes_and_checkpoints_commit_together,
                loading_does_not_wait_for_a_lock,
            }
            checkpoints {
                checkpoints_round_trip,
                checkpoints_advance_only_from_their_current_offset,
                one_late_advance_of_several_fails_all,
                a_lower_epoch_is_rejected,
                the_epoch_is_checked_without_advances,
                one_of_two_concurrent_advances_is_late,
            }
            rebuilds {
                forgetting_waits_for_a_projecting_transaction,
                forgetting_starts_a_rebuild,
                a_projection_is_rebuilding_until_it_runs,
            }
            states {
                states_round_trip,
                one_of_two_concurrent_state_changes_is_late,
            }
            blocked {
                blocked_streams_round_trip,
                blocked_streams_commit_with_the_rest,
            }
        }
    };
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
            $crate::__read_model_cases!([$crate::__conformance_tests](|case| {
                $crate::read_model_conformance::check(case, $factory)
            }));
        }
    };
}

/// All cases of the suite.
pub fn cases<B: ReadModelBackend>() -> Vec<Case<B>> {
    __read_model_cases!([case_list]()).to_vec()
}
