//! Sets of events, and `#[message(other)]`.

use composable_rust_core::codec::{BincodeCodec, Codecs, DecodeError, Format, JsonCodec};
use composable_rust_core::prelude::*;
use composable_rust_core::schema::SchemaTracer;
use serde::Deserialize;

use crate::door::{Door, DoorCommand, DoorError, DoorEvent};

mod cellar {
    use super::*;

    /// A target in another module, whose events have the stored names of the door's.
    pub(super) enum Cellar {}

    #[derive(Debug, Clone, PartialEq, Message)]
    #[message(prefix = "door")]
    pub(super) enum CellarEvent {
        #[message(version = 2, from(1 = OpenedV1))]
        Opened {
            steps: u8,
        },
        Flooded,
    }

    #[derive(Deserialize)]
    pub(super) struct OpenedV1 {}

    impl From<OpenedV1> for CellarEvent {
        fn from(_: OpenedV1) -> Self {
            Self::Opened { steps: 12 }
        }
    }

    impl Target for Cellar {
        const NAME: &'static str = "cellar";
        type Command = DoorCommand;
        type Event = CellarEvent;
        type Rejection = DoorError;
    }
}

use cellar::{Cellar, CellarEvent};

#[derive(Debug, Clone, PartialEq, EventSet)]
enum House {
    Door(DoorEvent),
    #[event_set(of = cellar::Cellar)]
    Below(CellarEvent),
}

fn decode<S: EventSet>(
    category: &str,
    name: &str,
    version: u16,
    json: &str,
) -> Result<S::Event, DecodeError> {
    S::decode_event(category, name, version, Format::Json, json.as_bytes())
}

#[test]
fn a_target_is_the_set_of_its_own_events() {
    assert_eq!(<Door as EventSet>::CATEGORIES, ["door"]);
    assert_eq!(decode::<Door>("door", "door.closed", 1, "{}").unwrap(), DoorEvent::Closed);
}

#[test]
fn equal_names_are_decoded_by_category() {
    assert_eq!(House::CATEGORIES, ["door", "cellar"]);
    let opened = DoorEvent::Opened { by: "a".to_owned() };
    assert_eq!(
        decode::<House>("door", "door.opened", 1, r#"{"by":"a"}"#).unwrap(),
        House::Door(opened.clone())
    );
    let below = |version, json| decode::<House>("cellar", "door.opened", version, json).unwrap();
    assert_eq!(below(2, r#"{"steps":3}"#), House::Below(CellarEvent::Opened { steps: 3 }));
    // The upcasters of each aggregate apply.
    assert_eq!(below(1, "{}"), House::Below(CellarEvent::Opened { steps: 12 }));
    for codecs in [Codecs::default().writing(BincodeCodec), Codecs::default().writing(JsonCodec)] {
        let stream = Door::id("1").stream();
        let content = codecs.encode(&stream, &opened).unwrap();
        let decoded = codecs.decode_event::<House>(&stream, &content).unwrap();
        assert_eq!(decoded, House::Door(opened.clone()));
    }
}

#[test]
fn an_unknown_event_of_a_set_is_of_newer_code() {
    for (category, name, version) in
        [("door", "door.painted", 1), ("door", "door.opened", 2), ("window", "door.opened", 1)]
    {
        let error = decode::<House>(category, name, version, "{}").unwrap_err();
        assert!(error.is_newer(), "{error:?}");
    }
}

/// Some events of both.
#[derive(Debug, Clone, PartialEq, Message, EventSet)]
#[event_set(Door, Cellar)]
enum Damage {
    #[message(name = "door.flooded")]
    Flooded,
    #[message(name = "door.closed")]
    Closed,
    #[message(other)]
    Other,
}

#[test]
fn unknown_names_are_the_other_variant() {
    let damage = |category, name, version| decode::<Damage>(category, name, version, "{}");
    assert_eq!(damage("cellar", "door.flooded", 1).unwrap(), Damage::Flooded);
    for name in ["door.opened", "door.painted", ""] {
        assert_eq!(damage("door", name, 7).unwrap(), Damage::Other, "{name}");
    }
    // What it declares, it does not ignore.
    let error = damage("cellar", "door.flooded", 2).unwrap_err();
    assert!(error.is_newer(), "{error:?}");
    assert!(matches!(error, DecodeError::UnknownVersion { version: 2, known: 1, .. }));
}

#[test]
fn the_other_variant_is_never_stored() {
    assert_eq!((Damage::HAS_OTHER, DoorEvent::HAS_OTHER), (true, false));
    let names: Vec<_> = Damage::KINDS.iter().map(|kind| kind.name).collect();
    assert_eq!(names, ["door.flooded", "door.closed"]);
    assert!(Damage::Other.kind().internal);
    let mut tracer = SchemaTracer::new();
    tracer.message::<Damage>();
    assert_eq!(tracer.shapes().unwrap().len(), 2);
    for format in [Format::Binary, Format::Json] {
        let error = Damage::Other.encode(format).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(
            (error.to_string(), cause),
            (
                "`$other` cannot be encoded".to_owned(),
                "it stands for messages that this code does not know, and cannot be stored"
                    .to_owned()
            )
        );
    }
}

/// Knows nothing.
#[derive(Debug, Clone, PartialEq, Message)]
enum Nothing {
    #[message(other)]
    Other,
}

#[test]
fn an_enum_may_ignore_everything() {
    assert_eq!(Nothing::decode("a", 1, Format::Json, b"").unwrap(), Nothing::Other);
    assert!(Nothing::Other.encode(Format::Json).is_err());
    assert!(Nothing::KINDS.is_empty());
}
