//! The messages of given/then of policies, followers and projections, stored in `snapshots/`.

use std::cell::Cell;
use std::collections::BTreeMap;

use composable_rust_core::prelude::*;
use composable_rust_testing::{InMemoryReadModel, given_event};

use crate::failing::assert_says;
use crate::given_event::{
    Cents, ClubEvent, Invoice, InvoiceCommand, Sums, bill, invoice_of, joined, member,
};

#[test]
fn unexpected_commands_fail() {
    assert_says!("given_event_other_command", || {
        let expected = (Invoice::id("7-1"), InvoiceCommand::Void);
        given_event(&member(), joined()).policy(bill).then([expected]);
    });
    assert_says!("given_event_missing_command", || {
        given_event(&member(), joined()).policy(bill).then([]);
    });
    assert_says!("given_event_other_recipient", || {
        given_event(&member(), ClubEvent::Left).follower(invoice_of).then([Invoice::id("8")]);
    });
}

#[test]
fn an_unsaid_outcome_fails() {
    assert_says!("given_event_unsaid_policy", || given_event(&member(), joined()).policy(bill));
    assert_says!("given_event_unsaid_follower", || {
        given_event(&member(), ClubEvent::Left).follower(invoice_of)
    });
}

#[test]
fn a_policy_that_an_app_refuses_fails() {
    assert_says!("given_event_internal", || {
        given_event(&member(), joined())
            .policy(|_| Some((Invoice::id("1"), InvoiceCommand::Overdue)))
            .then([]);
    });
    let calls = Cell::new(0);
    assert_says!("given_event_impure", || {
        given_event(&member(), joined())
            .policy(|_| {
                calls.set(calls.get() + 1);
                let name = format!("call {}", calls.get());
                Some((Invoice::id("1"), InvoiceCommand::Write { name }))
            })
            .then([]);
    });
    assert_says!("given_event_of_another_set", || {
        given_event(&member(), joined())
            .read_as::<Invoice>()
            .policy(|_| None::<(Id<Invoice>, InvoiceCommand)>)
            .then([]);
    });
}

fn project(sums: &Sums, events: impl IntoIterator<Item = ClubEvent>, expected: Cents) {
    let model = InMemoryReadModel::default();
    let mut events = events.into_iter();
    let given = given_event(&member(), events.next().unwrap());
    let given = events.fold(given, |given, event| given.event(&member(), event));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(given.projection(sums, &model)).then(expected);
}

#[test]
fn a_wrong_projection_fails() {
    assert_says!("given_event_other_read_model", || {
        project(&Sums::default(), [joined()], BTreeMap::new());
    });
    assert_says!("given_event_not_projected", || {
        project(&Sums::default(), [joined(), ClubEvent::Left], BTreeMap::new());
    });
    assert_says!("given_event_not_cleared", || {
        project(&Sums { keeps_all: true }, [joined()], BTreeMap::new());
    });
}
