//! Whether all checkouts together add up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use composable_rust::prelude::*;

use crate::{
    Cart, Checkout, Entry, EntryKind, Held, Inventory, InventoryEvent, Order, Payment, Shipping,
    ShippingEvent, Status, Step,
};

/// All that happened, of all instances, and what the payment provider did.
#[derive(Debug, Clone, Default)]
pub struct Books {
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
    /// The provider's [`Ledger::entries`](crate::Ledger::entries).
    pub ledger: Vec<Entry>,
}

/// What happened to each instance of `A`.
#[derive(Debug, Clone)]
pub struct Histories<A: Aggregate>(BTreeMap<Id<A>, History<A>>);

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
    /// Adds what happened next to an instance.
    pub fn push(&mut self, id: Id<A>, event: A::Event) {
        let fresh = || History { state: A::default(), events: Vec::new() };
        let history = self.0.entry(id).or_insert_with(fresh);
        history.state.apply(event.clone());
        history.events.push(event);
    }

    fn states(&self) -> impl Iterator<Item = (&Id<A>, &A)> {
        self.0.iter().map(|(id, history)| (id, &history.state))
    }

    /// As it is now; the default for one to which nothing happened.
    fn state(&self, id: &str) -> A {
        self.0.get(&A::id(id)).map(|history| history.state.clone()).unwrap_or_default()
    }

    fn events(&self, id: &str) -> &[A::Event] {
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

/// What the books come to, and what is wrong with them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    /// Checkouts whose customer got the goods and has paid.
    pub completed: u64,
    /// Checkouts of which nothing is left.
    pub compensated: u64,
    /// Checkouts that wait for a person: of these not all could be undone.
    pub stuck: Vec<String>,
    /// Money, in cents.
    pub money: Money,
    /// Pieces.
    pub units: Units,
    /// What does not add up, and where.
    pub problems: Vec<String>,
}

/// Money, in cents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Money {
    /// What the provider took.
    pub captured: u64,
    /// What it gave back.
    pub refunded: u64,
    /// What the completed checkouts cost.
    pub sold: u64,
    /// What stuck checkouts cost whose refund was refused.
    pub kept: u64,
}

/// Pieces, of all articles together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Units {
    /// What came in.
    pub restocked: u64,
    /// What is here and promised to nobody.
    pub on_hand: u64,
    /// What is here and promised.
    pub reserved: u64,
    /// What is on its way to customers.
    pub handed_over: u64,
}

impl Audit {
    /// Audits `books`. They should be of a moment when every checkout is finished: one that is not
    /// is a problem.
    pub fn of(books: &Books) -> Self {
        let mut audit = Self::default();
        let accounts = audit.accounts(books);
        let mut sold = BTreeMap::<&Id<Inventory>, u64>::new();
        for (id, checkout) in books.checkouts.states() {
            let Some(cart) = &checkout.cart else { continue };
            let account = accounts.get(id.as_str()).copied().unwrap_or_default();
            match checkout.status {
                Status::New | Status::Waiting(_) => {
                    audit.problem(format!("checkout {id}: not finished, {:?}", checkout.status));
                }
                Status::Completed => {
                    audit.completed += 1;
                    audit.money.sold += cart.cents;
                    *sold.entry(&cart.sku).or_default() += u64::from(cart.units);
                    audit.completed_checkout(books, id.as_str(), cart, account);
                }
                Status::Compensated => {
                    audit.compensated += 1;
                    audit.undone_checkout(books, id.as_str(), checkout, cart, account);
                }
                Status::Stuck => {
                    audit.stuck.push(format!("{id}: cannot undo {:?}", checkout.kept));
                    audit.undone_checkout(books, id.as_str(), checkout, cart, account);
                }
            }
        }
        audit.stocks(books, &sold);
        audit.strays(books);
        let Money { captured, refunded, sold, kept } = audit.money;
        audit.expect(captured == refunded + sold + kept, || {
            format!(
                "money: {} captured are not {} refunded, {} sold and {} kept",
                money(captured),
                money(refunded),
                money(sold),
                money(kept)
            )
        });
        audit
    }

    /// Whether nothing is wrong.
    pub fn balances(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, problem: String) {
        self.problems.push(problem);
    }

    fn expect(&mut self, right: bool, problem: impl FnOnce() -> String) {
        if !right {
            self.problems.push(problem());
        }
    }

    /// What the ledger says of each payment.
    fn accounts<'a>(&mut self, books: &'a Books) -> BTreeMap<&'a str, Account> {
        let mut accounts = BTreeMap::<&str, Account>::new();
        for Entry { payment, kind, cents, .. } in &books.ledger {
            let account = accounts.entry(payment.as_str()).or_default();
            match kind {
                EntryKind::Capture => {
                    account.captures += 1;
                    account.captured += cents;
                }
                EntryKind::Refund => {
                    account.refunds += 1;
                    account.refunded += cents;
                }
                EntryKind::Void => {}
            }
        }
        for (id, account) in &accounts {
            let Account { captures, captured, refunds, refunded } = *account;
            self.money.captured += captured;
            self.money.refunded += refunded;
            self.expect(captures <= 1, || format!("payment {id}: captured {captures} times"));
            self.expect(refunds <= 1, || format!("payment {id}: refunded {refunds} times"));
            self.expect(refunded <= captured, || {
                format!("payment {id}: {} of {} refunded", money(refunded), money(captured))
            });
        }
        accounts
    }

    fn completed_checkout(&mut self, books: &Books, id: &str, cart: &Cart, account: Account) {
        let wrong = |what: String| format!("checkout {id}, completed: {what}");
        let order = books.orders.state(id);
        let promised = matches!(&order, Order::Confirmed { cart: ordered, .. } if ordered == cart);
        self.expect(promised, || wrong(format!("the order is {order:?}")));
        let held = books.stocks.state(cart.sku.as_str()).held(&Order::id(id));
        self.expect(held == Some(Held::HandedOver { units: cart.units }), || {
            wrong(format!("of {} it has {held:?}", cart.sku))
        });
        let payment = books.payments.state(id);
        self.expect(payment == Payment::Charged { cents: cart.cents }, || {
            wrong(format!("the payment is {payment:?}"))
        });
        let (captured, refunded) = (account.captured, account.refunded);
        self.expect(captured == cart.cents && refunded == 0, || {
            let (captured, refunded) = (money(captured), money(refunded));
            wrong(format!("{captured} captured and {refunded} refunded for {}", money(cart.cents)))
        });
        let parcel = books.parcels.state(id);
        let left = matches!(
            &parcel,
            Shipping::Shipped { sku, units, .. } if *sku == cart.sku && *units == cart.units
        );
        self.expect(left, || wrong(format!("the parcel is {parcel:?}")));
        self.left_at_most_once(books, id);
    }

    /// Nothing is left but what the checkout says it could not undo.
    fn undone_checkout(
        &mut self,
        books: &Books,
        id: &str,
        checkout: &Checkout,
        cart: &Cart,
        account: Account,
    ) {
        let wrong = |what: String| format!("checkout {id}, {:?}: {what}", checkout.status);
        let undone = |step: Step| !checkout.kept.contains(&step);
        let order = books.orders.state(id);
        if undone(Step::Place) {
            let gone = matches!(order, Order::New | Order::Cancelled);
            self.expect(gone, || wrong(format!("the order is {order:?}")));
        }
        if undone(Step::Reserve) {
            let held = books.stocks.state(cart.sku.as_str()).held(&Order::id(id));
            let gone = matches!(held, None | Some(Held::Released { .. }));
            self.expect(gone, || wrong(format!("of {} it has {held:?}", cart.sku)));
        }
        let balance = account.captured.saturating_sub(account.refunded);
        if undone(Step::Charge) {
            let payment = books.payments.state(id);
            let gone = matches!(
                payment,
                Payment::New | Payment::Declined | Payment::Failed | Payment::Cancelled { .. }
            );
            self.expect(gone, || wrong(format!("the payment is {payment:?}")));
            self.expect(balance == 0, || wrong(format!("{} are still captured", money(balance))));
        } else {
            self.money.kept += cart.cents;
            self.expect(balance == cart.cents, || {
                wrong(format!("{} of {} are captured", money(balance), money(cart.cents)))
            });
        }
        if undone(Step::Ship) {
            let parcel = books.parcels.state(id);
            let gone = matches!(parcel, Shipping::New | Shipping::NotInStock | Shipping::Cancelled);
            self.expect(gone, || wrong(format!("the parcel is {parcel:?}")));
        }
        self.left_at_most_once(books, id);
    }

    fn left_at_most_once(&mut self, books: &Books, id: &str) {
        let events = books.parcels.events(id);
        let left = |event: &&ShippingEvent| matches!(event, ShippingEvent::Shipped { .. });
        let times = events.iter().filter(left).count();
        self.expect(times <= 1, || format!("parcel {id}: left {times} times"));
    }

    fn stocks(&mut self, books: &Books, sold: &BTreeMap<&Id<Inventory>, u64>) {
        for (sku, history) in &books.stocks.0 {
            let mut units = Units { on_hand: history.state.on_hand, ..Units::default() };
            for event in &history.events {
                if let InventoryEvent::Restocked { units: came_in } = event {
                    units.restocked += u64::from(*came_in);
                }
            }
            for held in history.state.orders.values() {
                match held {
                    Held::Reserved { units: n } => units.reserved += u64::from(*n),
                    Held::HandedOver { units: n } => units.handed_over += u64::from(*n),
                    Held::Released { .. } => {}
                }
            }
            let Units { restocked, on_hand, reserved, handed_over } = units;
            self.expect(restocked == on_hand + reserved + handed_over, || {
                format!(
                    "stock {sku}: {restocked} restocked are not {on_hand} on hand, {reserved} \
                     reserved and {handed_over} handed over"
                )
            });
            self.expect(reserved == 0, || format!("stock {sku}: {reserved} still reserved"));
            let sold = sold.get(sku).copied().unwrap_or_default();
            self.expect(handed_over == sold, || {
                format!("stock {sku}: {handed_over} handed over, {sold} sold")
            });
            self.units.restocked += restocked;
            self.units.on_hand += on_hand;
            self.units.reserved += reserved;
            self.units.handed_over += handed_over;
        }
    }

    /// What belongs to no checkout.
    fn strays(&mut self, books: &Books) {
        let known: BTreeSet<_> = books.checkouts.0.keys().map(Id::as_str).collect();
        let orders = books.orders.0.keys().map(|id| ("order", id.as_str()));
        let payments = books.payments.0.keys().map(|id| ("payment", id.as_str()));
        let parcels = books.parcels.0.keys().map(|id| ("parcel", id.as_str()));
        let held = books.stocks.states().flat_map(|(_, stock)| stock.orders.keys());
        let held = held.map(|id| ("reservation of order", id.as_str()));
        let money =
            books.ledger.iter().map(|entry| ("ledger entry of payment", entry.payment.as_str()));
        for (what, id) in orders.chain(payments).chain(parcels).chain(held).chain(money) {
            self.expect(known.contains(id), || format!("{what} {id}: there is no such checkout"));
        }
    }
}

/// What the ledger says of a payment.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    captures: u32,
    captured: u64,
    refunds: u32,
    refunded: u64,
}

/// How many stuck checkouts and problems are printed.
const SHOWN: usize = 20;

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Money { captured, refunded, sold, kept } = self.money;
        let Units { restocked, on_hand, reserved, handed_over } = self.units;
        let lines = [
            ("checkouts", None),
            ("completed", Some(self.completed.to_string())),
            ("compensated", Some(self.compensated.to_string())),
            ("stuck", Some(self.stuck.len().to_string())),
            ("money", None),
            ("captured", Some(money(captured))),
            ("refunded", Some(money(refunded))),
            ("sold", Some(money(sold))),
            ("not refundable", Some(money(kept))),
            ("units", None),
            ("restocked", Some(restocked.to_string())),
            ("on hand", Some(on_hand.to_string())),
            ("reserved", Some(reserved.to_string())),
            ("handed over", Some(handed_over.to_string())),
        ];
        for (name, figure) in lines {
            match figure {
                Some(figure) => writeln!(f, "  {name:<16}{figure:>16}")?,
                None => writeln!(f, "{name}")?,
            }
        }
        if !self.stuck.is_empty() {
            writeln!(f, "\nstuck: a person has to look at")?;
            list(f, &self.stuck)?;
        }
        if self.balances() {
            return writeln!(f, "\nThe audit balances, to the cent and the unit.");
        }
        writeln!(f, "\nThe audit does not balance: {} wrong", self.problems.len())?;
        list(f, &self.problems)
    }
}

fn list(f: &mut fmt::Formatter<'_>, lines: &[String]) -> fmt::Result {
    for line in lines.iter().take(SHOWN) {
        writeln!(f, "  {line}")?;
    }
    match lines.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => writeln!(f, "  and {more} more"),
    }
}

/// `1234.05`.
fn money(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}
