//! The checkout saga: five steps, each with a timeout, undone in reverse order if one fails.
//!
//! It is a [`LinearSaga`]: the framework makes the aggregate, its commands and its events.

use std::time::Duration;

use composable_rust::prelude::*;
use composable_rust::saga::{SagaCommand, SagaEvent};
use serde::{Deserialize, Serialize};

use crate::{
    Cart, Inventory, InventoryCommand, Order, OrderCommand, Payment, PaymentCommand, PaymentEvent,
    Shipping, ShippingCommand, ShippingEvent,
};

/// A checkout. Its id is also that of its order, payment and parcel.
pub type Checkout = Saga<Step>;
/// The commands of a checkout.
pub type CheckoutCommand = SagaCommand<Step>;
/// The events of a checkout.
pub type CheckoutEvent = SagaEvent<Step>;

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

use Step::{Charge, Confirm, Place, Reserve, Ship};

impl LinearSaga for Step {
    const NAME: &'static str = "checkout";
    const STEPS: &'static [Self] = &[Place, Reserve, Charge, Ship, Confirm];
    type Input = Cart;
    type Partners = (Order, Inventory, Payment, Shipping);
    /// The timeout of a step.
    type Environment = Duration;

    fn step(self, cart: &Cart, checkout: &SagaContext<'_, Self>) -> SagaStep<Self> {
        let id = checkout.id().as_str();
        let (order, payment, parcel) = (Order::id(id), Payment::id(id), Shipping::id(id));
        let Cart { sku, units, cents } = cart.clone();
        let cancel_order = dispatch(&order, OrderCommand::Cancel);
        match self {
            Place => dispatch(&order, OrderCommand::Place(cart.clone())).undo(cancel_order),
            Reserve => dispatch(&sku, InventoryCommand::Reserve { order: order.clone(), units })
                .undo(dispatch(&sku, InventoryCommand::Release { order })),
            Charge => dispatch(&payment, PaymentCommand::Charge { cents })
                .done_if(|event| matches!(event, PaymentEvent::Charged { .. }))
                .refused_if(|event| matches!(event, PaymentEvent::Declined | PaymentEvent::Failed))
                .undo(
                    dispatch(&payment, PaymentCommand::Cancel)
                        .done_if(|event| matches!(event, PaymentEvent::Cancelled { .. }))
                        .refused_if(|event| matches!(event, PaymentEvent::NotRefunded)),
                ),
            Ship => dispatch(&parcel, ShippingCommand::Ship { sku, units })
                .done_if(|event| matches!(event, ShippingEvent::Shipped { .. }))
                .refused_if(|event| matches!(event, ShippingEvent::NotInStock))
                .undo(
                    dispatch(&parcel, ShippingCommand::Cancel)
                        .done_if(|event| matches!(event, ShippingEvent::Cancelled))
                        .refused_if(|event| matches!(event, ShippingEvent::NotInStock)),
                ),
            Confirm => dispatch(&order, OrderCommand::Confirm).undo(cancel_order),
        }
        .within(*checkout.env())
    }
}
