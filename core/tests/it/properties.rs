//! Property tests: every message is read as it was written.

use std::collections::BTreeMap;

use composable_rust_core::codec::Format;
use composable_rust_core::{Message, Timestamp};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Message)]
enum AnyEvent {
    Empty,
    One(String),
    Many(i8, Vec<u8>, Option<char>),
    Named {
        at: Timestamp,
        wide: u128,
        signed: i128,
        nested: Vec<Nested>,
        #[message(json)]
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        map: BTreeMap<String, Option<u64>>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Nested {
    Leaf,
    Text { text: String },
    Both(Box<Nested>, Box<Nested>),
}

fn nested() -> impl Strategy<Value = Nested> {
    let leaf =
        prop_oneof![Just(Nested::Leaf), any::<String>().prop_map(|text| Nested::Text { text })];
    leaf.prop_recursive(4, 16, 2, |inner| {
        (inner.clone(), inner).prop_map(|(a, b)| Nested::Both(Box::new(a), Box::new(b)))
    })
}

/// Years 1 to 9999: those that RFC 3339 can express.
fn moment() -> impl Strategy<Value = Timestamp> {
    (-62_135_596_800_000_000_i64..253_402_207_200_000_000).prop_map(Timestamp::from_micros)
}

fn event() -> impl Strategy<Value = AnyEvent> {
    let named = (
        moment(),
        any::<u128>(),
        any::<i128>(),
        prop::collection::vec(nested(), 0..4),
        prop::collection::btree_map(any::<String>(), any::<Option<u64>>(), 0..4),
    )
        .prop_map(|(at, wide, signed, nested, map)| AnyEvent::Named {
            at,
            wide,
            signed,
            nested,
            map,
        });
    prop_oneof![
        Just(AnyEvent::Empty),
        any::<String>().prop_map(AnyEvent::One),
        any::<(i8, Vec<u8>, Option<char>)>().prop_map(|(a, b, c)| AnyEvent::Many(a, b, c)),
        named,
    ]
}

fn format() -> impl Strategy<Value = Format> {
    prop_oneof![Just(Format::Binary), Just(Format::Json)]
}

proptest! {
    #[test]
    fn what_was_written_is_read(event in event(), format in format()) {
        let bytes = event.encode(format).unwrap();
        let kind = event.kind();
        prop_assert_eq!(AnyEvent::decode(kind.name, kind.version, format, &bytes).unwrap(), event);
    }

    /// Stored bytes may be anything: reading them fails or succeeds, and ends.
    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        kind in prop::sample::select(AnyEvent::KINDS),
        format in format(),
    ) {
        if let Ok(event) = AnyEvent::decode(kind.name, kind.version, format, &bytes) {
            let again = event.encode(format).unwrap();
            prop_assert_eq!(AnyEvent::decode(kind.name, kind.version, format, &again).unwrap(), event);
        }
    }

    /// Truncated bytes do not decode to a shorter value.
    #[test]
    fn a_cut_end_is_noticed(event in event(), format in format(), cut in 1_usize..8) {
        let bytes = event.encode(format).unwrap();
        let kind = event.kind();
        if let Some(end) = bytes.len().checked_sub(cut) {
            prop_assert!(AnyEvent::decode(kind.name, kind.version, format, &bytes[..end]).is_err());
        }
    }
}

#[derive(Debug, Clone, PartialEq, Message)]
enum Measured {
    At { lat: f64, kg: f32 },
}

proptest! {
    /// Bit for bit: a reader that is off by one unit in the last place decides differently.
    #[test]
    fn finite_floats_survive_both_formats(lat in any::<f64>(), near in -180.0..180.0, kg in any::<f32>()) {
        prop_assume!(lat.is_finite() && kg.is_finite());
        for lat in [lat, near] {
            for format in [Format::Binary, Format::Json] {
                let bytes = Measured::At { lat, kg }.encode(format).unwrap();
                let Measured::At { lat: read, kg: weight } =
                    Measured::decode("measured.at", 1, format, &bytes).unwrap();
                prop_assert_eq!((read.to_bits(), weight.to_bits()), (lat.to_bits(), kg.to_bits()));
            }
        }
    }
}
