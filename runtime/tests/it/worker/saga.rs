//! A saga with a timeout and a compensation, which late messages must not confuse.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use composable_rust_core::prelude::*;
use composable_rust_core::{CallError, CallOutcome, Gateway};
use composable_rust_runtime::{App, AppBuilder};
use composable_rust_testing::{InMemoryEventStore, TokioClock};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::world::{PATIENCE, eventually, started};

/// A bank that responds when the test lets it.
#[derive(Clone)]
struct Bank {
    open: watch::Sender<bool>,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum BankRequest {
    Charge,
    Refund,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum BankResponse {
    Done,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum BankFailure {
    Refused,
}

impl Gateway for Bank {
    const NAME: &'static str = "bank";
    type Request = BankRequest;
    type Response = BankResponse;
    type Failure = BankFailure;

    async fn call(&self, _: BankRequest, _: &str) -> Result<BankResponse, CallError<BankFailure>> {
        let _ = self.open.subscribe().wait_for(|open| *open).await;
        Ok(BankResponse::Done)
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Pay {
    held: i64,
    cancelled: bool,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum PayCommand {
    Charge,
    Refund,
    Bank(bool, CallOutcome<Bank>),
}

#[derive(Debug, Clone, PartialEq, Message)]
enum PayEvent {
    Requested,
    Charged,
    RefundRequested,
    Refunded,
}

/// The fault of the payments.
#[derive(Debug, Clone, Default)]
struct AtPay {
    no_refunds: bool,
    /// Charges cannot be handled.
    stuck: Arc<AtomicBool>,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum PayError {
    Cancelled,
    NotRefunded,
}

impl Aggregate for Pay {
    const NAME: &'static str = "pay";
    type Command = PayCommand;
    type Event = PayEvent;
    type Rejection = PayError;
    type Environment = AtPay;

    fn decide(&self, command: PayCommand, ctx: &Context<Self>) -> Decision<Self> {
        match command {
            PayCommand::Charge if ctx.env().stuck.load(Ordering::SeqCst) => panic!("stuck"),
            PayCommand::Charge if self.cancelled => reject(PayError::Cancelled),
            PayCommand::Charge => record(PayEvent::Requested),
            PayCommand::Refund if ctx.env().no_refunds => reject(PayError::NotRefunded),
            PayCommand::Refund => record(PayEvent::RefundRequested),
            PayCommand::Bank(true, _) => record(PayEvent::Charged),
            PayCommand::Bank(false, _) => record(PayEvent::Refunded),
        }
    }

    fn apply(&mut self, event: PayEvent) {
        match event {
            PayEvent::Requested => {}
            PayEvent::Charged => self.held += 1,
            PayEvent::RefundRequested => self.cancelled = true,
            PayEvent::Refunded => self.held -= 1,
        }
    }

    fn react(&self, event: &PayEvent, _: &Context<Self>) -> Reactions<PayCommand> {
        match event {
            PayEvent::Requested => effects![call::<Bank>(BankRequest::Charge).tag(true)],
            PayEvent::RefundRequested => effects![call::<Bank>(BankRequest::Refund).tag(false)],
            _ => effects![],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
enum Status {
    #[default]
    New,
    Charging(u32),
    Refunding,
    Paid,
    Compensated,
    Stuck,
    /// Both attempts were declined.
    Refused,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Purchase {
    status: Status,
    /// Outcomes that arrived too late.
    late: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Task {
    Charge(u32),
    Refund,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum PurchaseCommand {
    Start,
    #[message(internal)]
    TimedOut(u32),
    Pay(Task, Reply<Pay>),
}

#[derive(Debug, Clone, PartialEq, Message)]
enum PurchaseEvent {
    Became(Status),
    Late(String),
}

use PurchaseCommand as In;
use PurchaseEvent::{Became, Late};
use Status::{Charging, Compensated, New, Paid, Refunding, Refused, Stuck};

/// The timeout, and the number of attempts before the charge is refunded.
type Patience = (Duration, u32);

impl Aggregate for Purchase {
    const NAME: &'static str = "purchase";
    type Command = PurchaseCommand;
    type Event = PurchaseEvent;
    type Rejection = std::convert::Infallible;
    type Environment = Patience;

    fn decide(&self, command: In, ctx: &Context<Self>) -> Decision<Self> {
        match (self.status, command) {
            (New, In::Start) => record(Became(Charging(1))),
            (Charging(n), In::TimedOut(of)) if n == of => {
                let last = n == ctx.env().1;
                record(Became(if last { Refunding } else { Charging(n + 1) }))
            }
            (Charging(n), In::Pay(Task::Charge(of), reply)) if n == of => match reply {
                Reply::Recorded(PayEvent::Charged) => record(Became(Paid)),
                Reply::Rejected(_) | Reply::Undelivered => record(Became(Refused)),
                _ => unchanged(),
            },
            (Refunding, In::Pay(Task::Refund, reply)) => match reply {
                Reply::Recorded(PayEvent::Refunded) => record(Became(Compensated)),
                Reply::Rejected(_) | Reply::Undelivered => record(Became(Stuck)),
                _ => unchanged(),
            },
            (_, late) => record(Late(format!("{late:?}"))),
        }
    }

    fn apply(&mut self, event: PurchaseEvent) {
        match event {
            Became(status) => self.status = status,
            Late(text) => self.late.push(text),
        }
    }

    fn react(&self, event: &PurchaseEvent, ctx: &Context<Self>) -> Reactions<In> {
        let pay = |n: u32| Pay::id(format!("{}-{n}", ctx.id()));
        match event {
            Became(Charging(n)) => effects![
                dispatch(&pay(*n), PayCommand::Charge).tag(Task::Charge(*n)),
                after(ctx.env().0, In::TimedOut(*n)).with_id("timeout"),
            ],
            Became(Refunding) => {
                effects![dispatch(&pay(1), PayCommand::Refund).tag(Task::Refund)]
            }
            _ => effects![],
        }
    }
}

const ID: &str = "1";

fn builder(bank: &Bank, patience: Patience, at_pay: AtPay) -> AppBuilder {
    let clock = TokioClock::new();
    App::builder(InMemoryEventStore::new().with_clock(clock))
        .clock(clock)
        .aggregate::<Purchase>(patience)
        .aggregate::<Pay>(at_pay)
        .gateway(bank.clone())
}

fn bank() -> Bank {
    Bank { open: watch::Sender::new(false) }
}

async fn becomes(app: &App, status: Status) {
    let purchase = app.handle(&Purchase::id(ID));
    let found = purchase.wait(|p| (p.status == status).then_some(()), PATIENCE).await;
    let now = purchase.state(Clone::clone).await;
    assert!(found.is_ok(), "{now:?}");
}

async fn held(app: &App) -> i64 {
    app.handle(&Pay::id("1-1")).state(|pay| pay.held).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_payment_captured_as_its_timeout_fires_is_refunded() {
    let bank = bank();
    let app = started(builder(&bank, (Duration::from_secs(1), 1), AtPay::default()));
    app.handle(&Purchase::id(ID)).send(In::Start).await.unwrap();
    becomes(&app, Refunding).await;
    // The charge now succeeds, after the timeout and before the refund.
    bank.open.send_replace(true);
    becomes(&app, Compensated).await;
    assert_eq!(held(&app).await, 0);
    eventually("the late charge", async || {
        let late = app.handle(&Purchase::id(ID)).state(|p| p.late.clone()).await.unwrap();
        late.iter().any(|text| text.contains("Charge(1)") && text.contains("Charged"))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_rejected_refund_is_reported() {
    let bank = bank();
    let at_pay = AtPay { no_refunds: true, ..AtPay::default() };
    let app = started(builder(&bank, (Duration::from_secs(1), 1), at_pay));
    app.handle(&Purchase::id(ID)).send(In::Start).await.unwrap();
    becomes(&app, Stuck).await;
}

/// The second attempt is pending when the first is declined after all.
#[tokio::test(start_paused = true)]
async fn a_late_decline_of_attempt_one_leaves_attempt_two_alone() {
    let bank = bank();
    let stuck = Arc::new(AtomicBool::new(true));
    let at_pay = AtPay { no_refunds: false, stuck: Arc::clone(&stuck) };
    let app = started(builder(&bank, (Duration::from_secs(5), 2), at_pay));
    // The first payment will be declined, but cannot be handled until later.
    app.handle(&Pay::id("1-1")).send(PayCommand::Refund).await.unwrap();
    app.handle(&Purchase::id(ID)).send(In::Start).await.unwrap();
    becomes(&app, Charging(2)).await;
    stuck.store(false, Ordering::SeqCst);
    eventually("the late refusal", async || {
        let late = app.handle(&Purchase::id(ID)).state(|p| p.late.clone()).await.unwrap();
        late.iter().any(|text| text.contains("Charge(1)") && text.contains("Rejected"))
    })
    .await;
    becomes(&app, Charging(2)).await;
    bank.open.send_replace(true);
    becomes(&app, Paid).await;
}
