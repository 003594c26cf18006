//! The shapes of durable types, traced to the leaf.
//!
//! A nested enum whose variants are reordered, or two fields of one type that change places,
//! decode *successfully* to wrong values. So the shape of every stored type is traced through its
//! own `Deserialize`, written to a lock file that a test checks (events), or made part of a
//! fingerprint (snapshots).

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_reflection::{Samples, Tracer, TracerConfig};

use crate::{Aggregate, Fingerprint, Kind, Message};

/// How often a type is traced at most to see every variant of its nested enums.
const MAX_PASSES: usize = 1_024;

/// Collects the shapes of messages.
#[derive(Default)]
pub struct SchemaTracer {
    samples: Vec<Sample>,
    shapes: BTreeMap<(&'static str, u16), Result<Shape, Untraceable>>,
}

type Sample = Box<dyn Fn(&mut Tracer, &mut Samples)>;

impl fmt::Debug for SchemaTracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchemaTracer").field("shapes", &self.shapes).finish_non_exhaustive()
    }
}

/// A type whose shape cannot be traced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the shape of `{name}` cannot be traced ({reason}); a type that checks what it reads needs a \
     sample value, one that parses a text is declared with #[message(opaque = \"name 1\")] on the field"
)]
pub struct Untraceable {
    name: String,
    reason: String,
}

/// The traced shape of one type: itself and every named type in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape(String);

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SchemaTracer {
    /// With nothing in it.
    pub fn new() -> Self {
        #[derive(Serialize)]
        #[serde(rename = "Id")]
        struct SampleId(&'static str);
        let mut tracer = Self::default();
        tracer.sample(SampleId("1"));
        tracer
    }

    /// Gives a valid value of a newtype that checks what it reads, so that it can be traced.
    pub fn sample<T: Serialize + 'static>(&mut self, value: T) {
        self.samples.push(Box::new(move |tracer, samples| {
            // A value that cannot be traced shows as `Untraceable` where its type is used.
            let _ = tracer.trace_value(samples, &value);
        }));
    }

    /// Traces every variant of `M`.
    pub fn message<M: Message>(&mut self) -> &mut Self {
        M::trace(self);
        self
    }

    /// Traces the content of one variant; what the derive calls.
    #[doc(hidden)]
    pub fn content<T: DeserializeOwned>(&mut self, kind: &Kind) {
        let shape = trace::<T>(&self.samples)
            .map_err(|reason| Untraceable { name: kind.name.to_owned(), reason });
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
pub fn opaque<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
    shown: &'static [&'static str],
) -> Result<(), D::Error> {
    deserializer.deserialize_struct(OPAQUE, shown, serde::de::IgnoredAny).map(drop)
}

/// The name of the struct that stands in for an opaque field.
const OPAQUE: &str = "$opaque";

/// The fingerprint of the snapshots of `A`: of its state's traced shape and `FOLD`.
///
/// # Errors
///
/// [`Untraceable`]: the fingerprint is then that of the type's name and `FOLD` only, so raise
/// `FOLD` whenever the state changes.
pub fn fingerprint<A: Aggregate>() -> (Fingerprint, Option<Untraceable>) {
    let (shape, problem) = match trace::<A>(&SchemaTracer::new().samples) {
        Ok(Shape(text)) => (text, None),
        Err(reason) => (A::NAME.to_owned(), Some(Untraceable { name: A::NAME.to_owned(), reason })),
    };
    let text = format!("{shape}fold {}", A::FOLD);
    (Fingerprint(xxhash_rust::xxh3::xxh3_64(text.as_bytes())), problem)
}

/// Traces `T` again and again, since each pass sees one more variant of each enum, until nothing
/// is missing.
fn trace<T: DeserializeOwned>(samples: &[Sample]) -> Result<Shape, String> {
    let mut passes = 1;
    loop {
        let mut tracer = Tracer::new(TracerConfig::default());
        let mut values = Samples::new();
        for sample in samples {
            sample(&mut tracer, &mut values);
        }
        let mut root = None;
        for _ in 0..passes {
            let (format, _) =
                tracer.trace_type_once::<T>(&values).map_err(|error| error.to_string())?;
            root = Some(format);
        }
        match tracer.registry() {
            Ok(registry) => return Ok(Shape(format!("{root:?} {registry:?}"))),
            Err(serde_reflection::Error::MissingVariants(_)) if passes < MAX_PASSES => passes *= 2,
            Err(error) => return Err(error.to_string()),
        }
    }
}
