//! Reading all that happened.

use composable_rust::prelude::*;
use futures_util::{TryStreamExt as _, pin_mut, try_join};

use crate::{Apps, Books, Histories, Ledger, Service};

impl Books {
    /// Reads the logs of all services and the provider's ledger.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read.
    pub async fn read(apps: &Apps, ledger: &Ledger) -> anyhow::Result<Self> {
        let [checkout, payments, warehouse] = Service::ALL.map(|service| apps.of(service));
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
