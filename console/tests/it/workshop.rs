//! A service with bugs: orders whose parcels are weighed and whose prices a bank charges.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use composable_rust_core::prelude::*;
use composable_rust_core::{
    CallError, CallOutcome, Gateway, Projection, ProjectionError, Recorded, StreamId,
};
use composable_rust_runtime::App;
use composable_rust_runtime::settings::{CircuitBreakerSettings, RetryPolicy};
use composable_rust_testing::{
    InMemoryEventBus, InMemoryEventStore, InMemoryReadModel, TokioClock,
};
use serde::{Deserialize, Serialize};

/// The parts that are broken at the moment; none at first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// The bank answers nothing.
    pub(crate) bank: Arc<AtomicBool>,
    /// The projection cannot read the weight 66.
    pub(crate) weights: Arc<AtomicBool>,
    /// Parcels without a weight cannot be prepared.
    pub(crate) parcels: Arc<AtomicBool>,
}

#[derive(Debug)]
pub(crate) struct Bank(Faults);

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum BankMessage {
    Charge { cents: u64 },
    Charged,
}

impl Gateway for Bank {
    const NAME: &'static str = "bank";
    type Request = BankMessage;
    type Response = BankMessage;
    type Failure = BankMessage;

    async fn call(&self, _: BankMessage, _: &str) -> Result<BankMessage, CallError<BankMessage>> {
        if self.0.bank.load(Ordering::SeqCst) {
            return Err(CallError::Retry("503 Service Unavailable".into()));
        }
        Ok(BankMessage::Charged)
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) status: String,
    pub(crate) note: String,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum OrderCommand {
    Place { cents: u64, kilos: u32 },
    Bank(CallOutcome<Bank>),
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum OrderEvent {
    Placed { cents: u64, kilos: u32 },
    Noted { note: String },
    Paid,
    Unpaid,
}

impl Aggregate for Order {
    const NAME: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = std::convert::Infallible;
    type Environment = ();

    fn decide(&self, command: OrderCommand, _: &Context<Self>) -> Decision<Self> {
        match command {
            OrderCommand::Place { cents, kilos } => record(OrderEvent::Placed { cents, kilos }),
            OrderCommand::Bank(CallOutcome::Done(_)) => record(OrderEvent::Paid),
            OrderCommand::Bank(_) => record(OrderEvent::Unpaid),
        }
    }

    fn apply(&mut self, event: OrderEvent) {
        match event {
            OrderEvent::Placed { .. } => "placed".clone_into(&mut self.status),
            OrderEvent::Noted { note } => {
                assert!(note.len() < 100, "a note of {} bytes", note.len());
                self.note = note;
            }
            OrderEvent::Paid => "paid".clone_into(&mut self.status),
            OrderEvent::Unpaid => "unpaid".clone_into(&mut self.status),
        }
    }

    fn react(&self, event: &OrderEvent, context: &Context<Self>) -> Reactions<OrderCommand> {
        let OrderEvent::Placed { cents, kilos } = event else { return effects![] };
        let parcel = Parcel::id(context.id().as_str());
        let prepare = tell(&parcel, ParcelCommand::Prepare { kilos: *kilos });
        match cents {
            0 => effects![prepare],
            cents => effects![prepare, call::<Bank>(BankMessage::Charge { cents: *cents })],
        }
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Parcel {
    pub(crate) kilos: u32,
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
    type Environment = Faults;

    fn decide(&self, command: ParcelCommand, context: &Context<Self>) -> Decision<Self> {
        let (ParcelCommand::Prepare { kilos }, id) = (command, context.id().as_str());
        let is_odd = id.ends_with("250") || id.ends_with("750");
        assert!(kilos > 0 || !context.env().parcels.load(Ordering::SeqCst), "{id} has no weight");
        assert!(kilos > 0 || !is_odd, "the weight of {id} cannot be estimated");
        record(ParcelEvent::Prepared { kilos: kilos.max(1) })
    }

    fn apply(&mut self, event: ParcelEvent) {
        let ParcelEvent::Prepared { kilos } = event;
        self.kilos = kilos;
    }
}

pub(crate) type Weights = BTreeMap<String, u32>;

/// The weights of all parcels.
struct Weigh(Faults);

impl Projection for Weigh {
    const NAME: &'static str = "weights";
    type Events = Parcel;
    type Connection = Weights;

    async fn project(
        &self,
        recorded: &Recorded<ParcelEvent>,
        weights: &mut Weights,
    ) -> Result<(), ProjectionError> {
        let ParcelEvent::Prepared { kilos } = recorded.event;
        if kilos == 66 && self.0.weights.load(Ordering::SeqCst) {
            return Err("66 is not a weight".into());
        }
        weights.insert(recorded.stream.to_string(), kilos);
        Ok(())
    }

    async fn clear(&self, weights: &mut Weights) -> Result<(), ProjectionError> {
        weights.clear();
        Ok(())
    }

    async fn erase(&self, of: &StreamId, weights: &mut Weights) -> Result<(), ProjectionError> {
        weights.remove(of.as_str());
        Ok(())
    }
}

/// Starts the service on an empty store, by a clock that follows Tokio's.
pub(crate) fn workshop(faults: &Faults) -> (App, InMemoryReadModel<Weights>) {
    quiet_panics();
    let clock = TokioClock::at(SystemTime::now().into());
    let model = InMemoryReadModel::new(Weights::new());
    let app = App::builder(InMemoryEventStore::new().with_clock(clock))
        .clock(clock)
        .settings(|settings| {
            settings.retry =
                RetryPolicy { max_attempts: 1, initial_backoff: Duration::from_millis(1) };
        })
        .aggregate::<Order>(())
        .aggregate::<Parcel>(faults.clone())
        .gateway_with(Bank(faults.clone()), |settings| {
            settings.retry.max_attempts = 10;
            settings.circuit_breaker = CircuitBreakerSettings {
                window: 3,
                open_duration: Duration::from_secs(60),
                ..CircuitBreakerSettings::default()
            };
        })
        .projection(Weigh(faults.clone()), model.clone())
        .build()
        .unwrap();
    app.start();
    (app, model)
}

/// Starts a service of orders alone, which sends the commands of parcels over a bus.
pub(crate) fn orders(bus: &InMemoryEventBus, clock: TokioClock) -> App {
    let app = App::builder(InMemoryEventStore::new().with_clock(clock)).clock(clock);
    let app = app.event_bus(bus.clone()).aggregate::<Order>(()).remote::<Parcel>();
    let app = app.gateway(Bank(Faults::default())).build().unwrap();
    app.start();
    app
}

/// Starts the service of parcels on its store.
pub(crate) fn parcels(
    bus: &InMemoryEventBus,
    clock: TokioClock,
    store: &InMemoryEventStore,
) -> App {
    let app = App::builder(store.clone()).clock(clock).event_bus(bus.clone());
    let app = app.aggregate::<Parcel>(Faults::default()).serve::<Parcel>().build().unwrap();
    app.start();
    app
}

/// Leaves the panics of this service out of the output of tests.
fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let is_of_service =
                panic.location().is_some_and(|at| at.file().ends_with("workshop.rs"));
            if !is_of_service {
                usual(panic);
            }
        }));
    });
}
