//! Faults under load: each process is restarted or killed once.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::fleet::Fleet;

/// The fault that every process has once, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// No fault.
    None,
    /// A graceful restart, as in a rolling update.
    Restart,
    /// SIGKILL, and a start by the supervisor.
    Kill,
}

/// A fault that happened.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Incident {
    /// The time from the start of the load, in seconds.
    pub(super) at_seconds: f64,
    /// The time until the process was ready again, in seconds.
    pub(super) down_seconds: f64,
    /// The process.
    pub(super) process: String,
}

/// Gives every process its fault, at even distances within `duration`.
///
/// # Errors
///
/// A process does not end gracefully, or does not start.
pub(super) async fn inject(
    fault: Fault,
    fleet: &mut Fleet,
    duration: Duration,
) -> anyhow::Result<Vec<Incident>> {
    let start = Instant::now();
    let mut incidents = Vec::new();
    if fault == Fault::None {
        return Ok(incidents);
    }
    let count = u32::try_from(fleet.processes.len())?;
    for (n, process) in (1..).zip(&mut fleet.processes) {
        sleep_until(start + duration * n / (count + 1)).await;
        let at = start.elapsed();
        match fault {
            Fault::Kill => process.kill().await?,
            Fault::Restart | Fault::None => process.stop().await?,
        }
        process.start().await?;
        let down_seconds = start.elapsed().saturating_sub(at).as_secs_f64();
        let process = process.name.clone();
        println!("{:>6.0} s  {process} is ready again after {down_seconds:.1} s", at.as_secs_f64());
        incidents.push(Incident { at_seconds: at.as_secs_f64(), down_seconds, process });
    }
    Ok(incidents)
}
