//! The table of the cases, which the generated tests and [`CASES`] share.

use super::subject::BusUnderTest;
use super::{bounds, content, groups, publishers, redelivery};
use crate::suite::{Case, case_list};

/// Passes the table of all cases to a macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __bus_conformance_cases {
    ([$($callback:tt)*] $arguments:tt) => {
        $($callback)*! {
            $arguments
            content {
                messages_round_trip,
                deliveries_carry_the_publication_time,
                payloads_may_be_empty,
                an_erasure_is_a_tombstone,
                payloads_may_be_as_large_as_the_limit,
                payloads_beyond_the_limit_are_rejected,
                a_batch_may_span_many_topics,
                impossible_topic_names_are_invalid,
                missing_topics_are_rejected_unless_created,
            }
            groups {
                a_new_group_starts_at_the_beginning,
                a_new_group_starts_after_the_known_offsets,
                known_offsets_of_a_recreated_topic_are_ignored,
                a_group_keeps_its_offsets,
                every_group_receives_everything,
                a_group_receives_each_key_in_order,
                the_offsets_of_a_partition_rise,
                members_share_the_keys_of_a_topic,
                a_waiting_member_receives_new_messages,
                a_group_reports_the_status_of_its_topics,
                a_group_without_members_is_moved,
            }
            redelivery {
                redelivery_starts_at_the_lowest_unacknowledged,
                redelivery_goes_to_another_member,
                acknowledged_messages_are_not_redelivered,
                dropped_deliveries_are_redelivered,
                late_acknowledgements_do_not_prevent_redelivery,
            }
            bounds {
                outstanding_deliveries_are_bounded,
                dropped_deliveries_do_not_count_as_outstanding,
                outstanding_deliveries_end_with_a_rebalance,
            }
            publishers {
                a_publisher_keeps_the_order,
                a_batch_is_published_whole_or_not_at_all,
                a_publisher_resumes_at_the_last_position,
                a_batch_without_a_position_keeps_the_last,
                a_position_may_have_no_event,
                a_position_may_move_without_messages,
                a_new_publisher_fences_the_earlier_one,
                publishers_of_other_partitions_are_not_fenced,
                an_interrupted_batch_is_published_whole_or_not_at_all,
            }
        }
    };
}

/// Generates the tests of the conformance suite of event buses.
///
/// The argument is the path of an `async fn()` that makes a
/// [`BusBackend`](crate::bus_conformance::BusBackend).
#[macro_export]
macro_rules! bus_conformance {
    ($factory:path) => {
        #[cfg(test)]
        mod bus_conformance {
            #[allow(unused_imports, reason = "the factory's path may be absolute")]
            use super::*;
            $crate::__bus_conformance_cases!([$crate::__conformance_tests](|case| {
                $crate::bus_conformance::check(case, $factory)
            }));
        }
    };
}

/// A case of the suite.
pub type BusCase = Case<BusUnderTest>;

/// All cases of the suite.
pub const CASES: &[BusCase] = &__bus_conformance_cases!([case_list]());
