//! Variants that take replies and answers.

use composable_rust_core::codec::Format;
use composable_rust_core::message::{Receives, ReceivesOutcome};
use composable_rust_core::prelude::*;
use composable_rust_core::{CallError, CallOutcome, Gateway};
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
    Rung(Step, composable_rust_core::CallOutcome<Bell>),
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
        In::Rung(Step::First, CallOutcome::Done(BellResponse::Heard { times: 3 })),
        In::Rung(Step::First, CallOutcome::Failed(BellError::Broken)),
        In::Rung(Step::First, CallOutcome::Exhausted),
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
    let answer = CallOutcome::<Bell>::Exhausted;
    assert_eq!(
        VisitCommand::receive_outcome(Step::Second(1), answer.clone()),
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

#[derive(Debug, Clone, PartialEq, Message)]
enum WeighCommand {
    Doors(f64, Reply<Door>),
}

fn weighed(weight: f64) -> Reactions<WeighCommand> {
    effects![dispatch(&Door::id("1"), crate::door::DoorCommand::Open).tag(weight)]
}

/// Replies with such a tag could never be delivered.
#[test]
#[should_panic(expected = "a tag must be readable from JSON")]
fn a_tag_that_cannot_be_read_again_is_refused() {
    assert_eq!(weighed(0.1 + 0.2).len(), 1);
    drop(weighed(f64::NAN));
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
    Outcome = Done | Failed | Exhausted | Unstorable
    visit.start 1: {}
    ");
}

mod older_tags {
    use composable_rust_core::CallOutcome;
    use composable_rust_core::codec::{DecodeError, Format};
    use composable_rust_core::message::{InReplyTo, RawReply, ReplyOutcome, Tag};
    use composable_rust_core::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::{Bell, Step};
    use crate::door::{Door, DoorEvent, Gate};

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Place {
        step: Step,
        floor: u32,
    }

    /// `VisitCommand`, one release later.
    #[derive(Debug, Clone, PartialEq, Message)]
    #[message(prefix = "visit")]
    enum LaterCommand {
        #[message(version = 2, from(1 = DoorsV1))]
        Doors(Place, Reply<Door>),
        #[message(version = 2, from(1 = GatesV1))]
        Gates(u8, Reply<Gate>),
        #[message(version = 3, from(1 = RungV1, 2 = RungV2))]
        Rung(Place, CallOutcome<Bell>),
    }

    #[derive(Deserialize)]
    struct DoorsV1(Step, Vec<u32>, Reply<Door>);

    impl From<DoorsV1> for LaterCommand {
        fn from(DoorsV1(step, floors, reply): DoorsV1) -> Self {
            Self::Doors(Place { step, floor: floors.iter().sum() }, reply)
        }
    }

    #[derive(Deserialize)]
    struct GatesV1 {
        reply: Reply<Gate>,
    }

    impl From<GatesV1> for LaterCommand {
        fn from(old: GatesV1) -> Self {
            Self::Gates(0, old.reply)
        }
    }

    #[derive(Deserialize)]
    struct RungV1(CallOutcome<Bell>);

    #[derive(Deserialize)]
    struct RungV2 {
        step: Step,
        answer: CallOutcome<Bell>,
    }

    impl From<RungV1> for RungV2 {
        fn from(RungV1(answer): RungV1) -> Self {
            Self { step: Step::First, answer }
        }
    }

    impl From<RungV2> for LaterCommand {
        fn from(RungV2 { step, answer }: RungV2) -> Self {
            Self::Rung(Place { step, floor: 0 }, answer)
        }
    }

    fn received(
        from: &str,
        outcome: ReplyOutcome,
        tag: (&str, u16, u16, &str),
    ) -> Result<LaterCommand, DecodeError> {
        let (variant, version, fields, value) = tag;
        let tag = Tag { variant: variant.into(), version, fields, value: value.into() };
        let to = InReplyTo { from: from.into(), outcome, tag, seal: None };
        let opened = DoorEvent::Opened { by: "ä\"".into() };
        let bytes = opened.encode(Format::Binary).unwrap();
        let (name, format) = (opened.kind().name, Format::Binary);
        LaterCommand::receive_raw(&RawReply { to: &to, name, version: 1, format, bytes: &bytes })
    }

    #[test]
    fn a_tag_of_an_older_version_goes_through_the_upcasters() {
        use ReplyOutcome::{Exhausted, Recorded, Unchanged};
        let place = |step, floor| Place { step, floor };
        let opened = Reply::Recorded(DoorEvent::Opened { by: "ä\"".into() });
        let second = r#"{"Second":2}"#;
        let doors = received("door", Recorded, ("visit.doors", 1, 2, &format!("[{second},[3,4]]")));
        assert_eq!(doors.unwrap(), LaterCommand::Doors(place(Step::Second(2), 7), opened));
        let gates = received("gate", Unchanged, ("visit.gates", 1, 0, "null"));
        assert_eq!(gates.unwrap(), LaterCommand::Gates(0, Reply::Unchanged));
        let first = received("bell", Exhausted, ("visit.rung", 1, 0, "null"));
        assert_eq!(
            first.unwrap(),
            LaterCommand::Rung(place(Step::First, 0), CallOutcome::Exhausted)
        );
        let rung = received("bell", Exhausted, ("visit.rung", 2, 1, second));
        assert_eq!(
            rung.unwrap(),
            LaterCommand::Rung(place(Step::Second(2), 0), CallOutcome::Exhausted)
        );
        let current = r#"{"step":"First","floor":9}"#;
        let rung = received("bell", Exhausted, ("visit.rung", 3, 1, current));
        assert_eq!(
            rung.unwrap(),
            LaterCommand::Rung(place(Step::First, 9), CallOutcome::Exhausted)
        );
    }

    #[test]
    fn what_this_code_does_not_know_is_newer() {
        use ReplyOutcome::{Exhausted, Unchanged};
        let unknown = [
            received("door", Unchanged, ("visit.doors", 3, 2, "[1,2]")),
            received("door", Unchanged, ("visit.windows", 1, 1, "1")),
            received("bell", Exhausted, ("visit.rung", 3, 1, "\"Third\"")),
            received("window", Unchanged, ("visit.doors", 2, 1, "1")),
        ];
        for error in unknown.map(Result::unwrap_err) {
            assert!(error.is_newer(), "{error:?}");
        }
    }
}
