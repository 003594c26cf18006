//! The settings of telemetry, and their variables.

use std::env;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanExporter, TracerProviderBuilder};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::error::TelemetryError;

/// The settings of a process's telemetry.
#[must_use = "nothing is set up until `init`"]
pub struct Telemetry {
    pub(crate) service: String,
    pub(crate) log_format: LogFormat,
    pub(crate) log_filter: String,
    pub(crate) log_writer: BoxMakeWriter,
    pub(crate) exports_traces: bool,
    pub(crate) exports_metrics: bool,
    pub(crate) processor: Option<BatchSpanProcessor>,
    pub(crate) prometheus: Option<SocketAddr>,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object for each line.
    Json,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("service", &self.service)
            .field("log_format", &self.log_format)
            .field("log_filter", &self.log_filter)
            .field("exports_traces", &self.exports_traces)
            .field("exports_metrics", &self.exports_metrics)
            .field("prometheus", &self.prometheus)
            .finish_non_exhaustive()
    }
}

const EXPORTERS: &str = "the exporters are `otlp`, `prometheus` (of metrics) and `none`";

impl Telemetry {
    /// Creates settings that write logs as text, from the level `info` on, and export nothing.
    pub fn new(service: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            log_format: LogFormat::Text,
            log_filter: "info".to_owned(),
            log_writer: BoxMakeWriter::new(std::io::stdout),
            exports_traces: false,
            exports_metrics: false,
            processor: None,
            prometheus: None,
        }
    }

    /// Reads the settings from the environment. `service` is the name of the service unless
    /// `OTEL_SERVICE_NAME` names it.
    ///
    /// - `OTEL_TRACES_EXPORTER`: `otlp` or `none`. Default: `otlp` if a variable sets an endpoint,
    ///   otherwise `none`.
    /// - `OTEL_METRICS_EXPORTER`: `otlp`, `prometheus`, both (with a comma) or `none`. Default: as
    ///   for traces. `prometheus` opens an endpoint on `OTEL_EXPORTER_PROMETHEUS_HOST` (default:
    ///   127.0.0.1) and `OTEL_EXPORTER_PROMETHEUS_PORT` (default: 9464).
    /// - `OTEL_EXPORTER_OTLP_ENDPOINT`, `…_HEADERS`, `…_TIMEOUT`, and the same for one signal
    ///   (`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`): the collector, over `http/protobuf`. Default:
    ///   `http://localhost:4318`.
    /// - `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG`,
    ///   `OTEL_BSP_…`, `OTEL_METRIC_EXPORT_INTERVAL`: as OpenTelemetry specifies them.
    /// - `OTEL_SDK_DISABLED=true`: exports nothing.
    /// - `RUST_LOG`: the filter of the logs. Default: `info`.
    /// - `LOG_FORMAT`: `text` or `json`. Default: `text`.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::Variable`]: a value is not supported.
    pub fn from_env(service: impl Into<String>) -> Result<Self, TelemetryError> {
        Self::from_variables(service.into(), &|name| env::var(name).ok().filter(|v| !v.is_empty()))
    }

    fn from_variables(
        service: String,
        variable: &dyn Fn(&'static str) -> Option<String>,
    ) -> Result<Self, TelemetryError> {
        let mut settings = Self::new(variable("OTEL_SERVICE_NAME").unwrap_or(service));
        settings.log_filter = variable("RUST_LOG").unwrap_or(settings.log_filter);
        settings.log_format = match variable("LOG_FORMAT").as_deref() {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => return Err(unsupported("LOG_FORMAT", other, "`text` or `json`")),
        };
        for name in PROTOCOLS {
            if let Some(protocol) = variable(name).filter(|of| of != "http/protobuf") {
                return Err(unsupported(name, &protocol, "the protocol is `http/protobuf`"));
            }
        }
        if variable("OTEL_SDK_DISABLED").is_some_and(|of| of.eq_ignore_ascii_case("true")) {
            return Ok(settings);
        }
        let has_endpoint = |signal| {
            variable("OTEL_EXPORTER_OTLP_ENDPOINT").is_some() || variable(signal).is_some()
        };
        let traces = variable("OTEL_TRACES_EXPORTER");
        settings.exports_traces = match traces.as_deref() {
            None => has_endpoint("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
            Some("otlp") => true,
            Some("none") => false,
            Some(other) => return Err(unsupported("OTEL_TRACES_EXPORTER", other, EXPORTERS)),
        };
        let Some(metrics) = variable("OTEL_METRICS_EXPORTER") else {
            settings.exports_metrics = has_endpoint("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT");
            return Ok(settings);
        };
        for exporter in metrics.split(',').map(str::trim) {
            match exporter {
                "otlp" => settings.exports_metrics = true,
                "prometheus" => settings.prometheus = Some(prometheus_address(variable)?),
                "none" => {}
                other => return Err(unsupported("OTEL_METRICS_EXPORTER", other, EXPORTERS)),
            }
        }
        Ok(settings)
    }

    /// Sets the format of the logs.
    pub fn log_format(mut self, format: LogFormat) -> Self {
        self.log_format = format;
        self
    }

    /// Sets the filter of the logs, in the syntax of `RUST_LOG`.
    pub fn log_filter(mut self, filter: impl Into<String>) -> Self {
        self.log_filter = filter.into();
        self
    }

    /// Sets the writer of the logs. Default: the standard output.
    pub fn log_writer<W>(mut self, writer: W) -> Self
    where
        W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    {
        self.log_writer = BoxMakeWriter::new(writer);
        self
    }

    /// Exports traces to `exporter`, instead of over OTLP.
    pub fn span_exporter(mut self, exporter: impl SpanExporter + 'static) -> Self {
        self.processor = Some(BatchSpanProcessor::builder(exporter).build());
        self
    }

    /// Serves the metrics for Prometheus, under `/metrics`.
    pub fn prometheus(mut self, address: SocketAddr) -> Self {
        self.prometheus = Some(address);
        self
    }

    /// Adds the exporter of the traces; `None` if they are not exported.
    pub(crate) fn exporting(
        &mut self,
        builder: TracerProviderBuilder,
    ) -> Result<Option<TracerProviderBuilder>, TelemetryError> {
        if let Some(processor) = self.processor.take() {
            return Ok(Some(builder.with_span_processor(processor)));
        }
        if !self.exports_traces {
            return Ok(None);
        }
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().build()?;
        Ok(Some(builder.with_batch_exporter(exporter)))
    }
}

const PROTOCOLS: [&str; 3] = [
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
];

fn prometheus_address(
    variable: &dyn Fn(&'static str) -> Option<String>,
) -> Result<SocketAddr, TelemetryError> {
    const HOST: &str = "OTEL_EXPORTER_PROMETHEUS_HOST";
    const PORT: &str = "OTEL_EXPORTER_PROMETHEUS_PORT";
    let host = match variable(HOST).as_deref() {
        None | Some("localhost") => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(host) => host.parse().map_err(|_| unsupported(HOST, host, "an IP address"))?,
    };
    let port = variable(PORT).map_or(Ok(9_464), |port| {
        port.parse().map_err(|_| unsupported(PORT, &port, "a number up to 65535"))
    });
    Ok(SocketAddr::new(host, port?))
}

fn unsupported(name: &'static str, value: &str, expected: &'static str) -> TelemetryError {
    TelemetryError::Variable { name, value: value.to_owned(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Telemetry, TelemetryError> {
        let find = |name: &'static str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Telemetry::from_variables("shop".to_owned(), &find)
    }

    #[test]
    fn nothing_is_exported_by_default() {
        let settings = read(&[]).unwrap();
        assert!(!settings.exports_traces && !settings.exports_metrics);
        assert_eq!((settings.prometheus, &*settings.service), (None, "shop"));
        assert_eq!((settings.log_format, &*settings.log_filter), (LogFormat::Text, "info"));
    }

    #[test]
    fn an_endpoint_turns_the_exports_on() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        let settings = read(&[endpoint, ("OTEL_SERVICE_NAME", "store")]).unwrap();
        assert!(settings.exports_traces && settings.exports_metrics);
        assert_eq!(settings.service, "store");
        let settings = read(&[endpoint, ("OTEL_METRICS_EXPORTER", "none")]).unwrap();
        assert!(settings.exports_traces && !settings.exports_metrics);
        let settings = read(&[endpoint, ("OTEL_SDK_DISABLED", "true")]).unwrap();
        assert!(!settings.exports_traces && !settings.exports_metrics);
        let settings = read(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c")]).unwrap();
        assert!(settings.exports_traces && !settings.exports_metrics);
    }

    #[test]
    fn prometheus_has_an_address() {
        let exporter = ("OTEL_METRICS_EXPORTER", "otlp, prometheus");
        let settings = read(&[exporter]).unwrap();
        assert!(settings.exports_metrics);
        assert_eq!(settings.prometheus, Some("127.0.0.1:9464".parse().unwrap()));
        let port = ("OTEL_EXPORTER_PROMETHEUS_PORT", "80");
        let host = ("OTEL_EXPORTER_PROMETHEUS_HOST", "0.0.0.0");
        let settings = read(&[exporter, host, port]).unwrap();
        assert_eq!(settings.prometheus, Some("0.0.0.0:80".parse().unwrap()));
    }

    #[test]
    fn what_is_not_supported_is_an_error() {
        for variable in [
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_METRICS_EXPORTER", "statsd"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("LOG_FORMAT", "xml"),
        ] {
            let error = read(&[variable]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{}={}", variable.0, variable.1)), "{error}");
        }
    }
}
