//! The paths of a payment, whatever its provider does.

use checkout_workflow::{
    Payment, PaymentCommand, PaymentEvent, PaymentProvider, PaymentRejection as No,
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

fn refused(failure: ProviderFailure) -> CallOutcome<PaymentProvider> {
    CallOutcome::Failed(failure)
}

fn asks_for_refund(purpose: Purpose) -> Reactions<PaymentCommand> {
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
        .when(Provider(None, refused(ProviderFailure::Declined)))
        .then([Declined])
        .when(CHARGE)
        .then_repeated(Declined)
        .when(Cancel)
        .then([Cancelled { refunded: 0 }]);
}

#[test]
fn asking_again_charges_nothing_twice() {
    given::<Payment>([PENDING]).when(CHARGE).then_unchanged();
    given::<Payment>([PENDING, CHARGED]).when(CHARGE).then_repeated(CHARGED);
    let no = No::OtherAmount { cents: 500 };
    given::<Payment>([PENDING]).when(Charge { cents: 501 }).then_rejected(no.clone());
    given::<Payment>([PENDING, CHARGED]).when(Charge { cents: 501 }).then_rejected(no);
    given::<Payment>([]).when(Charge { cents: 0 }).then_rejected(No::NoAmount);
}

#[test]
fn a_charge_without_an_answer_is_taken_back_and_has_failed() {
    given::<Payment>([PENDING])
        .when(Provider(None, CallOutcome::Exhausted))
        .then([RefundRequested { purpose: Purpose::Unanswered }])
        .reacts(asks_for_refund(Purpose::Unanswered))
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
fn a_charge_without_an_answer_that_cannot_be_taken_back_went_through() {
    given::<Payment>(refunding(Purpose::Unanswered))
        .when(Provider(Some(Purpose::Unanswered), refused(ProviderFailure::NotRefundable)))
        .then([CHARGED]);
}

#[test]
fn what_was_charged_is_given_back() {
    given::<Payment>([PENDING, CHARGED])
        .when(Cancel)
        .then([RefundRequested { purpose: Purpose::Cancel }])
        .reacts(asks_for_refund(Purpose::Cancel))
        .when(Cancel)
        .then_unchanged()
        .when(CHARGE)
        .then_rejected(No::Cancelled)
        .when(Provider(Some(Purpose::Cancel), moved(500)))
        .then([Cancelled { refunded: 500 }])
        .then_finished()
        .when(Cancel)
        .then_repeated(Cancelled { refunded: 500 })
        .when(CHARGE)
        .then_rejected(No::Cancelled);
}

#[test]
fn what_comes_after_its_cancellation_is_refused() {
    given::<Payment>([])
        .when(Cancel)
        .then([Cancelled { refunded: 0 }])
        .when(CHARGE)
        .then_rejected(No::Cancelled);
}

#[test]
fn a_payment_captured_while_it_is_cancelled_is_given_back() {
    given::<Payment>([PENDING])
        .when(Cancel)
        .then([RefundRequested { purpose: Purpose::Cancel }])
        .reacts(asks_for_refund(Purpose::Cancel))
        // Just as the refund was asked for, the charge went through.
        .when(Provider(None, moved(500)))
        .then_unchanged()
        .when(Provider(Some(Purpose::Cancel), moved(500)))
        .then([Cancelled { refunded: 500 }]);
}

#[test]
fn whatever_becomes_of_a_charge_its_cancellation_covers_it() {
    let answers = [moved(500), refused(ProviderFailure::Refunded), CallOutcome::Exhausted];
    for answer in answers {
        given::<Payment>(refunding(Purpose::Cancel))
            .when(Provider(None, answer.clone()))
            .then_unchanged()
            .when(Provider(Some(Purpose::Cancel), moved(0)))
            .then([Cancelled { refunded: 0 }])
            .when(Provider(None, answer))
            .then_unchanged();
    }
}

#[test]
fn a_cancellation_takes_over_a_refund_that_is_under_way() {
    given::<Payment>(refunding(Purpose::Unanswered))
        .when(Cancel)
        .then([RefundRequested { purpose: Purpose::Cancel }])
        .reacts(asks_for_refund(Purpose::Cancel))
        .when(Provider(Some(Purpose::Unanswered), moved(500)))
        .then_unchanged()
        .when(Provider(Some(Purpose::Cancel), moved(500)))
        .then([Cancelled { refunded: 500 }])
        .when(Provider(Some(Purpose::Cancel), moved(500)))
        .then_unchanged();
}

#[test]
fn a_refused_refund_is_left_to_a_person() {
    given::<Payment>(refunding(Purpose::Cancel))
        .when(Provider(Some(Purpose::Cancel), refused(ProviderFailure::NotRefundable)))
        .then([NotRefunded])
        .when(Cancel)
        .then_repeated(NotRefunded)
        .when(CHARGE)
        .then_rejected(No::Cancelled);
}

#[test]
fn a_refund_without_an_answer_is_asked_for_again() {
    for purpose in [Purpose::Unanswered, Purpose::Cancel] {
        given::<Payment>(refunding(purpose))
            .when(Provider(Some(purpose), CallOutcome::Exhausted))
            .then_unchanged()
            .reacts(asks_for_refund(purpose));
    }
}
