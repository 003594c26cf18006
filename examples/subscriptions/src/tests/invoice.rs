//! The invoice by itself.

use composable_rust::testing::given;

use crate::invoice::InvoiceRejection;
use crate::{Invoice, InvoiceCommand as Command, InvoiceEvent as Event, Money};

fn issued() -> Event {
    Event::Issued { subscription: "s".into(), amount: Money(900) }
}

#[test]
fn an_invoice_is_paid_once() {
    let issue = Command::Issue { subscription: "s".into(), amount: Money(900) };
    given::<Invoice>([])
        .when(issue.clone())
        .then([issued()])
        .when(issue)
        .then_unchanged()
        .when(Command::Pay)
        .then([Event::Paid])
        .when(Command::Pay)
        .then_repeated(Event::Paid)
        .when(Command::Void)
        .then_rejected(InvoiceRejection::Paid);
}

#[test]
fn a_void_invoice_takes_no_payment() {
    given::<Invoice>([issued()])
        .when(Command::Void)
        .then([Event::Voided])
        .when(Command::Void)
        .then_unchanged()
        .when(Command::Pay)
        .then_rejected(InvoiceRejection::Void);
    given::<Invoice>([]).when(Command::Pay).then_rejected(InvoiceRejection::Unknown);
}
