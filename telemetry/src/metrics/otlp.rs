//! A recorder whose metrics OpenTelemetry exports.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use composable_rust_runtime::operations;
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

/// Gives metrics to OpenTelemetry.
///
/// OpenTelemetry states the unit beside the name, and exporters to Prometheus append it and
/// `_total` to the name. So the instruments lack these suffixes, and either path gives one name.
pub(crate) struct OtlpRecorder {
    meter: Meter,
    descriptions: Mutex<HashMap<String, SharedString>>,
    counters: Series<Total>,
    gauges: Series<Value>,
    histograms: Series<Distribution>,
}

/// The series that were used, by name and labels.
type Series<T> = Mutex<HashMap<Key, Arc<T>>>;

struct Total {
    instrument: opentelemetry::metrics::Counter<u64>,
    labels: Vec<KeyValue>,
    sum: AtomicU64,
}

struct Value {
    instrument: opentelemetry::metrics::Gauge<f64>,
    labels: Vec<KeyValue>,
    last: Mutex<f64>,
}

struct Distribution {
    instrument: opentelemetry::metrics::Histogram<f64>,
    labels: Vec<KeyValue>,
}

impl fmt::Debug for OtlpRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpRecorder").finish_non_exhaustive()
    }
}

impl OtlpRecorder {
    pub(crate) fn new(meter: Meter) -> Self {
        Self {
            meter,
            descriptions: Mutex::default(),
            counters: Series::default(),
            gauges: Series::default(),
            histograms: Series::default(),
        }
    }

    fn describe(&self, name: &KeyName, description: SharedString) {
        lock(&self.descriptions).insert(name.as_str().to_owned(), description);
    }

    fn description(&self, name: &str) -> String {
        lock(&self.descriptions).get(name).map(ToString::to_string).unwrap_or_default()
    }
}

/// Returns the name and the unit of an instrument.
fn instrument(name: &str) -> (String, &'static str) {
    let name = name.strip_suffix("_total").unwrap_or(name);
    for (suffix, unit) in [("_seconds", "s"), ("_bytes", "By")] {
        if let Some(name) = name.strip_suffix(suffix) {
            return (name.to_owned(), unit);
        }
    }
    (name.to_owned(), "")
}

/// Returns the series of a key, made if there is none.
fn series<T>(all: &Series<T>, key: &Key, make: impl FnOnce(Vec<KeyValue>) -> T) -> Arc<T> {
    let mut all = lock(all);
    if let Some(known) = all.get(key) {
        return Arc::clone(known);
    }
    let labels = key.labels();
    let labels =
        labels.map(|label| KeyValue::new(label.key().to_owned(), label.value().to_owned()));
    let added = Arc::new(make(labels.collect()));
    all.insert(key.clone(), Arc::clone(&added));
    added
}

impl Recorder for OtlpRecorder {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&name, description);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&name, description);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&name, description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(series(&self.counters, key, |labels| {
            let (name, unit) = instrument(key.name());
            let builder = self.meter.u64_counter(name).with_unit(unit);
            let instrument = builder.with_description(self.description(key.name())).build();
            Total { instrument, labels, sum: AtomicU64::new(0) }
        }))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(series(&self.gauges, key, |labels| {
            let (name, unit) = instrument(key.name());
            let builder = self.meter.f64_gauge(name).with_unit(unit);
            let instrument = builder.with_description(self.description(key.name())).build();
            Value { instrument, labels, last: Mutex::new(0.0) }
        }))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(series(&self.histograms, key, |labels| {
            let (name, unit) = instrument(key.name());
            let builder = self.meter.f64_histogram(name).with_unit(unit);
            let builder = builder.with_description(self.description(key.name()));
            let own = operations::metrics().iter().find(|metric| metric.name == key.name());
            let buckets = own.map_or(super::prometheus::OTHER_BUCKETS, |metric| metric.buckets);
            let instrument = builder.with_boundaries(buckets.to_vec()).build();
            Distribution { instrument, labels }
        }))
    }
}

impl CounterFn for Total {
    fn increment(&self, value: u64) {
        self.sum.fetch_add(value, Ordering::Relaxed);
        self.instrument.add(value, &self.labels);
    }

    fn absolute(&self, value: u64) {
        let before = self.sum.fetch_max(value, Ordering::Relaxed);
        self.instrument.add(value.saturating_sub(before), &self.labels);
    }
}

impl Value {
    fn change(&self, change: impl FnOnce(f64) -> f64) {
        let mut last = lock(&self.last);
        *last = change(*last);
        self.instrument.record(*last, &self.labels);
    }
}

impl GaugeFn for Value {
    fn increment(&self, value: f64) {
        self.change(|last| last + value);
    }

    fn decrement(&self, value: f64) {
        self.change(|last| last - value);
    }

    fn set(&self, value: f64) {
        self.change(|_| value);
    }
}

impl HistogramFn for Distribution {
    fn record(&self, value: f64) {
        self.instrument.record(value, &self.labels);
    }
}

/// No code of users runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
