//! Later versions of a saga: other steps, and another input.

use composable_rust_core::codec::Format;
use composable_rust_core::prelude::*;
use composable_rust_core::saga::Task::{Do, Undo};
use composable_rust_core::saga::{Calls, OldInput, SagaCommand, SagaEvent};
use serde::{Deserialize, Serialize};

use super::trip::{
    Bank, BankRequest, Booking, Flight, FlightCommand, FlightEvent, Run, SECOND, Step, TripEvent,
    booking, doing, flight, moved, noon,
};

/// The trip, some releases later: a hotel before the charge, an insurance at the end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Later {
    Hotel,
    Insurance,
    #[serde(rename = "Flight")]
    Plane,
    Charge,
    Luggage,
    Pause,
    Letter,
    Seat,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Plan {
    adults: u8,
    children: u8,
}

#[derive(Serialize, Deserialize)]
struct Seats {
    seats: u16,
    luggage: bool,
}

impl From<Booking> for Plan {
    fn from(old: Booking) -> Self {
        Self { adults: old.seats, children: 0 }
    }
}

impl From<Seats> for Plan {
    fn from(old: Seats) -> Self {
        Self { adults: u8::try_from(old.seats).unwrap_or(u8::MAX), children: 0 }
    }
}

impl LinearSaga for Later {
    const NAME: &'static str = "trip";
    const STEPS: &'static [Self] = &[
        Self::Plane,
        Self::Hotel,
        Self::Charge,
        Self::Pause,
        Self::Letter,
        Self::Seat,
        Self::Insurance,
    ];
    type Input = Plan;
    type Partners = (Flight, Calls<Bank>);
    type Environment = ();
    const OLD_INPUTS: &'static [OldInput<Plan>] =
        &[OldInput::of::<Booking>(), OldInput::of::<Seats>()];

    fn step(self, plan: &Plan, _: &SagaContext<'_, Self>) -> SagaStep<Self> {
        let seats = plan.adults + plan.children;
        match self {
            Self::Charge => {
                call::<Bank>(BankRequest::Charge).undo(call::<Bank>(BankRequest::Refund))
            }
            Self::Pause => SagaStep::skip(),
            _ => dispatch(&flight(), FlightCommand::Book { seats })
                .undo(dispatch(&flight(), FlightCommand::Cancel)),
        }
        .within(SECOND)
    }
}

/// Reads the events that led to the state of `old` as the later version does.
fn reread(events: &[TripEvent]) -> Run<Later> {
    let mut run = Run::new(());
    for event in events {
        let kind = event.kind();
        let bytes = event.encode(Format::Binary).unwrap();
        let event = SagaEvent::<Later>::decode(kind.name, kind.version, Format::Binary, &bytes);
        run.state.apply(event.unwrap());
    }
    run
}

fn started() -> TripEvent {
    use composable_rust_core::saga::Next;
    TripEvent::Started { input: booking(), next: Next::Do(Step::Flight), at: noon() }
}

fn done(step: Step, next: Option<Step>) -> TripEvent {
    use composable_rust_core::saga::Next;
    let next = next.map_or(Next::Completed, Next::Do);
    super::trip::done(Do(step), next)
}

#[test]
fn a_saga_in_progress_goes_on_with_its_task() {
    // The hotel would now come before the charge.
    let mut run = reread(&[started(), done(Step::Flight, Some(Step::Charge))]);
    assert_eq!(run.state.status().task(), Some(Do(Later::Charge)));
    assert_eq!(run.state.input(), Some(&Plan { adults: 2, children: 0 }));
    let mut refused = run.clone();
    // The pause is left out now.
    drop(run.send(SagaCommand::outcome::<Bank>(Do(Later::Charge), moved())).unwrap());
    assert_eq!(run.state.status().task(), Some(Do(Later::Letter)));
    // The hotel was never booked, so it is not undone.
    drop(refused.send(SagaCommand::TimedOut(Do(Later::Charge))).unwrap());
    drop(refused.send(SagaCommand::outcome::<Bank>(Undo(Later::Charge), moved())).unwrap());
    assert_eq!(refused.state.status().task(), Some(Undo(Later::Plane)));
}

#[test]
fn a_finished_saga_stays_finished() {
    let run = reread(&[started(), done(Step::Seat, None)]);
    assert_eq!(run.state.status().to_string(), "completed");
}

#[test]
fn a_step_for_which_sagas_wait_cannot_be_removed_silently() {
    let mut run = reread(&[started(), done(Step::Flight, Some(Step::Luggage))]);
    let booked = Reply::Recorded(FlightEvent::Booked);
    let command = SagaCommand::reply::<Flight>(Do(Later::Luggage), booked);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.send(command)));
    let message = panic.unwrap_err();
    let message = message.downcast_ref::<String>().unwrap();
    assert!(message.contains("`STEPS` of the saga `trip` lacks Luggage"), "{message}");
    // The definition that this test reads was a trip once.
    assert_eq!(doing(Step::Flight).state.status().task(), Some(Do(Step::Flight)));
}

#[test]
fn older_inputs_are_read() {
    let read = |version, json: &str| {
        let bytes = json.as_bytes();
        SagaCommand::<Later>::decode("trip.start", version, Format::Json, bytes)
    };
    let plan = SagaCommand::Start(Plan { adults: 3, children: 0 });
    assert_eq!(read(1, r#"{"seats":3,"luggage":true}"#).unwrap(), plan);
    assert_eq!(read(2, r#"{"seats":3,"luggage":true}"#).unwrap(), plan);
    assert_eq!(read(3, r#"{"adults":3,"children":0}"#).unwrap(), plan);
    assert!(read(4, "{}").unwrap_err().is_newer());
    assert!(!read(0, "{}").unwrap_err().is_newer());
    assert_eq!(plan.kind().version, 3);
    let event = SagaEvent::<Later>::KINDS[0];
    assert_eq!((event.name, event.version), ("trip.started", 3));
}

#[test]
fn the_schema_shows_older_inputs() {
    insta::assert_snapshot!(crate::schema::shapes::<SagaEvent<Later>>().unwrap());
    insta::assert_snapshot!(crate::schema::shapes::<SagaCommand<Later>>().unwrap());
}
