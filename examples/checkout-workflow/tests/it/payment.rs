//! All paths of a payment.

use checkout_workflow::{
    Payment, PaymentCommand, PaymentEvent, PaymentProvider, PaymentRejection as Rejection,
    ProviderFailure, ProviderRequest, ProviderResponse, Purpose,
};
use composable_rust::CallOutcome;
use composable_rust::prelude::*;
use composable_rust::testing::given;

use PaymentCommand::{Cancel, Charge, Provider};
use PaymentEvent::{
    Cancelled, ChargeRequested, Charged, Declined, Failed, NotRefunded, RefundRequested,
};

use crate::support::payment;

const CHARGE: PaymentCommand = Charge { cents: 500 };
const PENDING: PaymentEvent = ChargeRequested { cents: 500 };
const CHARGED: PaymentEvent = Charged { cents: 500 };

fn moved(cents: u64) -> CallOutcome<PaymentProvider> {
    CallOutcome::Done(ProviderResponse::Moved { cents })
}

fn failed(failure: ProviderFailure) -> CallOutcome<PaymentProvider> {
    CallOutcome::Failed(failure)
}

fn requests_refund(purpose: Purpose) -> Reactions<PaymentCommand> {
    let request = ProviderRequest::Refund { payment: payment() };
    effects![call::<PaymentProvider>(request).tag(Some(purpose))]
}

fn refunding(purpose: Purpose) -> [PaymentEvent; 2] {
    [PENDING, RefundRequested { purpose }]
}

#[test]
fn a_payment_is_charged() {
    let request = ProviderRequest::Charge { payment: payment(), cents: 500 };
    given::<Payment>([])
        .when(CHARGE)
        .then([PENDING])
        .reacts(effects![call::<PaymentProvider>(request).tag(None)])
        .when(Provider(None, moved(500)))
        .then([CHARGED]);
}

#[test]
fn a_payment_is_declined() {
    given::<Payment>([PENDING])
        .when(Provider(None, failed(ProviderFailure::Declined)))
        .then([Declined])
        .when(CHARGE)
        .then_repeated(Declined)
        .when(Cancel)
        .then([Cancelled { refunded: 0 }]);
}

#[test]
fn a_repeated_charge_charges_once() {
    given::<Payment>([PENDING]).when(CHARGE).then_unchanged();
    given::<Payment>([PENDING, CHARGED]).when(CHARGE).then_repeated(CHARGED);
    let rejection = Rejection::OtherAmount { cents: 500 };
    given::<Payment>([PENDING]).when(Charge { cents: 501 }).then_rejected(rejection.clone());
    given::<Payment>([PENDING, CHARGED]).when(Charge { cents: 501 }).then_rejected(rejection);
    given::<Payment>([]).when(Charge { cents: 0 }).then_rejected(Rejection::NoAmount);
}

#[test]
fn an_unanswered_charge_is_refunded_and_fails() {
    given::<Payment>([PENDING])
        .when(Provider(None, CallOutcome::Exhausted))
        .then([RefundRequested { purpose: Purpose::Unanswered }])
        .reacts(requests_refund(Purpose::Unanswered))
        .when(CHARGE)
        .then_unchanged()
        .when(Provider(Some(Purpose::Unanswered), moved(500)))
        .then([Failed])
        .when(CHARGE)
        .then_repeated(Failed)
        .when(Cancel)
        .then([Cancelled { refunded: 0 }]);
}

#[test]
fn an_unanswered_charge_that_cannot_be_refunded_succeeds() {
    given::<Payment>(refunding(Purpose::Unanswered))
        .when(Provider(Some(Purpose::Unanswered), failed(ProviderFailure::NotRefundable)))
        .then([CHARGED]);
}

#[test]
fn a_cancelled_payment_is_refunded() {
    given::<Payment>([PENDING, CHARGED])
        .when(Cancel)
        .then([RefundRequested { purpose: Purpose::Cancel }])
        .reacts(requests_refund(Purpose::Cancel))
        .when(Cancel)
        .then_unchanged()
        .when(CHARGE)
        .then_rejected(Rejection::Cancelled)
        .when(Provider(Some(Purpose::Cancel), moved(500)))
        .then([Cancelled { refunded: 500 }])
        .then_finished()
        .when(Cancel)
        .then_repeated(Cancelled { refunded: 500 })
        .when(CHARGE)
        .then_rejected(Rejection::Cancelled);
}

#[test]
fn a_cancelled_payment_rejects_a_charge() {
    given::<Payment>([])
        .when(Cancel)
        .then([Cancelled { refunded: 0 }])
        .when(CHARGE)
        .then_rejected(Rejection::Cancelled);
}

#[test]
fn a_charge_that_succeeds_during_its_cancellation_is_refunded() {
    given::<Payment>([PENDING])
        .when(Cancel)
        .then([RefundRequested { purpose: Purpose::Cancel }])
        .reacts(requests_refund(Purpose::Cancel))
        // The charge succeeds after the refund was requested.
        .when(Provider(None, moved(500)))
        .then_unchanged()
        .when(Provider(Some(Purpose::Cancel), moved(500)))
        .then([Cancelled { refunded: 500 }]);
}

#[test]
fn a_cancellation_covers_every_outcome_of_a_charge() {
    let outcomes = [moved(500), failed(ProviderFailure::Refunded), CallOutcome::Exhausted];
    for outcome in outcomes {
        given::<Payment>(refunding(Purpose::Cancel))
            .when(Provider(None, outcome.clone()))
            .then_unchanged()
            .when(Provider(Some(Purpose::Cancel), moved(0)))
            .then([Cancelled { refunded: 0 }])
            .when(Provider(None, outcome))
            .then_unchanged();
    }
}

#[test]
fn a_cancellation_replaces_a_refund_in_progress() {
    given::<Payment>(refunding(Purpose::Unanswered))
        .when(Cancel)
        .then([RefundRequested { purpose: Purpose::Cancel }])
        .reacts(requests_refund(Purpose::Cancel))
        .when(Provider(Some(Purpose::Unanswered), moved(500)))
        .then_unchanged()
        .when(Provider(Some(Purpose::Cancel), moved(500)))
        .then([Cancelled { refunded: 500 }])
        .when(Provider(Some(Purpose::Cancel), moved(500)))
        .then_unchanged();
}

#[test]
fn a_refused_refund_ends_the_payment() {
    given::<Payment>(refunding(Purpose::Cancel))
        .when(Provider(Some(Purpose::Cancel), failed(ProviderFailure::NotRefundable)))
        .then([NotRefunded])
        .when(Cancel)
        .then_repeated(NotRefunded)
        .when(CHARGE)
        .then_rejected(Rejection::Cancelled);
}

#[test]
fn an_unanswered_refund_is_repeated() {
    for purpose in [Purpose::Unanswered, Purpose::Cancel] {
        given::<Payment>(refunding(purpose))
            .when(Provider(Some(purpose), CallOutcome::Exhausted))
            .then_unchanged()
            .reacts(requests_refund(purpose));
    }
}
