//! Every form of variant, and every attribute.

use std::collections::BTreeMap;

use composable_rust_core::Message;
use composable_rust_core::codec::{DecodeError, Format};
use composable_rust_core::message::MessageKind;
use serde::{Deserialize, Serialize};

/// The serde form of hexadecimal text.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
    pub(super) fn serialize<S: Serializer>(
        bytes: &[u8; 2],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:02x}{:02x}", bytes[0], bytes[1]))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[u8; 2], D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = u16::from_str_radix(&text, 16).map_err(de::Error::custom)?;
        Ok(number.to_be_bytes())
    }
}

/// The serde form of text, for types that print and parse. Generic over the value, so a reference
/// would not match.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) trait Owned: 'static {}
    impl Owned for u32 {}

    pub(super) fn serialize<T: Display + Owned, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T: FromStr, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|_| de::Error::custom("not a number"))
    }

    pub(super) fn is_zero<T: Owned + PartialEq<u32>>(value: &T) -> bool {
        *value == 0
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Item {
    sku: String,
    count: u32,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum FormEvent {
    Unit,
    Braces {},
    Parens(),
    One(Item),
    Two(u8, String),
    Named {
        items: Vec<Item>,
        r#type: Option<bool>,
        format: u8,
        kind: u8,
        name: u8,
    },
    HTTPCall {
        by_name: BTreeMap<String, u64>,
    },
    #[message(name = "kept", version = 3)]
    Renamed {
        at: i64,
    },
    #[message(internal)]
    TimedOut,
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    Serde {
        #[serde(rename = "TYPE")]
        the_type: u8,
        #[message(json)]
        #[serde(default = "seven")]
        or_seven: u8,
        #[serde(with = "hex")]
        as_hex: [u8; 2],
        #[serde(with = "text")]
        as_text: u32,
        #[serde(skip)]
        not_stored: u8,
        #[message(json)]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        maybe: Option<u8>,
        #[message(json)]
        #[serde(default, skip_serializing_if = "text::is_zero")]
        number: u32,
    },
    OneWith(#[serde(with = "hex")] [u8; 2]),
    TwoWith(#[serde(rename = "first")] u8, #[serde(with = "hex")] [u8; 2]),
    Skipped(#[serde(skip)] u8),
    Recursive(Box<Tree>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Tree {
    children: Vec<Tree>,
}

fn seven() -> u8 {
    7
}

fn forms() -> Vec<FormEvent> {
    let item = Item { sku: "a".into(), count: 1 };
    vec![
        FormEvent::Unit,
        FormEvent::Braces {},
        FormEvent::Parens(),
        FormEvent::One(item.clone()),
        FormEvent::Two(1, "ä".into()),
        FormEvent::Named { items: vec![item], r#type: Some(true), format: 1, kind: 2, name: 3 },
        FormEvent::HTTPCall { by_name: [("x".into(), 300)].into() },
        FormEvent::Renamed { at: -1 },
        FormEvent::TimedOut,
        FormEvent::Serde {
            the_type: 1,
            or_seven: 2,
            as_hex: [0xab, 0xcd],
            as_text: 42,
            not_stored: 0,
            maybe: None,
            number: 0,
        },
        FormEvent::OneWith([1, 2]),
        FormEvent::TwoWith(9, [1, 2]),
        FormEvent::Skipped(0),
        FormEvent::Recursive(Box::new(Tree { children: vec![Tree { children: vec![] }] })),
    ]
}

#[test]
fn round_trips() {
    for format in [Format::Binary, Format::Json] {
        for event in forms() {
            let MessageKind { name, version, .. } = *event.kind();
            let bytes = event.encode(format).unwrap();
            let read = FormEvent::decode(name, version, format, &bytes);
            assert_eq!(read.unwrap(), event, "{format:?}");
            assert!(matches!(
                FormEvent::decode(name, version + 1, format, &bytes),
                Err(DecodeError::UnknownVersion { known, .. }) if known == version
            ));
        }
    }
}

/// Returns a variant's content as JSON.
fn json<M: Message>(message: &M) -> String {
    String::from_utf8(message.encode(Format::Json).unwrap()).unwrap()
}

#[test]
fn names_and_versions() {
    let kinds: Vec<_> = FormEvent::KINDS
        .iter()
        .map(|MessageKind { name, version, internal, .. }| {
            format!("{name} {version}{}", if *internal { " internal" } else { "" })
        })
        .collect();
    insta::assert_snapshot!(kinds.join("\n"), @r"
    form.unit 1
    form.braces 1
    form.parens 1
    form.one 1
    form.two 1
    form.named 1
    form.http_call 1
    kept 3
    form.timed_out 1 internal
    form.serde 1
    form.one_with 1
    form.two_with 1
    form.skipped 1
    form.recursive 1
    ");
}

#[test]
fn json_is_readable() {
    let all: Vec<_> =
        forms().iter().map(|event| format!("{}: {}", event.kind().name, json(event))).collect();
    insta::assert_snapshot!(all.join("\n"), @r#"
    form.unit: {}
    form.braces: {}
    form.parens: {}
    form.one: {"sku":"a","count":1}
    form.two: {"0":1,"1":"ä"}
    form.named: {"items":[{"sku":"a","count":1}],"type":true,"format":1,"kind":2,"name":3}
    form.http_call: {"by_name":{"x":300}}
    kept: {"at":-1}
    form.timed_out: {}
    form.serde: {"TYPE":1,"orSeven":2,"asHex":"abcd","asText":"42"}
    form.one_with: "0102"
    form.two_with: {"first":9,"1":"0102"}
    form.skipped: {}
    form.recursive: {"children":[{"children":[]}]}
    "#);
}

#[test]
fn serde_attributes_are_honoured() {
    let read = |text: &str| FormEvent::decode("form.serde", 1, Format::Json, text.as_bytes());
    let least = r#"{ "TYPE": 1, "asHex": "0001", "asText": "5" }"#;
    let expected = FormEvent::Serde {
        the_type: 1,
        or_seven: 7,
        as_hex: [0, 1],
        as_text: 5,
        not_stored: 0,
        maybe: None,
        number: 0,
    };
    assert_eq!(read(least).unwrap(), expected);
    let unknown = r#"{ "TYPE": 1, "asHex": "0001", "asText": "5", "more": 1 }"#;
    assert!(matches!(read(unknown), Err(DecodeError::Malformed { .. })));
    // A field that is skipped is not stored, in either format.
    let skipped = FormEvent::Skipped(9);
    for format in [Format::Binary, Format::Json] {
        let bytes = skipped.encode(format).unwrap();
        let read = FormEvent::decode("form.skipped", 1, format, &bytes);
        assert_eq!(read.unwrap(), FormEvent::Skipped(0));
    }
}

#[test]
fn what_cannot_be_read_is_told_apart() {
    let unknown = FormEvent::decode("form.nothing", 1, Format::Binary, &[]).unwrap_err();
    assert!(matches!(&unknown, DecodeError::UnknownName { name } if name == "form.nothing"));
    assert!(unknown.is_newer());
    let version = FormEvent::decode("kept", 4, Format::Binary, &[]).unwrap_err();
    assert!(matches!(version, DecodeError::UnknownVersion { version: 4, known: 3, .. }));
    assert!(version.is_newer());
    let old = FormEvent::decode("kept", 2, Format::Binary, &[]).unwrap_err();
    assert!(!old.is_newer());
    for (format, bytes) in
        [(Format::Binary, &b"\x01"[..]), (Format::Json, b"null"), (Format::Json, b"")]
    {
        let malformed = FormEvent::decode("form.unit", 1, format, bytes).unwrap_err();
        assert!(matches!(malformed, DecodeError::Malformed { version: 1, .. }), "{malformed:?}");
        assert!(std::error::Error::source(&malformed).is_some());
    }
}

#[derive(Debug, Clone, PartialEq, Message)]
enum ParcelEvent {
    #[message(version = 3, from(1 = SentV1, 2 = SentV2))]
    Sent { to: String, grams: u32, express: bool },
    /// The name is reused: the first shape has become another event.
    #[message(name = "parcel.returned", version = 1)]
    ReturnedUnread,
    #[message(name = "parcel.returned", version = 2)]
    Returned { reason: String },
}

#[derive(Deserialize)]
struct SentV1 {
    to: String,
}

#[derive(Deserialize)]
struct SentV2 {
    to: String,
    grams: u32,
}

impl From<SentV1> for SentV2 {
    fn from(old: SentV1) -> Self {
        Self { to: old.to, grams: 500 }
    }
}

impl From<SentV2> for ParcelEvent {
    fn from(old: SentV2) -> Self {
        Self::Sent { to: old.to, grams: old.grams, express: false }
    }
}

/// The release that reads version 2 and does not write it yet.
#[derive(Debug, Clone, PartialEq, Message)]
enum LetterEvent {
    #[message(version = 2, from(1 = PostedV1), write = 1)]
    Posted {
        #[serde(with = "hex")]
        stamp: [u8; 2],
        #[message(json)]
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    Lost,
}

#[derive(Serialize, Deserialize)]
struct PostedV1 {
    stamp: u16,
}

impl From<PostedV1> for LetterEvent {
    fn from(old: PostedV1) -> Self {
        Self::Posted { stamp: old.stamp.to_be_bytes(), note: None }
    }
}

impl From<&LetterEvent> for PostedV1 {
    fn from(event: &LetterEvent) -> Self {
        match event {
            LetterEvent::Posted { stamp, .. } => Self { stamp: u16::from_be_bytes(*stamp) },
            LetterEvent::Lost => unreachable!("it has one version"),
        }
    }
}

#[test]
fn an_older_version_is_written_while_both_are_read() {
    let posted = LetterEvent::Posted { stamp: [1, 2], note: None };
    assert_eq!((posted.kind().name, posted.kind().version), ("letter.posted", 1));
    assert_eq!(LetterEvent::KINDS[1].version, 1);
    assert_eq!(posted.encode(Format::Json).unwrap(), br#"{"stamp":258}"#);
    for format in [Format::Json, Format::Binary] {
        let bytes = posted.encode(format).unwrap();
        assert_eq!(LetterEvent::decode("letter.posted", 1, format, &bytes).unwrap(), posted);
    }
    let json = br#"{"stamp":"0102","note":"a"}"#;
    let newer = LetterEvent::decode("letter.posted", 2, Format::Json, json).unwrap();
    assert_eq!(newer, LetterEvent::Posted { stamp: [1, 2], note: Some("a".into()) });
    // Content that the older version cannot express is lost, so the runtime refuses the event.
    let bytes = newer.encode(Format::Binary).unwrap();
    assert_ne!(LetterEvent::decode("letter.posted", 1, Format::Binary, &bytes).unwrap(), newer);
    let unknown = LetterEvent::decode("letter.posted", 3, Format::Json, b"{}");
    assert!(matches!(unknown, Err(DecodeError::UnknownVersion { known: 2, .. })), "{unknown:?}");
    assert_eq!(LetterEvent::Lost.kind().version, 1);
}

#[test]
fn old_versions_are_read() {
    let golden: [(u16, &[u8], &[u8], u32); 2] =
        [(1, b"\x01a", br#"{"to":"a"}"#, 500), (2, b"\x01a\x07", br#"{"to":"a","grams":7}"#, 7)];
    for (version, binary, json, grams) in golden {
        let expected = ParcelEvent::Sent { to: "a".into(), grams, express: false };
        for (format, bytes) in [(Format::Binary, binary), (Format::Json, json)] {
            let read = ParcelEvent::decode("parcel.sent", version, format, bytes);
            assert_eq!(read.unwrap(), expected, "{version} {format:?}");
        }
    }
    let read = |version| {
        ParcelEvent::decode("parcel.returned", version, Format::Json, b"{\"reason\":\"\"}")
    };
    assert_eq!(read(1).unwrap(), ParcelEvent::ReturnedUnread);
    assert_eq!(read(2).unwrap(), ParcelEvent::Returned { reason: String::new() });
    assert!(matches!(read(3), Err(DecodeError::UnknownVersion { known: 2, .. })));
}

#[derive(Debug, Clone, PartialEq, Message)]
#[message(prefix = "legacy")]
enum Everything {
    Happened,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum NothingEvent {}

#[test]
fn prefixes_and_enums_without_variants() {
    assert_eq!(Everything::Happened.kind().name, "legacy.happened");
    assert_eq!(NothingEvent::KINDS, []);
    assert!(NothingEvent::decode("a", 1, Format::Json, b"{}").is_err());
}

#[derive(Debug, Clone, PartialEq, Message)]
enum FailingEvent {
    Failing(#[serde(with = "failing")] u8),
}

mod failing {
    use serde::{Deserialize, Deserializer, Serializer, ser};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
    pub(super) fn serialize<S: Serializer>(_: &u8, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("not today"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
        u8::deserialize(deserializer)
    }
}

#[test]
fn what_cannot_be_written_is_an_error_of_the_message() {
    for format in [Format::Binary, Format::Json] {
        let error = FailingEvent::Failing(1).encode(format).unwrap_err();
        assert_eq!(error.to_string(), "`failing.failing` cannot be encoded");
    }
}

#[test]
fn what_is_too_large_is_refused() {
    for format in [Format::Binary, Format::Json] {
        let large = FormEvent::Two(1, "x".repeat(composable_rust_core::store::MAX_PAYLOAD_BYTES));
        assert!(large.encode(format).is_err());
    }
}

#[derive(Debug, Clone, PartialEq, Message)]
enum SilentRejection {
    /// There is no such order.
    ///
    /// A second paragraph.
    #[message(status = 404)]
    Unknown,
    Undocumented,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum TellingRejection {
    /// Too few units are left
    /// for the parcel.
    TooMany { left: u32 },
}

impl std::fmt::Display for TellingRejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::TooMany { left } = self;
        write!(f, "only {left} units are left")
    }
}

#[test]
fn kinds_have_statuses_and_summaries() {
    let [unknown, undocumented] = SilentRejection::KINDS else { panic!("two variants") };
    assert_eq!((unknown.status, unknown.summary), (Some(404), "There is no such order."));
    assert_eq!((undocumented.status, undocumented.summary), (None, ""));
    let summary = TellingRejection::KINDS[0].summary;
    assert_eq!(summary, "Too few units are left for the parcel.");
}

#[test]
fn the_display_text_is_that_of_the_type() {
    assert_eq!(SilentRejection::Unknown.display(), None);
    let telling = TellingRejection::TooMany { left: 2 };
    assert_eq!(telling.display().as_deref(), Some("only 2 units are left"));
}
