//! Older versions that follow from `since` and `removed(…)`.

use composable_rust_core::Message;
use composable_rust_core::codec::{DecodeError, Format};
use composable_rust_core::schema::SchemaTracer;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
enum Reason {
    #[default]
    Price,
    Other {
        text: String,
    },
}

/// The releases of an enum: each reads what the ones before have written.
mod v1 {
    use super::{Message, Reason};

    #[derive(Debug, Clone, PartialEq, Message)]
    #[message(prefix = "order")]
    pub(super) enum OrderEvent {
        Cancelled { discount: u32, why: Reason },
        Moved(u8),
        Closed,
        Marked(u8, u16, u32),
    }
}

mod v2 {
    use super::{Message, Reason};

    #[derive(Debug, Clone, PartialEq, Message)]
    #[message(prefix = "order")]
    pub(super) enum OrderEvent {
        #[message(version = 2)]
        Cancelled {
            discount: u32,
            why: Reason,
            #[message(since = 2, default = true)]
            win_back: bool,
        },
        #[message(version = 2)]
        Moved(u8, #[message(since = 2)] u8),
        #[message(version = 2)]
        Closed {
            #[message(since = 2)]
            why: Reason,
        },
        #[message(version = 2, removed(u16, since = 2, default = 7, before = 1))]
        Marked(u8, u32),
    }
}

mod v3 {
    use super::{Message, Reason};

    #[derive(Debug, Clone, PartialEq, Message)]
    #[message(prefix = "order")]
    pub(super) enum OrderEvent {
        #[message(
            version = 3,
            removed(discount: u32, since = 3, before = why),
        )]
        Cancelled {
            why: Reason,
            #[message(since = 2, default = true)]
            win_back: bool,
            #[message(since = 3)]
            #[serde(with = "super::text")]
            count: u64,
        },
        #[message(version = 3, removed(u8, added = 2, since = 3))]
        Moved(u8),
        #[message(version = 3, removed(why: Reason, added = 2, since = 3))]
        Closed,
        #[message(version = 2, removed(u16, since = 2, default = 7, before = 1))]
        Marked(u8, u32),
    }
}

/// The serde form of a number as text. Generic over the value, so a reference would not match.
mod text {
    use serde::{Deserialize, Deserializer, Serializer, de};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

fn other() -> Reason {
    Reason::Other { text: "ä".into() }
}

/// Checks that `New` reads each message of `Old` as the message beside it, in both formats.
fn reads<Old: Message, New: Message>(pairs: Vec<(Old, New)>) {
    for (old, new) in pairs {
        for format in [Format::Binary, Format::Json] {
            let bytes = old.encode(format).unwrap();
            let kind = old.kind();
            let read = New::decode(kind.name, kind.version, format, &bytes).unwrap();
            assert_eq!(read, new, "{format:?}");
        }
    }
}

#[test]
fn a_version_reads_all_older_ones() {
    let first = || {
        vec![
            v1::OrderEvent::Cancelled { discount: 300, why: other() },
            v1::OrderEvent::Moved(5),
            v1::OrderEvent::Closed,
            v1::OrderEvent::Marked(1, 2, 3),
        ]
    };
    let second = || {
        vec![
            v2::OrderEvent::Cancelled { discount: 300, why: other(), win_back: true },
            v2::OrderEvent::Moved(5, 0),
            v2::OrderEvent::Closed { why: Reason::Price },
            v2::OrderEvent::Marked(1, 3),
        ]
    };
    let third = || {
        vec![
            v3::OrderEvent::Cancelled { why: other(), win_back: true, count: 0 },
            v3::OrderEvent::Moved(5),
            v3::OrderEvent::Closed,
            v3::OrderEvent::Marked(1, 3),
        ]
    };
    reads(first().into_iter().zip(second()).collect());
    reads(first().into_iter().zip(third()).collect());
    reads(second().into_iter().zip(third()).collect());
    reads(third().into_iter().zip(third()).collect());
    let said_no = v2::OrderEvent::Cancelled { discount: 0, why: other(), win_back: false };
    let read = v3::OrderEvent::Cancelled { why: other(), win_back: false, count: 0 };
    reads(vec![(said_no, read)]);
}

#[test]
fn the_newest_version_is_written() {
    let versions: Vec<_> = v3::OrderEvent::KINDS.iter().map(|kind| kind.version).collect();
    assert_eq!(versions, [3, 3, 3, 2]);
    let event = v3::OrderEvent::Cancelled { why: Reason::Price, win_back: false, count: 9 };
    let json = br#"{"why":"Price","win_back":false,"count":"9"}"#;
    assert_eq!(event.encode(Format::Json).unwrap(), json);
    let unknown = v3::OrderEvent::decode("order.marked", 3, Format::Json, b"{}");
    assert!(matches!(unknown, Err(DecodeError::UnknownVersion { known: 2, .. })), "{unknown:?}");
}

/// Returns the traced shapes, a line for each version.
fn shapes<M: Message>() -> String {
    let mut tracer = SchemaTracer::new();
    let shapes = tracer.message::<M>().shapes().unwrap();
    let line = |(name, version): &(&str, u16), shape: String| {
        format!("{name} {version}: {}", shape.replace('\n', "\n    "))
    };
    let lines: Vec<_> = shapes.iter().map(|(key, shape)| line(key, shape.to_string())).collect();
    lines.join("\n")
}

#[test]
fn the_tracer_sees_every_version_as_it_was() {
    insta::assert_snapshot!(shapes::<v3::OrderEvent>(), @r"
    order.cancelled 1: { discount: u32, why: Reason }
        Reason = Price | Other { text: str }
    order.cancelled 2: { discount: u32, why: Reason, win_back: bool }
        Reason = Price | Other { text: str }
    order.cancelled 3: { why: Reason, win_back: bool, count: str }
        Reason = Price | Other { text: str }
    order.closed 1: {}
    order.closed 2: { why: Reason }
        Reason = Price | Other { text: str }
    order.closed 3: {}
    order.marked 1: { 0: u8, 1: u16, 2: u32 }
    order.marked 2: { 0: u8, 1: u32 }
    order.moved 1: u8
    order.moved 2: { 0: u8, 1: u8 }
    order.moved 3: u8
    ");
    let newest = shapes::<v3::OrderEvent>();
    for older in [shapes::<v1::OrderEvent>(), shapes::<v2::OrderEvent>()] {
        for line in older.lines() {
            assert!(newest.lines().any(|known| known == line), "{line}\n\n{newest}");
        }
    }
}

/// The release that reads version 2 and does not write it yet.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(prefix = "order")]
enum Cautious {
    #[message(
        version = 2,
        write = 1,
        removed(discount: u32, since = 2, before = why, default = 300),
    )]
    Cancelled {
        why: Reason,
        #[message(since = 2, default = true)]
        win_back: bool,
    },
    #[message(version = 2, write = 1)]
    Moved(u8, #[message(since = 2)] u8),
    #[message(version = 2, write = 1)]
    Closed {
        #[message(since = 2)]
        why: Reason,
    },
    #[message(version = 2, removed(u16, since = 2, default = 7, before = 1), write = 1)]
    Marked(u8, u32),
}

#[test]
fn a_derived_version_is_written_while_both_are_read() {
    let pairs = [
        (
            Cautious::Cancelled { why: other(), win_back: true },
            v1::OrderEvent::Cancelled { discount: 300, why: other() },
        ),
        (Cautious::Moved(5, 0), v1::OrderEvent::Moved(5)),
        (Cautious::Closed { why: Reason::Price }, v1::OrderEvent::Closed),
        (Cautious::Marked(1, 3), v1::OrderEvent::Marked(1, 7, 3)),
    ];
    for (new, old) in pairs {
        assert_eq!(new.kind(), old.kind());
        for format in [Format::Binary, Format::Json] {
            let bytes = new.encode(format).unwrap();
            assert_eq!(bytes, old.encode(format).unwrap(), "{format:?}");
            let read = Cautious::decode(new.kind().name, 1, format, &bytes).unwrap();
            assert_eq!(read, new);
        }
    }
    let json = br#"{"why":"Price","win_back":false}"#;
    let second = Cautious::decode("order.cancelled", 2, Format::Json, json).unwrap();
    assert_eq!(second, Cautious::Cancelled { why: Reason::Price, win_back: false });
}

#[test]
fn what_an_older_version_cannot_express_does_not_read_back_equal() {
    let no = Cautious::Cancelled { why: other(), win_back: false };
    for format in [Format::Binary, Format::Json] {
        let bytes = no.encode(format).unwrap();
        assert_ne!(Cautious::decode("order.cancelled", 1, format, &bytes).unwrap(), no);
    }
}

/// The first change is one that no default describes; the later ones are.
#[derive(Debug, Clone, PartialEq, Message)]
enum ParcelEvent {
    #[message(version = 4, from(1 = SentV1), removed(note: String, since = 4))]
    Sent {
        to: Vec<String>,
        #[message(since = 3, default = super::evolution::grams("500"))]
        grams: u32,
        #[message(opaque = "bytes 1")]
        seal: Vec<u8>,
    },
}

fn grams(text: &str) -> u32 {
    text.parse().unwrap()
}

#[derive(Deserialize)]
struct SentV1 {
    to: String,
}

impl From<SentV1> for ParcelEvent {
    fn from(old: SentV1) -> Self {
        Self::Sent { to: vec![old.to], grams: 0, seal: vec![1] }
    }
}

#[test]
fn derived_versions_follow_those_that_are_named() {
    let golden: [(u16, &[u8], u32, u8); 4] = [
        (1, b"\x01a", 0, 1),
        (2, b"\x01\x01a\x01\x02\x01n", 500, 2),
        (3, b"\x01\x01a\x07\x01\x02\x01n", 7, 2),
        (4, b"\x01\x01a\x07\x01\x02", 7, 2),
    ];
    for (version, bytes, grams, seal) in golden {
        let read = ParcelEvent::decode("parcel.sent", version, Format::Binary, bytes).unwrap();
        let expected = ParcelEvent::Sent { to: vec!["a".into()], grams, seal: vec![seal] };
        assert_eq!(read, expected, "{version}");
    }
    insta::assert_snapshot!(shapes::<ParcelEvent>(), @r"
    parcel.sent 1: { to: str }
    parcel.sent 2: { to: [str], seal: bytes 1, note: str }
    parcel.sent 3: { to: [str], grams: u32, seal: bytes 1, note: str }
    parcel.sent 4: { to: [str], grams: u32, seal: bytes 1 }
    ");
}
