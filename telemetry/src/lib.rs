//! Logs, traces and metrics of an app in one call: [`Telemetry::init`].
//!
//! - Logs as text or JSON on the standard output, each line with the id of its trace.
//! - Traces over OTLP. The runtime stores the context of its spans with the messages that they
//!   cause, so one trace spans processes, restarts and the wait of timers.
//! - Metrics as text for Prometheus, and over OTLP.
//!
//! The standard variables of OpenTelemetry configure it: see [`Telemetry::from_env`].
//!
//! ```
//! use composable_rust_telemetry::Telemetry;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let telemetry = Telemetry::from_env("shop")?.init()?;
//! tracing::info!("the shop opens");
//! println!("{}", telemetry.prometheus().render()); // for GET /metrics
//! telemetry.shutdown();
//! # Ok(())
//! # }
//! ```

mod context;
mod error;
mod guard;
mod init;
mod logs;
mod metrics;
mod settings;

pub use self::error::TelemetryError;
pub use self::guard::TelemetryGuard;
pub use self::metrics::PrometheusMetrics;
pub use self::settings::{LogFormat, Telemetry};
