//! Types of other crates: what can be stored, and what is said about the others.

use std::collections::{BTreeMap, HashMap};

use composable_rust_core::Message;
use composable_rust_core::codec::Format;
use composable_rust_core::message::AnyMessage;
use composable_rust_core::schema::{SchemaTracer, diagnose_value};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Message)]
enum StoredEvent {
    Priced {
        #[serde(with = "rust_decimal::serde::str")]
        amount: Decimal,
        #[serde(with = "rust_decimal::serde::str_option")]
        discount: Option<Decimal>,
    },
    Dated {
        chrono: chrono::DateTime<chrono::Utc>,
        day: chrono::NaiveDate,
        jiff: jiff::Timestamp,
        civil: jiff::civil::Date,
        time: time::OffsetDateTime,
        duration: std::time::Duration,
    },
    Named {
        id: uuid::Uuid,
        link: url::Url,
        #[serde(with = "json_text")]
        json: serde_json::Value,
    },
    Listed {
        ordered: BTreeMap<String, u32>,
        unordered: HashMap<String, u32>,
    },
}

/// The serde form of a JSON value as a text.
mod json_text {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use serde_json::Value;

    pub(super) fn serialize<S: Serializer>(value: &Value, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Value, D::Error> {
        serde_json::from_str(&String::deserialize(from)?).map_err(de::Error::custom)
    }
}

fn stored() -> [StoredEvent; 4] {
    let entries = [("a".to_owned(), 1), ("b".to_owned(), 2)];
    [
        StoredEvent::Priced { amount: "19.90".parse().unwrap(), discount: None },
        StoredEvent::Dated {
            chrono: "2025-03-01T12:00:00.5Z".parse().unwrap(),
            day: "2025-03-01".parse().unwrap(),
            jiff: "2025-03-01T12:00:00.5Z".parse().unwrap(),
            civil: "2025-03-01".parse().unwrap(),
            time: time::OffsetDateTime::from_unix_timestamp(1_740_830_400).unwrap(),
            duration: std::time::Duration::from_millis(1_500),
        },
        StoredEvent::Named {
            id: uuid::Uuid::from_u128(7),
            link: "https://example.com/a?b=c".parse().unwrap(),
            json: serde_json::json!({ "a": [1, null, "b"] }),
        },
        StoredEvent::Listed { ordered: entries.clone().into(), unordered: entries.into() },
    ]
}

#[test]
fn other_crates_types_are_stored() {
    for event in stored() {
        for format in [Format::Binary, Format::Json] {
            let bytes = event.encode(format).unwrap();
            let read = StoredEvent::decode(event.kind().name, 1, format, &bytes);
            assert_eq!(read.unwrap(), event, "{format:?}");
        }
    }
}

/// Returns the traced shapes, or the problem of the first that cannot be traced.
fn shapes<M: Message>() -> Result<String, String> {
    let mut tracer = SchemaTracer::new();
    let shapes = tracer.message::<M>().shapes().map_err(|error| error.to_string())?;
    let lines = shapes.iter().map(|((name, version), shape)| format!("{name} {version} {shape}"));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

#[test]
fn their_shapes_are_traced() {
    insta::assert_snapshot!(shapes::<StoredEvent>().unwrap(), @r"
    stored.dated 1 { chrono: str, day: str, jiff: str, civil: str, time: (i32, u16, u8, u8, u8, u32, i8, i8, i8), duration: Duration }
    Duration { secs: u64, nanos: u32 }
    stored.listed 1 { ordered: map<str, u32>, unordered: map<str, u32> }
    stored.named 1 { id: bytes, link: str, json: str }
    stored.priced 1 { amount: str, discount: str? }
    ");
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Price {
    currency: String,
    amount: Decimal,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Text(String),
    Number(u8),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    Text { text: String },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Flattened {
    #[serde(flatten)]
    rest: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Status {
    New,
    Open { by: Vec<Option<Untagged>> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Noted {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    count: u32,
}

macro_rules! events {
    ($($event:ident($ty:ty))*) => { $(
        #[derive(Debug, Clone, PartialEq, Message)]
        #[message(prefix = "plan")]
        enum $event {
            Activated { number: u8, value: $ty },
        }
    )* };
}

events! {
    PricedEvent(Price)
    StatusEvent(Status)
    TaggedEvent(Vec<Tagged>)
    JsonEvent(serde_json::Value)
    FlattenedEvent(Flattened)
    NotedEvent(Vec<Noted>)
    PairsEvent(BTreeMap<(u8, u8), u8>)
}

/// Returns what is said about a message that cannot be stored.
fn diagnosis(message: impl Message, format: Format) -> String {
    AnyMessage::new(message).diagnose(format).unwrap_or_else(|| "nothing".to_owned())
}

#[test]
fn what_cannot_be_stored_is_named_with_its_path_and_its_cure() {
    let price = Price { currency: "EUR".into(), amount: "19.90".parse().unwrap() };
    let status = Status::Open { by: vec![Some(Untagged::Number(1))] };
    let tagged = vec![Tagged::Text { text: "a".into() }];
    let flattened = Flattened { rest: [("a".to_owned(), "b".to_owned())].into() };
    let noted = vec![Noted { note: None, count: 1 }];
    let said = [
        diagnosis(PricedEvent::Activated { number: 1, value: price }, Format::Binary),
        diagnosis(StatusEvent::Activated { number: 1, value: status }, Format::Binary),
        diagnosis(TaggedEvent::Activated { number: 1, value: tagged }, Format::Binary),
        diagnosis(JsonEvent::Activated { number: 1, value: 1.into() }, Format::Binary),
        diagnosis(FlattenedEvent::Activated { number: 1, value: flattened }, Format::Binary),
        diagnosis(NotedEvent::Activated { number: 1, value: noted }, Format::Binary),
        diagnosis(PairsEvent::Activated { number: 1, value: [((1, 2), 3)].into() }, Format::Json),
    ];
    insta::assert_snapshot!(said.join("\n\n"));
}

#[test]
fn what_can_be_stored_is_not_blamed() {
    for event in stored() {
        for format in [Format::Binary, Format::Json] {
            assert_eq!(AnyMessage::new(event.clone()).diagnose(format), None);
        }
    }
    let noted = vec![Noted { note: Some("a".into()), count: 1 }];
    let event = NotedEvent::Activated { number: 1, value: noted };
    assert_eq!(diagnosis(event, Format::Binary), "nothing");
}

#[test]
fn a_states_field_that_is_left_out_is_named() {
    let state = Noted { note: None, count: 1 };
    let said = diagnose_value(&state, Format::Binary).unwrap();
    assert!(said.starts_with("`note` is left out"), "{said}");
}

#[test]
fn the_lock_does_not_advise_opaque_for_what_cannot_be_stored() {
    let said = [shapes::<PricedEvent>(), shapes::<JsonEvent>(), shapes::<StatusEvent>()];
    let said: Vec<_> = said.into_iter().map(Result::unwrap_err).collect();
    assert!(said.iter().all(|said| !said.contains("opaque")), "{said:?}");
    insta::assert_snapshot!(said.join("\n\n"));
}
