//! The renewal saga by itself.

use composable_rust::CallOutcome;
use composable_rust::prelude::*;
use composable_rust::testing::{Given, given};

use super::terms;
use crate::cards::{CardFailure, CardResponse};
use crate::invoice::InvoiceRejection;
use crate::renewal::RenewalCommand as Command;
use crate::{
    CardRequest, Cards, DAY, Invoice, InvoiceCommand, InvoiceEvent, Money, Renewal,
    RenewalEvent as Event, Subscription, SubscriptionEvent,
};

fn heard(event: SubscriptionEvent) -> Command {
    Command::Subscription(Heard::of(&Subscription::id("1"), event))
}

fn began() -> Event {
    Event::Began { month: 1, terms: terms("visa"), renews_at: Timestamp::EPOCH + 30 * DAY }
}

fn requested(charge: u32, card: &str) -> Event {
    Event::ChargeRequested { charge, card: card.into() }
}

/// A renewal whose first charge is under way, after `events`.
fn charging(events: impl IntoIterator<Item = Event>) -> Given<Renewal> {
    given([began(), requested(1, "visa")].into_iter().chain(events))
}

fn charge(number: u32, card: &str) -> composable_rust::effect::Call<Cards, ()> {
    let (subscription, card) = ("1".to_owned(), card.to_owned());
    call::<Cards>(CardRequest::Charge { subscription, number, card, amount: Money(2_900) })
        .idempotency_key(format!("charge-{number}"))
}

fn refund(number: u32) -> composable_rust::effect::Call<Cards, ()> {
    call::<Cards>(CardRequest::Refund { subscription: "1".into(), number })
        .idempotency_key(format!("refund-{number}"))
}

fn due(days: u32) -> composable_rust::effect::After<Command> {
    after(days * DAY, Command::Due).with_id("due")
}

fn invoice() -> Id<Invoice> {
    Invoice::id_from("1/1")
}

fn done() -> Command {
    Command::Cards(CallOutcome::Done(CardResponse::Done))
}

fn declined() -> Command {
    Command::Cards(CallOutcome::Failed(CardFailure::Declined))
}

#[test]
fn a_month_is_invoiced_and_charged() {
    let issue = InvoiceCommand::Issue { subscription: "1".into(), amount: Money(2_900) };
    let renews = Timestamp::EPOCH + 30 * DAY;
    given::<Renewal>([])
        .when(heard(SubscriptionEvent::Activated(terms("visa"))))
        .then([began(), requested(1, "visa")])
        .reacts(effects![tell(&invoice(), issue.clone()), cancel("due"), charge(1, "visa")])
        .when(done())
        .then([Event::Charged])
        .reacts(effects![dispatch(&invoice(), InvoiceCommand::Pay)])
        .when(Command::Invoice(Reply::Recorded(InvoiceEvent::Paid)))
        .then([Event::Paid])
        .reacts(effects![at(renews, Command::Due).with_id("due")])
        .when(Command::Due)
        .then([
            Event::Began { month: 2, terms: terms("visa"), renews_at: renews + 30 * DAY },
            requested(2, "visa"),
        ])
        .reacts(effects![tell(&Invoice::id_from("1/2"), issue), cancel("due"), charge(2, "visa"),]);
}

#[test]
fn a_declined_charge_is_repeated_after_one_three_and_seven_days() {
    let mut events = vec![];
    for (declines, days) in [(1, 1), (2, 3), (3, 7)] {
        let number = u32::try_from(declines).unwrap() + 1;
        let next = requested(number, "visa");
        charging(events.clone())
            .when(declined())
            .then([Event::Declined { declines }])
            .reacts(effects![due(days)])
            .when(Command::Due)
            .then([next.clone()])
            .reacts(effects![cancel("due"), charge(number, "visa")]);
        events.extend([Event::Declined { declines }, next]);
    }
    charging(events).when(declined()).then([Event::GaveUp]).reacts(effects![]);
}

#[test]
fn a_new_card_is_charged_at_once() {
    charging([Event::Declined { declines: 1 }])
        .when(heard(SubscriptionEvent::CardUpdated(terms("amex"))))
        .then([Event::TermsChanged(terms("amex")), requested(2, "amex")])
        .reacts(effects![cancel("due"), charge(2, "amex")]);
    charging([])
        .when(heard(SubscriptionEvent::CardUpdated(terms("amex"))))
        .then([Event::TermsChanged(terms("amex"))]);
}

#[test]
fn an_unknown_outcome_is_asked_for_with_the_same_key() {
    charging([])
        .when(Command::Cards(CallOutcome::Exhausted))
        .then([Event::Unanswered])
        .reacts(effects![due(1)])
        .when(heard(SubscriptionEvent::CardUpdated(terms("amex"))))
        .then([Event::TermsChanged(terms("amex"))])
        .when(Command::Due)
        .then([requested(1, "visa")])
        .reacts(effects![cancel("due"), charge(1, "visa")]);
}

#[test]
fn a_charge_that_comes_too_late_is_refunded() {
    charging([])
        .when(heard(SubscriptionEvent::Cancelled { win_back: true }))
        .then([Event::Stopped])
        .reacts(effects![tell(&invoice(), InvoiceCommand::Void)])
        .when(done())
        .then([Event::RefundRequested])
        .reacts(effects![cancel("due"), refund(1)])
        .when(Command::Cards(CallOutcome::Exhausted))
        .then([Event::Unanswered])
        .reacts(effects![due(1)])
        .when(Command::Due)
        .then([Event::RefundRequested])
        .reacts(effects![cancel("due"), refund(1)])
        .when(done())
        .then([Event::Refunded])
        .then_finished();
    charging([Event::Unanswered, Event::Stopped])
        .when(Command::Due)
        .then([Event::RefundRequested])
        .reacts(effects![cancel("due"), refund(1)]);
    charging([Event::Stopped]).when(declined()).then([Event::GaveUp]).then_finished();
}

#[test]
fn a_payment_that_the_invoice_rejects_is_refunded() {
    charging([Event::Charged])
        .when(Command::Invoice(Reply::Rejected(InvoiceRejection::Void)))
        .then([Event::RefundRequested])
        .reacts(effects![cancel("due"), refund(1)]);
}

#[test]
fn dunning_ends_with_the_subscription() {
    charging([Event::Declined { declines: 1 }])
        .when(heard(SubscriptionEvent::Cancelled { win_back: false }))
        .then([Event::Stopped])
        .reacts(effects![tell(&invoice(), InvoiceCommand::Void)])
        .then_finished();
}
