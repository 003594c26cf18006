//! The audit finds what does not add up.

use checkout_workflow::{
    Audit, Books, Checkout, CheckoutEvent, Entry, EntryKind, InventoryEvent, Order, OrderEvent,
    Payment, PaymentEvent, Purpose, Shipping, ShippingEvent, Step, Task,
};
use composable_rust::prelude::*;

use Step::{Charge, Confirm, Place, Reserve, Ship};
use Task::{Do, Undo};

use crate::support::{cart, noon, sku};

fn restocked() -> Books {
    let mut books = Books::default();
    books.stocks.push(sku(), InventoryEvent::Restocked { units: 10 });
    books
}

fn entry(id: &str, kind: EntryKind, cents: u64) -> Entry {
    Entry { key: format!("{kind:?} {id}"), payment: Payment::id(id), kind, cents }
}

fn checkouts(books: &mut Books, id: &str, events: impl IntoIterator<Item = CheckoutEvent>) {
    books.checkouts.extend(events.into_iter().map(|event| (Checkout::id(id), event)));
}

fn stock(books: &mut Books, event: InventoryEvent) {
    books.stocks.push(sku(), event);
}

/// A checkout on which everything goes well.
fn complete(books: &mut Books, id: &str) {
    let order = Order::id(id);
    let done = [Place, Reserve, Charge, Ship, Confirm].map(|step| CheckoutEvent::Done(Do(step)));
    checkouts(books, id, [CheckoutEvent::Started(cart())].into_iter().chain(done));
    books.orders.push(order.clone(), OrderEvent::Placed(cart()));
    books.orders.push(order.clone(), OrderEvent::Confirmed { at: noon() });
    stock(books, InventoryEvent::Reserved { order: order.clone(), units: 2 });
    stock(books, InventoryEvent::HandedOver { order });
    books.payments.push(Payment::id(id), PaymentEvent::ChargeRequested { cents: 1_998 });
    books.payments.push(Payment::id(id), PaymentEvent::Charged { cents: 1_998 });
    books.parcels.push(Shipping::id(id), ShippingEvent::Packed { sku: sku(), units: 2 });
    books.parcels.push(Shipping::id(id), ShippingEvent::Shipped { at: noon() });
    books.ledger.push(entry(id, EntryKind::Capture, 1_998));
}

/// A checkout whose payment timed out just as it was captured; `refunded` or not.
fn compensate(books: &mut Books, id: &str, refunded: bool) {
    let order = Order::id(id);
    let charge = if refunded { CheckoutEvent::Done } else { CheckoutEvent::Refused };
    let events = [
        CheckoutEvent::Started(cart()),
        CheckoutEvent::Done(Do(Place)),
        CheckoutEvent::Done(Do(Reserve)),
        CheckoutEvent::TimedOut(Do(Charge)),
        charge(Undo(Charge)),
        CheckoutEvent::Done(Undo(Reserve)),
        CheckoutEvent::Done(Undo(Place)),
    ];
    checkouts(books, id, events);
    books.orders.push(order.clone(), OrderEvent::Placed(cart()));
    books.orders.push(order.clone(), OrderEvent::Cancelled);
    stock(books, InventoryEvent::Reserved { order: order.clone(), units: 2 });
    stock(books, InventoryEvent::Released { order, units: 2 });
    let refund = PaymentEvent::RefundRequested { purpose: Purpose::Cancel };
    let end = if refunded {
        books.ledger.push(entry(id, EntryKind::Refund, 1_998));
        PaymentEvent::Cancelled { refunded: 1_998 }
    } else {
        PaymentEvent::NotRefunded
    };
    books.ledger.insert(0, entry(id, EntryKind::Capture, 1_998));
    let payment = [PaymentEvent::ChargeRequested { cents: 1_998 }, refund, end];
    books.payments.extend(payment.map(|event| (Payment::id(id), event)));
}

fn one_of_each() -> Books {
    let mut books = restocked();
    complete(&mut books, "1");
    compensate(&mut books, "2", true);
    compensate(&mut books, "3", false);
    books
}

/// What the audit finds after `spoil`.
fn problems(spoil: impl FnOnce(&mut Books)) -> Vec<String> {
    let mut books = one_of_each();
    spoil(&mut books);
    Audit::of(&books).problems
}

#[test]
fn what_adds_up_balances() {
    let audit = Audit::of(&one_of_each());
    assert!(audit.balances(), "{audit}");
    insta::assert_snapshot!(audit);
}

#[test]
fn nothing_balances() {
    assert!(Audit::of(&Books::default()).balances());
    assert!(Audit::of(&restocked()).balances());
}

#[test]
fn an_unfinished_checkout_is_named() {
    let found = problems(|books| checkouts(books, "4", [CheckoutEvent::Started(cart())]));
    assert_eq!(found, ["checkout 4: not finished, Waiting(Do(Place))"]);
}

#[test]
fn a_second_capture_is_found() {
    let found = problems(|books| books.ledger.push(entry("1", EntryKind::Capture, 1_998)));
    insta::assert_debug_snapshot!(found);
}

#[test]
fn a_missing_cent_is_found() {
    let found = problems(|books| books.ledger[0].cents -= 1);
    insta::assert_debug_snapshot!(found);
}

#[test]
fn a_missing_refund_is_found() {
    let found = problems(|books| books.ledger.retain(|entry| entry.kind != EntryKind::Refund));
    insta::assert_debug_snapshot!(found);
}

#[test]
fn units_that_stay_reserved_are_found() {
    let found = problems(|books| {
        let order = Order::id("2b");
        checkouts(books, "2b", [CheckoutEvent::Started(cart()), CheckoutEvent::Refused(Do(Place))]);
        stock(books, InventoryEvent::Reserved { order, units: 2 });
    });
    insta::assert_debug_snapshot!(found);
}

#[test]
fn a_parcel_that_leaves_twice_or_in_vain_is_found() {
    let found = problems(|books| {
        books.parcels.push(Shipping::id("1"), ShippingEvent::Shipped { at: noon() });
        books.parcels.push(Shipping::id("2"), ShippingEvent::Packed { sku: sku(), units: 2 });
        books.parcels.push(Shipping::id("2"), ShippingEvent::Shipped { at: noon() });
    });
    insta::assert_debug_snapshot!(found);
}

#[test]
fn what_belongs_to_no_checkout_is_found() {
    let found = problems(|books| {
        books.orders.push(Order::id("9"), OrderEvent::Placed(cart()));
        books.ledger.push(entry("9", EntryKind::Void, 0));
    });
    insta::assert_debug_snapshot!(found);
}

#[test]
fn the_report_says_what_is_wrong() {
    let mut books = one_of_each();
    books.ledger.push(entry("1", EntryKind::Capture, 1));
    insta::assert_snapshot!(Audit::of(&books));
}
