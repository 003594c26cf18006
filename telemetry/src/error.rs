//! The errors of setting up telemetry.

use std::io;
use std::net::SocketAddr;

/// The reason why telemetry cannot be set up. Change the configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// A variable of the environment has a value that is not supported.
    #[error("{name}={value} is not supported: {expected}")]
    Variable {
        /// The name of the variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// A description of the supported values.
        expected: &'static str,
    },
    /// The exporter over OTLP cannot be built.
    #[error("failed to build the OTLP exporter")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The recorder of metrics cannot be built.
    #[error("failed to build the recorder of metrics")]
    Recorder(#[from] metrics_exporter_prometheus::BuildError),
    /// The endpoint of the metrics cannot be opened.
    #[error("failed to serve the metrics on {address}")]
    Endpoint {
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The process has a logger, a recorder of metrics or a tracer already.
    #[error("telemetry is set up already: the process has {0}")]
    AlreadyInstalled(&'static str),
}
