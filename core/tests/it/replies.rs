//! Variants that take replies and answers.

use composable_rust_core::prelude::*;
use composable_rust_core::{Answer, CallError, Format, Gateway, Receives, ReceivesAnswer};
use serde::{Deserialize, Serialize};

use crate::door::{Door, DoorError, DoorEvent, Gate};

#[derive(Debug, Clone, PartialEq)]
struct Bell;

#[derive(Debug, Clone, PartialEq, Message)]
enum BellRequest {
    Ring,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum BellResponse {
    Heard { times: u8 },
}

#[derive(Debug, Clone, PartialEq, Message)]
enum BellError {
    Broken,
}

impl Gateway for Bell {
    const NAME: &'static str = "bell";
    type Request = BellRequest;
    type Response = BellResponse;
    type Failure = BellError;

    async fn call(
        &self,
        request: BellRequest,
        _: &str,
    ) -> Result<BellResponse, CallError<BellError>> {
        match request {
            BellRequest::Ring => Ok(BellResponse::Heard { times: 1 }),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Step {
    First,
    Second(u8),
}

type GateReply = Reply<Gate>;

#[derive(Debug, Clone, PartialEq, Message)]
enum VisitCommand {
    Start,
    Doors(Step, u8, Reply<Door>),
    #[message(reply)]
    Gates {
        reply: GateReply,
    },
    Rung(Step, composable_rust_core::Answer<Bell>),
}

fn every() -> Vec<VisitCommand> {
    use VisitCommand as In;
    let opened = DoorEvent::Opened { by: "ä\"".into() };
    vec![
        In::Start,
        In::Doors(Step::First, 1, Reply::Recorded(opened)),
        In::Doors(Step::Second(2), 1, Reply::Rejected(DoorError::AlreadyThere)),
        In::Doors(Step::First, 1, Reply::Unchanged),
        In::Gates { reply: Reply::Undelivered },
        In::Rung(Step::First, Answer::Done(BellResponse::Heard { times: 3 })),
        In::Rung(Step::First, Answer::Failed(BellError::Broken)),
        In::Rung(Step::First, Answer::Exhausted),
    ]
}

#[test]
fn they_are_internal() {
    let internal: Vec<_> = VisitCommand::KINDS.iter().map(|kind| kind.internal).collect();
    assert_eq!(internal, [false, true, true, true]);
}

#[test]
fn replies_survive_both_formats() {
    for format in [Format::Binary, Format::Json] {
        for command in every() {
            let bytes = command.encode(format).unwrap();
            let read = VisitCommand::decode(command.kind().name, 1, format, &bytes);
            assert_eq!(read.unwrap(), command, "{format:?}");
        }
    }
}

#[test]
fn tags_come_before_the_reply() {
    let reply = Reply::<Door>::Unchanged;
    assert_eq!(
        VisitCommand::receive((Step::First, 7), reply.clone()),
        VisitCommand::Doors(Step::First, 7, reply)
    );
    let reply = GateReply::Unchanged;
    let gates = <VisitCommand as Receives<Gate>>::receive((), reply.clone());
    assert_eq!(gates, VisitCommand::Gates { reply });
    let answer = Answer::<Bell>::Exhausted;
    assert_eq!(
        VisitCommand::receive_answer(Step::Second(1), answer.clone()),
        VisitCommand::Rung(Step::Second(1), answer)
    );
}

#[test]
fn dispatches_and_calls_carry_their_tags() {
    let reactions: Reactions<VisitCommand> = effects![
        dispatch(&Door::id("1"), crate::door::DoorCommand::Open).tag((Step::Second(2), 7)),
        dispatch(&Gate::id("1"), crate::door::DoorCommand::Close),
        call::<Bell>(BellRequest::Ring).tag(Step::First),
    ];
    assert_eq!(reactions.len(), 3);
    insta::assert_debug_snapshot!(reactions);
}

#[test]
fn the_schema_shows_who_is_heard() {
    insta::assert_snapshot!(crate::schema::shapes::<VisitCommand>().unwrap(), @r"
    visit.doors 1: { 0: Step, 1: u8, 2: Answered }
    Step = First | Second(u8)
    Answered { outcome: Outcome, name: str, version: u16, content: str }
    Outcome = Recorded | Rejected | Unchanged | Undelivered
    visit.gates 1: { reply: Answered }
    Answered { outcome: Outcome, name: str, version: u16, content: str }
    Outcome = Recorded | Rejected | Unchanged | Undelivered
    visit.rung 1: { 0: Step, 1: Answered }
    Step = First | Second(u8)
    Answered { outcome: Outcome, name: str, version: u16, content: str }
    Outcome = Done | Failed | Exhausted
    visit.start 1: {}
    ");
}
