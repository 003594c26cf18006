//! A small load of orders, for the demo.

use std::time::Duration;

use composable_rust::prelude::*;
use tokio::time::{MissedTickBehavior, interval};

use crate::order::{Cart, Order, OrderCommand};

/// Places orders at a rate until the task is aborted. Failures are logged and the load continues.
pub async fn place_orders(app: App, per_second: u32) {
    let mut ticks = interval(Duration::from_secs(1) / per_second.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for n in 0_u64.. {
        ticks.tick().await;
        let app = app.clone();
        tokio::spawn(async move {
            let id = Order::id(uuid::Uuid::new_v4().to_string());
            let cart = Cart {
                customer: format!("customer-{}", n % 50),
                sku: ["lamp", "chair", "table"][usize::try_from(n % 3).unwrap_or_default()]
                    .to_owned(),
                // Some parcels are too large, so that their orders are compensated.
                units: if n % 40 == 39 { 101 } else { u32::try_from(n % 5 + 1).unwrap_or(1) },
                cents: (n % 20 + 1) * 500,
            };
            if let Err(error) = app.handle(&id).send(OrderCommand::Place(cart)).await {
                tracing::warn!(%error, order = %id, "an order of the load was not placed");
            }
        });
    }
}
