//! The meaning of each part of a step's definition.

use composable_rust_core::CallOutcome;
use composable_rust_core::prelude::*;
use composable_rust_core::saga::Task::{Do, Undo};
use composable_rust_core::saga::{SagaCommand, Status};
use serde::{Deserialize, Serialize};

use super::trip::{
    BankFailure, Booking, FlightError, FlightEvent, HOUR, Run, SECOND, Step, TripCommand, booking,
    doing, moved, noon, of_bank, of_flight, requests, undoing,
};
use super::trip::{Flight, Trip};

#[test]
fn the_steps_run_in_order() {
    Run::new(SECOND)
        .leads(TripCommand::Start(booking()), Do(Step::Flight), requests(Do(Step::Flight), SECOND))
        .ignores(of_flight(Do(Step::Flight), FlightEvent::Requested))
        .leads(
            of_flight(Do(Step::Flight), FlightEvent::Booked),
            Do(Step::Charge),
            requests(Do(Step::Charge), SECOND),
        )
        .leads(of_bank(Do(Step::Charge), moved()), Do(Step::Pause), requests(Do(Step::Pause), HOUR))
        .leads(
            TripCommand::TimedOut(Do(Step::Pause)),
            Do(Step::Letter),
            requests(Do(Step::Letter), SECOND),
        )
        .leads(
            of_flight(Do(Step::Letter), FlightEvent::Requested),
            Do(Step::Seat),
            requests(Do(Step::Seat), SECOND),
        )
        .ends(of_flight(Do(Step::Seat), FlightEvent::Booked), "completed");
}

#[test]
fn a_step_is_skipped_by_its_input() {
    let with_luggage = Booking { luggage: true, ..booking() };
    Run::new(SECOND)
        .leads(
            TripCommand::Start(with_luggage),
            Do(Step::Flight),
            requests(Do(Step::Flight), SECOND),
        )
        .leads(
            of_flight(Do(Step::Flight), FlightEvent::Booked),
            Do(Step::Luggage),
            requests(Do(Step::Luggage), SECOND),
        )
        // Any event but the refusing one.
        .leads(
            of_flight(Do(Step::Luggage), FlightEvent::Requested),
            Do(Step::Charge),
            requests(Do(Step::Charge), SECOND),
        )
        .leads(
            of_bank(Do(Step::Charge), CallOutcome::Failed(BankFailure::Declined)),
            Undo(Step::Luggage),
            requests(Undo(Step::Luggage), SECOND),
        );
}

#[test]
fn every_refusal_undoes_the_steps_before() {
    let refusals = [
        (Reply::Rejected(FlightError::Departed), "compensated after Seat: Departed"),
        (Reply::Undelivered, "compensated after Seat: undelivered"),
    ];
    for (refusal, status) in refusals {
        let refusal = TripCommand::reply::<Flight>(Do(Step::Seat), refusal);
        // Neither the letter nor the pause is undone.
        doing(Step::Seat)
            .leads(refusal, Undo(Step::Charge), requests(Undo(Step::Charge), SECOND))
            .leads(
                of_bank(Undo(Step::Charge), moved()),
                Undo(Step::Flight),
                requests(Undo(Step::Flight), SECOND),
            )
            .ends(of_flight(Undo(Step::Flight), FlightEvent::Cancelled), status);
    }
    let sold_out = of_flight(Do(Step::Flight), FlightEvent::SoldOut);
    doing(Step::Flight).ends(sold_out, "compensated after Flight: SoldOut");
}

#[test]
fn unchanged_is_no_reply() {
    let unchanged = TripCommand::reply::<Flight>(Do(Step::Letter), Reply::Unchanged);
    doing(Step::Letter).ignores(unchanged);
}

/// The step asked the flight; a bank with the same tag answers an earlier definition of it.
#[test]
fn a_reply_of_another_partner_than_the_step_asks_is_late() {
    doing(Step::Flight).ignores(of_bank(Do(Step::Flight), moved()));
}

#[test]
fn the_status_is_queryable() {
    let run = doing(Step::Charge);
    assert_eq!(run.state.input(), Some(&booking()));
    assert_eq!(*run.state.status(), Status::Doing { step: Step::Charge, since: noon() });
    assert_eq!(run.state.status().to_string(), "doing Charge since 2026-03-01T12:00:00Z");
    let status = undoing(Step::Charge).state.status().to_string();
    assert_eq!(status, "undoing Charge since 2026-03-01T12:00:00Z after Charge: timed out");
    assert_eq!(Trip::default().status().to_string(), "new");
    let json = serde_json::to_string(&run.state).unwrap();
    assert_eq!(
        json,
        "{\"input\":{\"seats\":2,\"luggage\":false},\
         \"status\":{\"Doing\":{\"step\":\"Charge\",\"since\":\"2026-03-01T12:00:00Z\"}},\
         \"done\":[\"Flight\"],\"not_undone\":[],\"timeouts\":0}"
    );
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Twice {
    Only,
}

impl LinearSaga for Twice {
    const NAME: &'static str = "twice";
    const STEPS: &'static [Self] = &[Self::Only, Self::Only];
    type Input = ();
    type Partners = ();
    type Environment = ();

    fn step(self, (): &(), _: &SagaContext<'_, Self>) -> SagaStep<Self> {
        SagaStep::pause(HOUR)
    }
}

#[test]
#[should_panic(expected = "`STEPS` of the saga `twice` names Only twice")]
fn a_step_stands_in_steps_once() {
    Run::<Twice>::new(()).send(SagaCommand::Start(()));
}
