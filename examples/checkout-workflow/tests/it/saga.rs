//! Every path of the checkout.

use std::time::Duration;

use checkout_workflow::{
    Checkout, CheckoutCommand, CheckoutEvent, InventoryCommand, InventoryEvent, InventoryRejection,
    OrderCommand, OrderEvent, OrderRejection, PaymentCommand, PaymentEvent, PaymentRejection,
    Purpose, ShippingCommand, ShippingEvent, ShippingRejection, Status, Step, Task,
};
use composable_rust::prelude::*;
use composable_rust::testing::{Given, ProvidedEnvironment, given};

use Reply::{Recorded, Rejected, Unchanged, Undelivered};
use Step::{Charge, Confirm, Place, Reserve, Ship};
use Task::{Do, Undo};

use crate::support::{cart, noon, order, parcel, payment, sku};

const STEP_TIMEOUT: Duration = Duration::from_secs(30);
const STEPS: [Step; 5] = [Place, Reserve, Charge, Ship, Confirm];

fn checkout(
    events: impl IntoIterator<Item = CheckoutEvent>,
) -> Given<Checkout, ProvidedEnvironment<Checkout>> {
    given::<Checkout>(events).env(STEP_TIMEOUT)
}

/// Returns the events of a checkout that waits for `task`.
fn waiting(task: Task) -> Vec<CheckoutEvent> {
    let before = |step: Step| STEPS.into_iter().take_while(move |other| *other != step);
    let done = |step| before(step).map(|step| CheckoutEvent::Done(Do(step)));
    let start = std::iter::once(CheckoutEvent::Started(cart()));
    match task {
        Do(step) => start.chain(done(step)).collect(),
        Undo(step) => start.chain(done(step)).chain([CheckoutEvent::TimedOut(Do(step))]).collect(),
    }
}

fn completed() -> Vec<CheckoutEvent> {
    let mut events = waiting(Do(Confirm));
    events.push(CheckoutEvent::Done(Do(Confirm)));
    events
}

fn compensated() -> Vec<CheckoutEvent> {
    vec![CheckoutEvent::Started(cart()), CheckoutEvent::Refused(Do(Place))]
}

fn every_task() -> impl Iterator<Item = Task> {
    STEPS.into_iter().flat_map(|step| [Do(step), Undo(step)])
}

/// Returns the reactions that start `task`.
fn requests(task: Task) -> Reactions<CheckoutCommand> {
    requests_with_timeout(task, STEP_TIMEOUT)
}

fn requests_with_timeout(task: Task, timeout: Duration) -> Reactions<CheckoutCommand> {
    let request: Reactions<CheckoutCommand> = match task {
        Do(Place) => effects![dispatch(&order(), OrderCommand::Place(cart())).tag(task)],
        Do(Reserve) => {
            let command = InventoryCommand::Reserve { order: order(), units: 2 };
            effects![dispatch(&sku(), command).tag(task)]
        }
        Do(Charge) => {
            effects![dispatch(&payment(), PaymentCommand::Charge { cents: 1_998 }).tag(task)]
        }
        Do(Ship) => {
            let command = ShippingCommand::Ship { sku: sku(), units: 2 };
            effects![dispatch(&parcel(), command).tag(task)]
        }
        Do(Confirm) => effects![dispatch(&order(), OrderCommand::Confirm).tag(task)],
        Undo(Place | Confirm) => effects![dispatch(&order(), OrderCommand::Cancel).tag(task)],
        Undo(Reserve) => {
            effects![dispatch(&sku(), InventoryCommand::Release { order: order() }).tag(task)]
        }
        Undo(Charge) => effects![dispatch(&payment(), PaymentCommand::Cancel).tag(task)],
        Undo(Ship) => effects![dispatch(&parcel(), ShippingCommand::Cancel).tag(task)],
    };
    request.merge(effects![after(timeout, CheckoutCommand::TimedOut(task)).with_id("task")])
}

/// Returns the reply that completes `task`.
fn done(task: Task) -> CheckoutCommand {
    match task {
        Do(Place) => CheckoutCommand::Order(task, Recorded(OrderEvent::Placed(cart()))),
        Do(Reserve) => {
            let event = InventoryEvent::Reserved { order: order(), units: 2 };
            CheckoutCommand::Stock(task, Recorded(event))
        }
        Do(Charge) => CheckoutCommand::Paid(task, Recorded(PaymentEvent::Charged { cents: 1_998 })),
        Do(Ship) => CheckoutCommand::Parcel(task, Recorded(ShippingEvent::Shipped { at: noon() })),
        Do(Confirm) => CheckoutCommand::Order(task, Recorded(OrderEvent::Confirmed { at: noon() })),
        Undo(Place | Confirm) => CheckoutCommand::Order(task, Recorded(OrderEvent::Cancelled)),
        Undo(Reserve) => {
            let event = InventoryEvent::Released { order: order(), units: 2 };
            CheckoutCommand::Stock(task, Recorded(event))
        }
        Undo(Charge) => {
            CheckoutCommand::Paid(task, Recorded(PaymentEvent::Cancelled { refunded: 1_998 }))
        }
        Undo(Ship) => CheckoutCommand::Parcel(task, Recorded(ShippingEvent::Cancelled)),
    }
}

/// Returns the replies that reject `task`.
fn rejections(task: Task) -> Vec<CheckoutCommand> {
    match task {
        Do(Place | Confirm) | Undo(Place | Confirm) => {
            vec![
                CheckoutCommand::Order(task, Rejected(OrderRejection::Cancelled)),
                CheckoutCommand::Order(task, Undelivered),
            ]
        }
        Do(Reserve) | Undo(Reserve) => vec![
            CheckoutCommand::Stock(task, Rejected(InventoryRejection::OnlyLeft { left: 1 })),
            CheckoutCommand::Stock(task, Undelivered),
        ],
        Do(Charge) => vec![
            CheckoutCommand::Paid(task, Recorded(PaymentEvent::Declined)),
            CheckoutCommand::Paid(task, Recorded(PaymentEvent::Failed)),
            CheckoutCommand::Paid(task, Rejected(PaymentRejection::Cancelled)),
            CheckoutCommand::Paid(task, Undelivered),
        ],
        Undo(Charge) => {
            vec![
                CheckoutCommand::Paid(task, Recorded(PaymentEvent::NotRefunded)),
                CheckoutCommand::Paid(task, Undelivered),
            ]
        }
        Do(Ship) | Undo(Ship) => vec![
            CheckoutCommand::Parcel(task, Recorded(ShippingEvent::NotInStock)),
            CheckoutCommand::Parcel(task, Rejected(ShippingRejection::Cancelled)),
            CheckoutCommand::Parcel(task, Undelivered),
        ],
    }
}

/// Returns the replies to `task` that are not the last.
fn interim_replies(task: Task) -> Vec<CheckoutCommand> {
    let refund = PaymentEvent::RefundRequested { purpose: Purpose::Cancel };
    match task {
        Do(Place | Confirm) | Undo(Place | Confirm) => {
            vec![CheckoutCommand::Order(task, Unchanged)]
        }
        Do(Reserve) | Undo(Reserve) => vec![CheckoutCommand::Stock(task, Unchanged)],
        Do(Charge) | Undo(Charge) => vec![
            CheckoutCommand::Paid(task, Recorded(PaymentEvent::ChargeRequested { cents: 1_998 })),
            CheckoutCommand::Paid(task, Recorded(refund)),
            CheckoutCommand::Paid(task, Unchanged),
        ],
        Do(Ship) | Undo(Ship) => vec![
            CheckoutCommand::Parcel(task, Recorded(ShippingEvent::Packed { sku: sku(), units: 2 })),
            CheckoutCommand::Parcel(task, Unchanged),
        ],
    }
}

/// Returns all commands that `task` can lead to.
fn replies(task: Task) -> Vec<CheckoutCommand> {
    let mut replies = vec![CheckoutCommand::TimedOut(task), done(task)];
    replies.extend(rejections(task));
    replies.extend(interim_replies(task));
    replies
}

#[test]
fn a_checkout_completes_after_five_steps() {
    checkout([])
        .when(CheckoutCommand::Start(cart()))
        .then([CheckoutEvent::Started(cart())])
        .reacts(effects![
            dispatch(&order(), OrderCommand::Place(cart())).tag(Do(Place)),
            after(STEP_TIMEOUT, CheckoutCommand::TimedOut(Do(Place))).with_id("task"),
        ])
        .when(CheckoutCommand::Order(Do(Place), Recorded(OrderEvent::Placed(cart()))))
        .then([CheckoutEvent::Done(Do(Place))])
        .reacts(effects![
            dispatch(&sku(), InventoryCommand::Reserve { order: order(), units: 2 })
                .tag(Do(Reserve)),
            after(STEP_TIMEOUT, CheckoutCommand::TimedOut(Do(Reserve))).with_id("task"),
        ])
        .when(done(Do(Reserve)))
        .then([CheckoutEvent::Done(Do(Reserve))])
        .reacts(effects![
            dispatch(&payment(), PaymentCommand::Charge { cents: 1_998 }).tag(Do(Charge)),
            after(STEP_TIMEOUT, CheckoutCommand::TimedOut(Do(Charge))).with_id("task"),
        ])
        .when(CheckoutCommand::Paid(
            Do(Charge),
            Recorded(PaymentEvent::ChargeRequested { cents: 1_998 }),
        ))
        .then_unchanged()
        .when(done(Do(Charge)))
        .then([CheckoutEvent::Done(Do(Charge))])
        .reacts(effects![
            dispatch(&parcel(), ShippingCommand::Ship { sku: sku(), units: 2 }).tag(Do(Ship)),
            after(STEP_TIMEOUT, CheckoutCommand::TimedOut(Do(Ship))).with_id("task"),
        ])
        .when(CheckoutCommand::Parcel(
            Do(Ship),
            Recorded(ShippingEvent::Packed { sku: sku(), units: 2 }),
        ))
        .then_unchanged()
        .when(done(Do(Ship)))
        .then([CheckoutEvent::Done(Do(Ship))])
        .reacts(effects![
            dispatch(&order(), OrderCommand::Confirm).tag(Do(Confirm)),
            after(STEP_TIMEOUT, CheckoutCommand::TimedOut(Do(Confirm))).with_id("task"),
        ])
        .when(done(Do(Confirm)))
        .then([CheckoutEvent::Done(Do(Confirm))])
        .then_finished()
        .state(|checkout| assert_eq!(checkout.status, Status::Completed));
}

#[test]
fn a_declined_card_undoes_the_steps_before_it() {
    checkout(waiting(Do(Charge)))
        .when(CheckoutCommand::Paid(Do(Charge), Recorded(PaymentEvent::Declined)))
        .then([CheckoutEvent::Refused(Do(Charge))])
        .reacts(effects![
            dispatch(&sku(), InventoryCommand::Release { order: order() }).tag(Undo(Reserve)),
            after(STEP_TIMEOUT, CheckoutCommand::TimedOut(Undo(Reserve))).with_id("task"),
        ])
        .when(done(Undo(Reserve)))
        .then([CheckoutEvent::Done(Undo(Reserve))])
        .reacts(effects![
            dispatch(&order(), OrderCommand::Cancel).tag(Undo(Place)),
            after(STEP_TIMEOUT, CheckoutCommand::TimedOut(Undo(Place))).with_id("task"),
        ])
        .when(done(Undo(Place)))
        .then([CheckoutEvent::Done(Undo(Place))])
        .then_finished()
        .state(|checkout| assert_eq!(checkout.status, Status::Compensated));
}

#[test]
fn a_rejected_first_step_leaves_nothing_to_undo() {
    for rejection in rejections(Do(Place)) {
        checkout(waiting(Do(Place)))
            .when(rejection)
            .then([CheckoutEvent::Refused(Do(Place))])
            .then_finished()
            .state(|checkout| assert_eq!(checkout.status, Status::Compensated));
    }
}

#[test]
fn a_rejected_step_starts_undoing_with_the_step_before() {
    for pair in STEPS.windows(2) {
        let [before, step] = pair else { unreachable!("windows of two steps") };
        for rejection in rejections(Do(*step)) {
            checkout(waiting(Do(*step)))
                .when(rejection)
                .then([CheckoutEvent::Refused(Do(*step))])
                .reacts(requests(Undo(*before)));
        }
    }
}

#[test]
fn a_timeout_starts_undoing_with_the_step_itself() {
    for step in STEPS {
        checkout(waiting(Do(step)))
            .when(CheckoutCommand::TimedOut(Do(step)))
            .then([CheckoutEvent::TimedOut(Do(step))])
            .reacts(requests(Undo(step)));
    }
}

#[test]
fn steps_are_undone_in_reverse_order() {
    let timed_out = checkout(waiting(Do(Confirm))).when(CheckoutCommand::TimedOut(Do(Confirm)));
    let mut undoing =
        timed_out.then([CheckoutEvent::TimedOut(Do(Confirm))]).reacts(requests(Undo(Confirm)));
    for pair in [Confirm, Ship, Charge, Reserve, Place].windows(2) {
        let [step, before] = pair else { unreachable!("windows of two steps") };
        undoing = undoing
            .when(done(Undo(*step)))
            .then([CheckoutEvent::Done(Undo(*step))])
            .reacts(requests(Undo(*before)));
    }
    undoing
        .when(done(Undo(Place)))
        .then([CheckoutEvent::Done(Undo(Place))])
        .then_finished()
        .state(|checkout| assert_eq!(checkout.status, Status::Compensated));
}

#[test]
fn an_undoing_that_times_out_is_repeated_with_longer_timeouts() {
    for step in STEPS {
        let mut events = waiting(Undo(step));
        for factor in [2, 4, 8, 16, 32, 64, 128, 128, 128] {
            checkout(events.clone())
                .when(CheckoutCommand::TimedOut(Undo(step)))
                .then([CheckoutEvent::TimedOut(Undo(step))])
                .reacts(requests_with_timeout(Undo(step), STEP_TIMEOUT * factor));
            events.push(CheckoutEvent::TimedOut(Undo(step)));
        }
    }
    // The next step starts with the first timeout.
    let mut events = waiting(Undo(Ship));
    events.extend([CheckoutEvent::TimedOut(Undo(Ship)), CheckoutEvent::TimedOut(Undo(Ship))]);
    checkout(events)
        .when(done(Undo(Ship)))
        .then([CheckoutEvent::Done(Undo(Ship))])
        .reacts(requests(Undo(Charge)));
}

#[test]
fn a_rejected_refund_ends_stuck_with_the_other_steps_undone() {
    checkout(waiting(Undo(Charge)))
        .when(CheckoutCommand::Paid(Undo(Charge), Recorded(PaymentEvent::NotRefunded)))
        .then([CheckoutEvent::Refused(Undo(Charge))])
        .reacts(requests(Undo(Reserve)))
        .when(done(Undo(Reserve)))
        .then([CheckoutEvent::Done(Undo(Reserve))])
        .reacts(requests(Undo(Place)))
        .when(done(Undo(Place)))
        .then([CheckoutEvent::Done(Undo(Place))])
        .then_finished()
        .then_state(Checkout {
            cart: Some(cart()),
            status: Status::Stuck,
            not_undone: vec![Charge],
            ..Checkout::default()
        });
}

#[test]
fn a_rejected_undoing_does_not_stop_the_others() {
    for step in STEPS {
        for rejection in rejections(Undo(step)) {
            let before = STEPS.into_iter().take_while(|other| *other != step).last();
            let expected = before.map_or(Reactions::none(), |before| requests(Undo(before)));
            let status = before.map_or(Status::Stuck, |before| Status::Waiting(Undo(before)));
            let scenario = checkout(waiting(Undo(step)))
                .when(rejection)
                .then([CheckoutEvent::Refused(Undo(step))]);
            let scenario =
                if before.is_some() { scenario.reacts(expected) } else { scenario.then_finished() };
            let (cart, not_undone) = (Some(cart()), vec![step]);
            scenario.then_state(Checkout { cart, status, not_undone, ..Checkout::default() });
        }
    }
}

#[test]
fn the_state_names_the_steps_that_were_not_undone() {
    let mut events = waiting(Undo(Ship));
    events.extend([
        CheckoutEvent::Refused(Undo(Ship)),
        CheckoutEvent::Refused(Undo(Charge)),
        CheckoutEvent::Done(Undo(Reserve)),
    ]);
    checkout(events)
        .when(done(Undo(Place)))
        .then([CheckoutEvent::Done(Undo(Place))])
        .state(|checkout| assert_eq!(checkout.not_undone, [Ship, Charge]));
}

#[test]
fn an_interim_reply_changes_nothing() {
    for task in every_task() {
        for reply in interim_replies(task) {
            checkout(waiting(task)).when(reply).then_unchanged();
        }
    }
}

/// Among them: a late rejection of a step that is being undone, a charge that succeeds after its
/// timeout, a second reply to a step, and a timeout that fires with the reply.
#[test]
fn a_reply_to_another_task_changes_nothing() {
    for task in every_task() {
        for other in every_task().filter(|other| *other != task) {
            for reply in replies(other) {
                checkout(waiting(task)).when(reply).then_unchanged();
            }
        }
    }
}

/// Both requests are the same, so a reply to either completes the task.
#[test]
fn a_late_reply_to_the_first_undoing_completes_the_second() {
    let mut events = waiting(Undo(Charge));
    events.push(CheckoutEvent::TimedOut(Undo(Charge)));
    checkout(events)
        .when(done(Undo(Charge)))
        .then([CheckoutEvent::Done(Undo(Charge))])
        .reacts(requests(Undo(Reserve)))
        .when(done(Undo(Charge)))
        .then_unchanged();
}

#[test]
fn a_reply_to_a_new_checkout_changes_nothing() {
    for reply in every_task().flat_map(replies) {
        checkout([]).when(reply).then_unchanged();
    }
}

#[test]
fn a_reply_to_a_finished_checkout_changes_nothing() {
    let mut stuck = waiting(Undo(Place));
    stuck.push(CheckoutEvent::Refused(Undo(Place)));
    for history in [completed(), compensated(), stuck] {
        for reply in every_task().flat_map(replies) {
            checkout(history.clone()).when(reply).then_unchanged().then_finished();
        }
    }
}

#[test]
fn a_checkout_starts_once() {
    let other = checkout_workflow::Cart { units: 3, ..cart() };
    for history in [waiting(Do(Place)), waiting(Undo(Ship)), completed(), compensated()] {
        checkout(history)
            .when(CheckoutCommand::Start(cart()))
            .then_unchanged()
            .when(CheckoutCommand::Start(other.clone()))
            .then_unchanged();
    }
}

/// Runs all tests of this file, to measure their duration.
pub(crate) fn every_path() {
    a_checkout_completes_after_five_steps();
    a_declined_card_undoes_the_steps_before_it();
    a_rejected_first_step_leaves_nothing_to_undo();
    a_rejected_step_starts_undoing_with_the_step_before();
    a_timeout_starts_undoing_with_the_step_itself();
    steps_are_undone_in_reverse_order();
    an_undoing_that_times_out_is_repeated_with_longer_timeouts();
    a_rejected_refund_ends_stuck_with_the_other_steps_undone();
    a_rejected_undoing_does_not_stop_the_others();
    the_state_names_the_steps_that_were_not_undone();
    an_interim_reply_changes_nothing();
    a_reply_to_another_task_changes_nothing();
    a_late_reply_to_the_first_undoing_completes_the_second();
    a_reply_to_a_new_checkout_changes_nothing();
    a_reply_to_a_finished_checkout_changes_nothing();
    a_checkout_starts_once();
}
