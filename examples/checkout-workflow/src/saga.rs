//! The checkout saga: five steps, each with a timeout, undone in reverse order if one fails.
//!
//! A saga is an aggregate that also receives replies and timeouts as commands. A checkout has two
//! phases:
//!
//! 1. *Doing*: the steps run in the order of [`Step`]. The next step starts when the target of the
//!    current one confirms it. After the last step the checkout is [`Status::Completed`].
//! 2. *Undoing*: when a step fails, the steps before it are undone in reverse order. After the
//!    first step the checkout is [`Status::Compensated`].
//!
//! The way in which a step fails decides where undoing starts:
//!
//! - A *rejected* step did not happen, so undoing starts with the step before it.
//! - A step that *timed out* may have happened, or may still happen. So undoing starts with the
//!   step itself. Every target accepts the undoing of a request that has not reached it, and
//!   rejects that request from then on.
//!
//! Undoing never gives up. If it times out, the saga sends the request again, and waits twice as
//! long each time. If the target rejects it (the payment provider keeps the money), the saga
//! records the step in [`Checkout::not_undone`] and undoes the others. The checkout then ends
//! [`Status::Stuck`], and a person has to act.

use std::time::Duration;

use composable_rust::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    Cart, Inventory, InventoryCommand, Order, OrderCommand, Payment, PaymentCommand, PaymentEvent,
    Shipping, ShippingCommand, ShippingEvent,
};

/// A step of a checkout, in the order in which the saga does them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Place the order. Undone by cancelling it.
    Place,
    /// Reserve stock. Undone by releasing it.
    Reserve,
    /// Charge the customer. Undone by cancelling the payment, which refunds it.
    Charge,
    /// Ship the parcel. Undone by calling it back.
    Ship,
    /// Confirm the order to the customer. Undone by cancelling the order.
    Confirm,
}

impl Step {
    /// Returns the step after this one; `None` after the last.
    fn next(self) -> Option<Self> {
        match self {
            Place => Some(Reserve),
            Reserve => Some(Charge),
            Charge => Some(Ship),
            Ship => Some(Confirm),
            Confirm => None,
        }
    }

    /// Returns the step before this one; `None` before the first.
    fn previous(self) -> Option<Self> {
        match self {
            Place => None,
            Reserve => Some(Place),
            Charge => Some(Reserve),
            Ship => Some(Charge),
            Confirm => Some(Ship),
        }
    }
}

/// The work that a checkout waits for: one step, done or undone.
///
/// Every request and every timeout carries its task as a tag, so the saga recognises a late reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// Do the step.
    Do(Step),
    /// Undo the step.
    Undo(Step),
}

/// The status of a checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Status {
    /// Not started.
    #[default]
    New,
    /// Waiting for the reply to a task, or for its timeout.
    Waiting(Task),
    /// Finished: all steps are done.
    Completed,
    /// Finished: a step failed, and everything is undone.
    Compensated,
    /// Finished: a step failed, and not everything could be undone. A person has to act.
    Stuck,
}

/// A checkout: the state of the saga.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Checkout {
    /// The goods to buy; `None` before the start.
    pub cart: Option<Cart>,
    /// The current status.
    pub status: Status,
    /// The steps whose undoing was rejected.
    pub not_undone: Vec<Step>,
    /// The number of timeouts of the undoing in progress.
    pub timeouts: u32,
}

/// The commands of a checkout. Clients send [`Start`](CheckoutCommand::Start); the others are
/// replies and timeouts.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum CheckoutCommand {
    /// Start the checkout. Starting it again changes nothing.
    Start(Cart),
    /// The timeout of a task.
    #[message(internal)]
    TimedOut(Task),
    /// A reply of the order.
    Order(Task, Reply<Order>),
    /// A reply of the stock.
    Stock(Task, Reply<Inventory>),
    /// A reply of the payment.
    Paid(Task, Reply<Payment>),
    /// A reply of the parcel.
    Parcel(Task, Reply<Shipping>),
}

/// The events of a checkout. Each starts the next task, repeats the current one, or finishes the
/// checkout.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum CheckoutEvent {
    /// The checkout started.
    Started(Cart),
    /// The target did the task.
    Done(Task),
    /// The target rejected the task.
    Refused(Task),
    /// The target did not reply in time.
    TimedOut(Task),
}

use CheckoutEvent::{Done, Refused, Started, TimedOut};
use Reply::{Recorded, Rejected, Undelivered};
use Status::{Compensated, Completed, Stuck, Waiting};
use Step::{Charge, Confirm, Place, Reserve, Ship};
use Task::{Do, Undo};

/// Limits the timeout of undoing to 128 (2⁷) times the timeout of a step.
const MAX_DOUBLINGS: u32 = 7;

impl Aggregate for Checkout {
    const NAME: &'static str = "checkout";
    type Command = CheckoutCommand;
    type Event = CheckoutEvent;
    type Rejection = std::convert::Infallible;
    /// The timeout of a step.
    type Environment = Duration;

    fn decide(&self, command: CheckoutCommand, _: &Context<Self>) -> Decision<Self> {
        let (task, event) = match command {
            CheckoutCommand::Start(cart) if self.cart.is_none() => return record(Started(cart)),
            CheckoutCommand::TimedOut(task) => (task, TimedOut(task)),
            CheckoutCommand::Order(task, Recorded(_))
            | CheckoutCommand::Stock(task, Recorded(_))
            | CheckoutCommand::Paid(
                task,
                Recorded(PaymentEvent::Charged { .. } | PaymentEvent::Cancelled { .. }),
            )
            | CheckoutCommand::Parcel(
                task,
                Recorded(ShippingEvent::Shipped { .. } | ShippingEvent::Cancelled),
            ) => (task, Done(task)),
            CheckoutCommand::Paid(
                task,
                Recorded(PaymentEvent::Declined | PaymentEvent::Failed | PaymentEvent::NotRefunded)
                | Rejected(_)
                | Undelivered,
            )
            | CheckoutCommand::Parcel(
                task,
                Recorded(ShippingEvent::NotInStock) | Rejected(_) | Undelivered,
            )
            | CheckoutCommand::Order(task, Rejected(_) | Undelivered)
            | CheckoutCommand::Stock(task, Rejected(_) | Undelivered) => (task, Refused(task)),
            // A second start, or an interim reply, such as "charge requested": the final one
            // follows.
            _ => return unchanged(),
        };
        // A reply or timeout of an earlier task is late: the checkout has moved on.
        if self.status == Waiting(task) { record(event) } else { unchanged() }
    }

    fn apply(&mut self, event: CheckoutEvent) {
        self.timeouts = if matches!(event, TimedOut(Undo(_))) { self.timeouts + 1 } else { 0 };
        match event {
            Started(cart) => {
                self.cart = Some(cart);
                self.status = Waiting(Do(Place));
            }
            Done(Do(step)) => {
                self.status = step.next().map_or(Completed, |next| Waiting(Do(next)));
            }
            // It may have happened, or still happen: undo the step itself.
            TimedOut(Do(step)) => self.status = Waiting(Undo(step)),
            // It did not happen, or is undone: undo the step before it.
            Refused(Do(step)) | Done(Undo(step)) => self.undo_before(step),
            Refused(Undo(step)) => {
                self.not_undone.push(step);
                self.undo_before(step);
            }
            // The task stays the same, and `react` requests it again.
            TimedOut(Undo(_)) => {}
        }
    }

    fn react(&self, _: &CheckoutEvent, ctx: &Context<Self>) -> Reactions<CheckoutCommand> {
        let (Some(cart), Waiting(task)) = (&self.cart, self.status) else { return effects![] };
        let timeout = ctx.env().saturating_mul(1 << self.timeouts.min(MAX_DOUBLINGS));
        // The timers share an id, so the timer of the new task replaces that of the old one.
        let timer = effects![after(timeout, CheckoutCommand::TimedOut(task)).with_id("task")];
        request(task, ctx.id(), cart).merge(timer)
    }

    fn is_finished(&self) -> bool {
        matches!(self.status, Completed | Compensated | Stuck)
    }
}

impl Checkout {
    /// Starts undoing the step before `step`, or finishes the checkout if there is none.
    fn undo_before(&mut self, step: Step) {
        self.status = match step.previous() {
            Some(previous) => Waiting(Undo(previous)),
            None if self.not_undone.is_empty() => Compensated,
            None => Stuck,
        };
    }
}

/// Returns the request of a task. Its reply comes back to the checkout with the task as its tag.
///
/// Order, payment and parcel have the id of the checkout; stock has the id of the article.
fn request(task: Task, checkout: &Id<Checkout>, cart: &Cart) -> Reactions<CheckoutCommand> {
    let id = checkout.as_str();
    let (order, payment, parcel) = (Order::id(id), Payment::id(id), Shipping::id(id));
    let Cart { sku, units, cents } = cart.clone();
    match task {
        Do(Place) => effects![dispatch(&order, OrderCommand::Place(cart.clone())).tag(task)],
        Do(Reserve) => {
            effects![dispatch(&sku, InventoryCommand::Reserve { order, units }).tag(task)]
        }
        Do(Charge) => effects![dispatch(&payment, PaymentCommand::Charge { cents }).tag(task)],
        Do(Ship) => effects![dispatch(&parcel, ShippingCommand::Ship { sku, units }).tag(task)],
        Do(Confirm) => effects![dispatch(&order, OrderCommand::Confirm).tag(task)],
        Undo(Place | Confirm) => effects![dispatch(&order, OrderCommand::Cancel).tag(task)],
        Undo(Reserve) => effects![dispatch(&sku, InventoryCommand::Release { order }).tag(task)],
        Undo(Charge) => effects![dispatch(&payment, PaymentCommand::Cancel).tag(task)],
        Undo(Ship) => effects![dispatch(&parcel, ShippingCommand::Cancel).tag(task)],
    }
}
