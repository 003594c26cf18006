//! The shapes of durable types, traced to the leaf.
//!
//! A nested enum whose variants are reordered, or two fields of one type that change places,
//! decode *successfully* to wrong values. So the shape of every stored type is traced through its
//! own `Deserialize`, written to a lock file that a test checks (events), or made part of a
//! fingerprint (snapshots).
//!
//! Tracing reads a type from made-up values and records the types that it requests, repeatedly
//! until every variant of every enum in it was read. Each pass goes to the nearest variant that is
//! still unknown, so enums inside lists, options, maps and recursive types are reached as well. If
//! a type refuses a value (an empty id, a zero), tracing tries others, among them the values that
//! the user passed to [`SchemaTracer::sample`].
//!
//! The crate `serde-reflection` is not used for this: it skips the items of a sequence once it
//! knows their type, so it sees only one variant of an enum in a list, and it identifies types by
//! their bare names.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny};

use crate::message::MessageKind;
use crate::store::Fingerprint;
use crate::{Aggregate, Message};

mod change;
mod cure;
mod deserializer;
mod diagnosis;
mod format;
mod json_schema;
mod sample;
mod search;

pub use change::{Removal, Rename, ShapeChange};
pub use diagnosis::{diagnose, diagnose_value};
pub use json_schema::JsonSchemas;
use search::{Reason, Traced};

/// The name of the struct that replaces an opaque field.
const OPAQUE: &str = "$opaque";

/// A collection of the shapes of messages.
#[derive(Default)]
pub struct SchemaTracer {
    samples: sample::Samples,
    /// The JSON Schemas that are traced in place of shapes.
    json: Option<JsonSchemas>,
    shapes: BTreeMap<(Cow<'static, str>, u16), Result<Traced, Untraceable>>,
}

impl fmt::Debug for SchemaTracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchemaTracer").field("shapes", &self.shapes).finish_non_exhaustive()
    }
}

/// A type whose shape cannot be traced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untraceable {
    name: String,
    reason: Reason,
}

impl fmt::Display for Untraceable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, reason } = self;
        if reason.is_unstorable {
            return write!(f, "`{name}` cannot be stored: {}", reason.text);
        }
        write!(
            f,
            "the shape of `{name}` cannot be traced: {}. Give a type that checks what it reads a \
             sample value; declare one that cannot be traced at all with #[message(opaque = \
             \"name 1\")] on the field, and raise that number when what it writes changes",
            reason.text
        )
    }
}

impl std::error::Error for Untraceable {}

impl Untraceable {
    /// Returns `true` if the binary format cannot store the type, whatever traces it.
    pub fn is_unstorable(&self) -> bool {
        self.reason.is_unstorable
    }
}

/// The traced shape of a type: its content, and below it each named type in it once.
///
/// ```text
/// { items: [Item], at: i64 }
/// Item { sku: str, color: Color }
/// Color = Red | Green(u8) | Blue { x: u32 }
/// ```
///
/// The order is that of the binary format, which depends on nothing else; the names of fields and
/// variants are those that JSON writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape(String);

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Shape {
    /// Returns `true` if `printed`, another shape's text, differs at most in the names of types,
    /// which are not stored.
    pub fn is_same_as(&self, printed: &str) -> bool {
        format::canonical(&self.0) == format::canonical(printed)
    }

    /// Returns the change from `printed`, an older shape's text, to this shape.
    pub fn change_from(&self, printed: &str) -> ShapeChange {
        change::change(printed, &self.0)
    }
}

impl SchemaTracer {
    /// Creates an empty tracer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a valid value of a type that validates its input, so that the type can be traced.
    pub fn sample<T: Serialize>(&mut self, value: &T) -> &mut Self {
        self.samples.add(value);
        self
    }

    /// Returns the JSON Schemas of the contents of `messages`, traced with this tracer's samples:
    /// `tracer.json_schemas(|tracer| { tracer.message::<OrderCommand>(); })`.
    pub fn json_schemas(&self, messages: impl FnOnce(&mut Self)) -> JsonSchemas {
        let samples = self.samples.clone();
        let mut tracer = Self { samples, json: Some(JsonSchemas::default()), ..Self::default() };
        messages(&mut tracer);
        tracer.json.unwrap_or_default()
    }

    /// Traces every variant of `M`.
    pub fn message<M: Message>(&mut self) -> &mut Self {
        M::trace(self);
        self
    }

    /// Traces the content of a variant. For code that the derive generates.
    #[doc(hidden)]
    pub fn content<T: DeserializeOwned>(&mut self, kind: &MessageKind) {
        if let Some(json) = &mut self.json {
            json.add::<T>(kind, &self.samples);
        } else {
            self.add::<T>(Cow::Borrowed(kind.name), kind.version);
        }
    }

    /// Traces a value whose name is known at run time only. It has no JSON Schema.
    pub(crate) fn named<T: DeserializeOwned>(&mut self, name: String, version: u16) {
        if self.json.is_none() {
            self.add::<T>(Cow::Owned(name), version);
        }
    }

    fn add<T: DeserializeOwned>(&mut self, name: Cow<'static, str>, version: u16) {
        let shape = formats::<T>(&name, &self.samples);
        self.shapes.insert((name, version), shape);
    }

    /// Returns the shapes of all traced variants, by name and version.
    ///
    /// # Errors
    ///
    /// [`Untraceable`] names the first variant whose shape cannot be traced. Add a sample value, or
    /// declare the field opaque.
    pub fn shapes(&self) -> Result<BTreeMap<(&str, u16), Shape>, Untraceable> {
        let shape = |traced: &Result<Traced, Untraceable>| match traced {
            Ok(traced) => Ok(Shape(traced.print())),
            Err(untraceable) => Err(untraceable.clone()),
        };
        let shapes = self.shapes.iter();
        shapes.map(|((name, version), traced)| Ok(((&**name, *version), shape(traced)?))).collect()
    }
}

/// Replaces a field whose type is not traced. For code that the derive generates.
#[doc(hidden)]
pub fn opaque<'de, D: Deserializer<'de>>(
    deserializer: D,
    shown: &'static [&'static str],
) -> Result<(), D::Error> {
    deserializer.deserialize_struct(OPAQUE, shown, IgnoredAny).map(drop)
}

/// Returns the fingerprint of the snapshots of `A`: a digest of its state's traced shape and
/// `SNAPSHOT_VERSION`.
///
/// With [`Untraceable`], it is a digest of the type's name and `SNAPSHOT_VERSION` only, so raise
/// `SNAPSHOT_VERSION` whenever the state changes.
pub fn fingerprint<A: Aggregate>() -> (Fingerprint, Option<Untraceable>) {
    let (shape, problem) = match trace::<A>(A::NAME, &sample::Samples::default()) {
        Ok(Shape(text)) => (format::canonical(&text), None),
        Err(problem) => (A::NAME.to_owned(), Some(problem)),
    };
    let text = format!("{shape}\nfold {}", A::SNAPSHOT_VERSION);
    (Fingerprint(xxhash_rust::xxh3::xxh3_64(text.as_bytes())), problem)
}

fn trace<T: DeserializeOwned>(name: &str, samples: &sample::Samples) -> Result<Shape, Untraceable> {
    formats::<T>(name, samples).map(|traced| Shape(traced.print()))
}

fn formats<T: DeserializeOwned>(
    name: &str,
    samples: &sample::Samples,
) -> Result<Traced, Untraceable> {
    search::formats::<T>(samples).map_err(|reason| Untraceable { name: name.to_owned(), reason })
}
