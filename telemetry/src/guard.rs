//! Running telemetry.

use std::fmt;
use std::net::SocketAddr;

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;

use crate::metrics::{Endpoint, PrometheusMetrics};

/// The running telemetry of a process. Its drop exports what is left: keep it until the app has
/// shut down.
#[must_use = "telemetry ends when the guard is dropped"]
pub struct TelemetryGuard {
    pub(crate) traces: Option<SdkTracerProvider>,
    pub(crate) metrics: Option<SdkMeterProvider>,
    pub(crate) prometheus: PrometheusMetrics,
    pub(crate) endpoint: Option<Endpoint>,
}

impl fmt::Debug for TelemetryGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TelemetryGuard")
            .field("exports_traces", &self.traces.is_some())
            .field("exports_metrics", &self.metrics.is_some())
            .field("prometheus_address", &self.prometheus_address())
            .finish_non_exhaustive()
    }
}

impl TelemetryGuard {
    /// Returns the metrics as text for Prometheus.
    pub fn prometheus(&self) -> PrometheusMetrics {
        self.prometheus.clone()
    }

    /// Returns the address of the endpoint that Prometheus scrapes, if there is one.
    pub fn prometheus_address(&self) -> Option<SocketAddr> {
        self.endpoint.as_ref().map(|endpoint| endpoint.address)
    }

    /// Exports what was recorded until now. Blocks the thread for some seconds at most.
    pub fn flush(&self) {
        let traces = self.traces.as_ref().map(SdkTracerProvider::force_flush);
        let metrics = self.metrics.as_ref().map(SdkMeterProvider::force_flush);
        report([traces, metrics]);
    }

    /// Exports what is left, and ends. Blocks the thread for some seconds at most. A drop does the
    /// same.
    pub fn shutdown(self) {}
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        let traces = self.traces.take().map(|traces| traces.shutdown());
        let metrics = self.metrics.take().map(|metrics| metrics.shutdown());
        report([traces, metrics]);
    }
}

fn report(results: [Option<OTelSdkResult>; 2]) {
    for error in results.into_iter().flatten().filter_map(Result::err) {
        tracing::warn!(%error, "failed to export telemetry; it is lost");
    }
}
