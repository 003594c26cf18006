//! Values that the tests share.

use checkout_workflow::{Cart, Inventory, Order, Payment, Shipping};
use composable_rust::Timestamp;
use composable_rust::prelude::*;

pub(crate) fn cart() -> Cart {
    Cart { sku: sku(), units: 2, cents: 1_998 }
}

pub(crate) fn sku() -> Id<Inventory> {
    Inventory::id("pencil")
}

/// The time in tests without a clock.
pub(crate) fn noon() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().expect("a time")
}

/// The id `1` is the default id of an instance in `given`.
pub(crate) fn order() -> Id<Order> {
    Order::id("1")
}

pub(crate) fn payment() -> Id<Payment> {
    Payment::id("1")
}

pub(crate) fn parcel() -> Id<Shipping> {
    Shipping::id("1")
}

/// The events of a checkout none of whose undoing was refused.
pub(crate) mod events {
    use checkout_workflow::{CheckoutEvent, Step};
    use composable_rust::prelude::*;
    use composable_rust::saga::{Next, Reason, Task};

    use super::{cart, noon};

    pub(crate) fn started() -> CheckoutEvent {
        CheckoutEvent::Started { input: cart(), next: Next::Do(Step::Place), at: noon() }
    }

    pub(crate) fn done(task: Task<Step>) -> CheckoutEvent {
        let next = match task {
            Task::Do(step) => Step::STEPS
                .iter()
                .skip_while(|other| **other != step)
                .nth(1)
                .map_or(Next::Completed, |next| Next::Do(*next)),
            Task::Undo(step) => undo_before(step).unwrap_or(Next::Compensated),
        };
        CheckoutEvent::Done { task, next, at: noon() }
    }

    pub(crate) fn refused(task: Task<Step>, reason: Reason) -> CheckoutEvent {
        let end = if matches!(task, Task::Do(_)) { Next::Compensated } else { Next::Stuck };
        let next = undo_before(task.step()).unwrap_or(end);
        CheckoutEvent::Refused { task, reason, next, at: noon() }
    }

    pub(crate) fn timed_out(task: Task<Step>) -> CheckoutEvent {
        let (reason, next) = (Reason::TimedOut, Next::Undo(task.step()));
        CheckoutEvent::TimedOut { task, reason, next, at: noon() }
    }

    fn undo_before(step: Step) -> Option<Next<Step>> {
        Step::STEPS.iter().take_while(|other| **other != step).last().map(|step| Next::Undo(*step))
    }
}
