//! No saga is left waiting for something that never comes, and none forgets what may have happened.

use composable_rust_core::CallOutcome;
use composable_rust_core::prelude::*;
use composable_rust_core::saga::Task::{Do, Undo};
use composable_rust_core::saga::{Calls, SagaCommand, Task};
use serde::{Deserialize, Serialize};

use super::trip::{
    Bank, BankRequest, Flight, FlightCommand, FlightError, FlightEvent, Run, SECOND, flight, moved,
};

/// The form of the second step.
#[derive(Debug, Clone, Copy)]
enum Form {
    Requested,
    Skip,
    Skipped,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Step {
    /// Has no time limit.
    Charge,
    Book,
}

impl LinearSaga for Step {
    const NAME: &'static str = "probe";
    const STEPS: &'static [Self] = &[Self::Charge, Self::Book];
    type Input = u8;
    type Partners = (Flight, Calls<Bank>);
    type Environment = (Form, u32);

    fn step(self, _: &u8, saga: &SagaContext<'_, Self>) -> SagaStep<Self> {
        let (form, retries) = *saga.env();
        let book = dispatch(&flight(), FlightCommand::Book { seats: 1 })
            .undo(dispatch(&flight(), FlightCommand::Cancel))
            .retry(retries)
            .within(SECOND);
        match (self, form) {
            (Self::Charge, _) => {
                call::<Bank>(BankRequest::Charge).undo(call::<Bank>(BankRequest::Refund))
            }
            (Self::Book, Form::Requested) => book,
            (Self::Book, Form::Skip) => SagaStep::skip(),
            (Self::Book, Form::Skipped) => book.skipped(),
        }
    }
}

fn reply(task: Task<Step>, reply: Reply<Flight>) -> SagaCommand<Step> {
    SagaCommand::reply::<Flight>(task, reply)
}

fn bank(task: Task<Step>, outcome: CallOutcome<Bank>) -> SagaCommand<Step> {
    SagaCommand::outcome::<Bank>(task, outcome)
}

/// Returns a saga that waits for `Book`, from then on with `form`.
fn waiting_to_book(form: Form, retries: u32) -> Run<Step> {
    let mut run = Run::<Step>::new((Form::Requested, retries));
    run.send(SagaCommand::Start(1));
    run.send(bank(Do(Step::Charge), moved()));
    assert_eq!(run.state.status().task(), Some(Do(Step::Book)));
    continued(run, form, retries)
}

fn continued(run: Run<Step>, form: Form, retries: u32) -> Run<Step> {
    let mut later = Run::<Step>::new((form, retries));
    later.state = run.state;
    later
}

#[test]
fn undoing_without_a_limit_is_repeated() {
    let mut run = waiting_to_book(Form::Requested, 0);
    run.send(reply(Do(Step::Book), Reply::Rejected(FlightError::Departed)));
    let undo = Undo(Step::Charge);
    assert_eq!(run.state.status().task(), Some(undo));
    assert_eq!(run.send(bank(undo, CallOutcome::Exhausted)), None, "the timer requests it again");
    let again = run.send(SagaCommand::TimedOut(undo)).unwrap();
    assert!(format!("{again:?}").contains("120s"), "{again:?}");
    run.send(bank(undo, moved()));
    assert_eq!(run.state.status().to_string(), "compensated after Book: Departed");
}

#[test]
fn a_saga_that_waits_for_a_step_that_is_skip_moves_on() {
    for message in [
        reply(Do(Step::Book), Reply::Recorded(FlightEvent::Booked)),
        reply(Do(Step::Book), Reply::Rejected(FlightError::Departed)),
        SagaCommand::TimedOut(Do(Step::Book)),
    ] {
        let mut run = waiting_to_book(Form::Skip, 0);
        run.send(message);
        assert_eq!(run.state.status().to_string(), "completed");
    }
    let mut run = waiting_to_book(Form::Requested, 0);
    run.send(SagaCommand::TimedOut(Do(Step::Book)));
    assert_eq!(run.state.status().task(), Some(Undo(Step::Book)));
    let mut run = continued(run, Form::Skip, 0);
    run.send(SagaCommand::TimedOut(Undo(Step::Book)));
    assert_eq!(run.state.status().task(), Some(Undo(Step::Charge)));
}

#[test]
fn a_saga_that_waits_for_a_skipped_step_still_undoes_it() {
    let mut run = waiting_to_book(Form::Skipped, 0);
    run.send(SagaCommand::TimedOut(Do(Step::Book)));
    assert_eq!(run.state.status().task(), Some(Undo(Step::Book)));
    run.send(reply(Undo(Step::Book), Reply::Recorded(FlightEvent::Cancelled)));
    assert_eq!(run.state.status().task(), Some(Undo(Step::Charge)));

    let mut run = Run::<Step>::new((Form::Skipped, 0));
    run.send(SagaCommand::Start(1));
    run.send(bank(Do(Step::Charge), moved()));
    assert_eq!(run.state.status().to_string(), "completed", "later sagas leave it out");
}

#[test]
fn a_late_rejection_does_not_hide_the_repetition() {
    let mut run = waiting_to_book(Form::Requested, 1);
    run.send(SagaCommand::TimedOut(Do(Step::Book)));
    run.send(reply(Do(Step::Book), Reply::Rejected(FlightError::Departed)));
    assert_eq!(run.state.status().task(), Some(Undo(Step::Book)), "the repetition may happen");
}
