//! The checkout: five steps, each with a timeout, undone in reverse order when one of them fails.
//!
//! A refused step did not happen, so undoing begins with the one before. After a timeout nobody
//! knows, so it begins with the step itself: a target takes the undoing of what never reached it,
//! and refuses that from then on. What is not undone in time is asked for again, after pauses that
//! double up to 128 times the first. Where undoing is refused, the rest is undone all the same, and
//! the checkout ends stuck: a person has to act.

use composable_rust::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Cart, Inventory, InventoryCommand as ToStock, Order, OrderCommand as ToOrder};
use crate::{Payment, PaymentCommand as ToPayment, PaymentEvent as Money};
use crate::{Shipping, ShippingCommand as ToShipping, ShippingEvent as Sent};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    Place,
    Reserve,
    Charge,
    Ship,
    Confirm,
}

const STEPS: [Step; 5] = [Place, Reserve, Charge, Ship, Confirm];

/// Tags every request and timeout, so that what comes back late is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    Do(Step),
    Undo(Step),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Status {
    #[default]
    New,
    Waiting(Task),
    Completed,
    Compensated,
    Stuck,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Checkout {
    pub cart: Option<Cart>,
    pub status: Status,
    /// The steps whose undoing was refused.
    pub kept: Vec<Step>,
    /// The number of timeouts of the undoing under way.
    pub timeouts: u32,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub enum CheckoutCommand {
    Start(Cart),
    #[message(internal)]
    TimedOut(Task),
    Order(Task, Reply<Order>),
    Stock(Task, Reply<Inventory>),
    Paid(Task, Reply<Payment>),
    Parcel(Task, Reply<Shipping>),
}

#[derive(Debug, Clone, PartialEq, Message)]
pub enum CheckoutEvent {
    Started(Cart),
    Done(Task),
    Refused(Task),
    TimedOut(Task),
}

use Money::{Declined, Failed, NotRefunded};
use Reply::{Recorded, Rejected, Undelivered};
use Status::{Compensated, Completed, Stuck, Waiting};
use Step::{Charge, Confirm, Place, Reserve, Ship};
use {CheckoutCommand as In, CheckoutEvent as Out, Task::Do, Task::Undo};

impl Aggregate for Checkout {
    const NAME: &'static str = "checkout";
    type Command = CheckoutCommand;
    type Event = CheckoutEvent;
    type Rejection = std::convert::Infallible;
    type Environment = std::time::Duration; // How long a task may take.

    fn decide(&self, command: In, _: &Context<Self>) -> Decision<Self> {
        let (task, outcome): (Task, fn(Task) -> Out) = match command {
            In::Start(cart) if self.cart.is_none() => return record(Out::Started(cart)),
            In::TimedOut(task) => (task, Out::TimedOut),
            In::Order(task, Recorded(_))
            | In::Stock(task, Recorded(_))
            | In::Paid(task, Recorded(Money::Charged { .. } | Money::Cancelled { .. }))
            | In::Parcel(task, Recorded(Sent::Shipped { .. } | Sent::Cancelled)) => {
                (task, Out::Done)
            }
            In::Paid(
                task,
                Recorded(Declined | Failed | NotRefunded) | Rejected(_) | Undelivered,
            )
            | In::Parcel(task, Recorded(Sent::NotInStock) | Rejected(_) | Undelivered)
            | In::Order(task, Rejected(_) | Undelivered)
            | In::Stock(task, Rejected(_) | Undelivered) => (task, Out::Refused),
            _ => return unchanged(), // It was started before, or the answer is yet to come.
        };
        // What nobody waits for any more changes nothing.
        if self.status == Waiting(task) { record(outcome(task)) } else { unchanged() }
    }

    fn apply(&mut self, event: Out) {
        if let Out::Refused(Undo(step)) = event {
            self.kept.push(step);
        }
        self.timeouts = if matches!(event, Out::TimedOut(Undo(_))) { self.timeouts + 1 } else { 0 };
        let end = if self.kept.is_empty() { Compensated } else { Stuck };
        self.status = match event {
            Out::Started(cart) => {
                self.cart = Some(cart);
                Waiting(Do(Place))
            }
            Out::Done(Do(Confirm)) => Completed,
            Out::Done(Do(step)) => Waiting(Do(STEPS[step as usize + 1])),
            Out::TimedOut(Do(step) | Undo(step)) => Waiting(Undo(step)),
            Out::Refused(Do(step) | Undo(step)) | Out::Done(Undo(step)) => {
                STEPS[..step as usize].last().map_or(end, |&before| Waiting(Undo(before)))
            }
        };
    }

    fn react(&self, _: &Out, ctx: &Context<Self>) -> Reactions<In> {
        // Every event begins a task, or the same again, or ends the checkout.
        let (Some(cart), Waiting(task)) = (&self.cart, self.status) else { return effects![] };
        let (id, Cart { sku, units, cents }) = (ctx.id().as_str(), cart.clone());
        let order = |command| effects![dispatch(&Order::id(id), command).tag(task)];
        let stock = |command| effects![dispatch(&cart.sku, command).tag(task)];
        let payment = |command| effects![dispatch(&Payment::id(id), command).tag(task)];
        let parcel = |command| effects![dispatch(&Shipping::id(id), command).tag(task)];
        let request: Reactions<In> = match task {
            Do(Place) => order(ToOrder::Place(cart.clone())),
            Do(Reserve) => stock(ToStock::Reserve { order: Order::id(id), units }),
            Do(Charge) => payment(ToPayment::Charge { cents }),
            Do(Ship) => parcel(ToShipping::Ship { sku, units }),
            Do(Confirm) => order(ToOrder::Confirm),
            Undo(Confirm | Place) => order(ToOrder::Cancel),
            Undo(Ship) => parcel(ToShipping::Cancel),
            Undo(Charge) => payment(ToPayment::Cancel),
            Undo(Reserve) => stock(ToStock::Release { order: Order::id(id) }),
        };
        let patience = ctx.env().saturating_mul(1 << self.timeouts.min(7));
        request.merge(effects![after(patience, In::TimedOut(task)).with_id("task")])
    }

    fn is_finished(&self) -> bool {
        matches!(self.status, Completed | Compensated | Stuck)
    }
}
