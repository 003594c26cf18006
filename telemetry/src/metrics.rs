//! Metrics: a recorder for Prometheus, one for OTLP, and both at once.

mod both;
mod endpoint;
mod otlp;
mod prometheus;

pub(crate) use self::both::Both;
pub(crate) use self::endpoint::{Endpoint, serve};
pub(crate) use self::otlp::OtlpRecorder;
pub use self::prometheus::PrometheusMetrics;
