//! The list of the cases, which the generated tests and [`CASES`] share.

use super::run::BusCase;
use super::{bounds, content, groups, publishers, redelivery};

/// Hands the list of all cases to a macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __bus_conformance_cases {
    ([$($callback:tt)*] $arguments:tt) => {
        $($callback)*! {
            $arguments
            content {
                comes_back_as_it_went_in,
                says_when_it_was_published,
                may_be_empty,
                of_an_erasure_is_a_tombstone,
                may_be_as_large_as_the_limit,
                larger_than_the_limit_is_refused,
                may_be_in_many_topics,
                in_impossible_topics_is_invalid,
                in_missing_topics_is_refused_unless_they_are_created,
            }
            groups {
                begin_at_the_beginning,
                begin_behind_what_is_known,
                begin_at_the_beginning_of_a_topic_made_anew,
                keep_where_they_stand,
                each_get_everything,
                get_each_key_in_order,
                see_offsets_that_rise,
                share_the_keys_among_their_members,
                see_what_comes_while_they_wait,
                tell_what_they_read,
            }
            redelivery {
                begins_at_the_lowest_unfinished,
                goes_to_another_member,
                is_spared_what_was_acknowledged,
                covers_what_was_dropped,
                is_not_prevented_by_late_acknowledgements,
            }
            bounds {
                hold_for_what_is_in_hand,
                leave_out_what_was_dropped,
                do_not_outlast_a_change_of_hands,
            }
            publishers {
                publish_in_order,
                publish_all_or_nothing,
                resume_where_the_last_holder_was,
                keep_the_position_without_a_new_one,
                keep_a_position_without_an_event,
                move_the_position_without_messages,
                fence_earlier_holders,
                of_other_partitions_are_not_fenced,
                that_were_interrupted_published_all_or_nothing,
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
            $crate::__bus_conformance_cases!([$crate::__bus_conformance_tests]($factory));
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __bus_conformance_tests {
    ($arguments:tt $($theme:ident { $($case:ident,)* })*) => {
        $($crate::__bus_conformance_theme! { $arguments $theme { $($case,)* } })*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __bus_conformance_theme {
    ($arguments:tt $theme:ident { $($case:ident,)* }) => {
        mod $theme {
            #[allow(unused_imports, reason = "the factory's path may be absolute")]
            use super::*;
            $($crate::__bus_conformance_test! { $arguments $theme $case })*
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __bus_conformance_test {
    (($factory:path) $theme:ident $case:ident) => {
        #[test]
        fn $case() {
            $crate::bus_conformance::check(stringify!($theme), stringify!($case), $factory);
        }
    };
}

macro_rules! registry {
    (() $($theme:ident { $($case:ident,)* })*) => {
        &[$($(BusCase {
            theme: stringify!($theme),
            name: stringify!($case),
            body: |subject| Box::pin($theme::$case(subject)),
        },)*)*]
    };
}

/// All cases of the suite.
pub const CASES: &[BusCase] = __bus_conformance_cases!([registry]());
