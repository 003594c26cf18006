//! Traced shapes: their text, and the changes that alter them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use composable_rust_core::message::MessageKind;
use composable_rust_core::prelude::*;
use composable_rust_core::schema::{SchemaTracer, Shape, Untraceable, fingerprint};
use composable_rust_core::{StreamId, Version};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;

use crate::door::Door;

/// Returns the traced shapes of a message, each under its name and version.
pub(crate) fn shapes<M: Message>() -> Result<String, Untraceable> {
    let mut tracer = SchemaTracer::new();
    tracer.message::<M>();
    printed(&tracer)
}

fn printed(tracer: &SchemaTracer) -> Result<String, Untraceable> {
    let shapes = tracer.shapes()?;
    let printed =
        shapes.iter().map(|((name, version), shape)| format!("{name} {version}: {shape}"));
    Ok(printed.collect::<Vec<_>>().join("\n"))
}

/// Returns the shape of any type.
fn shape<T: DeserializeOwned>() -> String {
    try_shape::<T>().unwrap()
}

fn try_shape<T: DeserializeOwned>() -> Result<String, Untraceable> {
    shape_value::<T>().map(|shape| shape.to_string())
}

fn shape_value<T: DeserializeOwned>() -> Result<Shape, Untraceable> {
    let mut tracer = SchemaTracer::new();
    tracer.content::<T>(&MessageKind {
        name: "t",
        version: 1,
        internal: false,
        status: None,
        summary: "",
    });
    tracer.shapes().map(|mut shapes| shapes.remove(&("t", 1)).unwrap())
}

/// Checks the serde form of a type against a shape.
macro_rules! shape_of {
    ($ty:ty, $($line:literal),+) => { assert_eq!(shape::<$ty>(), [$($line),+].join("\n")) };
}

#[test]
fn primitives_and_containers() {
    shape_of!(bool, "bool");
    shape_of!(u128, "u128");
    shape_of!(i128, "i128");
    shape_of!((f32, f64, char), "(f32, f64, char)");
    shape_of!([u8; 32], "[u8; 32]");
    shape_of!((u8, u8), "(u8, u8)");
    shape_of!((), "()");
    shape_of!(Option<Option<String>>, "str??");
    shape_of!(Vec<Vec<u8>>, "[[u8]]");
    shape_of!(HashMap<String, BTreeMap<u8, Vec<i64>>>, "map<str, map<u8, [i64]>>");
    shape_of!(Box<str>, "str");
    shape_of!(Duration, "{ secs: u64, nanos: u32 }");
    shape_of!(Result<u8, String>, "Ok(u8) | Err(str)");
    shape_of!(Bytes, "(bytes)");
}

/// Bytes as `serde_bytes` reads them.
#[derive(Debug)]
struct Bytes;

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> Result<Bytes, D::Error> {
                d.deserialize_bytes(self)
            }

            fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes)
            }
        }
        deserializer.deserialize_newtype_struct("Bytes", Visitor)
    }
}

#[test]
fn own_types() {
    shape_of!(Id<Door>, "(str)");
    shape_of!(Vec<Id<Door>>, "[Id]", "Id(str)");
    shape_of!(Timestamp, "i64");
    shape_of!(Version, "u64");
    shape_of!(StreamId, "str");
    shape_of!(Uuid, "bytes");
    shape_of!(
        (Reply<Door>, u8),
        "(Answered, u8)",
        "Answered { outcome: Outcome, name: str, version: u16, content: str }",
        "Outcome = Recorded | Rejected | Unchanged | Undelivered"
    );
}

#[test]
fn foreign_types_that_check_what_they_read() {
    shape_of!(NonZeroU32, "u32");
    shape_of!(IpAddr, "V4([u8; 4]) | V6([u8; 16])");
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "only its shape matters")]
enum Color {
    Red,
    Green(u8),
    Blue { x: u32 },
    Mixed(u8, Box<Color>),
}

#[test]
fn nested_enums_are_seen_to_the_last_variant() {
    const COLOR: &str = "Color = Red | Green(u8) | Blue { x: u32 } | Mixed(u8, Color)";

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Deep {
        list: Vec<Option<BTreeMap<String, Color>>>,
        step: Step,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    enum Step {
        Paint(Vec<Color>),
        Wait(Result<u8, Tool>),
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    enum Tool {
        Brush,
        Roller(Size),
    }

    #[derive(Deserialize)]
    enum Size {
        S,
        M,
        L,
    }

    shape_of!(
        Color,
        "Red | Green(u8) | Blue { x: u32 } | Mixed(u8, Color)",
        "Color = Red | Green(u8) | Blue { x: u32 } | Mixed(u8, Color)"
    );
    assert_eq!(shape::<Vec<Color>>(), format!("[Color]\n{COLOR}"));
    assert_eq!(shape::<Option<Color>>(), format!("Color?\n{COLOR}"));
    assert_eq!(shape::<HashMap<u8, Color>>(), format!("map<u8, Color>\n{COLOR}"));
    assert_eq!(shape::<[Color; 2]>(), format!("(Color, Color)\n{COLOR}"));
    assert_eq!(
        shape::<Deep>(),
        [
            "{ list: [map<str, Color>?], step: Step }",
            COLOR,
            "Step = Paint([Color]) | Wait(Result)",
            "Result = Ok(u8) | Err(Tool)",
            "Tool = Brush | Roller(Size)",
            "Size = S | M | L",
        ]
        .join("\n")
    );
}

#[test]
fn recursive_types_end() {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    enum Expr {
        Add(Box<Expr>, Box<Expr>),
        Mul(Box<Expr>, Box<Expr>),
        Neg { of: Box<Expr> },
        Call(Vec<Expr>, Option<Box<Other>>),
        Num(i64),
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Other {
        next: Option<Box<Other>>,
        back: Vec<Expr>,
        color: Color,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Endless {
        next: Box<Endless>,
    }

    shape_of!(
        Box<Expr>,
        "Add(Expr, Expr) | Mul(Expr, Expr) | Neg { of: Expr } | Call([Expr], Other?) | Num(i64)",
        "Expr = Add(Expr, Expr) | Mul(Expr, Expr) | Neg { of: Expr } | Call([Expr], Other?) | Num(i64)",
        "Other { next: Other?, back: [Expr], color: Color }",
        "Color = Red | Green(u8) | Blue { x: u32 } | Mixed(u8, Color)"
    );
    // No value of this type exists, yet reading it must not overflow the stack.
    shape_of!(Endless, "{ next: Endless }", "Endless { next: Endless }");
}

#[test]
fn wide_types_are_traced_fast() {
    macro_rules! level {
        ($name:ident of $inner:ty) => {
            #[derive(Deserialize)]
            #[expect(dead_code, reason = "only its shape matters")]
            struct $name {
                a: $inner,
                b: Vec<$inner>,
                c: Option<$inner>,
                d: ($inner, $inner),
            }
        };
    }
    level!(A of Color);
    level!(B of A);
    level!(C of B);
    level!(D of C);
    level!(E of D);
    level!(F of E);
    assert_eq!(shape::<F>().lines().count(), 7);
}

#[test]
fn order_and_names_show() {
    mod one {
        #[derive(serde::Deserialize)]
        #[expect(dead_code, reason = "only its shape matters")]
        pub(super) struct Item {
            pub(super) net: u64,
            pub(super) gross: u64,
        }
        #[derive(serde::Deserialize)]
        pub(super) enum Kind {
            A,
            B,
        }
    }
    mod two {
        #[derive(serde::Deserialize)]
        #[expect(dead_code, reason = "only its shape matters")]
        pub(super) struct Item {
            pub(super) gross: u64,
            pub(super) net: u64,
        }
        #[derive(serde::Deserialize)]
        pub(super) enum Kind {
            B,
            A,
        }
    }
    assert_ne!(shape::<Vec<one::Item>>(), shape::<Vec<two::Item>>());
    assert_ne!(shape::<Vec<one::Kind>>(), shape::<Vec<two::Kind>>());
    // Types of the same name in different modules are distinct.
    shape_of!(
        (Vec<one::Item>, two::Item),
        "([Item], Item#2)",
        "Item { net: u64, gross: u64 }",
        "Item#2 { gross: u64, net: u64 }"
    );
    let _ = (one::Kind::A, one::Kind::B, two::Kind::A, two::Kind::B);
}

#[test]
fn the_names_of_types_do_not_count() {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    enum ColorV1 {
        Red,
        Green(u8),
        Blue { x: u32 },
        Mixed(u8, Box<ColorV1>),
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    enum Renamed {
        Red,
        Green(u8),
        Cyan { x: u32 },
        Mixed(u8, Box<Renamed>),
    }

    let color = shape_value::<Vec<Color>>().unwrap();
    assert!(color.is_same_as(&shape::<Vec<ColorV1>>()));
    assert!(!color.is_same_as(&shape::<Vec<Renamed>>()));
    assert!(!color.is_same_as(&shape::<Option<ColorV1>>()));
}

#[test]
fn serde_attributes_show_what_is_read() {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Attributes {
        #[serde(alias = "old", alias = "a_older")]
        name: u8,
        #[serde(rename = "TYPE")]
        the_type: u16,
        #[serde(skip)]
        skipped: u32,
        #[serde(default, alias = "zzz")]
        count: u64,
    }

    #[derive(Deserialize)]
    enum Aliased {
        #[serde(alias = "Rot")]
        Red,
        Green,
    }

    shape_of!(Attributes, "{ name: u8, TYPE: u16, count: u64 }");
    shape_of!(Vec<Aliased>, "[Aliased]", "Aliased = Red/Rot/Green as 0 | 1");
    let _ = (Aliased::Red, Aliased::Green);
}

/// A newtype that validates its input by a rule that tracing cannot guess.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Sku(String);

impl<'de> Deserialize<'de> for Sku {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "Sku")]
        struct Text(String);
        let Text(text) = Text::deserialize(deserializer)?;
        if text.starts_with("SKU:") { Ok(Self(text)) } else { Err(de::Error::custom("no SKU")) }
    }
}

#[derive(Debug, Clone, PartialEq, Message)]
enum StockEvent {
    Taken { sku: Sku, count: u8 },
}

#[derive(Debug, Clone, PartialEq, Message)]
enum OpaqueEvent {
    Taken {
        #[message(opaque = "sku 1")]
        sku: Sku,
        count: u8,
    },
    Given(#[message(opaque = "sku 1")] Sku),
    #[serde(rename_all = "camelCase")]
    Both(
        #[message(opaque = "json 1")]
        #[serde(with = "as_text")]
        serde_json::Value,
        u8,
    ),
}

mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use serde_json::Value;

    pub(super) fn serialize<S: Serializer>(
        value: &Value,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Value, D::Error> {
        serde_json::from_str(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[test]
fn a_type_that_refuses_everything_needs_a_sample() {
    insta::assert_snapshot!(shapes::<StockEvent>().unwrap_err(), @r##"the shape of `stock.taken` cannot be traced: `sku`: no SKU. Give a type that checks what it reads a sample value; declare one that cannot be traced at all with #[message(opaque = "name 1")] on the field, and raise that number when what it writes changes"##);
    let mut tracer = SchemaTracer::new();
    tracer.sample(&Sku("SKU:1".into())).message::<StockEvent>();
    insta::assert_snapshot!(printed(&tracer).unwrap(), @r"
    stock.taken 1: { sku: Sku, count: u8 }
    Sku(str)
    ");
}

#[test]
fn or_is_declared_opaque() {
    insta::assert_snapshot!(shapes::<OpaqueEvent>().unwrap(), @r"
    opaque.both 1: { 0: json 1, 1: u8 }
    opaque.given 1: sku 1
    opaque.taken 1: { sku: sku 1, count: u8 }
    ");
}

#[test]
fn what_binary_cannot_read_is_said() {
    insta::assert_snapshot!(try_shape::<serde_json::Value>().unwrap_err(), @r##"`t` cannot be stored: it asks the input for its type (`deserialize_any`), which the binary format does not write: keep a `serde_json::Value` as a text, with `#[serde(with = "…")]` or in a `String`"##);
}

#[derive(Debug, Clone, PartialEq, Message)]
enum UpcastEvent {
    #[message(version = 3, from(1 = PlacedV1, 2 = PlacedV2))]
    Placed { sku: String, count: u32, express: bool },
}

#[derive(Deserialize)]
struct PlacedV1 {
    sku: String,
}

#[derive(Deserialize)]
struct PlacedV2 {
    sku: String,
    count: u32,
}

impl From<PlacedV1> for PlacedV2 {
    fn from(old: PlacedV1) -> Self {
        Self { sku: old.sku, count: 1 }
    }
}

impl From<PlacedV2> for UpcastEvent {
    fn from(old: PlacedV2) -> Self {
        Self::Placed { sku: old.sku, count: old.count, express: false }
    }
}

#[test]
fn old_versions_stay_in_the_schema() {
    insta::assert_snapshot!(shapes::<UpcastEvent>().unwrap(), @r"
    upcast.placed 1: { sku: str }
    upcast.placed 2: { sku: str, count: u32 }
    upcast.placed 3: { sku: str, count: u32, express: bool }
    ");
}

#[test]
fn fingerprints_tell_states_apart() {
    assert_eq!(fingerprint::<Door>(), fingerprint::<Door>());
    assert!(fingerprint::<Door>().1.is_none());
    assert_ne!(fingerprint::<Door>().0, fingerprint::<crate::door::Gate>().0);
}

mod json {
    use composable_rust_core::schema::JsonSchemas;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Shade {
        Light,
        Dark,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Paint {
        None,
        Plain(Shade),
        Mixed {
            parts: Vec<Paint>,
            #[serde(alias = "factor")]
            ratio: f64,
        },
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Even(u8);

    /// A type that takes texts in JSON and refuses all that tracing tries.
    #[derive(Debug, Clone, PartialEq, Serialize)]
    struct Picky(String);

    impl<'de> Deserialize<'de> for Picky {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            let is_known = text == "picky";
            if is_known { Ok(Self(text)) } else { Err(de::Error::custom("not picky")) }
        }
    }

    #[derive(Debug, Clone, PartialEq, Message)]
    enum PaintCommand {
        Stop,
        Paint { paint: Paint, at: Timestamp, coats: Option<u16>, by: BTreeMap<String, Even> },
        Note(Option<Shade>),
        Pick { before: u8, picky: Picky, after: u8 },
    }

    fn schemas(tracer: &SchemaTracer) -> JsonSchemas {
        tracer.json_schemas(|tracer| {
            tracer.message::<PaintCommand>();
        })
    }

    #[test]
    fn schemas_are_those_of_the_json_form() {
        let schemas = schemas(&SchemaTracer::new());
        let content = |name| schemas.content(name, 1).unwrap();
        let empty = json!({ "type": "object", "properties": {}, "additionalProperties": false });
        assert_eq!(*content("paint.stop"), empty);
        let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
        let paint = json!({
            "type": "object",
            "properties": {
                "paint": reference("Paint"),
                "at": { "type": "string" },
                "coats": {
                    "type": ["integer", "null"], "format": "uint16", "minimum": 0, "maximum": 65535,
                },
                "by": { "type": "object", "additionalProperties": reference("Even") },
            },
            "required": ["paint", "at", "by"],
            "additionalProperties": false,
        });
        assert_eq!(*content("paint.paint"), paint);
        let note = json!({ "anyOf": [reference("Shade"), { "type": "null" }] });
        assert_eq!(*content("paint.note"), note);
        let variant = |name: &str, content: Value| {
            json!({
                "type": "object", "properties": { name: content }, "required": [name],
                "additionalProperties": false,
            })
        };
        let mixed = json!({
            "type": "object",
            "properties": {
                "parts": { "type": "array", "items": reference("Paint") },
                "ratio": { "type": "number", "format": "double" },
                "factor": {},
            },
            "required": ["parts", "ratio"],
            "additionalProperties": false,
        });
        let definition = json!({
            "oneOf": [
                { "const": "None" },
                variant("Plain", reference("Shade")),
                variant("Mixed", mixed),
            ],
        });
        assert_eq!(schemas.definitions()["Paint"], definition);
        assert_eq!(
            schemas.definitions()["Shade"],
            json!({ "type": "string", "enum": ["light", "dark"] })
        );
    }

    #[test]
    fn a_part_that_cannot_be_traced_admits_any_value() {
        let untraced = schemas(&SchemaTracer::new());
        let pick = untraced.content("paint.pick", 1).unwrap();
        assert_eq!(pick["additionalProperties"], json!(false));
        let names: Vec<_> = pick["properties"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["after", "before", "picky"]);
        assert_eq!(pick["properties"]["after"], json!({}));
        let sampled = schemas(SchemaTracer::new().sample(&Picky("picky".to_owned())));
        let pick = sampled.content("paint.pick", 1).unwrap();
        assert_eq!(pick["required"], json!(["before", "picky", "after"]));
        let Picky(_) = Picky(String::new());
    }
}
