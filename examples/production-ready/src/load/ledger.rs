//! The states of all instances, read from the logs.

use std::collections::HashMap;
use std::pin::pin;

use composable_rust::prelude::*;
use composable_rust::{EventSet, Position};
use futures_util::TryStreamExt as _;

use crate::order::{Fulfilment, FulfilmentEvent, Order, OrderEvent};
use crate::payment::{Payment, PaymentEvent};
use crate::shipping::{Parcel, ParcelEvent};
use crate::shop::Shop;

/// The state of every instance, by its id, which those of one order share.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// The orders.
    pub orders: HashMap<String, Order>,
    /// The fulfilments.
    pub fulfilments: HashMap<String, Fulfilment>,
    /// The payments.
    pub payments: HashMap<String, Account>,
    /// The parcels.
    pub parcels: HashMap<String, Parcel>,
    /// The positions up to which the log of each app is read.
    read: HashMap<usize, Vec<Position>>,
}

/// The payment of one order, and the money that moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// The payment.
    pub payment: Payment,
    /// The amount that was charged, over all charges, in cents.
    pub charged: u64,
    /// The amount that was given back, in cents.
    pub refunded: u64,
}

/// An event of any service.
#[derive(Debug, Clone, PartialEq, EventSet)]
enum ShopEvent {
    Order(OrderEvent),
    Fulfilment(FulfilmentEvent),
    Payment(PaymentEvent),
    Parcel(ParcelEvent),
}

impl Ledger {
    /// Applies the events that were appended to the logs since the last call.
    ///
    /// # Errors
    ///
    /// A log cannot be read.
    pub async fn read(&mut self, shops: &[Shop]) -> anyhow::Result<()> {
        for (place, (_, app)) in shops.iter().flat_map(|shop| &shop.apps).enumerate() {
            let start = app.log().start_positions();
            let mut positions = self.read.remove(&place).unwrap_or(start);
            let mut events = pin!(app.events::<ShopEvent>(positions.clone()));
            while let Some(recorded) = events.try_next().await? {
                let position = recorded.position;
                for at in positions.iter_mut().filter(|at| at.partition == position.partition) {
                    at.offset = at.offset.max(position.offset);
                }
                self.apply(recorded.stream.id().to_owned(), recorded.event);
            }
            self.read.insert(place, positions);
        }
        Ok(())
    }

    fn apply(&mut self, id: String, event: ShopEvent) {
        match event {
            ShopEvent::Order(event) => self.orders.entry(id).or_default().apply(event),
            ShopEvent::Fulfilment(event) => self.fulfilments.entry(id).or_default().apply(event),
            ShopEvent::Payment(event) => self.payments.entry(id).or_default().apply(event),
            ShopEvent::Parcel(event) => self.parcels.entry(id).or_default().apply(event),
        }
    }

    /// `true` if every order has a fulfilment, and all of them have ended.
    pub fn has_settled(&self) -> bool {
        self.fulfilments.len() == self.orders.len()
            && self.fulfilments.values().all(|saga| saga.status().is_finished())
    }
}

impl Account {
    /// Applies the next event of the payment.
    pub fn apply(&mut self, event: PaymentEvent) {
        match event {
            PaymentEvent::Charged { cents } => self.charged += cents,
            PaymentEvent::Cancelled => self.refunded = self.charged,
            _ => {}
        }
        self.payment.apply(event);
    }
}
