//! The audit: every acknowledged order is there, has ended, and its money balances.

use std::fmt;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use composable_rust::SqlReadModel;
use composable_rust::saga::Status;
use composable_rust_cli::{Admin, Operator};
use futures_util::TryStreamExt as _;
use serde::Serialize;

use super::ledger::Ledger;
use super::plan::{cart, order_id};
use crate::order::{Fulfilment, Order, OrderStatus};
use crate::shipping::Parcel;
use crate::shop::Shop;

/// The number of problems that are listed; further ones are only counted.
const LISTED: usize = 20;
/// Interval of the looks at the logs while the last sagas run.
const LOOK: Duration = Duration::from_millis(500);

/// The result of an audit.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Audit {
    /// The number of acknowledged orders.
    pub acknowledged: u64,
    /// The number of orders in the log: further ones were recorded, but not acknowledged.
    pub orders: u64,
    /// The number of orders that are paid and shipped.
    pub fulfilled: u64,
    /// The number of orders that were compensated.
    pub cancelled: u64,
    /// The amount that was charged, in cents.
    pub charged_cents: u64,
    /// The amount that was given back, in cents.
    pub refunded_cents: u64,
    /// The price of the fulfilled orders, in cents.
    pub sold_cents: u64,
    /// The number of events that were verified in all logs.
    pub events: u64,
    /// The time from the end of the load to the end of the last fulfilment.
    pub settled_seconds: f64,
    /// The number of problems.
    pub problems: u64,
    /// The first 20 problems.
    pub listed: Vec<String>,
}

impl Audit {
    /// Audits a ledger. `acknowledged` are the numbers of the load's acknowledged orders.
    pub fn of(ledger: &Ledger, load: &str, acknowledged: &[u64]) -> Self {
        let count = |status| ledger.orders.values().filter(|of| of.status == status).count() as u64;
        let mut audit = Self {
            acknowledged: acknowledged.len() as u64,
            orders: ledger.orders.len() as u64,
            fulfilled: count(OrderStatus::Fulfilled),
            cancelled: count(OrderStatus::Cancelled),
            ..Self::default()
        };
        for n in acknowledged {
            let id = order_id(load, *n);
            let placed = ledger.orders.get(&id).and_then(|order| order.cart.as_ref());
            audit.expect(placed == Some(&cart(*n)), || {
                format!("order {id} was acknowledged, but is {placed:?}")
            });
        }
        for (id, order) in &ledger.orders {
            audit.order(ledger, id, order);
        }
        for (id, account) in &ledger.payments {
            audit.charged_cents += account.charged;
            audit.refunded_cents += account.refunded;
            audit.expect(ledger.orders.contains_key(id), || format!("payment {id} has no order"));
        }
        let (charged, refunded) = (audit.charged_cents, audit.refunded_cents);
        let sold = audit.sold_cents;
        audit.expect(charged == refunded + sold, || {
            format!("money: {charged} charged is not {refunded} refunded + {sold} sold")
        });
        audit
    }

    /// `true` if there are no problems.
    pub fn balances(&self) -> bool {
        self.problems == 0
    }

    fn expect(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.problems += 1;
            if self.listed.len() < LISTED {
                self.listed.push(problem());
            }
        }
    }

    /// Checks that an order, its fulfilment, its payment and its parcel have ended alike.
    fn order(&mut self, ledger: &Ledger, id: &str, order: &Order) {
        let new = Status::New;
        let saga = ledger.fulfilments.get(id).map_or(&new, Fulfilment::status);
        let account = ledger.payments.get(id).copied().unwrap_or_default();
        let parcel = ledger.parcels.get(id).copied().unwrap_or_default();
        let cents = order.cart.as_ref().map_or(0, |cart| cart.cents);
        let agrees = match (order.status, saga) {
            (OrderStatus::Fulfilled, Status::Completed) => {
                self.sold_cents += cents;
                let is_paid = account.charged == cents && account.refunded == 0;
                is_paid && parcel == Parcel::Shipped
            }
            (OrderStatus::Cancelled, Status::Compensated { .. }) => {
                account.charged == account.refunded && parcel != Parcel::Shipped
            }
            _ => false,
        };
        self.expect(agrees, || {
            format!("order {id} is {:?}: fulfilment {saga}, {account:?}, {parcel:?}", order.status)
        });
    }

    /// Waits for the end of all fulfilments, for at most `limit`, and audits the logs of the shops:
    /// those of one process, or of each service.
    ///
    /// # Errors
    ///
    /// A store cannot be read.
    pub async fn run(
        shops: &[Shop],
        load: &str,
        acknowledged: &[u64],
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let start = Instant::now();
        let mut ledger = Ledger::default();
        let settled = loop {
            ledger.read(shops).await?;
            let elapsed = start.elapsed();
            if ledger.has_settled() || elapsed > limit {
                break elapsed;
            }
            tokio::time::sleep(LOOK).await;
        };
        let mut audit = Self::of(&ledger, load, acknowledged);
        audit.settled_seconds = settled.as_secs_f64();
        for (name, app) in shops.iter().flat_map(|shop| &shop.apps) {
            audit.operate(name, &Admin::new(app, Operator::named("audit"))).await?;
        }
        for overview in shops.iter().filter_map(|shop| shop.overview.as_ref()) {
            audit.read_model(overview, limit).await?;
        }
        Ok(audit)
    }

    /// Checks what operators would: the log is whole, and there are no dead letters.
    async fn operate(&mut self, service: &str, admin: &Admin) -> anyhow::Result<()> {
        let found = admin.verify(|_| ()).await.with_context(|| format!("{service}: verify"))?;
        self.events += found.events;
        for problem in found.listed {
            self.expect(false, || format!("{service}: verify: {problem}"));
        }
        let mut letters = pin!(admin.app().dead_letters().all());
        while let Some(letter) = letters.try_next().await? {
            let (recipient, error) = (letter.message.row.recipient, letter.error);
            self.expect(false, || {
                format!("{service}: a dead letter for {recipient}: {}", error.unwrap_or_default())
            });
        }
        Ok(())
    }

    /// Waits until the read model shows as many orders in each status as the log has.
    async fn read_model(&mut self, overview: &SqlReadModel, limit: Duration) -> anyhow::Result<()> {
        let counted = "select status, count(*) from order_overview group by status";
        let expected = (self.fulfilled, self.cancelled);
        let start = Instant::now();
        loop {
            let rows: Vec<(String, i64)> = overview.query(counted).fetch_all().await?;
            let of = |status| {
                rows.iter().find(|(of, _)| of == status).map_or(0, |(_, n)| n.unsigned_abs())
            };
            let shown = (of("fulfilled"), of("cancelled"));
            if shown == expected || start.elapsed() > limit {
                self.expect(shown == expected, || {
                    format!("the read model shows {shown:?} orders, the log has {expected:?}")
                });
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, orders, fulfilled, cancelled, events, .. } = self;
        let money = |cents: u64| format!("{}.{:02}", cents / 100, cents % 100);
        let (charged, refunded) = (money(self.charged_cents), money(self.refunded_cents));
        let (sold, settled) = (money(self.sold_cents), self.settled_seconds);
        writeln!(f, "orders        {acknowledged} acknowledged, {orders} in the log")?;
        writeln!(
            f,
            "fulfilments   {fulfilled} completed, {cancelled} compensated, {settled:.1} s later"
        )?;
        writeln!(f, "money         {charged} charged, {refunded} refunded, {sold} sold")?;
        writeln!(f, "verified      {events} events")?;
        for problem in &self.listed {
            writeln!(f, "problem       {problem}")?;
        }
        match self.problems {
            0 => write!(f, "The audit balances."),
            problems => write!(f, "The audit does not balance: {problems} problems."),
        }
    }
}

#[cfg(test)]
mod tests {
    use composable_rust::Timestamp;
    use composable_rust::prelude::*;
    use composable_rust::saga::{Next, Reason, Task};

    use super::*;
    use crate::load::Account;
    use crate::order::{FulfilmentEvent, OrderEvent, Step};
    use crate::payment::PaymentEvent;
    use crate::shipping::ParcelEvent;

    fn order(n: u64, end: OrderEvent) -> Order {
        let mut order = Order::default();
        order.apply(OrderEvent::Placed(cart(n)));
        order.apply(end);
        order
    }

    fn fulfilment(event: FulfilmentEvent) -> Fulfilment {
        let mut saga = Fulfilment::default();
        saga.apply(event);
        saga
    }

    fn completed() -> Fulfilment {
        let (task, next) = (Task::Do(Step::Confirm), Next::Completed);
        fulfilment(FulfilmentEvent::Done { task, next, at: Timestamp::EPOCH })
    }

    fn compensated() -> Fulfilment {
        let (task, reason, next) = (Task::Do(Step::Ship), Reason::TimedOut, Next::Compensated);
        fulfilment(FulfilmentEvent::Refused { task, reason, next, at: Timestamp::EPOCH })
    }

    fn account(events: impl IntoIterator<Item = PaymentEvent>) -> Account {
        let mut account = Account::default();
        events.into_iter().for_each(|event| account.apply(event));
        account
    }

    fn shipped() -> Parcel {
        let mut parcel = Parcel::default();
        parcel.apply(ParcelEvent::Shipped { sku: "lamp".to_owned(), units: 1 });
        parcel
    }

    /// Returns the ledger of a load `l` with one fulfilled and one compensated order.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        let (one, two) = (order_id("l", 0), order_id("l", 1));
        ledger.orders.insert(one.clone(), order(0, OrderEvent::Fulfilled));
        ledger.orders.insert(two.clone(), order(1, OrderEvent::Cancelled));
        ledger.fulfilments.insert(one.clone(), completed());
        ledger.fulfilments.insert(two.clone(), compensated());
        let charged = |n| PaymentEvent::Charged { cents: cart(n).cents };
        ledger.payments.insert(one.clone(), account([charged(0)]));
        ledger.payments.insert(two, account([charged(1), PaymentEvent::Cancelled]));
        ledger.parcels.insert(one, shipped());
        ledger
    }

    #[test]
    fn a_ledger_without_faults_balances() {
        let audit = Audit::of(&ledger(), "l", &[0, 1]);
        assert!(audit.balances(), "{audit}");
        assert_eq!((audit.fulfilled, audit.cancelled), (1, 1));
        assert_eq!(
            (audit.charged_cents, audit.refunded_cents, audit.sold_cents),
            (1_500, 1_000, 500)
        );
    }

    type Inflict<'a> = &'a dyn Fn(&mut Ledger);

    #[test]
    fn every_fault_is_found() {
        let (one, two) = (order_id("l", 0), order_id("l", 1));
        let faults: [(&str, Inflict); 9] = [
            ("a lost order", &|of| {
                of.orders.remove(&one);
            }),
            ("another cart", &|of| {
                of.orders.insert(one.clone(), order(2, OrderEvent::Fulfilled));
            }),
            ("no fulfilment", &|of| {
                of.fulfilments.remove(&one);
            }),
            ("another end", &|of| {
                of.fulfilments.insert(two.clone(), completed());
            }),
            ("no payment", &|of| {
                of.payments.remove(&one);
            }),
            ("a second charge", &|of| {
                of.payments.entry(one.clone()).or_default().charged *= 2;
            }),
            ("no refund", &|of| {
                of.payments.entry(two.clone()).or_default().refunded = 0;
            }),
            ("no parcel", &|of| {
                of.parcels.remove(&one);
            }),
            ("a parcel too many", &|of| {
                of.parcels.insert(two.clone(), shipped());
            }),
        ];
        for (fault, inflict) in faults {
            let mut ledger = ledger();
            inflict(&mut ledger);
            assert!(!Audit::of(&ledger, "l", &[0, 1]).balances(), "{fault} is not found");
        }
    }
}
