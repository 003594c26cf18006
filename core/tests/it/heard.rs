//! Variants that take the events of a target.

use composable_rust_core::codec::{DecodeError, Format};
use composable_rust_core::message::Hears;
use composable_rust_core::prelude::*;
use composable_rust_core::schema::SchemaTracer;
use composable_rust_core::{EventId, Recorded, Version};
use serde_json::json;
use uuid::Uuid;

use crate::door::{Door, DoorEvent, Gate};

#[derive(Debug, Clone, PartialEq, Message)]
enum GuardCommand {
    Wake,
    Door(Heard<Door>),
    #[message(internal, name = "guard.gate_moved")]
    Gate(Heard<Gate>),
}

fn opened() -> Heard<Door> {
    Heard {
        id: Door::id("front"),
        event: DoorEvent::Opened { by: "ä\"".into() },
        event_id: EventId(Uuid::from_u128(7)),
        version: Version::new(3),
        recorded_at: Timestamp::from_micros(5),
    }
}

#[test]
fn what_is_heard_is_internal_and_survives_encoding() {
    let internal: Vec<_> =
        GuardCommand::KINDS.iter().map(|kind| (kind.name, kind.internal)).collect();
    assert_eq!(internal, [("guard.wake", false), ("guard.door", true), ("guard.gate_moved", true)]);
    assert_eq!(GuardCommand::hear(opened()), GuardCommand::Door(opened()));
    for format in [Format::Binary, Format::Json] {
        let command = GuardCommand::Door(opened());
        let bytes = command.encode(format).unwrap();
        assert_eq!(GuardCommand::decode("guard.door", 1, format, &bytes).unwrap(), command);
    }
}

/// The event is stored under its own name and version, so newer code can be waited for.
#[test]
fn an_unknown_event_is_the_events_own_error() {
    let bytes = GuardCommand::Door(opened()).encode(Format::Json).unwrap();
    let mut content: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(content["name"], "door.opened");
    assert_eq!(content["id"], "front");
    content["name"] = json!("door.painted");
    let decode = |content: &serde_json::Value| {
        let bytes = content.to_string().into_bytes();
        GuardCommand::decode("guard.door", 1, Format::Json, &bytes).unwrap_err()
    };
    let error = decode(&content);
    assert!(error.is_newer(), "{error:?}");
    assert!(matches!(error, DecodeError::UnknownName { name } if name == "door.painted"));
    content["name"] = json!("door.opened");
    content["id"] = json!("");
    assert!(matches!(decode(&content), DecodeError::Malformed { .. }));
}

/// The lock does not change with the event: its shape is in the lock already.
#[test]
fn the_shape_is_that_of_no_event() {
    let mut tracer = SchemaTracer::new();
    tracer.message::<GuardCommand>();
    let shapes = tracer.shapes().unwrap();
    let door = shapes[&("guard.door", 1)].to_string();
    assert_eq!(door, shapes[&("guard.gate_moved", 1)].to_string());
    assert_eq!(
        door,
        "{ id: str, event_id: str, version: u64, recorded_at: i64, name: str, schema: u16, content: \
         str }"
    );
}

#[test]
fn a_recorded_event_is_heard_by_its_stream() {
    let recorded = Recorded::of(&Door::id("front"), DoorEvent::Closed);
    let heard = Heard::<Door>::new(&recorded).unwrap();
    assert_eq!(heard, Heard::of(&Door::id("front"), DoorEvent::Closed));
    let other = Recorded::of(&Gate::id("front"), DoorEvent::Closed);
    assert_eq!(Heard::<Door>::new(&other), None);
}
