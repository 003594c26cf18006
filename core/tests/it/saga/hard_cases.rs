//! Late, duplicate and missing replies.

use std::time::Duration;

use composable_rust_core::CallOutcome;
use composable_rust_core::prelude::*;
use composable_rust_core::saga::Task::{Do, Undo};
use composable_rust_core::saga::{FailedStep, Reason};

use super::trip::{
    BankFailure, Booking, Flight, FlightError, FlightEvent, HOUR, SECOND, Step, TripCommand,
    booking, doing, moved, of_bank, of_flight, requests, undoing,
};

const STEPS: [Step; 5] = [Step::Flight, Step::Charge, Step::Pause, Step::Letter, Step::Seat];

#[test]
fn a_late_capture_is_refunded() {
    doing(Step::Charge)
        // The outcome is unknown, so the charge itself is undone.
        .leads(
            TripCommand::TimedOut(Do(Step::Charge)),
            Undo(Step::Charge),
            requests(Undo(Step::Charge), SECOND),
        )
        .ignores(of_bank(Do(Step::Charge), moved()))
        .leads(
            of_bank(Undo(Step::Charge), moved()),
            Undo(Step::Flight),
            requests(Undo(Step::Flight), SECOND),
        )
        .ends(
            of_flight(Undo(Step::Flight), FlightEvent::Cancelled),
            "compensated after Charge: timed out",
        )
        .ignores(of_bank(Do(Step::Charge), moved()));
}

#[test]
fn a_refused_undoing_is_recorded_and_the_rest_undone() {
    let refused = CallOutcome::Failed(BankFailure::Declined);
    let mut run = undoing(Step::Charge);
    run.leads(
        of_bank(Undo(Step::Charge), refused),
        Undo(Step::Flight),
        requests(Undo(Step::Flight), SECOND),
    );
    let reason = Reason::refused(&BankFailure::Declined);
    assert_eq!(run.state.not_undone(), [FailedStep { step: Step::Charge, reason }]);
    run.ends(
        of_flight(Undo(Step::Flight), FlightEvent::Cancelled),
        "stuck after Charge: timed out; not undone: Charge: Declined",
    );

    let rejected = Reply::Rejected(FlightError::Departed);
    undoing(Step::Flight).ends(
        TripCommand::reply::<Flight>(Undo(Step::Flight), rejected),
        "stuck after Flight: timed out; not undone: Flight: Departed",
    );
}

#[test]
fn duplicates_change_nothing() {
    let other = Booking { seats: 9, ..booking() };
    doing(Step::Charge)
        .ignores(TripCommand::Start(booking()))
        .ignores(TripCommand::Start(other.clone()))
        .ignores(of_flight(Do(Step::Flight), FlightEvent::Booked))
        .ignores(of_flight(Do(Step::Flight), FlightEvent::SoldOut))
        .ignores(TripCommand::TimedOut(Do(Step::Flight)));
    let mut ended = doing(Step::Seat);
    ended.ends(of_flight(Do(Step::Seat), FlightEvent::Booked), "completed");
    ended.ignores(TripCommand::Start(other));
    for step in STEPS {
        for task in [Do(step), Undo(step)] {
            ended
                .ignores(TripCommand::TimedOut(task))
                .ignores(of_flight(task, FlightEvent::Booked))
                .ignores(of_bank(task, moved()));
        }
    }
}

#[test]
fn only_the_current_task_is_heard() {
    let undone = [Step::Flight, Step::Charge, Step::Seat].map(undoing);
    for mut run in STEPS.map(doing).into_iter().chain(undone) {
        let current = run.state.status().task();
        for task in STEPS.into_iter().flat_map(|step| [Do(step), Undo(step)]) {
            if Some(task) != current {
                run.ignores(TripCommand::TimedOut(task))
                    .ignores(of_flight(task, FlightEvent::Booked))
                    .ignores(of_bank(task, moved()));
            }
        }
    }
}

#[test]
fn a_step_that_may_be_repeated_succeeds_after_a_timeout() {
    let task = Do(Step::Flight);
    let timed_out = || TripCommand::TimedOut(task);
    let mut run = doing(Step::Flight);
    run.leads(timed_out(), task, requests(task, 2 * SECOND));
    let since = run.state.status().clone();
    run.leads(timed_out(), task, requests(task, 4 * SECOND));
    assert_eq!((run.state.status(), run.state.timeouts()), (&since, 2));
    let mut given_up = run.clone();
    run.leads(
        of_flight(task, FlightEvent::Booked),
        Do(Step::Charge),
        requests(Do(Step::Charge), SECOND),
    )
    // The reply to the other attempts.
    .ignores(of_flight(task, FlightEvent::Booked));
    let undo = Undo(Step::Flight);
    given_up.leads(timed_out(), undo, requests(undo, SECOND));
}

#[test]
fn undoing_is_repeated_until_it_succeeds() {
    let task = Undo(Step::Charge);
    let mut run = undoing(Step::Charge);
    for factor in [2, 4, 8, 16, 32, 64, 128, 128, 128] {
        run.leads(TripCommand::TimedOut(task), task, requests(task, SECOND * factor));
    }
    run.leads(of_bank(task, moved()), Undo(Step::Flight), requests(Undo(Step::Flight), SECOND))
        .ignores(of_bank(task, moved()));
}

#[test]
fn an_unknown_outcome_of_a_call_counts_as_a_timeout() {
    let unknown = [
        (CallOutcome::Exhausted, Reason::Exhausted),
        (CallOutcome::Unstorable("too large".into()), Reason::Unstorable("too large".into())),
    ];
    for (outcome, reason) in unknown {
        let undo = Undo(Step::Charge);
        let mut run = doing(Step::Charge);
        run.leads(of_bank(Do(Step::Charge), outcome.clone()), undo, requests(undo, SECOND))
            // The timer requests it again.
            .ignores(of_bank(undo, outcome))
            .leads(TripCommand::TimedOut(undo), undo, requests(undo, 2 * SECOND));
        // The timeout of the undoing is not why the saga undoes.
        assert_eq!(run.state.status().failed(), Some(&FailedStep { step: Step::Charge, reason }));
    }
}

#[test]
fn a_timeout_of_a_step_without_undo_undoes_the_steps_before() {
    // It had a time limit in an earlier version.
    let undo = Undo(Step::Charge);
    doing(Step::Letter).leads(
        TripCommand::TimedOut(Do(Step::Letter)),
        undo,
        requests(undo, SECOND),
    );
}

#[test]
fn a_limit_does_not_overflow() {
    let mut run = super::trip::Run::new(Duration::MAX);
    run.send(TripCommand::Start(booking()));
    let task = Do(Step::Flight);
    run.leads(TripCommand::TimedOut(task), task, requests(task, Duration::MAX));
    assert!(HOUR < Duration::MAX);
}
