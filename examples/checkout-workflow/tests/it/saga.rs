//! Every path of the checkout.

use std::time::Duration;

use checkout_workflow::{
    Checkout, CheckoutCommand as In, CheckoutEvent as Out, InventoryCommand, InventoryEvent,
    InventoryRejection, OrderCommand, OrderEvent, OrderRejection, PaymentCommand, PaymentEvent,
    PaymentRejection, Purpose, ShippingCommand, ShippingEvent, ShippingRejection, Status, Step,
    Task,
};
use composable_rust::prelude::*;
use composable_rust::testing::{Given, ProvidedEnvironment, given};

use Reply::{Recorded, Rejected, Unchanged, Undelivered};
use Step::{Charge, Confirm, Place, Reserve, Ship};
use Task::{Do, Undo};

use crate::support::{cart, noon, order, parcel, payment, sku};

const PATIENCE: Duration = Duration::from_secs(30);
const STEPS: [Step; 5] = [Place, Reserve, Charge, Ship, Confirm];

fn checkout(
    events: impl IntoIterator<Item = Out>,
) -> Given<Checkout, ProvidedEnvironment<Checkout>> {
    given::<Checkout>(events).env(PATIENCE)
}

/// A checkout that waits for `task`.
fn waiting(task: Task) -> Vec<Out> {
    let before = |step: Step| STEPS.into_iter().take_while(move |other| *other != step);
    let done = |step| before(step).map(|step| Out::Done(Do(step)));
    let start = std::iter::once(Out::Started(cart()));
    match task {
        Do(step) => start.chain(done(step)).collect(),
        Undo(step) => start.chain(done(step)).chain([Out::TimedOut(Do(step))]).collect(),
    }
}

fn completed() -> Vec<Out> {
    let mut events = waiting(Do(Confirm));
    events.push(Out::Done(Do(Confirm)));
    events
}

fn compensated() -> Vec<Out> {
    vec![Out::Started(cart()), Out::Refused(Do(Place))]
}

fn every_task() -> impl Iterator<Item = Task> {
    STEPS.into_iter().flat_map(|step| [Do(step), Undo(step)])
}

/// What follows when the checkout begins with `task`.
fn asks(task: Task) -> Reactions<In> {
    asks_and_waits(task, PATIENCE)
}

fn asks_and_waits(task: Task, patience: Duration) -> Reactions<In> {
    let request: Reactions<In> = match task {
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
    request.merge(effects![after(patience, In::TimedOut(task)).with_id("task")])
}

/// The answer that does `task`.
fn done(task: Task) -> In {
    match task {
        Do(Place) => In::Order(task, Recorded(OrderEvent::Placed(cart()))),
        Do(Reserve) => {
            let event = InventoryEvent::Reserved { order: order(), units: 2 };
            In::Stock(task, Recorded(event))
        }
        Do(Charge) => In::Paid(task, Recorded(PaymentEvent::Charged { cents: 1_998 })),
        Do(Ship) => In::Parcel(task, Recorded(ShippingEvent::Shipped { at: noon() })),
        Do(Confirm) => In::Order(task, Recorded(OrderEvent::Confirmed { at: noon() })),
        Undo(Place | Confirm) => In::Order(task, Recorded(OrderEvent::Cancelled)),
        Undo(Reserve) => {
            let event = InventoryEvent::Released { order: order(), units: 2 };
            In::Stock(task, Recorded(event))
        }
        Undo(Charge) => In::Paid(task, Recorded(PaymentEvent::Cancelled { refunded: 1_998 })),
        Undo(Ship) => In::Parcel(task, Recorded(ShippingEvent::Cancelled)),
    }
}

/// The answers that refuse `task`.
fn refusals(task: Task) -> Vec<In> {
    match task {
        Do(Place | Confirm) | Undo(Place | Confirm) => {
            vec![In::Order(task, Rejected(OrderRejection::Cancelled)), In::Order(task, Undelivered)]
        }
        Do(Reserve) | Undo(Reserve) => vec![
            In::Stock(task, Rejected(InventoryRejection::OnlyLeft { left: 1 })),
            In::Stock(task, Undelivered),
        ],
        Do(Charge) => vec![
            In::Paid(task, Recorded(PaymentEvent::Declined)),
            In::Paid(task, Recorded(PaymentEvent::Failed)),
            In::Paid(task, Rejected(PaymentRejection::Cancelled)),
            In::Paid(task, Undelivered),
        ],
        Undo(Charge) => {
            vec![In::Paid(task, Recorded(PaymentEvent::NotRefunded)), In::Paid(task, Undelivered)]
        }
        Do(Ship) | Undo(Ship) => vec![
            In::Parcel(task, Recorded(ShippingEvent::NotInStock)),
            In::Parcel(task, Rejected(ShippingRejection::Cancelled)),
            In::Parcel(task, Undelivered),
        ],
    }
}

/// The answers to `task` after which another is still to come.
fn on_its_way(task: Task) -> Vec<In> {
    let refund = PaymentEvent::RefundRequested { purpose: Purpose::Cancel };
    match task {
        Do(Place | Confirm) | Undo(Place | Confirm) => vec![In::Order(task, Unchanged)],
        Do(Reserve) | Undo(Reserve) => vec![In::Stock(task, Unchanged)],
        Do(Charge) | Undo(Charge) => vec![
            In::Paid(task, Recorded(PaymentEvent::ChargeRequested { cents: 1_998 })),
            In::Paid(task, Recorded(refund)),
            In::Paid(task, Unchanged),
        ],
        Do(Ship) | Undo(Ship) => vec![
            In::Parcel(task, Recorded(ShippingEvent::Packed { sku: sku(), units: 2 })),
            In::Parcel(task, Unchanged),
        ],
    }
}

/// Everything that may come back from `task`.
fn answers(task: Task) -> Vec<In> {
    let mut answers = vec![In::TimedOut(task), done(task)];
    answers.extend(refusals(task));
    answers.extend(on_its_way(task));
    answers
}

#[test]
fn five_steps_make_a_checkout() {
    checkout([])
        .when(In::Start(cart()))
        .then([Out::Started(cart())])
        .reacts(effects![
            dispatch(&order(), OrderCommand::Place(cart())).tag(Do(Place)),
            after(PATIENCE, In::TimedOut(Do(Place))).with_id("task"),
        ])
        .when(In::Order(Do(Place), Recorded(OrderEvent::Placed(cart()))))
        .then([Out::Done(Do(Place))])
        .reacts(effects![
            dispatch(&sku(), InventoryCommand::Reserve { order: order(), units: 2 })
                .tag(Do(Reserve)),
            after(PATIENCE, In::TimedOut(Do(Reserve))).with_id("task"),
        ])
        .when(done(Do(Reserve)))
        .then([Out::Done(Do(Reserve))])
        .reacts(effects![
            dispatch(&payment(), PaymentCommand::Charge { cents: 1_998 }).tag(Do(Charge)),
            after(PATIENCE, In::TimedOut(Do(Charge))).with_id("task"),
        ])
        .when(In::Paid(Do(Charge), Recorded(PaymentEvent::ChargeRequested { cents: 1_998 })))
        .then_unchanged()
        .when(done(Do(Charge)))
        .then([Out::Done(Do(Charge))])
        .reacts(effects![
            dispatch(&parcel(), ShippingCommand::Ship { sku: sku(), units: 2 }).tag(Do(Ship)),
            after(PATIENCE, In::TimedOut(Do(Ship))).with_id("task"),
        ])
        .when(In::Parcel(Do(Ship), Recorded(ShippingEvent::Packed { sku: sku(), units: 2 })))
        .then_unchanged()
        .when(done(Do(Ship)))
        .then([Out::Done(Do(Ship))])
        .reacts(effects![
            dispatch(&order(), OrderCommand::Confirm).tag(Do(Confirm)),
            after(PATIENCE, In::TimedOut(Do(Confirm))).with_id("task"),
        ])
        .when(done(Do(Confirm)))
        .then([Out::Done(Do(Confirm))])
        .then_finished()
        .state(|checkout| assert_eq!(checkout.status, Status::Completed));
}

#[test]
fn a_declined_card_releases_the_stock_and_cancels_the_order() {
    checkout(waiting(Do(Charge)))
        .when(In::Paid(Do(Charge), Recorded(PaymentEvent::Declined)))
        .then([Out::Refused(Do(Charge))])
        .reacts(effects![
            dispatch(&sku(), InventoryCommand::Release { order: order() }).tag(Undo(Reserve)),
            after(PATIENCE, In::TimedOut(Undo(Reserve))).with_id("task"),
        ])
        .when(done(Undo(Reserve)))
        .then([Out::Done(Undo(Reserve))])
        .reacts(effects![
            dispatch(&order(), OrderCommand::Cancel).tag(Undo(Place)),
            after(PATIENCE, In::TimedOut(Undo(Place))).with_id("task"),
        ])
        .when(done(Undo(Place)))
        .then([Out::Done(Undo(Place))])
        .then_finished()
        .state(|checkout| assert_eq!(checkout.status, Status::Compensated));
}

#[test]
fn a_refused_first_step_leaves_nothing_to_undo() {
    for refusal in refusals(Do(Place)) {
        checkout(waiting(Do(Place)))
            .when(refusal)
            .then([Out::Refused(Do(Place))])
            .then_finished()
            .state(|checkout| assert_eq!(checkout.status, Status::Compensated));
    }
}

#[test]
fn after_a_refused_step_undoing_begins_with_the_one_before() {
    for pair in STEPS.windows(2) {
        let [before, step] = pair else { unreachable!("two of them") };
        for refusal in refusals(Do(*step)) {
            checkout(waiting(Do(*step)))
                .when(refusal)
                .then([Out::Refused(Do(*step))])
                .reacts(asks(Undo(*before)));
        }
    }
}

#[test]
fn after_a_timeout_undoing_begins_with_the_step_itself() {
    for step in STEPS {
        checkout(waiting(Do(step)))
            .when(In::TimedOut(Do(step)))
            .then([Out::TimedOut(Do(step))])
            .reacts(asks(Undo(step)));
    }
}

#[test]
fn steps_are_undone_in_reverse_order() {
    let timed_out = checkout(waiting(Do(Confirm))).when(In::TimedOut(Do(Confirm)));
    let mut undoing = timed_out.then([Out::TimedOut(Do(Confirm))]).reacts(asks(Undo(Confirm)));
    for pair in [Confirm, Ship, Charge, Reserve, Place].windows(2) {
        let [step, before] = pair else { unreachable!("two of them") };
        undoing = undoing
            .when(done(Undo(*step)))
            .then([Out::Done(Undo(*step))])
            .reacts(asks(Undo(*before)));
    }
    undoing
        .when(done(Undo(Place)))
        .then([Out::Done(Undo(Place))])
        .then_finished()
        .state(|checkout| assert_eq!(checkout.status, Status::Compensated));
}

#[test]
fn what_is_not_undone_in_time_is_asked_for_again_more_and_more_rarely() {
    for step in STEPS {
        let mut events = waiting(Undo(step));
        for factor in [2, 4, 8, 16, 32, 64, 128, 128, 128] {
            checkout(events.clone())
                .when(In::TimedOut(Undo(step)))
                .then([Out::TimedOut(Undo(step))])
                .reacts(asks_and_waits(Undo(step), PATIENCE * factor));
            events.push(Out::TimedOut(Undo(step)));
        }
    }
    // The next step to undo begins anew.
    let mut events = waiting(Undo(Ship));
    events.extend([Out::TimedOut(Undo(Ship)), Out::TimedOut(Undo(Ship))]);
    checkout(events)
        .when(done(Undo(Ship)))
        .then([Out::Done(Undo(Ship))])
        .reacts(asks(Undo(Charge)));
}

#[test]
fn a_refused_refund_ends_stuck_with_everything_else_undone() {
    checkout(waiting(Undo(Charge)))
        .when(In::Paid(Undo(Charge), Recorded(PaymentEvent::NotRefunded)))
        .then([Out::Refused(Undo(Charge))])
        .reacts(asks(Undo(Reserve)))
        .when(done(Undo(Reserve)))
        .then([Out::Done(Undo(Reserve))])
        .reacts(asks(Undo(Place)))
        .when(done(Undo(Place)))
        .then([Out::Done(Undo(Place))])
        .then_finished()
        .then_state(Checkout {
            cart: Some(cart()),
            status: Status::Stuck,
            kept: vec![Charge],
            ..Checkout::default()
        });
}

#[test]
fn whatever_undoing_is_refused_the_rest_is_undone() {
    for step in STEPS {
        for refusal in refusals(Undo(step)) {
            let before = STEPS.into_iter().take_while(|other| *other != step).last();
            let expected = before.map_or(Reactions::none(), |before| asks(Undo(before)));
            let status = before.map_or(Status::Stuck, |before| Status::Waiting(Undo(before)));
            let scenario =
                checkout(waiting(Undo(step))).when(refusal).then([Out::Refused(Undo(step))]);
            let scenario =
                if before.is_some() { scenario.reacts(expected) } else { scenario.then_finished() };
            let (cart, kept) = (Some(cart()), vec![step]);
            scenario.then_state(Checkout { cart, status, kept, ..Checkout::default() });
        }
    }
}

#[test]
fn all_that_could_not_be_undone_is_named() {
    let mut events = waiting(Undo(Ship));
    events.extend([Out::Refused(Undo(Ship)), Out::Refused(Undo(Charge)), Out::Done(Undo(Reserve))]);
    checkout(events)
        .when(done(Undo(Place)))
        .then([Out::Done(Undo(Place))])
        .state(|checkout| assert_eq!(checkout.kept, [Ship, Charge]));
}

#[test]
fn an_answer_that_is_not_the_last_changes_nothing() {
    for task in every_task() {
        for answer in on_its_way(task) {
            checkout(waiting(task)).when(answer).then_unchanged();
        }
    }
}

/// A late refusal of the step while its undoing is pending, a charge that went through just as it
/// timed out, a step that is answered twice, a timeout that fires as the answer comes.
#[test]
fn what_comes_back_from_another_task_changes_nothing() {
    for task in every_task() {
        for other in every_task().filter(|other| *other != task) {
            for answer in answers(other) {
                checkout(waiting(task)).when(answer).then_unchanged();
            }
        }
    }
}

/// Both ask for the same, so the answer to either will do.
#[test]
fn a_late_answer_to_the_first_undoing_counts_for_the_second() {
    let mut events = waiting(Undo(Charge));
    events.push(Out::TimedOut(Undo(Charge)));
    checkout(events)
        .when(done(Undo(Charge)))
        .then([Out::Done(Undo(Charge))])
        .reacts(asks(Undo(Reserve)))
        .when(done(Undo(Charge)))
        .then_unchanged();
}

#[test]
fn what_comes_back_to_a_checkout_without_events_changes_nothing() {
    for answer in every_task().flat_map(answers) {
        checkout([]).when(answer).then_unchanged();
    }
}

#[test]
fn what_comes_back_to_a_finished_checkout_changes_nothing() {
    let mut stuck = waiting(Undo(Place));
    stuck.push(Out::Refused(Undo(Place)));
    for history in [completed(), compensated(), stuck] {
        for answer in every_task().flat_map(answers) {
            checkout(history.clone()).when(answer).then_unchanged().then_finished();
        }
    }
}

#[test]
fn a_checkout_starts_once() {
    let other = checkout_workflow::Cart { units: 3, ..cart() };
    for history in [waiting(Do(Place)), waiting(Undo(Ship)), completed(), compensated()] {
        checkout(history)
            .when(In::Start(cart()))
            .then_unchanged()
            .when(In::Start(other.clone()))
            .then_unchanged();
    }
}

/// All of these, for whoever wants to know how long they take.
pub(crate) fn every_path() {
    five_steps_make_a_checkout();
    a_declined_card_releases_the_stock_and_cancels_the_order();
    a_refused_first_step_leaves_nothing_to_undo();
    after_a_refused_step_undoing_begins_with_the_one_before();
    after_a_timeout_undoing_begins_with_the_step_itself();
    steps_are_undone_in_reverse_order();
    what_is_not_undone_in_time_is_asked_for_again_more_and_more_rarely();
    a_refused_refund_ends_stuck_with_everything_else_undone();
    whatever_undoing_is_refused_the_rest_is_undone();
    all_that_could_not_be_undone_is_named();
    an_answer_that_is_not_the_last_changes_nothing();
    what_comes_back_from_another_task_changes_nothing();
    a_late_answer_to_the_first_undoing_counts_for_the_second();
    what_comes_back_to_a_checkout_without_events_changes_nothing();
    what_comes_back_to_a_finished_checkout_changes_nothing();
    a_checkout_starts_once();
}
