//! A saga with every kind of step, and its execution one command at a time.

use std::time::Duration;

use composable_rust_core::message::Incoming;
use composable_rust_core::prelude::*;
use composable_rust_core::saga::{Calls, Next, SagaCommand, SagaEvent, Task};
use composable_rust_core::{
    CallError, CallOutcome, CorrelationId, Gateway, MessageId, Metadata, Version,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A flight, which is booked elsewhere.
#[derive(Debug)]
pub(crate) struct Flight;

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum FlightCommand {
    Book { seats: u8 },
    Cancel,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum FlightEvent {
    Requested,
    Booked,
    SoldOut,
    Cancelled,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum FlightError {
    Departed,
}

impl Target for Flight {
    const NAME: &'static str = "flight";
    type Command = FlightCommand;
    type Event = FlightEvent;
    type Rejection = FlightError;
}

/// A bank, which is called directly.
#[derive(Debug)]
pub(crate) struct Bank;

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum BankRequest {
    Charge,
    Refund,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum BankResponse {
    Moved { cents: u32 },
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum BankFailure {
    Declined,
}

impl Gateway for Bank {
    const NAME: &'static str = "bank";
    type Request = BankRequest;
    type Response = BankResponse;
    type Failure = BankFailure;

    async fn call(&self, _: BankRequest, _: &str) -> Result<BankResponse, CallError<BankFailure>> {
        Ok(BankResponse::Moved { cents: 1 })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// Booked with retries.
    Flight,
    /// Left out without luggage.
    Luggage,
    Charge,
    Pause,
    /// Needs no undo, and has no time limit.
    Letter,
    /// The last step; detached.
    Seat,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Booking {
    pub(crate) seats: u8,
    pub(crate) luggage: bool,
}

pub(crate) type Trip = Saga<Step>;
pub(crate) type TripCommand = SagaCommand<Step>;
pub(crate) type TripEvent = SagaEvent<Step>;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

impl LinearSaga for Step {
    const NAME: &'static str = "trip";
    const STEPS: &'static [Self] =
        &[Self::Flight, Self::Luggage, Self::Charge, Self::Pause, Self::Letter, Self::Seat];
    type Input = Booking;
    type Partners = (Flight, Calls<Bank>);
    type Environment = Duration;

    fn step(self, booking: &Booking, trip: &SagaContext<'_, Self>) -> SagaStep<Self> {
        let seats = booking.seats;
        let cancel = dispatch(&flight(), FlightCommand::Cancel);
        let limit = *trip.env();
        match self {
            Self::Flight => dispatch(&flight(), FlightCommand::Book { seats })
                .done_if(|event| matches!(event, FlightEvent::Booked))
                .refused_if(|event| matches!(event, FlightEvent::SoldOut))
                .undo(cancel)
                .retry(2)
                .within(limit),
            Self::Luggage if !booking.luggage => SagaStep::skip(),
            Self::Luggage => dispatch(&flight(), FlightCommand::Book { seats: 0 })
                .refused_if(|event| *event == FlightEvent::SoldOut)
                .undo(cancel)
                .within(limit),
            Self::Charge => call::<Bank>(BankRequest::Charge)
                .undo(call::<Bank>(BankRequest::Refund).idempotency_key("refund"))
                .within(limit),
            Self::Pause => SagaStep::pause(HOUR).within(limit),
            Self::Letter => dispatch(&flight(), FlightCommand::Book { seats }).no_undo(),
            Self::Seat => dispatch(&flight(), FlightCommand::Book { seats })
                .detached()
                .undo(cancel.detached())
                .within(limit),
        }
    }
}

pub(crate) fn flight() -> Id<Flight> {
    Flight::id("LH 1")
}

pub(crate) fn noon() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

pub(crate) fn booking() -> Booking {
    Booking { seats: 2, luggage: false }
}

pub(crate) fn of_flight(task: Task<Step>, event: FlightEvent) -> TripCommand {
    TripCommand::reply::<Flight>(task, Reply::Recorded(event))
}

pub(crate) fn of_bank(task: Task<Step>, outcome: CallOutcome<Bank>) -> TripCommand {
    TripCommand::outcome(task, outcome)
}

pub(crate) fn moved() -> CallOutcome<Bank> {
    CallOutcome::Done(BankResponse::Moved { cents: 5 })
}

/// A saga that handles one command at a time.
#[derive(Debug, Clone)]
pub(crate) struct Run<S: LinearSaga> {
    pub(crate) state: Saga<S>,
    env: S::Environment,
}

impl<S: LinearSaga> Run<S> {
    pub(crate) fn new(env: S::Environment) -> Self {
        Self { state: Saga::default(), env }
    }

    /// Handles `command`, and returns what it set in motion; `None` if it changed nothing.
    pub(crate) fn send(&mut self, command: SagaCommand<S>) -> Option<Reactions<SagaCommand<S>>> {
        let id = Saga::<S>::id("1");
        let metadata = Metadata {
            correlation_id: CorrelationId(Uuid::nil()),
            causation_id: Uuid::nil(),
            user: None,
            user_from: None,
            traceparent: None,
            return_addresses: Vec::new(),
            reply: None,
            follower: None,
        };
        let incoming = Incoming { message_id: MessageId(Uuid::nil()), metadata, now: noon() };
        let ctx = Context::new(Uuid::nil(), &id, Version::ZERO, &incoming, &self.env);
        let outcome = self.state.decide(command, &ctx).unwrap();
        let event = outcome.events.into_iter().next()?;
        self.state.apply(event.clone());
        Some(self.state.react(&event, &ctx))
    }

    /// Asserts the next task, after `command` was handled and set in motion `expected`.
    #[track_caller]
    pub(crate) fn leads(
        &mut self,
        command: SagaCommand<S>,
        task: Task<S>,
        expected: Reactions<SagaCommand<S>>,
    ) -> &mut Self {
        assert_eq!(self.send(command), Some(expected));
        assert_eq!(self.state.status().task(), Some(task));
        self
    }

    #[track_caller]
    pub(crate) fn ignores(&mut self, command: SagaCommand<S>) -> &mut Self {
        let before = self.state.clone();
        assert_eq!(self.send(command), None);
        assert_eq!(self.state, before);
        self
    }

    /// Asserts that `command` ends the saga in a status with this text.
    #[track_caller]
    pub(crate) fn ends(&mut self, command: SagaCommand<S>, status: &str) -> &mut Self {
        assert_eq!(self.send(command), Some(Reactions::none()));
        assert_eq!(self.state.status().to_string(), status);
        assert!(self.state.is_finished());
        self
    }
}

/// Returns a trip that waits for `step`.
pub(crate) fn doing(step: Step) -> Run<Step> {
    let mut run = Run::new(SECOND);
    run.send(TripCommand::Start(booking()));
    while run.state.status().task() != Some(Task::Do(step)) {
        let task = run.state.status().task().unwrap();
        let command = match task.step() {
            Step::Charge => of_bank(task, moved()),
            Step::Pause => TripCommand::TimedOut(task),
            _ => of_flight(task, FlightEvent::Booked),
        };
        drop(run.send(command).unwrap());
    }
    run
}

/// Returns a trip that waits for the undoing of `step`, which timed out.
pub(crate) fn undoing(step: Step) -> Run<Step> {
    let mut run = doing(step);
    while run.state.status().task() != Some(Task::Undo(step)) {
        drop(run.send(TripCommand::TimedOut(Task::Do(step))).unwrap());
    }
    run
}

/// Returns the requests of `task` with the time limit `limit`.
pub(crate) fn requests(task: Task<Step>, limit: Duration) -> Reactions<TripCommand> {
    let request: Reactions<TripCommand> = match task {
        Task::Do(Step::Pause) => effects![],
        Task::Do(Step::Flight | Step::Letter) => {
            effects![dispatch(&flight(), FlightCommand::Book { seats: 2 }).tag(task)]
        }
        Task::Do(Step::Luggage) => {
            effects![dispatch(&flight(), FlightCommand::Book { seats: 0 }).tag(task)]
        }
        Task::Do(Step::Seat) => {
            effects![dispatch(&flight(), FlightCommand::Book { seats: 2 }).tag(task).detached()]
        }
        Task::Undo(Step::Seat) => {
            effects![dispatch(&flight(), FlightCommand::Cancel).tag(task).detached()]
        }
        Task::Do(Step::Charge) => {
            effects![call::<Bank>(BankRequest::Charge).tag(task).idempotency_key("do Charge")]
        }
        Task::Undo(Step::Charge) => {
            effects![call::<Bank>(BankRequest::Refund).tag(task).idempotency_key("refund")]
        }
        Task::Undo(_) => effects![dispatch(&flight(), FlightCommand::Cancel).tag(task)],
    };
    if task == Task::Do(Step::Letter) {
        return request;
    }
    request.merge(effects![after(limit, TripCommand::TimedOut(task)).with_id("task")])
}

/// Returns an event after which the trip goes on with `next`.
pub(crate) fn done(task: Task<Step>, next: Next<Step>) -> TripEvent {
    TripEvent::Done { task, next, at: noon() }
}
