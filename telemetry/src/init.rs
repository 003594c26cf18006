//! Setting up telemetry.

use composable_rust_core::trace;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{SdkTracerProvider, TracerProviderBuilder};
use tracing::dispatcher::{self, Dispatch};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::{EnvFilter, Registry};

use crate::context::OpenTelemetryContext;
use crate::error::TelemetryError;
use crate::guard::TelemetryGuard;
use crate::logs::{JsonLog, LogFields, TextLog, TraceLookup};
use crate::metrics::{Both, OtlpRecorder, PrometheusMetrics, serve};
use crate::settings::{LogFormat, Telemetry};

/// The name of the instrumentation.
const SCOPE: &str = "composable_rust";

/// The crates that export telemetry: what they record would be exported too, and cause more.
const EXPORTERS: [&str; 7] = [
    "opentelemetry",
    "opentelemetry_sdk",
    "opentelemetry_otlp",
    "hyper",
    "hyper_util",
    "reqwest",
    "h2",
];

impl Telemetry {
    /// Sets up the logs, traces and metrics of this process. Call it before
    /// [`AppBuilder::build`](composable_rust_runtime::AppBuilder::build).
    ///
    /// # Errors
    ///
    /// [`TelemetryError`]: what cannot be set up. Parts may be set up already, so end the process.
    pub fn init(mut self) -> Result<TelemetryGuard, TelemetryError> {
        let resource = Resource::builder().with_service_name(self.service.clone()).build();
        let traces = SdkTracerProvider::builder().with_resource(resource.clone());
        let traces = self.exporting(traces)?.map(TracerProviderBuilder::build);
        let metrics = self.meter_provider(resource)?;
        let (recorder, prometheus) = PrometheusMetrics::new(&self.service)?;
        let installed = match &metrics {
            None => metrics::set_global_recorder(recorder).map_err(drop),
            Some(metrics) => {
                let otlp = OtlpRecorder::new(metrics.meter(SCOPE));
                metrics::set_global_recorder(Both(recorder, otlp)).map_err(drop)
            }
        };
        installed.map_err(|()| TelemetryError::AlreadyInstalled("a recorder of metrics"))?;
        let endpoint = self.prometheus.map(|address| {
            serve(address, prometheus.clone())
                .map_err(|source| TelemetryError::Endpoint { address, source })
        });
        let endpoint = endpoint.transpose()?;
        self.install_logs_and_traces(traces.as_ref())?;
        Ok(TelemetryGuard { traces, metrics, prometheus, endpoint })
    }

    fn meter_provider(
        &self,
        resource: Resource,
    ) -> Result<Option<SdkMeterProvider>, TelemetryError> {
        if !self.exports_metrics {
            return Ok(None);
        }
        let exporter = opentelemetry_otlp::MetricExporter::builder().with_http().build()?;
        let builder = SdkMeterProvider::builder().with_resource(resource);
        Ok(Some(builder.with_periodic_exporter(exporter).build()))
    }

    fn install_logs_and_traces(
        self,
        traces: Option<&SdkTracerProvider>,
    ) -> Result<(), TelemetryError> {
        let invalid = || TelemetryError::Variable {
            name: "RUST_LOG",
            value: self.log_filter.clone(),
            expected: "a list of targets and levels, such as `info,my_crate=debug`",
        };
        let filter = EnvFilter::try_new(&self.log_filter).map_err(|_| invalid())?;
        let lookup = TraceLookup::default();
        let span_layer = traces.map(|traces| {
            let exporters = EXPORTERS.map(|target| (target, LevelFilter::OFF));
            let targets = Targets::new().with_default(LevelFilter::INFO).with_targets(exporters);
            let layer = tracing_opentelemetry::layer().with_tracer(traces.tracer(SCOPE));
            // What is left out costs as much as the span itself, at each poll of a future.
            let layer = layer.with_threads(false).with_location(false).with_target(false);
            layer.with_tracked_inactivity(false).with_filter(targets)
        });
        let logs = match self.log_format {
            LogFormat::Json => JsonLog { lookup: lookup.clone(), writer: self.log_writer }
                .with_filter(filter)
                .boxed(),
            LogFormat::Text => tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .fmt_fields(LogFields)
                .event_format(TextLog(lookup.clone()))
                .with_writer(self.log_writer)
                .with_filter(filter)
                .boxed(),
        };
        let dispatch = Dispatch::new(Registry::default().with(span_layer).with(logs));
        lookup.set(&dispatch);
        dispatcher::set_global_default(dispatch)
            .map_err(|_| TelemetryError::AlreadyInstalled("a logger"))?;
        if traces.is_some() && !trace::install(OpenTelemetryContext) {
            return Err(TelemetryError::AlreadyInstalled("a tracer"));
        }
        Ok(())
    }
}
