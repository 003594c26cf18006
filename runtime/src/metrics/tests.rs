use std::fmt::Write as _;
use std::sync::Mutex;

use ::metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use super::{describe, descriptions};

/// The kinds and names of the described metrics.
#[derive(Debug, Default)]
struct Described(Mutex<Vec<(&'static str, String)>>);

impl Described {
    fn add(&self, kind: &'static str, name: &KeyName) {
        self.0.lock().unwrap().push((kind, name.as_str().to_owned()));
    }
}

impl Recorder for Described {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.add("Counter", &name);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.add("Gauge", &name);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.add("Histogram", &name);
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn every_metric_is_described() {
    let recorder = Described::default();
    ::metrics::with_local_recorder(&recorder, describe);
    let declared = descriptions().iter();
    let declared: Vec<_> =
        declared.map(|metric| (kind_name(metric), metric.name.to_owned())).collect();
    assert_eq!(*recorder.0.lock().unwrap(), declared);
}

/// Dashboards and alerts of users name these.
#[test]
fn names_are_pinned() {
    let mut table = String::new();
    for metric in descriptions() {
        let (kind, labels) = (kind_name(metric), metric.labels.join(", "));
        let buckets = metric.buckets;
        writeln!(table, "{} ({kind}, {}) {{{labels}}}", metric.name, metric.unit).unwrap();
        writeln!(table, "    {}", metric.description).unwrap();
        if !buckets.is_empty() {
            writeln!(table, "    {buckets:?}").unwrap();
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn names_follow_the_conventions_of_prometheus() {
    for metric in descriptions() {
        let (name, kind) = (metric.name, kind_name(metric));
        assert!(name.starts_with("composable_rust_"), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "Counter", "{name}");
        assert_eq!(name.ends_with("_seconds"), metric.unit == "seconds", "{name}");
        assert_eq!(metric.buckets.is_empty(), kind != "Histogram", "{name}");
        assert!(metric.buckets.is_sorted(), "{name}");
    }
}

fn kind_name(metric: &super::MetricDescription) -> &'static str {
    match metric.kind {
        super::MetricKind::Counter => "Counter",
        super::MetricKind::Gauge => "Gauge",
        super::MetricKind::Histogram => "Histogram",
    }
}
