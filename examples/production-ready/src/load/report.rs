//! The report of a load: as text, as JSON, and as a plot.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use super::audit::Audit;
use super::faults::{Fault, Incident};
use super::fleet::Disk;
use super::plot::plot;
use super::statistics::{Latency, Statistics};

/// The report of a load.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The number of cores of the machine, which all processes share.
    pub cores: usize,
    /// The services, with their stores and bus.
    pub services: String,
    /// The orders that were due each second.
    pub rate: u32,
    /// The duration of the load.
    pub seconds: u32,
    /// The number of orders that were due.
    pub due: u64,
    /// The number of acknowledged orders.
    pub acknowledged: u64,
    /// The failed orders, by reason.
    pub failures: BTreeMap<String, u64>,
    /// The repeated attempts, by reason.
    pub retries: BTreeMap<String, u64>,
    /// The latency of acknowledged orders, in milliseconds, from the moment when each was due.
    pub latency_ms: Quantiles,
    /// The commands that the services handled, by name: all steps of all orders.
    pub handled: BTreeMap<String, u64>,
    /// The commands that the services handled each second until the end of the load.
    pub handled_per_second: u64,
    /// The number of orders that had not ended at the end of the load.
    pub unfinished: u64,
    /// The size of the exported telemetry, in bytes.
    pub telemetry_bytes: u64,
    /// The growth of the stores.
    pub disk: Disk,
    /// The fault that every process had.
    pub fault: Fault,
    pub(super) incidents: Vec<Incident>,
    /// The audit; `None` for servers that the load did not start.
    pub audit: Option<Audit>,
    pub(super) timeline: Vec<Tick>,
}

/// Latencies, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Quantiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// One second of a load.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Tick {
    pub(super) due: u64,
    pub(super) acknowledged: u64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

impl Quantiles {
    pub(super) fn of(latency: &Latency) -> Self {
        let of = |quantile| latency.quantile(quantile);
        Self { p50: of(0.5), p90: of(0.9), p99: of(0.99), p999: of(0.999), max: of(1.0) }
    }
}

impl Tick {
    pub(super) fn all(statistics: &Statistics) -> Vec<Self> {
        let ticks = statistics.seconds.iter().map(|second| Self {
            due: second.due,
            acknowledged: second.acknowledged,
            p50_ms: second.latency.quantile(0.5),
            p99_ms: second.latency.quantile(0.99),
        });
        ticks.collect()
    }
}

impl Report {
    /// `true` if no command failed and the audit balances.
    pub fn is_good(&self) -> bool {
        self.failures.is_empty() && self.audit.as_ref().is_none_or(Audit::balances)
    }

    /// Writes `report.txt`, `report.json` and `plot.svg` into a folder.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(self).context("cannot encode the report")?;
        let files =
            [("report.txt", self.to_string()), ("report.json", json), ("plot.svg", plot(self))];
        for (name, content) in files {
            let path = folder.join(name);
            fs::write(&path, content)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, services, rate, seconds, due, acknowledged, .. } = self;
        let Quantiles { p50, p90, p99, p999, max } = self.latency_ms;
        writeln!(f, "machine       {cores} cores for all processes, servers and this load")?;
        writeln!(f, "services      {services}")?;
        writeln!(f, "load          {rate} orders/s for {seconds} s, telemetry on")?;
        let failed: u64 = self.failures.values().sum();
        writeln!(f, "orders        {due} due, {acknowledged} acknowledged, {failed} failed")?;
        writeln!(
            f,
            "latency       p50 {p50:.1} ms, p90 {p90:.1} ms, p99 {p99:.1} ms, \
             p99.9 {p999:.1} ms, max {max:.1} ms"
        )?;
        let (handled, unfinished) = (self.handled_per_second, self.unfinished);
        writeln!(
            f,
            "handled       {handled} commands/s, {unfinished} orders unfinished at the end"
        )?;
        let (telemetry, Disk { data_bytes, wal_bytes }) = (self.telemetry_bytes, self.disk);
        let [telemetry, data, wal] = [telemetry, data_bytes, wal_bytes].map(|of| of / 1_000_000);
        writeln!(f, "telemetry     {telemetry} MB exported")?;
        writeln!(f, "disk          {data} MB of data, {wal} MB of write-ahead log")?;
        for (reason, count) in &self.retries {
            writeln!(f, "retried       {count} × {reason}")?;
        }
        for (reason, count) in &self.failures {
            writeln!(f, "failed        {count} × {reason}")?;
        }
        for Incident { at_seconds, down_seconds, process } in &self.incidents {
            let fault = if self.fault == Fault::Kill { "killed" } else { "restarted" };
            writeln!(
                f,
                "{fault:<13} {process} at {at_seconds:.0} s, ready {down_seconds:.1} s later"
            )?;
        }
        self.audit.as_ref().map_or(Ok(()), |audit| writeln!(f, "{audit}"))
    }
}
