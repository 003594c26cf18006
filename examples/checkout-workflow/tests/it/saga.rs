//! Every path of the checkout.

use std::time::Duration;

use checkout_workflow::{
    Checkout, CheckoutCommand, CheckoutEvent, Inventory, InventoryCommand, InventoryEvent,
    InventoryRejection, Order, OrderCommand, OrderEvent, OrderRejection, Payment, PaymentCommand,
    PaymentEvent, PaymentRejection, Purpose, Shipping, ShippingCommand, ShippingEvent,
    ShippingRejection, Step,
};
use composable_rust::prelude::*;
use composable_rust::saga::{FailedStep, Next, Reason, Status, Task};
use composable_rust::testing::{Given, ProvidedEnvironment, given};

use Reply::{Recorded, Rejected, Unchanged, Undelivered};
use Step::{Charge, Confirm, Place, Reserve, Ship};
use Task::{Do, Undo};

use crate::support::{cart, events, noon, order, parcel, payment, sku};

const STEP_TIMEOUT: Duration = Duration::from_secs(30);
const STEPS: [Step; 5] = [Place, Reserve, Charge, Ship, Confirm];

fn checkout(
    events: impl IntoIterator<Item = CheckoutEvent>,
) -> Given<Checkout, ProvidedEnvironment<Checkout>> {
    given::<Checkout>(events).env(STEP_TIMEOUT).at(noon())
}

/// Returns the events of a checkout that waits for `task`.
fn waiting(task: Task<Step>) -> Vec<CheckoutEvent> {
    let before = |step: Step| STEPS.into_iter().take_while(move |other| *other != step);
    let done = |step| before(step).map(|step| events::done(Do(step)));
    let start = std::iter::once(events::started());
    match task {
        Do(step) => start.chain(done(step)).collect(),
        Undo(step) => start.chain(done(step)).chain([events::timed_out(Do(step))]).collect(),
    }
}

fn completed() -> Vec<CheckoutEvent> {
    let mut events = waiting(Do(Confirm));
    events.push(events::done(Do(Confirm)));
    events
}

fn compensated() -> Vec<CheckoutEvent> {
    vec![events::started(), events::refused(Do(Place), Reason::Undelivered)]
}

fn every_task() -> impl Iterator<Item = Task<Step>> {
    STEPS.into_iter().flat_map(|step| [Do(step), Undo(step)])
}

/// Returns the reactions that start `task`.
fn requests(task: Task<Step>) -> Reactions<CheckoutCommand> {
    requests_with_timeout(task, STEP_TIMEOUT)
}

fn requests_with_timeout(task: Task<Step>, timeout: Duration) -> Reactions<CheckoutCommand> {
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
fn done(task: Task<Step>) -> CheckoutCommand {
    match task {
        Do(Place) => CheckoutCommand::reply::<Order>(task, Recorded(OrderEvent::Placed(cart()))),
        Do(Reserve) => {
            let event = InventoryEvent::Reserved { order: order(), units: 2 };
            CheckoutCommand::reply::<Inventory>(task, Recorded(event))
        }
        Do(Charge) => CheckoutCommand::reply::<Payment>(
            task,
            Recorded(PaymentEvent::Charged { cents: 1_998 }),
        ),
        Do(Ship) => CheckoutCommand::reply::<Shipping>(
            task,
            Recorded(ShippingEvent::Shipped { at: noon() }),
        ),
        Do(Confirm) => {
            CheckoutCommand::reply::<Order>(task, Recorded(OrderEvent::Confirmed { at: noon() }))
        }
        Undo(Place | Confirm) => {
            CheckoutCommand::reply::<Order>(task, Recorded(OrderEvent::Cancelled))
        }
        Undo(Reserve) => {
            let event = InventoryEvent::Released { order: order(), units: 2 };
            CheckoutCommand::reply::<Inventory>(task, Recorded(event))
        }
        Undo(Charge) => CheckoutCommand::reply::<Payment>(
            task,
            Recorded(PaymentEvent::Cancelled { refunded: 1_998 }),
        ),
        Undo(Ship) => CheckoutCommand::reply::<Shipping>(task, Recorded(ShippingEvent::Cancelled)),
    }
}

/// Returns a reply that refuses `task`, and the reason that the saga keeps.
fn refusal<T: Target>(task: Task<Step>, reply: Reply<T>) -> (CheckoutCommand, Reason) {
    let reason = match &reply {
        Recorded(event) => Reason::refused(event),
        Rejected(rejection) => Reason::refused(rejection),
        Unchanged | Undelivered => Reason::Undelivered,
    };
    (CheckoutCommand::reply::<T>(task, reply), reason)
}

/// Returns the replies that refuse `task`, with their reasons.
fn refusals(task: Task<Step>) -> Vec<(CheckoutCommand, Reason)> {
    match task {
        Do(Place | Confirm) | Undo(Place | Confirm) => vec![
            refusal::<Order>(task, Rejected(OrderRejection::Cancelled)),
            refusal::<Order>(task, Undelivered),
        ],
        Do(Reserve) | Undo(Reserve) => vec![
            refusal::<Inventory>(task, Rejected(InventoryRejection::OnlyLeft { left: 1 })),
            refusal::<Inventory>(task, Undelivered),
        ],
        Do(Charge) => vec![
            refusal::<Payment>(task, Recorded(PaymentEvent::Declined)),
            refusal::<Payment>(task, Recorded(PaymentEvent::Failed)),
            refusal::<Payment>(task, Rejected(PaymentRejection::Cancelled)),
            refusal::<Payment>(task, Undelivered),
        ],
        Undo(Charge) => vec![
            refusal::<Payment>(task, Recorded(PaymentEvent::NotRefunded)),
            refusal::<Payment>(task, Undelivered),
        ],
        Do(Ship) | Undo(Ship) => vec![
            refusal::<Shipping>(task, Recorded(ShippingEvent::NotInStock)),
            refusal::<Shipping>(task, Rejected(ShippingRejection::Cancelled)),
            refusal::<Shipping>(task, Undelivered),
        ],
    }
}

/// Returns the replies to `task` that are not the last.
fn interim_replies(task: Task<Step>) -> Vec<CheckoutCommand> {
    let refund = PaymentEvent::RefundRequested { purpose: Purpose::Cancel };
    match task {
        Do(Place | Confirm) | Undo(Place | Confirm) => {
            vec![CheckoutCommand::reply::<Order>(task, Unchanged)]
        }
        Do(Reserve) | Undo(Reserve) => vec![CheckoutCommand::reply::<Inventory>(task, Unchanged)],
        Do(Charge) | Undo(Charge) => vec![
            CheckoutCommand::reply::<Payment>(
                task,
                Recorded(PaymentEvent::ChargeRequested { cents: 1_998 }),
            ),
            CheckoutCommand::reply::<Payment>(task, Recorded(refund)),
            CheckoutCommand::reply::<Payment>(task, Unchanged),
        ],
        Do(Ship) | Undo(Ship) => vec![
            CheckoutCommand::reply::<Shipping>(
                task,
                Recorded(ShippingEvent::Packed { sku: sku(), units: 2 }),
            ),
            CheckoutCommand::reply::<Shipping>(task, Unchanged),
        ],
    }
}

/// Returns all commands that `task` can lead to.
fn replies(task: Task<Step>) -> Vec<CheckoutCommand> {
    let mut replies = vec![CheckoutCommand::TimedOut(task), done(task)];
    replies.extend(refusals(task).into_iter().map(|(reply, _)| reply));
    replies.extend(interim_replies(task));
    replies
}

#[test]
fn a_checkout_completes_after_five_steps() {
    checkout([])
        .when(CheckoutCommand::Start(cart()))
        .then([events::started()])
        .reacts(effects![
            dispatch(&order(), OrderCommand::Place(cart())).tag(Do(Place)),
            after(STEP_TIMEOUT, CheckoutCommand::TimedOut(Do(Place))).with_id("task"),
        ])
        .when(CheckoutCommand::reply::<Order>(Do(Place), Recorded(OrderEvent::Placed(cart()))))
        .then([events::done(Do(Place))])
        .reacts(effects![
            dispatch(&sku(), InventoryCommand::Reserve { order: order(), units: 2 })
                .tag(Do(Reserve)),
            after(STEP_TIMEOUT, CheckoutCommand::TimedOut(Do(Reserve))).with_id("task"),
        ])
        .when(done(Do(Reserve)))
        .then([events::done(Do(Reserve))])
        .reacts(effects![
            dispatch(&payment(), PaymentCommand::Charge { cents: 1_998 }).tag(Do(Charge)),
            after(STEP_TIMEOUT, CheckoutCommand::TimedOut(Do(Charge))).with_id("task"),
        ])
        .when(CheckoutCommand::reply::<Payment>(
            Do(Charge),
            Recorded(PaymentEvent::ChargeRequested { cents: 1_998 }),
        ))
        .then_unchanged()
        .when(done(Do(Charge)))
        .then([events::done(Do(Charge))])
        .reacts(effects![
            dispatch(&parcel(), ShippingCommand::Ship { sku: sku(), units: 2 }).tag(Do(Ship)),
            after(STEP_TIMEOUT, CheckoutCommand::TimedOut(Do(Ship))).with_id("task"),
        ])
        .when(CheckoutCommand::reply::<Shipping>(
            Do(Ship),
            Recorded(ShippingEvent::Packed { sku: sku(), units: 2 }),
        ))
        .then_unchanged()
        .when(done(Do(Ship)))
        .then([events::done(Do(Ship))])
        .reacts(effects![
            dispatch(&order(), OrderCommand::Confirm).tag(Do(Confirm)),
            after(STEP_TIMEOUT, CheckoutCommand::TimedOut(Do(Confirm))).with_id("task"),
        ])
        .when(done(Do(Confirm)))
        .then([events::done(Do(Confirm))])
        .then_finished()
        .state(|checkout| assert_eq!(*checkout.status(), Status::Completed));
}

#[test]
fn a_declined_card_undoes_the_steps_before_it() {
    checkout(waiting(Do(Charge)))
        .when(CheckoutCommand::reply::<Payment>(Do(Charge), Recorded(PaymentEvent::Declined)))
        .then([events::refused(Do(Charge), Reason::refused(&PaymentEvent::Declined))])
        .reacts(effects![
            dispatch(&sku(), InventoryCommand::Release { order: order() }).tag(Undo(Reserve)),
            after(STEP_TIMEOUT, CheckoutCommand::TimedOut(Undo(Reserve))).with_id("task"),
        ])
        .when(done(Undo(Reserve)))
        .then([events::done(Undo(Reserve))])
        .reacts(effects![
            dispatch(&order(), OrderCommand::Cancel).tag(Undo(Place)),
            after(STEP_TIMEOUT, CheckoutCommand::TimedOut(Undo(Place))).with_id("task"),
        ])
        .when(done(Undo(Place)))
        .then([events::done(Undo(Place))])
        .then_finished()
        .state(|checkout| {
            assert_eq!(checkout.status().to_string(), "compensated after Charge: Declined");
        });
}

#[test]
fn a_rejected_first_step_leaves_nothing_to_undo() {
    for (refusal, reason) in refusals(Do(Place)) {
        let failed = FailedStep { step: Place, reason: reason.clone() };
        checkout(waiting(Do(Place)))
            .when(refusal)
            .then([events::refused(Do(Place), reason)])
            .then_finished()
            .state(|checkout| assert_eq!(*checkout.status(), Status::Compensated { failed }));
    }
}

#[test]
fn a_rejected_step_starts_undoing_with_the_step_before() {
    for pair in STEPS.windows(2) {
        let [before, step] = pair else { unreachable!("windows of two steps") };
        for (refusal, reason) in refusals(Do(*step)) {
            checkout(waiting(Do(*step)))
                .when(refusal)
                .then([events::refused(Do(*step), reason)])
                .reacts(requests(Undo(*before)));
        }
    }
}

#[test]
fn a_timeout_starts_undoing_with_the_step_itself() {
    for step in STEPS {
        checkout(waiting(Do(step)))
            .when(CheckoutCommand::TimedOut(Do(step)))
            .then([events::timed_out(Do(step))])
            .reacts(requests(Undo(step)));
    }
}

#[test]
fn steps_are_undone_in_reverse_order() {
    let timed_out = checkout(waiting(Do(Confirm))).when(CheckoutCommand::TimedOut(Do(Confirm)));
    let mut undoing =
        timed_out.then([events::timed_out(Do(Confirm))]).reacts(requests(Undo(Confirm)));
    for pair in [Confirm, Ship, Charge, Reserve, Place].windows(2) {
        let [step, before] = pair else { unreachable!("windows of two steps") };
        undoing = undoing
            .when(done(Undo(*step)))
            .then([events::done(Undo(*step))])
            .reacts(requests(Undo(*before)));
    }
    undoing.when(done(Undo(Place))).then([events::done(Undo(Place))]).then_finished().state(
        |checkout| {
            assert_eq!(checkout.status().to_string(), "compensated after Confirm: timed out");
        },
    );
}

#[test]
fn an_undoing_that_times_out_is_repeated_with_longer_timeouts() {
    for step in STEPS {
        let mut events = waiting(Undo(step));
        for factor in [2, 4, 8, 16, 32, 64, 128, 128, 128] {
            checkout(events.clone())
                .when(CheckoutCommand::TimedOut(Undo(step)))
                .then([events::timed_out(Undo(step))])
                .reacts(requests_with_timeout(Undo(step), STEP_TIMEOUT * factor));
            events.push(events::timed_out(Undo(step)));
        }
    }
    // The next step starts with the first timeout.
    let mut events = waiting(Undo(Ship));
    events.extend([events::timed_out(Undo(Ship)), events::timed_out(Undo(Ship))]);
    checkout(events)
        .when(done(Undo(Ship)))
        .then([events::done(Undo(Ship))])
        .reacts(requests(Undo(Charge)));
}

#[test]
fn a_rejected_refund_ends_stuck_with_the_other_steps_undone() {
    checkout(waiting(Undo(Charge)))
        .when(CheckoutCommand::reply::<Payment>(Undo(Charge), Recorded(PaymentEvent::NotRefunded)))
        .then([events::refused(Undo(Charge), Reason::refused(&PaymentEvent::NotRefunded))])
        .reacts(requests(Undo(Reserve)))
        .when(done(Undo(Reserve)))
        .then([events::done(Undo(Reserve))])
        .reacts(requests(Undo(Place)))
        .when(done(Undo(Place)))
        .then([CheckoutEvent::Done { task: Undo(Place), next: Next::Stuck, at: noon() }])
        .then_finished()
        .state(|checkout| {
            let status = "stuck after Charge: timed out; not undone: Charge: NotRefunded";
            assert_eq!(checkout.status().to_string(), status);
        });
}

#[test]
fn a_rejected_undoing_does_not_stop_the_others() {
    for step in STEPS {
        for (refusal, reason) in refusals(Undo(step)) {
            let before = STEPS.into_iter().take_while(|other| *other != step).last();
            let event = events::refused(Undo(step), reason.clone());
            let scenario = checkout(waiting(Undo(step))).when(refusal).then([event]);
            let failed = FailedStep { step, reason: Reason::TimedOut };
            let not_undone = vec![FailedStep { step, reason }];
            let (scenario, status) = if let Some(step) = before {
                let status = Status::Undoing { step, since: noon(), failed };
                (scenario.reacts(requests(Undo(step))), status)
            } else {
                let status = Status::Stuck { failed, not_undone: not_undone.clone() };
                (scenario.then_finished(), status)
            };
            scenario.state(|checkout| {
                assert_eq!(checkout.input(), Some(&cart()));
                assert_eq!((checkout.status(), checkout.not_undone()), (&status, &*not_undone));
            });
        }
    }
}

#[test]
fn the_state_names_the_steps_that_were_not_undone() {
    let mut events = waiting(Undo(Ship));
    events.extend([
        events::refused(Undo(Ship), Reason::refused(&ShippingEvent::NotInStock)),
        events::refused(Undo(Charge), Reason::Undelivered),
        events::done(Undo(Reserve)),
    ]);
    checkout(events)
        .when(done(Undo(Place)))
        .then([CheckoutEvent::Done { task: Undo(Place), next: Next::Stuck, at: noon() }])
        .state(|checkout| {
            assert_eq!(
                checkout.status().to_string(),
                "stuck after Ship: timed out; not undone: Ship: NotInStock, Charge: undelivered"
            );
        });
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
    events.push(events::timed_out(Undo(Charge)));
    checkout(events)
        .when(done(Undo(Charge)))
        .then([events::done(Undo(Charge))])
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
    stuck.push(events::refused(Undo(Place), Reason::Undelivered));
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
