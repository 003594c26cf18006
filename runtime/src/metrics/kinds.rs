//! The kinds of metrics, and the descriptions of their use.

use ::metrics::{
    Key, KeyName, Label, Level, Metadata, Unit, describe_counter, describe_gauge,
    describe_histogram, with_recorder,
};

/// The description of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct MetricDescription {
    /// The name.
    pub name: &'static str,
    /// The kind.
    pub kind: MetricKind,
    /// The unit, such as `seconds` or `events`.
    pub unit: &'static str,
    /// The names of the labels.
    pub labels: &'static [&'static str],
    /// The description.
    pub description: &'static str,
    /// The upper bounds of a histogram's buckets; empty for other kinds.
    pub buckets: &'static [f64],
}

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// A number that only rises.
    Counter,
    /// A value that rises and falls.
    Gauge,
    /// A distribution of values.
    Histogram,
}

impl MetricDescription {
    /// Describes the metric to the installed recorder.
    pub(super) fn describe(&self) {
        let unit = match self.unit {
            "seconds" => Unit::Seconds,
            "bytes" => Unit::Bytes,
            _ => Unit::Count,
        };
        match self.kind {
            MetricKind::Counter => describe_counter!(self.name, unit, self.description),
            MetricKind::Gauge => describe_gauge!(self.name, unit, self.description),
            MetricKind::Histogram => describe_histogram!(self.name, unit, self.description),
        }
    }
}

/// A value that rises and falls.
pub(crate) struct Gauge<const LABELS: usize>(Series<LABELS>);

/// A number that only rises.
pub(crate) struct Counter<const LABELS: usize>(Series<LABELS>);

/// A distribution of values.
pub(crate) struct Histogram<const LABELS: usize>(Series<LABELS>);

/// A metric's name and the names of its labels.
struct Series<const LABELS: usize> {
    name: &'static str,
    labels: [&'static str; LABELS],
}

const METADATA: Metadata<'static> =
    Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

impl<const LABELS: usize> Series<LABELS> {
    fn key(&self, values: [&str; LABELS]) -> Key {
        let pairs = self.labels.into_iter().zip(values);
        let labels: Vec<_> =
            pairs.map(|(name, value)| Label::new(name, value.to_owned())).collect();
        Key::from_parts(KeyName::from_const_str(self.name), labels)
    }
}

impl<const LABELS: usize> Gauge<LABELS> {
    pub(super) const fn new(name: &'static str, labels: [&'static str; LABELS]) -> Self {
        Self(Series { name, labels })
    }

    /// Returns the gauge of these label values, for repeated use.
    pub(crate) fn of(&self, values: [&str; LABELS]) -> ::metrics::Gauge {
        with_recorder(|recorder| recorder.register_gauge(&self.0.key(values), &METADATA))
    }

    /// Sets the gauge of these label values.
    pub(crate) fn set(&self, values: [&str; LABELS], value: f64) {
        self.of(values).set(value);
    }

    /// Sets the gauge of these label values to a count.
    pub(crate) fn set_count(&self, values: [&str; LABELS], count: u64) {
        self.set(values, as_f64(count));
    }
}

impl<const LABELS: usize> Counter<LABELS> {
    pub(super) const fn new(name: &'static str, labels: [&'static str; LABELS]) -> Self {
        Self(Series { name, labels })
    }

    /// Returns the counter of these label values, for repeated use.
    pub(crate) fn of(&self, values: [&str; LABELS]) -> ::metrics::Counter {
        with_recorder(|recorder| recorder.register_counter(&self.0.key(values), &METADATA))
    }

    /// Adds one to the counter of these label values.
    pub(crate) fn increment(&self, values: [&str; LABELS]) {
        self.of(values).increment(1);
    }
}

impl<const LABELS: usize> Histogram<LABELS> {
    pub(super) const fn new(name: &'static str, labels: [&'static str; LABELS]) -> Self {
        Self(Series { name, labels })
    }

    /// Returns the histogram of these label values, for repeated use.
    pub(crate) fn of(&self, values: [&str; LABELS]) -> ::metrics::Histogram {
        with_recorder(|recorder| recorder.register_histogram(&self.0.key(values), &METADATA))
    }
}

/// Returns a count as a metric holds it.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and a metric need not be")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}
