//! Pauses of the log and of gateways.

use composable_rust_core::Timestamp;
use composable_rust_core::queue::{Leases as _, Outbox as _, Pause};
use composable_rust_core::store::Inspection as _;
use serde::Serialize;

use crate::{Admin, AdminError, Intent};

/// A pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PauseView {
    /// The name: `log` for the whole log, `gateway/NAME` for a gateway.
    pub name: String,
    /// The time of the pause.
    pub since: Timestamp,
    /// The operator.
    pub by: Option<String>,
}

impl From<Pause> for PauseView {
    fn from(Pause { name, since, by }: Pause) -> Self {
        Self { name, since, by }
    }
}

impl Admin {
    /// Returns the pauses, in order of names.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn pauses(&self) -> Result<Vec<PauseView>, AdminError> {
        Ok(self.store().all_leases().await?.pauses.into_iter().map(PauseView::from).collect())
    }

    /// Pauses the log: no worker of any process takes new work. Commands are still handled. Each
    /// process notices within a third of the time-to-live of its leases.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: calling it again is safe.
    pub async fn pause_log(&self) -> Result<(), AdminError> {
        self.pause("log pause", Pause::LOG).await
    }

    /// Ends the pause of the log.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: calling it again is safe.
    pub async fn resume_log(&self) -> Result<(), AdminError> {
        self.resume("log resume", Pause::LOG).await
    }

    /// Pauses a gateway in all processes: its calls wait without spending attempts.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: calling it again is safe.
    pub async fn pause_gateway(&self, gateway: &str) -> Result<(), AdminError> {
        self.pause("gateways pause", &Pause::of_gateway(gateway)).await
    }

    /// Ends the pause of a gateway.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: calling it again is safe.
    pub async fn resume_gateway(&self, gateway: &str) -> Result<(), AdminError> {
        self.resume("gateways resume", &Pause::of_gateway(gateway)).await
    }

    async fn pause(&self, operation: &str, name: &str) -> Result<(), AdminError> {
        self.audited(Intent::new(operation, name), async || {
            self.store().pause(name, Some(&self.operator.name)).await?;
            Ok(((), "paused".to_owned()))
        })
        .await
    }

    async fn resume(&self, operation: &str, name: &str) -> Result<(), AdminError> {
        self.audited(Intent::new(operation, name), async || {
            self.store().resume(name).await?;
            self.store().wake_workers().await?;
            Ok(((), "resumed".to_owned()))
        })
        .await
    }
}
