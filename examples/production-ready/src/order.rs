//! The order aggregate, and the saga that fulfils an order.

use std::time::Duration;

use composable_rust::prelude::*;
use composable_rust::saga::{SagaCommand, SagaEvent};
use serde::{Deserialize, Serialize};

use crate::payment::{Payment, PaymentCommand, PaymentEvent};
use crate::shipping::{Parcel, ParcelCommand, ParcelEvent};

/// An order of a customer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Order {
    /// The status.
    pub status: OrderStatus,
    /// The ordered goods; `None` before the order is placed.
    pub cart: Option<Cart>,
}

/// The status of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Not placed yet.
    #[default]
    New,
    /// Placed; being fulfilled.
    Placed,
    /// Paid and shipped.
    Fulfilled,
    /// Not fulfilled: the payment was declined, or the goods could not be shipped.
    Cancelled,
}

/// The goods that a customer orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cart {
    /// The customer, by a pseudonym.
    pub customer: String,
    /// The article.
    pub sku: String,
    /// The number of units.
    pub units: u32,
    /// The price of all units together, in cents.
    pub cents: u64,
}

/// The commands of an order. All are idempotent.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum OrderCommand {
    /// Places the order.
    Place(Cart),
    /// Records that the order is fulfilled.
    Fulfil,
    /// Cancels the order.
    Cancel,
}

/// The events of an order.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum OrderEvent {
    /// The order was placed.
    Placed(Cart),
    /// The order is paid and shipped.
    Fulfilled,
    /// The order was cancelled.
    Cancelled,
}

/// The reasons for which an order rejects a command.
#[derive(Debug, Clone, PartialEq, Message, thiserror::Error)]
pub enum OrderRejection {
    /// The cart has no units or no price.
    #[message(status = 422)]
    #[error("an order has at least one unit and a price")]
    Empty,
    /// The order was placed with another cart.
    #[message(status = 409)]
    #[error("there is an order of this id with another cart")]
    OtherCart,
    /// The order was not placed.
    #[message(status = 404)]
    #[error("there is no such order")]
    NotPlaced,
    /// The order is fulfilled or cancelled.
    #[message(status = 409)]
    #[error("the order has ended")]
    Ended,
}

impl Aggregate for Order {
    const NAME: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = OrderRejection;
    type Environment = ();

    fn decide(&self, command: OrderCommand, _: &Context<Self>) -> Decision<Self> {
        use OrderStatus::{Cancelled, Fulfilled, New, Placed};
        match (self.status, command) {
            (_, OrderCommand::Place(Cart { units: 0, .. } | Cart { cents: 0, .. })) => {
                reject(OrderRejection::Empty)
            }
            (New, OrderCommand::Place(cart)) => record(OrderEvent::Placed(cart)),
            (_, OrderCommand::Place(cart)) if self.cart.as_ref() == Some(&cart) => {
                repeat(OrderEvent::Placed(cart))
            }
            (_, OrderCommand::Place(_)) => reject(OrderRejection::OtherCart),
            (New, OrderCommand::Fulfil) => reject(OrderRejection::NotPlaced),
            (Placed, OrderCommand::Fulfil) => record(OrderEvent::Fulfilled),
            (Fulfilled, OrderCommand::Fulfil) => repeat(OrderEvent::Fulfilled),
            (New | Placed, OrderCommand::Cancel) => record(OrderEvent::Cancelled),
            (Cancelled, OrderCommand::Cancel) => repeat(OrderEvent::Cancelled),
            (Fulfilled, OrderCommand::Cancel) | (Cancelled, OrderCommand::Fulfil) => {
                reject(OrderRejection::Ended)
            }
        }
    }

    fn apply(&mut self, event: OrderEvent) {
        match event {
            OrderEvent::Placed(cart) => {
                (self.status, self.cart) = (OrderStatus::Placed, Some(cart));
            }
            OrderEvent::Fulfilled => self.status = OrderStatus::Fulfilled,
            OrderEvent::Cancelled => self.status = OrderStatus::Cancelled,
        }
    }
}

/// The fulfilment of an order. Its id is also that of the order, the payment and the parcel.
pub type Fulfilment = Saga<Step>;
/// The commands of a fulfilment.
pub type FulfilmentCommand = SagaCommand<Step>;
/// The events of a fulfilment.
pub type FulfilmentEvent = SagaEvent<Step>;

/// A step of the fulfilment, in the order in which the saga does them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Holds the order. Undone by cancelling it, which the customer sees.
    Accept,
    /// Charges the customer. Undone by a refund.
    Charge,
    /// Ships the parcel. Undone by calling it back.
    Ship,
    /// Tells the customer.
    Confirm,
}

impl LinearSaga for Step {
    const NAME: &'static str = "fulfilment";
    const STEPS: &'static [Self] = &[Self::Accept, Self::Charge, Self::Ship, Self::Confirm];
    type Input = Cart;
    type Partners = (Order, Payment, Parcel);
    /// The time limit of a step.
    type Environment = Duration;

    fn step(self, cart: &Cart, saga: &SagaContext<'_, Self>) -> SagaStep<Self> {
        let id = saga.id().as_str();
        let (order, payment, parcel) = (Order::id(id), Payment::id(id), Parcel::id(id));
        let Cart { sku, units, cents, .. } = cart.clone();
        match self {
            // Placing again gives the same answer, so the step only begins the way back.
            Self::Accept => dispatch(&order, OrderCommand::Place(cart.clone()))
                .undo(dispatch(&order, OrderCommand::Cancel)),
            Self::Charge => dispatch(&payment, PaymentCommand::Charge { cents })
                .done_if(|event| matches!(event, PaymentEvent::Charged { .. }))
                .refused_if(|event| matches!(event, PaymentEvent::Declined))
                .undo(
                    dispatch(&payment, PaymentCommand::Cancel)
                        .done_if(|event| matches!(event, PaymentEvent::Cancelled)),
                ),
            Self::Ship => dispatch(&parcel, ParcelCommand::Ship { sku, units })
                .refused_if(|event| matches!(event, ParcelEvent::Cancelled))
                .undo(dispatch(&parcel, ParcelCommand::Cancel)),
            // Asked again until the order answers, because nothing after it can fail.
            Self::Confirm => dispatch(&order, OrderCommand::Fulfil).no_undo().retry(u32::MAX),
        }
        .within(*saga.env())
    }
}
