//! The fake gateway, and the messages of its failures.

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use composable_rust_core::prelude::*;
use composable_rust_core::{CallError, Gateway};
use composable_rust_testing::{FakeAnswer, FakeGateway, MockClock};

use crate::failing::{assert_says, said};

struct Bank;

#[derive(Debug, Clone, PartialEq, Message)]
enum BankRequest {
    Charge { cents: u64 },
    Refund,
}

use BankRequest::{Charge, Refund};

#[derive(Debug, Clone, PartialEq, Message)]
enum BankResponse {
    Charged,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum BankFailure {
    Declined,
}

impl Gateway for Bank {
    const NAME: &'static str = "bank";
    type Request = BankRequest;
    type Response = BankResponse;
    type Failure = BankFailure;

    async fn call(&self, _: BankRequest, _: &str) -> Result<BankResponse, CallError<BankFailure>> {
        unreachable!("the fake takes its place")
    }
}

type Fake = FakeGateway<Bank>;

fn charged() -> FakeAnswer<Bank> {
    FakeAnswer::done(BankResponse::Charged)
}

/// Makes an attempt, and returns what it came to in words.
fn call(bank: &Fake, request: BankRequest, key: &str) -> String {
    match pin!(bank.call(request, key)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => format!("{response:?}"),
        Poll::Ready(Err(CallError::Failed(failure))) => format!("{failure:?}"),
        Poll::Ready(Err(CallError::Retry(error))) => format!("retry: {error}"),
        Poll::Ready(Err(CallError::Unreachable(error))) => format!("unreachable: {error}"),
        Poll::Pending => "pending".to_owned(),
    }
}

#[test]
fn each_attempt_gets_the_next_answer() {
    let bank = Fake::new().answers([
        FakeAnswer::fail("503"),
        FakeAnswer::unreachable("no route"),
        FakeAnswer::hang(),
        charged(),
    ]);
    let answers = ["retry: 503", "unreachable: no route", "pending", "Charged"];
    for answer in answers {
        assert_eq!(call(&bank, Charge { cents: 5 }, "a"), answer);
    }
    bank.push([FakeAnswer::decline(BankFailure::Declined)]);
    assert_eq!(call(&bank, Charge { cents: 5 }, "b"), "Declined");
    assert_eq!(call(&bank, Charge { cents: 5 }, "a"), "Charged", "the key is known");
    assert_eq!(call(&bank, Charge { cents: 5 }, "b"), "Declined", "the key is known");
    assert_eq!(bank.requests(), vec![Charge { cents: 5 }; 7]);
    bank.finish();
}

#[test]
fn answers_of_a_request_come_first() {
    let bank = Fake::new()
        .answers([charged()])
        .answers_to(|request| *request == Refund, [FakeAnswer::decline(BankFailure::Declined)])
        .answers_with(|_| FakeAnswer::unreachable("closed"));
    assert_eq!(call(&bank, Refund, "1"), "Declined");
    assert_eq!(call(&bank, Refund, "2"), "Charged");
    assert_eq!(call(&bank, Refund, "3"), "unreachable: closed");
    bank.finish();
}

#[tokio::test]
async fn an_answer_can_be_late() {
    let clock = MockClock::new();
    let bank = Fake::new().answers([charged().after(Duration::from_secs(3))]);
    bank.use_clock(Arc::new(clock.clone()));
    let called = tokio::spawn({
        let bank = bank.clone();
        async move { bank.call(Refund, "1").await }
    });
    clock.elapse(Duration::from_secs(2)).await;
    assert!(!called.is_finished());
    clock.elapse(Duration::from_secs(1)).await;
    assert_eq!(called.await.unwrap().unwrap(), BankResponse::Charged);
}

#[test]
fn equal_requests_can_be_allowed() {
    let bank = Fake::new().answers_with(|_| FakeAnswer::fail("503")).allow_equal_requests();
    call(&bank, Refund, "1");
    call(&bank, Refund, "2");
    bank.finish();
}

/// Nothing was sent, so asking under another key is harmless.
#[test]
fn an_unreachable_service_is_asked_under_another_key() {
    let bank = Fake::new().answers([FakeAnswer::unreachable("no route"), charged()]);
    call(&bank, Refund, "1");
    call(&bank, Refund, "2");
    bank.finish();
}

#[test]
fn an_unexpected_call() {
    assert_says!("fake_unexpected_call", || {
        let bank = Fake::new();
        call(&bank, Charge { cents: 5 }, "1");
        bank.finish();
    });
}

#[test]
fn a_reused_key() {
    assert_says!("fake_reused_key", || {
        let bank = Fake::new().answers([charged()]);
        call(&bank, Charge { cents: 5 }, "1");
        call(&bank, Refund, "1");
        bank.finish();
    });
}

#[test]
fn a_retry_under_another_key() {
    assert_says!("fake_other_key", || {
        let bank = Fake::new().answers([FakeAnswer::hang(), charged()]);
        call(&bank, Charge { cents: 5 }, "1");
        call(&bank, Charge { cents: 5 }, "2");
        bank.finish();
    });
}

#[test]
fn an_answer_that_is_left() {
    assert_says!("fake_answers_left", || {
        let bank = Fake::new().answers([charged(), FakeAnswer::hang()]);
        call(&bank, Charge { cents: 5 }, "1");
        bank.finish();
    });
    let bank = Fake::new().answers([charged()]).non_exhaustive();
    bank.finish();
}

#[test]
fn a_fake_that_is_dropped_asserts_the_same() {
    assert_says!("fake_dropped", || drop(Fake::new().answers([charged()])));
    let clone = Fake::new().non_exhaustive().answers([charged()]).clone();
    drop(clone);
}

#[test]
fn a_failure_names_the_line_of_finish() {
    let said = said(|| Fake::new().answers([charged()]).finish());
    assert!(said.file.ends_with("fake_gateway.rs"), "{said:?}");
}
