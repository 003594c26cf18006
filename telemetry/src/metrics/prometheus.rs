//! Metrics as Prometheus reads them.

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use composable_rust_runtime::operations;
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

/// Buckets of histograms that are not the framework's, which record seconds if they follow the
/// convention.
pub(super) const OTHER_BUCKETS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Interval at which recorded values are added to their buckets, so that they take no memory while
/// nothing reads the metrics.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The metrics of this process as text for Prometheus. Cheap to clone.
#[derive(Clone)]
pub struct PrometheusMetrics {
    handle: PrometheusHandle,
    /// Its end stops the upkeep.
    _running: Sender<()>,
}

impl fmt::Debug for PrometheusMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrometheusMetrics").finish_non_exhaustive()
    }
}

impl PrometheusMetrics {
    /// The media type of the text.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// Returns the metrics in Prometheus' text format, for an endpoint of the app's own server.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Returns the recorder of the process, and the handle with which its metrics are read.
    pub(crate) fn new(service: &str) -> Result<(PrometheusRecorder, Self), BuildError> {
        let mut builder = PrometheusBuilder::new().set_buckets(OTHER_BUCKETS)?;
        for metric in operations::metrics().iter().filter(|of| !of.buckets.is_empty()) {
            let name = Matcher::Full(metric.name.to_owned());
            builder = builder.set_buckets_for_metric(name, metric.buckets)?;
        }
        let recorder = builder.add_global_label("service", service).build_recorder();
        let (running, stopped) = channel();
        let handle = recorder.handle();
        let kept = handle.clone();
        thread::spawn(move || keep_up(&kept, &stopped));
        Ok((recorder, Self { handle, _running: running }))
    }
}

fn keep_up(handle: &PrometheusHandle, stopped: &Receiver<()>) {
    while stopped.recv_timeout(UPKEEP_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        handle.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use composable_rust_runtime::operations::{MetricKind, metrics};
    use metrics::{Key, KeyName, Label, Level, Metadata, Recorder as _};

    use super::*;

    #[test]
    fn the_text_has_every_metric_of_the_runtime() {
        let (recorder, text) = PrometheusMetrics::new("shop").unwrap();
        let metadata = Metadata::new("test", Level::INFO, None);
        for metric in metrics() {
            let labels = metric.labels.iter().map(|name| Label::new(*name, "x"));
            let key =
                Key::from_parts(KeyName::from_const_str(metric.name), labels.collect::<Vec<_>>());
            match metric.kind {
                MetricKind::Counter => recorder.register_counter(&key, &metadata).increment(1),
                MetricKind::Gauge => recorder.register_gauge(&key, &metadata).set(1.0),
                MetricKind::Histogram => recorder.register_histogram(&key, &metadata).record(0.02),
            }
        }
        let text = text.render();
        for metric in metrics() {
            let kind = format!("{:?}", metric.kind).to_lowercase();
            assert!(text.contains(&format!("# TYPE {} {kind}\n", metric.name)), "{text}");
            let labels = metric.labels.iter().all(|label| text.contains(&format!("{label}=\"x\"")));
            assert!(labels && text.contains("service=\"shop\""), "{text}");
            for bucket in metric.buckets {
                assert!(text.contains(&format!("le=\"{bucket}\"")), "{bucket} of {}", metric.name);
            }
        }
    }
}
