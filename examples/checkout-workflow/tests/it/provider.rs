//! The simulated provider and its ledger.

use checkout_workflow::{
    Entry, EntryKind, Ledger, Payment, PaymentProvider, ProviderFailure, ProviderRequest,
    ProviderResponse, Rates,
};
use composable_rust::prelude::*;
use composable_rust::{CallError, Gateway as _};
use futures_util::FutureExt as _;

type Outcome = Result<ProviderResponse, CallError<ProviderFailure>>;

fn provider(rates: Rates) -> PaymentProvider {
    PaymentProvider { ledger: Ledger::in_memory(), rates, seed: 7 }
}

/// Charges 500 cents. Returns `None` if the provider hangs.
fn charge(provider: &PaymentProvider, payment: &Id<Payment>, key: &str) -> Option<Outcome> {
    let request = ProviderRequest::Charge { payment: payment.clone(), cents: 500 };
    provider.call(request, key).now_or_never()
}

fn refund(provider: &PaymentProvider, payment: &Id<Payment>, key: &str) -> Outcome {
    let request = ProviderRequest::Refund { payment: payment.clone() };
    provider.call(request, key).now_or_never().expect("refunds never hang")
}

fn payments() -> impl Iterator<Item = Id<Payment>> {
    (0..2_000).map(|n| Payment::id(n.to_string()))
}

fn moved(outcome: &Outcome) -> Option<u64> {
    let ProviderResponse::Moved { cents } = outcome.as_ref().ok()?;
    Some(*cents)
}

#[test]
fn a_payment_is_charged_and_refunded_once() {
    let provider = provider(Rates::default());
    let payment = Payment::id("1");
    for _ in 0..2 {
        assert_eq!(moved(&charge(&provider, &payment, "a").unwrap()), Some(500));
    }
    for key in ["b", "b", "c"] {
        assert_eq!(moved(&refund(&provider, &payment, key)), Some(500));
    }
    let entry = |key: &str, kind| {
        let (key, payment) = (key.to_owned(), payment.clone());
        Entry { key, payment, kind, cents: 500 }
    };
    let entries = [entry("a", EntryKind::Capture), entry("b", EntryKind::Refund)];
    assert_eq!(provider.ledger.entries().unwrap(), entries);
}

#[test]
fn another_key_is_another_charge() {
    let provider = provider(Rates::default());
    let payment = Payment::id("1");
    charge(&provider, &payment, "a").unwrap().unwrap();
    charge(&provider, &payment, "b").unwrap().unwrap();
    assert_eq!(provider.ledger.balance(&payment).unwrap(), 1_000);
}

#[test]
fn a_refunded_payment_is_never_charged() {
    let provider = provider(Rates::default());
    let payment = Payment::id("1");
    assert_eq!(moved(&refund(&provider, &payment, "b")), Some(0));
    let late = charge(&provider, &payment, "a").unwrap();
    assert!(matches!(late, Err(CallError::Failed(ProviderFailure::Refunded))));
    assert_eq!(provider.ledger.balance(&payment).unwrap(), 0);
}

#[test]
fn payments_fail_at_the_given_rates() {
    let provider = provider(Rates { declines: 10, hangs: 5, failures: 5, refund_refusals: 0 });
    let mut counts = [0; 4];
    for payment in payments() {
        let outcome = |outcome| match outcome {
            Some(Ok(_)) => 0,
            Some(Err(CallError::Failed(ProviderFailure::Declined))) => 1,
            None => 2,
            Some(Err(CallError::Retry(_))) => 3,
            other => panic!("{other:?}"),
        };
        let first = outcome(charge(&provider, &payment, payment.as_str()));
        assert_eq!(outcome(charge(&provider, &payment, payment.as_str())), first);
        counts[first] += 1;
    }
    let near = |count: u32, percent: u32| count.abs_diff(percent * 20) <= 40;
    assert!(near(counts[0], 80) && near(counts[1], 10), "{counts:?}");
    assert!(near(counts[2], 5) && near(counts[3], 5), "{counts:?}");
}

#[test]
fn half_of_the_unanswered_payments_are_charged() {
    for rates in
        [Rates { hangs: 100, ..Rates::default() }, Rates { failures: 100, ..Rates::default() }]
    {
        let provider = provider(rates);
        let mut charged = 0;
        for payment in payments() {
            let _ = charge(&provider, &payment, payment.as_str());
            let balance = provider.ledger.balance(&payment).unwrap();
            charged += u32::from(balance == 500);
            // A refund leaves nothing in both cases.
            assert_eq!(
                moved(&refund(&provider, &payment, &format!("{payment} back"))),
                Some(balance)
            );
            assert_eq!(provider.ledger.balance(&payment).unwrap(), 0);
        }
        assert!((900..1_100).contains(&charged), "{charged}");
    }
}

#[test]
fn a_refund_can_be_refused() {
    let provider = provider(Rates { refund_refusals: 100, ..Rates::default() });
    let (paid, unpaid) = (Payment::id("1"), Payment::id("2"));
    charge(&provider, &paid, "a").unwrap().unwrap();
    let refused = refund(&provider, &paid, "b");
    assert!(matches!(refused, Err(CallError::Failed(ProviderFailure::NotRefundable))));
    assert_eq!(moved(&refund(&provider, &unpaid, "c")), Some(0));
}
