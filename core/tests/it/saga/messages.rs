//! The stored form of commands, events and replies.

use composable_rust_core::CallOutcome;
use composable_rust_core::codec::{DecodeError, Format};
use composable_rust_core::message::{
    AnyMessage, InReplyTo, RawReply, ReplyOutcome, ReplySource, Tag,
};
use composable_rust_core::prelude::*;
use composable_rust_core::saga::Task::{Do, Undo};
use composable_rust_core::saga::{Next, Reason, SagaReply};

use super::trip::{
    Bank, BankFailure, Flight, FlightError, FlightEvent, Step, Trip, TripCommand, TripEvent,
    booking, done, moved, noon, of_bank, of_flight,
};

fn every_reply() -> Vec<TripCommand> {
    let task = Do(Step::Charge);
    vec![
        of_flight(task, FlightEvent::Booked),
        TripCommand::reply::<Flight>(task, Reply::Rejected(FlightError::Departed)),
        TripCommand::reply::<Flight>(task, Reply::Unchanged),
        TripCommand::reply::<Flight>(task, Reply::Undelivered),
        of_bank(task, moved()),
        of_bank(task, CallOutcome::Failed(BankFailure::Declined)),
        of_bank(task, CallOutcome::Exhausted),
        of_bank(task, CallOutcome::Unstorable("too \"large\"".to_owned())),
    ]
}

fn every_reason() -> [Reason; 5] {
    let unstorable = Reason::Unstorable("too \"large\"".to_owned());
    let refused = Reason::refused(&FlightError::Departed);
    [refused, Reason::Undelivered, Reason::TimedOut, Reason::Exhausted, unstorable]
}

fn assert_survives<M: Message>(message: &M) {
    for format in [Format::Binary, Format::Json] {
        let bytes = message.encode(format).unwrap();
        let kind = message.kind();
        let read = M::decode(kind.name, kind.version, format, &bytes);
        assert_eq!(read.unwrap(), *message, "{format:?}");
    }
}

#[test]
fn every_message_survives_both_formats() {
    assert_survives(&TripCommand::Start(booking()));
    assert_survives(&TripCommand::TimedOut(Undo(Step::Seat)));
    every_reply().iter().for_each(assert_survives);
    assert_survives(&TripEvent::Started {
        input: booking(),
        next: Next::Do(Step::Flight),
        at: noon(),
    });
    for next in [Next::Do(Step::Seat), Next::Undo(Step::Seat), Next::Completed, Next::Stuck] {
        let (task, at) = (Do(Step::Charge), noon());
        assert_survives(&TripEvent::Done { task, next, at });
        for reason in every_reason() {
            assert_survives(&TripEvent::Refused { task, reason: reason.clone(), next, at });
            assert_survives(&TripEvent::TimedOut { task, reason, next, at });
        }
    }
}

#[test]
fn names_begin_with_that_of_the_saga() {
    let names = |kinds: &[composable_rust_core::message::MessageKind]| {
        kinds.iter().map(|kind| (kind.name, kind.internal)).collect::<Vec<_>>()
    };
    assert_eq!(
        names(TripCommand::KINDS),
        [("trip.start", false), ("trip.timed_out", true), ("trip.replied", true)]
    );
    assert_eq!(
        names(TripEvent::KINDS),
        [
            ("trip.started", false),
            ("trip.done", false),
            ("trip.refused", false),
            ("trip.timed_out", false)
        ]
    );
    assert_eq!(<Trip as Aggregate>::NAME, "trip");
    assert_eq!(TripCommand::REPLIES, [ReplySource::Target("flight"), ReplySource::Gateway("bank")]);
}

#[test]
fn events_are_readable_by_others() {
    let event = done(Do(Step::Charge), Next::Undo(Step::Flight));
    let json = String::from_utf8(event.encode(Format::Json).unwrap()).unwrap();
    assert_eq!(
        json,
        r#"{"task":{"Do":"Charge"},"next":{"Undo":"Flight"},"at":"2026-03-01T12:00:00Z"}"#
    );
    let reason = Reason::refused(&BankFailure::Declined);
    let (task, next) = (Do(Step::Charge), Next::Undo(Step::Flight));
    let event = TripEvent::Refused { task, reason, next, at: noon() };
    let json = String::from_utf8(event.encode(Format::Json).unwrap()).unwrap();
    assert_eq!(
        json,
        r#"{"task":{"Do":"Charge"},"reason":{"Refused":{"name":"bank_failure.declined","text":"Declined"}},"next":{"Undo":"Flight"},"at":"2026-03-01T12:00:00Z"}"#
    );
}

#[test]
fn the_schema_shows_each_step() {
    insta::assert_snapshot!(crate::schema::shapes::<TripEvent>().unwrap());
    insta::assert_snapshot!(crate::schema::shapes::<TripCommand>().unwrap());
}

#[test]
fn replies_print_their_content() {
    let debug: Vec<_> = every_reply().iter().map(|command| format!("{command:?}")).collect();
    insta::assert_snapshot!(debug.join("\n"), @r#"
    Replied(Do(Charge), flight: Recorded(Booked))
    Replied(Do(Charge), flight: Rejected(Departed))
    Replied(Do(Charge), flight: Unchanged)
    Replied(Do(Charge), flight: Undelivered)
    Replied(Do(Charge), bank: Done(Moved { cents: 5 }))
    Replied(Do(Charge), bank: Failed(Declined))
    Replied(Do(Charge), bank: Exhausted)
    Replied(Do(Charge), bank: Unstorable("too \"large\""))
    "#);
}

#[test]
fn reasons_are_short_texts() {
    let texts = every_reason().map(|reason| reason.to_string());
    insta::assert_snapshot!(texts.join("\n"), @r#"
    Departed
    undelivered
    timed out
    all attempts failed
    the outcome cannot be stored: too "large"
    "#);
}

#[test]
fn a_reply_gives_its_content() {
    let reply = SagaReply::from(moved());
    assert_eq!(reply.source(), ReplySource::Gateway("bank"));
    assert_eq!(reply.outcome(), ReplyOutcome::Done);
    assert!(reply.content::<super::trip::BankResponse>().is_some());
    assert!(reply.content::<FlightEvent>().is_none());
    assert!(SagaReply::from(CallOutcome::<Bank>::Exhausted).content::<FlightEvent>().is_none());
}

/// Delivers a stored reply, with `tag` and the name `name` of its content.
fn delivered(
    from: &str,
    outcome: ReplyOutcome,
    tag: (&str, u16, &str),
    name: &str,
) -> Result<TripCommand, DecodeError> {
    let (variant, version, value) = tag;
    let tag = Tag { variant: variant.into(), version, fields: 1, value: value.into() };
    let to = InReplyTo { from: from.into(), outcome, tag, seal: None };
    let message = AnyMessage::new(FlightEvent::Booked);
    let bytes = message.encode(Format::Binary).unwrap();
    let format = Format::Binary;
    TripCommand::receive_raw(&RawReply { to: &to, name, version: 1, format, bytes: &bytes })
}

#[test]
fn a_stored_reply_becomes_a_command() {
    use ReplyOutcome::{Exhausted, Recorded, Undelivered};
    let tag = ("trip.replied", 1, r#"{"Undo":"Flight"}"#);
    let command = delivered("flight", Recorded, tag, "flight.booked").unwrap();
    assert_eq!(command, of_flight(Undo(Step::Flight), FlightEvent::Booked));
    let command = delivered("flight", Undelivered, tag, "").unwrap();
    assert_eq!(command, TripCommand::reply::<Flight>(Undo(Step::Flight), Reply::Undelivered));
    let command = delivered("bank", Exhausted, tag, "").unwrap();
    assert_eq!(command, of_bank(Undo(Step::Flight), CallOutcome::Exhausted));
}

#[test]
fn what_this_code_does_not_know_is_newer() {
    use ReplyOutcome::{Done, Recorded, Unchanged};
    let tag = ("trip.replied", 1, r#"{"Do":"Flight"}"#);
    let unknown = [
        delivered("flight", Recorded, tag, "flight.upgraded"),
        delivered("train", Unchanged, tag, ""),
        // A target is not the gateway of the same name.
        delivered("bank", Unchanged, tag, ""),
        delivered("flight", Done, tag, ""),
        delivered("flight", Unchanged, ("trip.replied", 1, r#"{"Do":"Hotel"}"#), ""),
        delivered("flight", Unchanged, ("trip.replied", 2, r#"{"Do":"Flight"}"#), ""),
        delivered("flight", Unchanged, ("trip.answered", 1, r#"{"Do":"Flight"}"#), ""),
        TripCommand::decode("trip.pause", 1, Format::Json, b"{}"),
        TripCommand::decode("trip.start", 2, Format::Json, b"{}"),
        TripCommand::decode("trip.timed_out", 1, Format::Json, br#"{"Do":"Hotel"}"#),
    ];
    for error in unknown.map(Result::unwrap_err) {
        assert!(error.is_newer(), "{error:?}");
    }
    let json = br#"{"task":{"Do":"Flight"},"next":{"Do":"Hotel"},"at":"2026-03-01T12:00:00Z"}"#;
    let error = TripEvent::decode("trip.done", 1, Format::Json, json).unwrap_err();
    assert!(error.is_newer(), "{error:?}");
    assert_eq!(error.to_string(), "no variant is called `trip.step.Hotel`");
    let malformed = TripEvent::decode("trip.done", 1, Format::Json, b"{}").unwrap_err();
    assert!(!malformed.is_newer(), "{malformed:?}");
}
