//! A recorder that keeps the last values of all metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

/// The last values of all metrics, by name and labels, such as `depth{queue=call/bank}`.
#[derive(Default)]
pub(crate) struct Recorded(Mutex<BTreeMap<String, Arc<Last>>>);

/// The value of a counter or a gauge, or the values of a histogram.
#[derive(Default)]
struct Last(Mutex<(f64, Vec<f64>)>);

impl CounterFn for Last {
    #[expect(clippy::cast_precision_loss, reason = "tests count to a few")]
    fn increment(&self, by: u64) {
        self.0.lock().unwrap().0 += by as f64;
    }

    fn absolute(&self, _: u64) {
        unreachable!("the runtime only adds");
    }
}

impl GaugeFn for Last {
    fn increment(&self, by: f64) {
        self.0.lock().unwrap().0 += by;
    }

    fn decrement(&self, by: f64) {
        self.0.lock().unwrap().0 -= by;
    }

    fn set(&self, value: f64) {
        self.0.lock().unwrap().0 = value;
    }
}

impl HistogramFn for Last {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().1.push(value);
    }
}

impl Recorded {
    fn series(&self, key: &Key) -> Arc<Last> {
        let labels: Vec<_> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = key.name().strip_prefix("composable_rust_").expect("the prefix of all names");
        let name = format!("{name}{{{}}}", labels.join(","));
        Arc::clone(self.0.lock().unwrap().entry(name).or_default())
    }

    fn find(&self, series: &str) -> Option<Arc<Last>> {
        self.0.lock().unwrap().get(series).cloned()
    }

    /// Returns the value of a counter or gauge; `None` if it was never set.
    pub(crate) fn try_get(&self, series: &str) -> Option<f64> {
        self.find(series).map(|last| last.0.lock().unwrap().0)
    }

    /// Returns the value of a counter or gauge.
    pub(crate) fn get(&self, series: &str) -> f64 {
        let names = || self.0.lock().unwrap().keys().cloned().collect::<Vec<_>>();
        self.try_get(series).unwrap_or_else(|| panic!("no {series}: {:#?}", names()))
    }

    /// Returns the sum of the gauges whose series contain `part`.
    pub(crate) fn sum(&self, name: &str, part: &str) -> f64 {
        let all = self.0.lock().unwrap();
        let of = all.iter().filter(|(of, _)| of.starts_with(name) && of.contains(part));
        of.map(|(_, last)| last.0.lock().unwrap().0).sum()
    }

    /// Returns the values of a histogram; none if it has no series.
    pub(crate) fn values(&self, series: &str) -> Vec<f64> {
        self.find(series).map(|last| last.0.lock().unwrap().1.clone()).unwrap_or_default()
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.series(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.series(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.series(key))
    }
}
