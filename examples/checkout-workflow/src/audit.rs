//! The audit: checks that all checkouts together add up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use composable_rust::prelude::*;
use composable_rust::saga::Status;

use crate::{
    Allocation, AuditInput, Cart, Checkout, Entry, EntryKind, Inventory, InventoryEvent, Order,
    Payment, Shipping, ShippingEvent, Step,
};

/// The totals of all checkouts, and the problems found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    /// The number of checkouts whose customer has paid and gets the goods.
    pub completed: u64,
    /// The number of checkouts that were undone.
    pub compensated: u64,
    /// The checkouts that need a person because they could not be undone completely.
    pub stuck: Vec<String>,
    /// The amounts of money.
    pub money: Money,
    /// The numbers of units.
    pub units: Units,
    /// The problems, each with the checkout, payment, parcel or stock it concerns.
    pub problems: Vec<String>,
}

/// Amounts of money, in cents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Money {
    /// The amount that the provider took.
    pub captured: u64,
    /// The amount that the provider gave back.
    pub refunded: u64,
    /// The price of the completed checkouts.
    pub sold: u64,
    /// The price of the stuck checkouts whose refund the provider refused.
    pub not_refundable: u64,
}

/// Numbers of units, all articles together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Units {
    /// The units taken in.
    pub restocked: u64,
    /// The units in stock that are free.
    pub on_hand: u64,
    /// The units in stock that are reserved.
    pub reserved: u64,
    /// The units that the carrier has.
    pub handed_over: u64,
}

impl Audit {
    /// Audits `input`. Every checkout should be finished; one that is not is a problem.
    pub fn of(input: &AuditInput) -> Self {
        let mut audit = Self::default();
        let accounts = audit.accounts(input);
        let mut sold = BTreeMap::<&Id<Inventory>, u64>::new();
        for (id, checkout, _) in input.checkouts.iter() {
            let Some(cart) = checkout.input() else { continue };
            let account = accounts.get(id.as_str()).copied().unwrap_or_default();
            match checkout.status() {
                status @ (Status::New | Status::Doing { .. } | Status::Undoing { .. }) => {
                    audit.problem(format!("checkout {id}: not finished, {status}"));
                }
                Status::Completed => {
                    audit.completed += 1;
                    audit.money.sold += cart.cents;
                    *sold.entry(&cart.sku).or_default() += u64::from(cart.units);
                    audit.completed_checkout(input, id.as_str(), cart, account);
                }
                Status::Compensated { .. } => {
                    audit.compensated += 1;
                    audit.undone_checkout(input, id.as_str(), checkout, cart, account);
                }
                Status::Stuck { not_undone, .. } => {
                    let steps: Vec<_> = not_undone.iter().map(ToString::to_string).collect();
                    audit.stuck.push(format!("{id}: could not undo {}", steps.join(", ")));
                    audit.undone_checkout(input, id.as_str(), checkout, cart, account);
                }
            }
        }
        audit.stocks(input, &sold);
        audit.unknown_checkouts(input);
        let Money { captured, refunded, sold, not_refundable } = audit.money;
        audit.expect(captured == refunded + sold + not_refundable, || {
            format!(
                "money: {} captured is not {} refunded + {} sold + {} not refundable",
                money(captured),
                money(refunded),
                money(sold),
                money(not_refundable)
            )
        });
        audit
    }

    /// `true` if there are no problems.
    pub fn balances(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, problem: String) {
        self.problems.push(problem);
    }

    fn expect(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(problem());
        }
    }

    /// Returns the totals of each payment in the ledger.
    fn accounts<'a>(&mut self, input: &'a AuditInput) -> BTreeMap<&'a str, Account> {
        let mut accounts = BTreeMap::<&str, Account>::new();
        for Entry { payment, kind, cents, .. } in &input.ledger {
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

    fn completed_checkout(&mut self, input: &AuditInput, id: &str, cart: &Cart, account: Account) {
        let problem = |what: String| format!("checkout {id}, Completed: {what}");
        let order = input.orders.state(id);
        let confirmed = matches!(&order, Order::Confirmed { cart: ordered, .. } if ordered == cart);
        self.expect(confirmed, || problem(format!("the order is {order:?}")));
        let allocation = input.stocks.state(cart.sku.as_str()).allocation(&Order::id(id));
        self.expect(allocation == Some(Allocation::HandedOver { units: cart.units }), || {
            problem(format!("its allocation of {} is {allocation:?}", cart.sku))
        });
        let payment = input.payments.state(id);
        self.expect(payment == Payment::Charged { cents: cart.cents }, || {
            problem(format!("the payment is {payment:?}"))
        });
        let (captured, refunded) = (account.captured, account.refunded);
        self.expect(captured == cart.cents && refunded == 0, || {
            let (captured, refunded) = (money(captured), money(refunded));
            problem(format!(
                "{captured} captured and {refunded} refunded for {}",
                money(cart.cents)
            ))
        });
        let parcel = input.parcels.state(id);
        let shipped = matches!(
            &parcel,
            Shipping::Shipped { sku, units, .. } if *sku == cart.sku && *units == cart.units
        );
        self.expect(shipped, || problem(format!("the parcel is {parcel:?}")));
        self.shipped_at_most_once(input, id);
    }

    /// Checks that every step is undone except those in `not_undone`.
    fn undone_checkout(
        &mut self,
        input: &AuditInput,
        id: &str,
        checkout: &Checkout,
        cart: &Cart,
        account: Account,
    ) {
        let status = if checkout.not_undone().is_empty() { "Compensated" } else { "Stuck" };
        let problem = |what: String| format!("checkout {id}, {status}: {what}");
        let undone = |step: Step| checkout.not_undone().iter().all(|failed| failed.step != step);
        let order = input.orders.state(id);
        if undone(Step::Place) {
            let gone = matches!(order, Order::New | Order::Cancelled);
            self.expect(gone, || problem(format!("the order is {order:?}")));
        }
        if undone(Step::Reserve) {
            let allocation = input.stocks.state(cart.sku.as_str()).allocation(&Order::id(id));
            let gone = matches!(allocation, None | Some(Allocation::Released { .. }));
            self.expect(gone, || {
                problem(format!("its allocation of {} is {allocation:?}", cart.sku))
            });
        }
        let balance = account.captured.saturating_sub(account.refunded);
        if undone(Step::Charge) {
            let payment = input.payments.state(id);
            let gone = matches!(
                payment,
                Payment::New | Payment::Declined | Payment::Failed | Payment::Cancelled { .. }
            );
            self.expect(gone, || problem(format!("the payment is {payment:?}")));
            self.expect(balance == 0, || problem(format!("{} is still captured", money(balance))));
        } else {
            self.money.not_refundable += cart.cents;
            self.expect(balance == cart.cents, || {
                problem(format!("{} of {} is captured", money(balance), money(cart.cents)))
            });
        }
        if undone(Step::Ship) {
            let parcel = input.parcels.state(id);
            let gone = matches!(parcel, Shipping::New | Shipping::NotInStock | Shipping::Cancelled);
            self.expect(gone, || problem(format!("the parcel is {parcel:?}")));
        }
        self.shipped_at_most_once(input, id);
    }

    fn shipped_at_most_once(&mut self, input: &AuditInput, id: &str) {
        let events = input.parcels.events(id);
        let shipped = |event: &&ShippingEvent| matches!(event, ShippingEvent::Shipped { .. });
        let times = events.iter().filter(shipped).count();
        self.expect(times <= 1, || format!("parcel {id}: shipped {times} times"));
    }

    fn stocks(&mut self, input: &AuditInput, sold: &BTreeMap<&Id<Inventory>, u64>) {
        for (sku, stock, events) in input.stocks.iter() {
            let mut units = Units { on_hand: stock.on_hand, ..Units::default() };
            for event in events {
                if let InventoryEvent::Restocked { units: n } = event {
                    units.restocked += u64::from(*n);
                }
            }
            for allocation in stock.allocations.values() {
                match allocation {
                    Allocation::Reserved { units: n } => units.reserved += u64::from(*n),
                    Allocation::HandedOver { units: n } => units.handed_over += u64::from(*n),
                    Allocation::Released { .. } => {}
                }
            }
            let Units { restocked, on_hand, reserved, handed_over } = units;
            self.expect(restocked == on_hand + reserved + handed_over, || {
                format!(
                    "stock {sku}: {restocked} restocked is not {on_hand} on hand + {reserved} reserved \
                     + {handed_over} handed over"
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

    /// Checks that everything belongs to a checkout.
    fn unknown_checkouts(&mut self, input: &AuditInput) {
        let known: BTreeSet<_> = input.checkouts.iter().map(|(id, ..)| id.as_str()).collect();
        let orders = input.orders.iter().map(|(id, ..)| ("order", id.as_str()));
        let payments = input.payments.iter().map(|(id, ..)| ("payment", id.as_str()));
        let parcels = input.parcels.iter().map(|(id, ..)| ("parcel", id.as_str()));
        let allocations = input.stocks.iter().flat_map(|(_, stock, _)| stock.allocations.keys());
        let allocations = allocations.map(|id| ("reservation of order", id.as_str()));
        let entries =
            input.ledger.iter().map(|entry| ("ledger entry of payment", entry.payment.as_str()));
        for (kind, id) in orders.chain(payments).chain(parcels).chain(allocations).chain(entries) {
            self.expect(known.contains(id), || format!("{kind} {id}: there is no such checkout"));
        }
    }
}

/// The totals of one payment in the ledger.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    captures: u32,
    captured: u64,
    refunds: u32,
    refunded: u64,
}

/// The maximum number of stuck checkouts and of problems that are printed.
const MAX_LINES: usize = 20;

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Money { captured, refunded, sold, not_refundable } = self.money;
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
            ("not refundable", Some(money(not_refundable))),
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
            writeln!(f, "\nstuck checkouts, which need a person:")?;
            list(f, &self.stuck)?;
        }
        if self.balances() {
            return writeln!(f, "\nThe audit balances, to the cent and the unit.");
        }
        writeln!(f, "\nThe audit does not balance. Problems: {}", self.problems.len())?;
        list(f, &self.problems)
    }
}

fn list(f: &mut fmt::Formatter<'_>, lines: &[String]) -> fmt::Result {
    for line in lines.iter().take(MAX_LINES) {
        writeln!(f, "  {line}")?;
    }
    match lines.len().saturating_sub(MAX_LINES) {
        0 => Ok(()),
        more => writeln!(f, "  and {more} more"),
    }
}

/// Formats an amount: `1234.05`.
fn money(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}
