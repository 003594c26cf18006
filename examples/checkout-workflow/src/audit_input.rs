//! The input of the audit: the events of all services and the ledger of the payment provider.

use std::collections::BTreeMap;

use composable_rust::prelude::*;
use futures_util::{TryStreamExt as _, pin_mut, try_join};

use crate::{Apps, Checkout, Entry, Inventory, Ledger, Order, Payment, Service, Shipping};

/// The events of all instances, and the entries of the payment provider's ledger.
#[derive(Debug, Clone, Default)]
pub struct AuditInput {
    /// The checkouts.
    pub checkouts: Histories<Checkout>,
    /// The orders.
    pub orders: Histories<Order>,
    /// The stocks.
    pub stocks: Histories<Inventory>,
    /// The payments.
    pub payments: Histories<Payment>,
    /// The parcels.
    pub parcels: Histories<Shipping>,
    /// The result of [`Ledger::entries`].
    pub ledger: Vec<Entry>,
}

impl AuditInput {
    /// Reads the logs of all services and the provider's ledger.
    ///
    /// # Errors
    ///
    /// When a log or the ledger cannot be read.
    pub async fn read(apps: &Apps, ledger: &Ledger) -> anyhow::Result<Self> {
        let [checkout, payments, warehouse] = Service::ALL.map(|service| apps.app(service));
        let (checkouts, orders, stocks, payments, parcels) = try_join!(
            histories(checkout),
            histories(checkout),
            histories(warehouse),
            histories(payments),
            histories(warehouse)
        )?;
        let ledger = ledger.entries()?;
        Ok(Self { checkouts, orders, stocks, payments, parcels, ledger })
    }
}

async fn histories<A: Aggregate>(app: &App) -> anyhow::Result<Histories<A>> {
    let mut histories = Histories::default();
    let events = app.events::<A>(app.log().start_positions());
    pin_mut!(events);
    while let Some(recorded) = events.try_next().await? {
        if let Some(id) = Id::of_stream(&recorded.stream) {
            histories.push(id, recorded.event);
        }
    }
    Ok(histories)
}

/// The events and the current state of each instance of `A`.
#[derive(Debug, Clone)]
pub struct Histories<A: Aggregate>(BTreeMap<Id<A>, History<A>>);

/// The events and the current state of one instance.
#[derive(Debug, Clone)]
struct History<A: Aggregate> {
    state: A,
    events: Vec<A::Event>,
}

impl<A: Aggregate> Default for Histories<A> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<A: Aggregate> Histories<A> {
    /// Appends the next event of an instance.
    pub fn push(&mut self, id: Id<A>, event: A::Event) {
        let empty = || History { state: A::default(), events: Vec::new() };
        let history = self.0.entry(id).or_insert_with(empty);
        history.state.apply(event.clone());
        history.events.push(event);
    }

    /// Returns the id, the current state and the events of each instance.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Id<A>, &A, &[A::Event])> {
        self.0.iter().map(|(id, history)| (id, &history.state, &*history.events))
    }

    /// Returns the current state of an instance; the default state if it has no events.
    pub(crate) fn state(&self, id: &str) -> A {
        self.0.get(&A::id(id)).map(|history| history.state.clone()).unwrap_or_default()
    }

    /// Returns the events of an instance.
    pub(crate) fn events(&self, id: &str) -> &[A::Event] {
        self.0.get(&A::id(id)).map_or(&[], |history| &history.events)
    }
}

impl<A: Aggregate> Extend<(Id<A>, A::Event)> for Histories<A> {
    fn extend<I: IntoIterator<Item = (Id<A>, A::Event)>>(&mut self, events: I) {
        for (id, event) in events {
            self.push(id, event);
        }
    }
}
