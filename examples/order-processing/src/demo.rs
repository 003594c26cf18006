//! The demo: ten thousand generated orders, a report and suggestions.

use composable_rust::StoreUrl;
use composable_rust::prelude::*;
use futures_util::stream::{self, StreamExt as _};

use crate::commands;
use crate::output::print_line;
use crate::progress::Progress;
use crate::{Cents, Date, Order, OrderCommand, OrderRejection, customer_number};

/// The number of orders.
const ORDERS: u32 = 10_000;
/// The maximum number of orders in progress.
const IN_FLIGHT: usize = 1_024;

/// The order whose history the demo prints: it is shipped in two parcels.
const EXAMPLE: u32 = 7;

/// The commands that follow the placing of an order.
enum Fulfilment {
    None,
    ShipOnce,
    ShipTwice,
    Cancel,
}

/// A generated order, the same in every run.
struct DemoOrder {
    id: Id<Order>,
    place: OrderCommand,
    fulfilment: Fulfilment,
}

impl DemoOrder {
    /// Generates order number `n`.
    fn new(n: u32) -> Self {
        let bits = scrambled(u64::from(n));
        let pick =
            |shift: u32, count: u32| u32::try_from((bits >> shift) % u64::from(count)).unwrap_or(0);
        let units = 2 + pick(0, 5);
        let fulfilment = match n % 50 {
            13 => Fulfilment::Cancel,
            20 | 40 => Fulfilment::None,
            7 | 17 | 27 => Fulfilment::ShipTwice,
            _ => Fulfilment::ShipOnce,
        };
        let place = OrderCommand::Place {
            customer: customer_number(1 + pick(8, 2_500)),
            placed_on: Date::new(2025, 1 + pick(24, 12), 1 + pick(32, 28)),
            units,
            amount: Cents(u64::from(units) * u64::from(499 + 100 * pick(40, 25))),
        };
        Self { id: Order::id(format!("demo-{n:05}")), place, fulfilment }
    }

    /// Sends all commands of the order. Returns `false` if the order existed already.
    async fn send(self, app: &App) -> Result<bool, SendError<OrderRejection>> {
        let order = app.handle(&self.id);
        let placed = order.send(self.place).by("demo").await?;
        let parcels: &[Option<u32>] = match self.fulfilment {
            Fulfilment::None => &[],
            Fulfilment::ShipOnce => &[None],
            Fulfilment::ShipTwice => &[Some(1), None],
            Fulfilment::Cancel => {
                let cancel = OrderCommand::Cancel { reason: "changed my mind".to_owned() };
                order.send(cancel).key("cancel").by("demo").await?;
                &[]
            }
        };
        for (n, units) in (1..).zip(parcels) {
            // With the key, a second run of the demo does not ship the parcel again.
            let tracking = format!("{}-{n}", self.id);
            let ship = OrderCommand::Ship { tracking: tracking.clone(), units: *units };
            order.send(ship).key(tracking).by("warehouse").await?;
        }
        Ok(placed.position.is_some())
    }
}

/// Returns the `n`-th number of a fixed pseudorandom sequence.
///
/// Source: `SplitMix64`, <https://prng.di.unimi.it/splitmix64.c>.
fn scrambled(n: u64) -> u64 {
    let z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Sends all orders, and prints the report, one history and suggestions.
pub(crate) async fn run(app: &App, store: &StoreUrl) -> anyhow::Result<()> {
    let mut progress = Progress::new("placing and shipping", u64::from(ORDERS));
    let mut sends = std::pin::pin!(
        stream::iter(1..=ORDERS).map(|n| DemoOrder::new(n).send(app)).buffer_unordered(IN_FLIGHT)
    );
    let (mut placed, mut existing) = (0, 0);
    while let Some(sent) = sends.next().await {
        if sent? {
            placed += 1;
        } else {
            existing += 1;
        }
        progress.set(placed + existing);
    }
    progress.finish(placed + existing, "orders");
    print_line(&format!("placed {placed} orders, {existing} existed"))?;
    if existing > 0 {
        print_line(&format!(
            "The demo ran on {store} before, so nothing was placed or shipped again."
        ))?;
    }
    print_line("")?;
    commands::report(app, false).await?;
    let example = DemoOrder::new(EXAMPLE).id;
    print_line(&format!("\nhistory of {example}"))?;
    commands::history(app, &example).await?;
    print_line(&suggestions(store, &example))
}

/// Returns the suggestions for what to try next.
fn suggestions(store: &StoreUrl, example: &Id<Order>) -> String {
    if *store == StoreUrl::Memory {
        return "\nThese orders were in memory and are gone. To keep them, pass `--store sqlite:PATH`."
            .to_owned();
    }
    let program = std::env::args().next().unwrap_or_else(|| "order-processing".to_owned());
    let prefix = format!("{program} --store {store}");
    format!(
        "\nThe orders are in {store}. Try next:\n  \
         {prefix} show {example} --at 2\n  \
         {prefix} cancel {example} --reason \"too late\"\n  \
         {prefix} place mine --customer me --units 2 --amount 19.98\n  \
         {prefix} serve\n\
         With --store postgres://… the same commands run on a PostgreSQL server."
    )
}
