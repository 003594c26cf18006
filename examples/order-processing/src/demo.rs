//! Some ten thousand generated orders, and what to look at.

use composable_rust::StoreUrl;
use composable_rust::prelude::*;
use futures_util::stream::{self, StreamExt as _};

use crate::commands::{self, say};
use crate::progress::Progress;
use crate::{Cents, Date, Order, OrderCommand, OrderRejection, customer_number};

const ORDERS: u32 = 10_000;
const IN_FLIGHT: usize = 1_024;

/// The order whose history the demo prints: it leaves in two parcels.
const EXAMPLE: u32 = 7;

/// What happens to an order after it is placed.
enum Fate {
    Waits,
    Leaves,
    LeavesInTwoParcels,
    IsCancelled,
}

/// Order number `n`: always the same.
struct Generated {
    id: Id<Order>,
    place: OrderCommand,
    fate: Fate,
}

impl Generated {
    fn new(n: u32) -> Self {
        let chance = scrambled(u64::from(n));
        let pick = |shift: u32, count: u32| {
            u32::try_from((chance >> shift) % u64::from(count)).unwrap_or(0)
        };
        let units = 2 + pick(0, 5);
        let fate = match n % 50 {
            13 => Fate::IsCancelled,
            20 | 40 => Fate::Waits,
            7 | 17 | 27 => Fate::LeavesInTwoParcels,
            _ => Fate::Leaves,
        };
        let place = OrderCommand::Place {
            customer: customer_number(1 + pick(8, 2_500)),
            placed_on: Date::new(2025, 1 + pick(24, 12), 1 + pick(32, 28)),
            units,
            amount: Cents(u64::from(units) * u64::from(499 + 100 * pick(40, 25))),
        };
        Self { id: Order::id(format!("demo-{n:05}")), place, fate }
    }

    /// Places the order and what follows; whether it was not there before.
    async fn play(self, app: &App) -> Result<bool, SendError<OrderRejection>> {
        let order = app.handle(&self.id);
        let placed = order.send(self.place).by("demo").await?;
        let parcels: &[Option<u32>] = match self.fate {
            Fate::Waits => &[],
            Fate::Leaves => &[None],
            Fate::LeavesInTwoParcels => &[Some(1), None],
            Fate::IsCancelled => {
                let cancel = OrderCommand::Cancel { reason: "changed my mind".to_owned() };
                order.send(cancel).key("cancel").by("demo").await?;
                &[]
            }
        };
        for (n, units) in (1..).zip(parcels) {
            // The key makes it safe to run the demo again: the parcel leaves once.
            let tracking = format!("{}-{n}", self.id);
            let ship = OrderCommand::Ship { tracking: tracking.clone(), units: *units };
            order.send(ship).key(tracking).by("warehouse").await?;
        }
        Ok(placed.position.is_some())
    }
}

/// `SplitMix64`: <https://prng.di.unimi.it/splitmix64.c>.
fn scrambled(n: u64) -> u64 {
    let z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Plays all orders, and prints the report, one history, and what to try next.
pub(crate) async fn run(app: &App, store: &StoreUrl) -> anyhow::Result<()> {
    let mut progress = Progress::new("placing and shipping", u64::from(ORDERS));
    let mut plays = std::pin::pin!(
        stream::iter(1..=ORDERS).map(|n| Generated::new(n).play(app)).buffer_unordered(IN_FLIGHT)
    );
    let (mut placed, mut present) = (0, 0);
    while let Some(played) = plays.next().await {
        if played? {
            placed += 1;
        } else {
            present += 1;
        }
        progress.at(placed + present);
    }
    progress.end(placed + present, "orders");
    say(&format!("placed {placed}, {present} were there"))?;
    if present > 0 {
        say(&format!("The demo ran on {store} before: nothing is placed or shipped twice."))?;
    }
    say("")?;
    commands::report(app, false).await?;
    let example = Generated::new(EXAMPLE).id;
    say(&format!("\nhistory of {example}"))?;
    commands::history(app, &example).await?;
    say(&next(store, &example))
}

fn next(store: &StoreUrl, example: &Id<Order>) -> String {
    if *store == StoreUrl::Memory {
        return "\nThese orders end with this process; `--store sqlite:PATH` keeps them."
            .to_owned();
    }
    let program = std::env::args().next().unwrap_or_else(|| "order-processing".to_owned());
    let on = format!("{program} --store {store}");
    format!(
        "\nThe orders are in {store}. What to try next:\n  \
         {on} show {example} --at 2\n  \
         {on} cancel {example} --reason \"too late\"\n  \
         {on} place mine --customer me --units 2 --amount 19.98\n  \
         {on} serve\n\
         With --store postgres://… all of it happens on a server."
    )
}
