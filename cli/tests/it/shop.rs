//! A small app whose first build has bugs.

use std::time::Duration;

use composable_rust::prelude::*;
use composable_rust::saga::{Saga, SagaCommand};
use composable_rust::settings::RetryPolicy;
use composable_rust::store::EventStore;
use composable_rust::{AppBuilder, CallError, CallOutcome, Gateway};
use composable_rust_cli::{Admin, Operator};
use serde::{Deserialize, Serialize};

/// The builds of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    /// Cannot pack parcels without a weight.
    Buggy,
    /// Estimates the weight, except of some.
    Mended,
}

pub(crate) struct Bank;

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum BankMessage {
    Charge { cents: u64 },
    Charged,
    Declined,
}

impl Gateway for Bank {
    const NAME: &'static str = "bank";
    type Request = BankMessage;
    type Response = BankMessage;
    type Failure = BankMessage;

    async fn call(&self, _: BankMessage, _: &str) -> Result<BankMessage, CallError<BankMessage>> {
        Ok(BankMessage::Charged)
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) cents: u64,
    pub(crate) email: String,
    pub(crate) status: Status,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum Status {
    #[default]
    New,
    Placed,
    Paid,
    Cancelled,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum OrderCommand {
    Place {
        cents: u64,
        email: String,
        kilos: u32,
    },
    Cancel,
    #[message(internal)]
    Expire,
    Bank(CallOutcome<Bank>),
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum OrderEvent {
    Placed { cents: u64, email: String, kilos: u32 },
    Paid,
    Cancelled,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum OrderError {
    NotPlaced,
}

impl Aggregate for Order {
    const NAME: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = OrderError;
    type Environment = ();

    fn decide(&self, command: OrderCommand, _: &Context<Self>) -> Decision<Self> {
        match command {
            OrderCommand::Place { cents, email, kilos } => {
                record(OrderEvent::Placed { cents, email, kilos })
            }
            OrderCommand::Cancel if self.status == Status::New => reject(OrderError::NotPlaced),
            OrderCommand::Bank(CallOutcome::Done(_)) => record(OrderEvent::Paid),
            OrderCommand::Cancel | OrderCommand::Expire | OrderCommand::Bank(_) => {
                record(OrderEvent::Cancelled)
            }
        }
    }

    fn apply(&mut self, event: OrderEvent) {
        match event {
            OrderEvent::Placed { cents, email, .. } => {
                *self = Self { cents, email, status: Status::Placed };
            }
            OrderEvent::Paid => self.status = Status::Paid,
            OrderEvent::Cancelled => self.status = Status::Cancelled,
        }
    }

    fn react(&self, event: &OrderEvent, context: &Context<Self>) -> Reactions<OrderCommand> {
        let OrderEvent::Placed { cents, kilos, .. } = event else { return effects![] };
        let parcel = Parcel::id(context.id().as_str());
        effects![
            call::<Bank>(BankMessage::Charge { cents: *cents }),
            tell(&parcel, ParcelCommand::Prepare { kilos: *kilos }),
            after(Duration::from_secs(30 * 86_400), OrderCommand::Expire).with_id("expiry"),
        ]
    }

    fn is_finished(&self) -> bool {
        self.status == Status::Cancelled
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Parcel {
    pub(crate) kilos: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum ParcelCommand {
    Prepare { kilos: u32 },
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum ParcelEvent {
    Prepared { kilos: u32 },
}

impl Aggregate for Parcel {
    const NAME: &'static str = "parcel";
    type Command = ParcelCommand;
    type Event = ParcelEvent;
    type Rejection = std::convert::Infallible;
    type Environment = Build;

    fn decide(&self, command: ParcelCommand, context: &Context<Self>) -> Decision<Self> {
        let (ParcelCommand::Prepare { kilos }, id) = (command, context.id().as_str());
        let can_be_estimated = !id.ends_with("250") && !id.ends_with("750");
        match kilos {
            0 if *context.env() == Build::Buggy => panic!("there is no weight for {id}"),
            0 if can_be_estimated => record(ParcelEvent::Prepared { kilos: 1 }),
            0 => panic!("the weight of {id} cannot be estimated"),
            1..=30 => record(ParcelEvent::Prepared { kilos }),
            _ => panic!("{kilos} kg are too heavy"),
        }
    }

    fn apply(&mut self, event: ParcelEvent) {
        let ParcelEvent::Prepared { kilos } = event;
        self.kilos = Some(kilos);
    }
}

/// The steps of a checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    Prepare,
}

pub(crate) type Checkout = Saga<Step>;

impl LinearSaga for Step {
    const NAME: &'static str = "checkout";
    const STEPS: &'static [Self] = &[Self::Prepare];
    type Input = u32;
    type Partners = (Parcel,);
    type Environment = ();

    fn step(self, kilos: &u32, checkout: &SagaContext<'_, Self>) -> SagaStep<Self> {
        let parcel = Parcel::id(checkout.id().as_str());
        dispatch(&parcel, ParcelCommand::Prepare { kilos: *kilos }).no_undo()
    }
}

/// Returns the app on a store.
pub(crate) fn shop(store: impl EventStore, build: Build) -> AppBuilder {
    App::builder(store)
        .settings(|settings| {
            settings.retry =
                RetryPolicy { max_attempts: 1, initial_backoff: Duration::from_millis(1) };
        })
        .aggregate::<Order>(())
        .aggregate::<Parcel>(build)
        .aggregate::<Checkout>(())
        .gateway(Bank)
}

/// Makes a log with a paused gateway, a stuck saga, armed timers, and dead letters of two causes.
pub(crate) async fn fill(store: impl EventStore) {
    quiet_panics();
    let app = shop(store, Build::Buggy).build().unwrap();
    let ann = Operator::named("ann").because("maintenance of the bank");
    Admin::new(&app, ann).pause_gateway("bank").await.unwrap();
    app.start();
    for (id, kilos) in [("1", 5), ("2", 0), ("3", 0), ("4", 99)] {
        let (cents, email) = (17_498, format!("buyer-{id}@example.com"));
        app.handle(&Order::id(id)).send(OrderCommand::Place { cents, email, kilos }).await.unwrap();
    }
    app.handle(&Checkout::id("c1")).send(SagaCommand::Start(0)).await.unwrap();
    let admin = Admin::new(&app, Operator::named("test"));
    loop {
        let letters = admin
            .dead_letters(&composable_rust_admin::DeadLetterFilter::default(), 10)
            .await
            .unwrap();
        let prepared = app.handle(&Parcel::id("1")).state(|parcel| parcel.kilos).await.unwrap();
        if letters.entries.len() == 4 && prepared.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(app.shutdown(Duration::from_secs(10)).await);
}

/// Leaves the handlers' panics out of the output of tests.
pub(crate) fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let is_of_shop = panic.location().is_some_and(|at| at.file().ends_with("shop.rs"));
            if !is_of_shop {
                usual(panic);
            }
        }));
    });
}
