//! A linear saga that calls a gateway and asks an aggregate, and is a step of another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use composable_rust_core::message::MessageKind;
use composable_rust_core::prelude::*;
use composable_rust_core::saga::{Calls, Next, SagaCommand, SagaEvent, Status};
use composable_rust_core::{CallError, Gateway};
use composable_rust_runtime::{App, AppBuilder, NamedCommand};
use composable_rust_testing::{InMemoryEventStore, TokioClock};
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::world::{PATIENCE, started};

/// A bank that responds when the test lets it.
#[derive(Clone)]
struct Bank {
    open: watch::Sender<bool>,
    held: Arc<AtomicI64>,
    refunds: bool,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum BankRequest {
    Move { cents: i64 },
}

#[derive(Debug, Clone, PartialEq, Message)]
enum BankResponse {
    Moved,
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

    async fn call(
        &self,
        BankRequest::Move { cents }: BankRequest,
        _: &str,
    ) -> Result<BankResponse, CallError<BankFailure>> {
        let _ = self.open.subscribe().wait_for(|open| *open).await;
        if cents < 0 && !self.refunds {
            return Err(CallError::Failed(BankFailure::Refused));
        }
        self.held.fetch_add(cents, Ordering::SeqCst);
        Ok(BankResponse::Moved)
    }
}

/// A parcel, which is sent at the second request and never if it is heavy.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Parcel {
    requests: u32,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum ParcelCommand {
    Send { is_heavy: bool },
}

#[derive(Debug, Clone, PartialEq, Message)]
enum ParcelEvent {
    Noted,
    Sent,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum ParcelError {
    TooHeavy,
}

impl Aggregate for Parcel {
    const NAME: &'static str = "parcel";
    type Command = ParcelCommand;
    type Event = ParcelEvent;
    type Rejection = ParcelError;
    type Environment = ();

    fn decide(&self, command: ParcelCommand, _: &Context<Self>) -> Decision<Self> {
        match command {
            ParcelCommand::Send { is_heavy: true } => reject(ParcelError::TooHeavy),
            ParcelCommand::Send { .. } if self.requests == 0 => record(ParcelEvent::Noted),
            ParcelCommand::Send { .. } => record(ParcelEvent::Sent),
        }
    }

    fn apply(&mut self, _: ParcelEvent) {
        self.requests += 1;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Step {
    Charge,
    Pause,
    Send,
}

type Purchase = Saga<Step>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Goods {
    cents: i64,
    is_heavy: bool,
}

impl LinearSaga for Step {
    const NAME: &'static str = "purchase";
    const STEPS: &'static [Self] = &[Self::Charge, Self::Pause, Self::Send];
    type Input = Goods;
    type Partners = (Calls<Bank>, Parcel);
    type Environment = Duration;

    fn step(self, goods: &Goods, purchase: &SagaContext<'_, Self>) -> SagaStep<Self> {
        let Goods { cents, is_heavy } = *goods;
        match self {
            Self::Charge => call::<Bank>(BankRequest::Move { cents })
                .undo(call::<Bank>(BankRequest::Move { cents: -cents })),
            Self::Pause => SagaStep::pause(Duration::from_secs(5)),
            Self::Send => {
                let parcel = Parcel::id(purchase.id().as_str());
                dispatch(&parcel, ParcelCommand::Send { is_heavy })
                    .done_if(|event| *event == ParcelEvent::Sent)
                    .no_undo()
                    .retry(1)
            }
        }
        .within(*purchase.env())
    }
}

/// A saga whose first step is a purchase.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum GiftStep {
    Buy,
    Wrap,
}

impl LinearSaga for GiftStep {
    const NAME: &'static str = "gift";
    const STEPS: &'static [Self] = &[Self::Buy, Self::Wrap];
    type Input = Goods;
    type Partners = (Purchase,);
    type Environment = ();

    fn step(self, goods: &Goods, gift: &SagaContext<'_, Self>) -> SagaStep<Self> {
        let purchase = Purchase::id(gift.id().as_str());
        match self {
            Self::Buy => dispatch(&purchase, SagaCommand::Start(goods.clone()))
                .done_if(|event| event.next() == Next::Completed)
                .refused_if(|event| matches!(event.next(), Next::Compensated | Next::Stuck))
                .no_undo(),
            Self::Wrap => SagaStep::pause(Duration::from_secs(1)),
        }
    }
}

const ID: &str = "1";
const LIGHT: Goods = Goods { cents: 500, is_heavy: false };
const HEAVY: Goods = Goods { cents: 500, is_heavy: true };

fn bank(is_open: bool) -> Bank {
    Bank { open: watch::Sender::new(is_open), held: Arc::default(), refunds: true }
}

fn builder(bank: &Bank) -> AppBuilder {
    let clock = TokioClock::new();
    App::builder(InMemoryEventStore::new().with_clock(clock))
        .clock(clock)
        .aggregate::<Purchase>(Duration::from_secs(1))
        .aggregate::<Parcel>(())
        .gateway(bank.clone())
}

async fn becomes(app: &App, status: &str) {
    let purchase = app.handle(&Purchase::id(ID));
    let is_it = |p: &Purchase| (p.status().to_string() == status).then_some(());
    let found = purchase.wait(is_it, PATIENCE).await;
    let now = purchase.state(Clone::clone).await;
    assert!(found.is_ok(), "{now:?}");
}

async fn undoing(app: &App, step: Step) {
    let purchase = app.handle(&Purchase::id(ID));
    let is_undoing =
        |p: &Purchase| matches!(p.status(), Status::Undoing { step: s, .. } if *s == step);
    purchase.wait(|p| is_undoing(p).then_some(()), PATIENCE).await.unwrap();
}

async fn kinds(app: &App) -> Vec<&'static str> {
    let events: Vec<_> = app.handle(&Purchase::id(ID)).history().try_collect().await.unwrap();
    let kind = |event: SagaEvent<Step>| -> &'static MessageKind { event.kind() };
    events.into_iter().map(|recorded| kind(recorded.event.unwrap()).name).collect()
}

#[tokio::test(start_paused = true)]
async fn a_timeout_then_success_completes() {
    let bank = bank(true);
    let app = started(builder(&bank));
    app.handle(&Purchase::id(ID)).send(SagaCommand::Start(LIGHT)).await.unwrap();
    // A duplicate of the client.
    app.handle(&Purchase::id(ID)).send(SagaCommand::Start(LIGHT)).await.unwrap();
    becomes(&app, "completed").await;
    assert_eq!(bank.held.load(Ordering::SeqCst), 500);
    assert_eq!(
        kinds(&app).await,
        [
            "purchase.started",
            "purchase.done",
            "purchase.done",
            "purchase.timed_out",
            "purchase.done"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_late_capture_is_refunded() {
    let bank = bank(false);
    let app = started(builder(&bank));
    app.handle(&Purchase::id(ID)).send(SagaCommand::Start(LIGHT)).await.unwrap();
    undoing(&app, Step::Charge).await;
    // The charge now succeeds, after the timeout and before the refund.
    bank.open.send_replace(true);
    becomes(&app, "compensated after Charge: timed out").await;
    assert_eq!(bank.held.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_step_undoes_the_charge() {
    let bank = bank(true);
    let app = started(builder(&bank));
    app.handle(&Purchase::id(ID)).send(SagaCommand::Start(HEAVY)).await.unwrap();
    becomes(&app, "compensated after Send: TooHeavy").await;
    assert_eq!(bank.held.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_undoing_ends_stuck() {
    let bank = Bank { refunds: false, ..bank(true) };
    let app = started(builder(&bank));
    app.handle(&Purchase::id(ID)).send(SagaCommand::Start(HEAVY)).await.unwrap();
    becomes(&app, "stuck after Send: TooHeavy; not undone: Charge: Refused").await;
    assert_eq!(bank.held.load(Ordering::SeqCst), 500);
}

#[tokio::test(start_paused = true)]
async fn a_saga_is_a_step_of_another() {
    // The reason is the event with which the purchase ended.
    let refused = "compensated after Buy: Done { task: Undo(Charge), next: Compensated, at: ";
    for (goods, status) in [(LIGHT, "completed"), (HEAVY, refused)] {
        let app = started(builder(&bank(true)).aggregate::<Saga<GiftStep>>(()));
        let gift = app.handle(&Saga::<GiftStep>::id(ID));
        gift.send(SagaCommand::Start(goods)).await.unwrap();
        let finished =
            |gift: &Saga<GiftStep>| gift.is_finished().then(|| gift.status().to_string());
        let ended = gift.wait(finished, PATIENCE).await.unwrap();
        assert!(ended.starts_with(status), "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn operators_read_and_start_it() {
    let app = started(builder(&bank(false)));
    let (registry, stream) = (app.registry(), Purchase::id(ID).stream());
    let start = NamedCommand::new("purchase.start", r#"{"cents":5,"is_heavy":false}"#);
    registry.send(&stream, start).await.unwrap();
    let (state, _) = registry.state(&stream, None).await.unwrap();
    assert!(state.contains(r#""status":{"Doing":{"step":"Charge","since":""#), "{state}");
    let timeout = NamedCommand::new("purchase.timed_out", r#"{"Do":"Charge"}"#);
    let timeout = registry.send(&stream, timeout).await;
    assert!(timeout.is_err(), "{timeout:?}");
}

#[test]
fn an_app_lacks_a_partner() {
    let app = App::builder(InMemoryEventStore::new()).aggregate::<Purchase>(Duration::ZERO);
    let error = app.build().unwrap_err();
    let problems = error.problems().join("\n");
    assert!(problems.contains("`bank`") && problems.contains("`parcel`"), "{problems}");
}
