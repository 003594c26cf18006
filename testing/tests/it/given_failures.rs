//! The messages of given/when/then to wrong tests and wrong aggregates, stored in `snapshots/`.

use std::time::Duration;

use composable_rust_core::prelude::*;
use composable_rust_testing::given;

use crate::failing::assert_says;
use crate::faulty::{Faulty, FaultyCommand, FaultyEvent, PART};
use crate::given::{
    Order, OrderCommand as In, OrderError as No, OrderEvent as Out, PATIENCE, WarehouseCommand,
    placed, ship, warehouse,
};

#[test]
fn an_unexpected_decision_fails() {
    assert_says!("given_wrong_event", || {
        given::<Order>([placed()]).when(ship()).then([Out::Shipped { tracking: "T2".to_owned() }]);
    });
    assert_says!("given_missing_event", || {
        given::<Order>([]).when(In::Place { items: 2 }).then([placed()]);
    });
    assert_says!("given_wrong_rejection", || {
        given::<Order>([]).when(In::Place { items: 0 }).then_rejected(No::NotAllowed);
    });
    assert_says!("given_rejected_instead_of_recorded", || {
        given::<Order>([]).when(ship()).then([Out::Shipped { tracking: "T1".to_owned() }]);
    });
    assert_says!("given_recorded_instead_of_rejected", || {
        given::<Order>([placed()]).when(ship()).then_rejected(No::NotAllowed);
    });
    assert_says!("given_unchanged_instead_of_recorded", || {
        given::<Order>([]).when(In::Expire).then([Out::Expired]);
    });
    assert_says!("given_recorded_instead_of_unchanged", || {
        given::<Order>([placed()]).when(In::Expire).then_unchanged();
    });
    assert_says!("given_repeated_instead_of_recorded", || {
        given::<Order>([placed()]).when(In::Look).then([Out::Counted { left: 2 }]);
    });
    assert_says!("given_recorded_instead_of_repeated", || {
        given::<Order>([placed()]).when(In::Expire).then_repeated(Out::Expired);
    });
    assert_says!("given_wrong_repeat", || {
        given::<Order>([placed()]).when(In::Look).then_repeated(Out::Counted { left: 3 });
    });
    assert_says!("given_no_match", || {
        given::<Order>([placed()]).when(ship()).then_matching(<[Out]>::is_empty);
    });
}

#[test]
fn unexpected_effects_of_a_decision_fail() {
    let place = || {
        given::<Order>([]).when(In::Place { items: 2 }).then([placed(), Out::Counted { left: 8 }])
    };
    assert_says!("given_wrong_reaction", || {
        place().reacts(effects![
            dispatch(&warehouse(), WarehouseCommand::Pick { items: 3 }),
            after(Duration::from_secs(60), In::Expire).with_id("patience"),
        ]);
    });
    assert_says!("given_missing_reaction", || {
        given::<Order>([placed()])
            .when(In::Expire)
            .then([Out::Expired])
            .reacts(effects![cancel("patience")]);
    });
    assert_says!("given_unexpected_reaction", || place().reacts(effects![]));
    assert_says!("given_unsaid_reactions", place);
    assert_says!("given_unsaid_reactions_before_when", || place().when(In::Look));
    assert_says!("given_reaction_to_other_instance", || {
        place().reacts(effects![
            tell(&warehouse(), WarehouseCommand::Pick { items: 2 }),
            after(PATIENCE, In::Expire).with_id("patience"),
        ]);
    });
}

#[test]
fn an_unasserted_decision_fails() {
    assert_says!("given_no_then", || given::<Order>([placed()]).when(ship()));
    assert_says!("given_no_then_rejected", || given::<Order>([]).when(ship()));
    assert_says!("given_no_then_before_at", || {
        given::<Order>([]).when(In::Expire).at(Timestamp::EPOCH).when(In::Expire).then_unchanged();
    });
}

#[test]
fn an_unexpected_state_fails() {
    let expired = || given::<Order>([placed()]).when(In::Expire).then([Out::Expired]);
    assert_says!("given_wrong_state", || expired().then_state(Order::Shipped));
    assert_says!("given_not_finished", || expired().then_finished());
}

#[test]
fn a_message_that_does_not_round_trip_fails() {
    let when = |command| given::<Faulty>([]).when(command).then_unchanged();
    assert_says!("given_event_not_read", || when(FaultyCommand::Skip));
    assert_says!("given_event_not_written", || when(FaultyCommand::Map));
    assert_says!("given_event_loses", || when(FaultyCommand::Round));
    assert_says!("given_rejection_not_read", || when(FaultyCommand::Refuse));
    assert_says!("given_command_not_read", || {
        when(FaultyCommand::Lost(PART));
    });
    assert_says!("given_given_event_not_read", || {
        let _ = given::<Faulty>([FaultyEvent::Skipped(PART)]);
    });
    assert_says!("given_dispatch_not_read", || when(FaultyCommand::Pass));
    assert_says!("given_event_unequal", || when(FaultyCommand::Weigh));
    assert_says!("given_state_not_kept", || when(FaultyCommand::Forget));
}

#[test]
fn a_rule_that_reads_too_much_fails() {
    let when = |command| given::<Faulty>([]).when(command).then_unchanged();
    // The global keeps changing, so each test runs twice or not at all before the next.
    assert_says!("given_decided_differently", || when(FaultyCommand::Decide));
    assert_says!("given_reacted_differently", || when(FaultyCommand::React));
    assert_says!("given_applied_differently", || when(FaultyCommand::Apply));
}

#[test]
fn effects_that_an_app_rejects_fail() {
    assert_says!("given_timer_not_internal", || given::<Faulty>([]).when(FaultyCommand::Arm));
    assert_says!("given_dispatch_internal", || given::<Faulty>([]).when(FaultyCommand::Forge));
}
