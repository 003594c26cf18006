//! The shapes of durable types, traced to the leaf.
//!
//! A nested enum whose variants are reordered, or two fields of one type that change places,
//! decode *successfully* to wrong values. So the shape of every stored type is traced through its
//! own `Deserialize`, written to a lock file that a test checks (events), or made part of a
//! fingerprint (snapshots).
//!
//! Tracing reads a type from made-up values and notes what it asks for, again and again until every
//! variant of every enum in it was read. Each reading goes to the nearest variant that is still
//! unknown, so enums inside lists, options, maps and recursive types are reached as well. Where a
//! type refuses a value (an empty id, a zero), others are tried, and those that the user gave with
//! [`SchemaTracer::sample`].
//!
//! The crate `serde-reflection` is not used for this: it skips the items of a sequence once it
//! knows their type, so an enum in a list is seen with one variant only, and it tells types apart
//! by their bare names.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny};

use crate::message::MessageKind;
use crate::store::Fingerprint;
use crate::{Aggregate, Message};

mod deserializer;
mod format;
mod sample;
mod search;

/// The name of the struct that stands in for an opaque field.
const OPAQUE: &str = "$opaque";

/// Collects the shapes of messages.
#[derive(Default)]
pub struct SchemaTracer {
    samples: sample::Samples,
    shapes: BTreeMap<(&'static str, u16), Result<Shape, Untraceable>>,
}

impl fmt::Debug for SchemaTracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchemaTracer").field("shapes", &self.shapes).finish_non_exhaustive()
    }
}

/// A type whose shape cannot be traced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the shape of `{name}` cannot be traced: {reason}. Give a type that checks what it reads a \
     sample value; declare one that cannot be traced at all with #[message(opaque = \"name 1\")] \
     on the field, and raise that number when what it writes changes"
)]
pub struct Untraceable {
    name: String,
    reason: String,
}

/// The traced shape of one type: its content, and below it each named type in it once.
///
/// ```text
/// { items: [Item], at: i64 }
/// Item { sku: str, color: Color }
/// Color = Red | Green(u8) | Blue { x: u32 }
/// ```
///
/// It is the shape in the binary format, where order is all; the names of fields and variants are
/// what JSON writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape(String);

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Shape {
    /// Whether `printed`, another shape's text, is the same but for the names of types, which are
    /// not stored.
    pub fn is_same_as(&self, printed: &str) -> bool {
        format::canonical(&self.0) == format::canonical(printed)
    }
}

impl SchemaTracer {
    /// With nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a valid value of a type that checks what it reads, so that it can be traced.
    pub fn sample<T: Serialize>(&mut self, value: &T) -> &mut Self {
        self.samples.add(value);
        self
    }

    /// Traces every variant of `M`.
    pub fn message<M: Message>(&mut self) -> &mut Self {
        M::trace(self);
        self
    }

    /// Traces the content of one variant; what the derive calls.
    #[doc(hidden)]
    pub fn content<T: DeserializeOwned>(&mut self, kind: &MessageKind) {
        let shape = trace::<T>(kind.name, &self.samples);
        self.shapes.insert((kind.name, kind.version), shape);
    }

    /// Every traced variant, by name and version.
    ///
    /// # Errors
    ///
    /// The first variant whose shape cannot be traced.
    pub fn shapes(&self) -> Result<BTreeMap<(&'static str, u16), Shape>, Untraceable> {
        self.shapes.iter().map(|(key, shape)| Ok((*key, shape.clone()?))).collect()
    }
}

/// Stands in for a field whose type is not traced; what the derive calls.
#[doc(hidden)]
pub fn opaque<'de, D: Deserializer<'de>>(
    deserializer: D,
    shown: &'static [&'static str],
) -> Result<(), D::Error> {
    deserializer.deserialize_struct(OPAQUE, shown, IgnoredAny).map(drop)
}

/// The fingerprint of the snapshots of `A`: of its state's traced shape and `SNAPSHOT_VERSION`.
///
/// With [`Untraceable`] it is that of the type's name and `SNAPSHOT_VERSION` only, so raise `SNAPSHOT_VERSION` whenever the
/// state changes.
pub fn fingerprint<A: Aggregate>() -> (Fingerprint, Option<Untraceable>) {
    let (shape, problem) = match trace::<A>(A::NAME, &sample::Samples::default()) {
        Ok(Shape(text)) => (format::canonical(&text), None),
        Err(problem) => (A::NAME.to_owned(), Some(problem)),
    };
    let text = format!("{shape}\nfold {}", A::SNAPSHOT_VERSION);
    (Fingerprint(xxhash_rust::xxh3::xxh3_64(text.as_bytes())), problem)
}

fn trace<T: DeserializeOwned>(name: &str, samples: &sample::Samples) -> Result<Shape, Untraceable> {
    search::shape::<T>(samples)
        .map(Shape)
        .map_err(|reason| Untraceable { name: name.to_owned(), reason })
}
