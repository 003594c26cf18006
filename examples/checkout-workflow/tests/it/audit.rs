//! The audit, with correct and incorrect input.

use checkout_workflow::{
    Audit, AuditInput, Checkout, CheckoutEvent, Entry, EntryKind, InventoryEvent, Order,
    OrderEvent, Payment, PaymentEvent, Purpose, Shipping, ShippingEvent, Step,
};
use composable_rust::prelude::*;
use composable_rust::saga::{Next, Reason, Task};

use Step::{Charge, Confirm, Place, Reserve, Ship};
use Task::{Do, Undo};

use crate::support::{cart, events, noon, sku};

fn restocked() -> AuditInput {
    let mut input = AuditInput::default();
    input.stocks.push(sku(), InventoryEvent::Restocked { units: 10 });
    input
}

fn entry(id: &str, kind: EntryKind, cents: u64) -> Entry {
    Entry { key: format!("{kind:?} {id}"), payment: Payment::id(id), kind, cents }
}

fn checkouts(input: &mut AuditInput, id: &str, events: impl IntoIterator<Item = CheckoutEvent>) {
    input.checkouts.extend(events.into_iter().map(|event| (Checkout::id(id), event)));
}

fn stock(input: &mut AuditInput, event: InventoryEvent) {
    input.stocks.push(sku(), event);
}

/// Adds a completed checkout.
fn complete(input: &mut AuditInput, id: &str) {
    let order = Order::id(id);
    let done = [Place, Reserve, Charge, Ship, Confirm].map(|step| events::done(Do(step)));
    checkouts(input, id, [events::started()].into_iter().chain(done));
    input.orders.push(order.clone(), OrderEvent::Placed(cart()));
    input.orders.push(order.clone(), OrderEvent::Confirmed { at: noon() });
    stock(input, InventoryEvent::Reserved { order: order.clone(), units: 2 });
    stock(input, InventoryEvent::HandedOver { order });
    input.payments.push(Payment::id(id), PaymentEvent::ChargeRequested { cents: 1_998 });
    input.payments.push(Payment::id(id), PaymentEvent::Charged { cents: 1_998 });
    input.parcels.push(Shipping::id(id), ShippingEvent::Packed { sku: sku(), units: 2 });
    input.parcels.push(Shipping::id(id), ShippingEvent::Shipped { at: noon() });
    input.ledger.push(entry(id, EntryKind::Capture, 1_998));
}

/// Adds a checkout whose payment was captured after its timeout, `refunded` or not.
fn compensate(input: &mut AuditInput, id: &str, refunded: bool) {
    let order = Order::id(id);
    let (charge, end) = if refunded {
        (events::done(Undo(Charge)), Next::Compensated)
    } else {
        (events::refused(Undo(Charge), Reason::refused(&PaymentEvent::NotRefunded)), Next::Stuck)
    };
    let events = [
        events::started(),
        events::done(Do(Place)),
        events::done(Do(Reserve)),
        events::timed_out(Do(Charge)),
        charge,
        events::done(Undo(Reserve)),
        CheckoutEvent::Done { task: Undo(Place), next: end, at: noon() },
    ];
    checkouts(input, id, events);
    input.orders.push(order.clone(), OrderEvent::Placed(cart()));
    input.orders.push(order.clone(), OrderEvent::Cancelled);
    stock(input, InventoryEvent::Reserved { order: order.clone(), units: 2 });
    stock(input, InventoryEvent::Released { order, units: 2 });
    let refund = PaymentEvent::RefundRequested { purpose: Purpose::Cancel };
    let end = if refunded {
        input.ledger.push(entry(id, EntryKind::Refund, 1_998));
        PaymentEvent::Cancelled { refunded: 1_998 }
    } else {
        PaymentEvent::NotRefunded
    };
    input.ledger.insert(0, entry(id, EntryKind::Capture, 1_998));
    let payment = [PaymentEvent::ChargeRequested { cents: 1_998 }, refund, end];
    input.payments.extend(payment.map(|event| (Payment::id(id), event)));
}

fn one_of_each() -> AuditInput {
    let mut input = restocked();
    complete(&mut input, "1");
    compensate(&mut input, "2", true);
    compensate(&mut input, "3", false);
    input
}

/// Returns the problems that the audit finds after `change`.
fn problems(change: impl FnOnce(&mut AuditInput)) -> Vec<String> {
    let mut input = one_of_each();
    change(&mut input);
    Audit::of(&input).problems
}

#[test]
fn correct_input_balances() {
    let audit = Audit::of(&one_of_each());
    assert!(audit.balances(), "{audit}");
    insta::assert_snapshot!(audit);
}

#[test]
fn empty_input_balances() {
    assert!(Audit::of(&AuditInput::default()).balances());
    assert!(Audit::of(&restocked()).balances());
}

#[test]
fn an_unfinished_checkout_is_found() {
    let found = problems(|input| checkouts(input, "4", [events::started()]));
    assert_eq!(found, ["checkout 4: not finished, doing Place since 2026-03-01T12:00:00Z"]);
}

#[test]
fn a_second_capture_is_found() {
    let found = problems(|input| input.ledger.push(entry("1", EntryKind::Capture, 1_998)));
    insta::assert_debug_snapshot!(found);
}

#[test]
fn a_missing_cent_is_found() {
    let found = problems(|input| input.ledger[0].cents -= 1);
    insta::assert_debug_snapshot!(found);
}

#[test]
fn a_missing_refund_is_found() {
    let found = problems(|input| input.ledger.retain(|entry| entry.kind != EntryKind::Refund));
    insta::assert_debug_snapshot!(found);
}

#[test]
fn reserved_units_are_found() {
    let found = problems(|input| {
        let order = Order::id("2b");
        checkouts(
            input,
            "2b",
            [events::started(), events::refused(Do(Place), Reason::Undelivered)],
        );
        stock(input, InventoryEvent::Reserved { order, units: 2 });
    });
    insta::assert_debug_snapshot!(found);
}

#[test]
fn an_unwanted_shipment_is_found() {
    let found = problems(|input| {
        input.parcels.push(Shipping::id("1"), ShippingEvent::Shipped { at: noon() });
        input.parcels.push(Shipping::id("2"), ShippingEvent::Packed { sku: sku(), units: 2 });
        input.parcels.push(Shipping::id("2"), ShippingEvent::Shipped { at: noon() });
    });
    insta::assert_debug_snapshot!(found);
}

#[test]
fn an_unknown_checkout_is_found() {
    let found = problems(|input| {
        input.orders.push(Order::id("9"), OrderEvent::Placed(cart()));
        input.ledger.push(entry("9", EntryKind::Void, 0));
    });
    insta::assert_debug_snapshot!(found);
}

#[test]
fn the_report_lists_the_problems() {
    let mut input = one_of_each();
    input.ledger.push(entry("1", EntryKind::Capture, 1));
    insta::assert_snapshot!(Audit::of(&input));
}
