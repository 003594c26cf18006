//! Projections of the app.

use composable_rust_core::Position;
use composable_rust_runtime::operations::ProjectionHandle;
use serde::Serialize;

use crate::{Admin, AdminError, Intent};

/// A projection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProjectionView {
    /// The name.
    pub name: String,
    /// The state, such as `running`.
    pub state: String,
    /// The reason of the state: the error of a failed projection, the name for which one waits.
    pub reason: String,
    /// The number of events that it has processed.
    pub done: u64,
    /// The number of events of the log.
    pub of: u64,
    /// The error, if the read model cannot be read.
    pub error: Option<String>,
    /// The position of the event at which the projection has failed.
    pub fault: Option<Position>,
}

impl Admin {
    /// Returns the projections that the app registers, in order of names. Without an app there are
    /// none: their progress is in their read models.
    pub async fn projections(&self) -> Vec<ProjectionView> {
        let mut views = Vec::new();
        for handle in self.app.projections() {
            views.push(view(&handle).await);
        }
        views
    }

    /// Returns a projection by its name.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`]: the app registers no such projection.
    pub async fn projection(&self, name: &str) -> Result<ProjectionView, AdminError> {
        Ok(view(&self.find_projection(name)?).await)
    }

    /// Clears a projection's read model and projects all events again.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`]: the app registers no such projection.
    pub async fn rebuild_projection(&self, name: &str) -> Result<(), AdminError> {
        let handle = self.find_projection(name)?;
        self.audited(Intent::new("projections rebuild", name), async || {
            handle.rebuild().await?;
            Ok(((), "rebuilding".to_owned()))
        })
        .await
    }

    /// Pauses a projection.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`]: the app registers no such projection.
    pub async fn pause_projection(&self, name: &str) -> Result<(), AdminError> {
        let handle = self.find_projection(name)?;
        self.audited(Intent::new("projections pause", name), async || {
            handle.pause().await?;
            Ok(((), "paused".to_owned()))
        })
        .await
    }

    /// Continues a projection that is paused or failed.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`]: the app registers no such projection.
    pub async fn resume_projection(&self, name: &str) -> Result<(), AdminError> {
        let handle = self.find_projection(name)?;
        self.audited(Intent::new("projections resume", name), async || {
            handle.resume().await?;
            Ok(((), "resumed".to_owned()))
        })
        .await
    }

    fn find_projection(&self, name: &str) -> Result<ProjectionHandle, AdminError> {
        let all = self.app.projections();
        let known: Vec<_> = all.iter().map(ProjectionHandle::name).collect();
        let hint = if known.is_empty() {
            "; run the operation in a program that registers it".to_owned()
        } else {
            format!("; registered are: {}", known.join(", "))
        };
        let found = all.iter().find(|handle| handle.name() == name).cloned();
        found.ok_or_else(|| AdminError::NotFound {
            what: "projection",
            name: name.to_owned(),
            hint,
        })
    }
}

async fn view(handle: &ProjectionHandle) -> ProjectionView {
    let name = handle.name().to_owned();
    match handle.status().await {
        Ok(status) => ProjectionView {
            name,
            state: status.state.as_str().to_owned(),
            reason: status.state.reason().to_owned(),
            done: status.done,
            of: status.of,
            error: None,
            fault: fault_of(status.state.reason()),
        },
        Err(error) => ProjectionView {
            name,
            state: "unknown".to_owned(),
            reason: String::new(),
            done: 0,
            of: 0,
            error: Some(crate::content::error_chain(&error)),
            fault: None,
        },
    }
}

/// Returns the position that the reason of a failure names.
fn fault_of(reason: &str) -> Option<Position> {
    let (_, rest) = reason.split_once("the event at ")?;
    let position = rest.split(|c: char| !c.is_ascii_digit() && c != ':').next()?;
    position.trim_end_matches(':').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_failure_names_the_position() {
        let of = |reason| fault_of(reason).map(|at| (at.partition, at.offset));
        assert_eq!(of("the event at 2:17: 66 is not a weight"), Some((2, 17)));
        assert_eq!(of("no running code knows `a` (the event at 0:1: b): deploy"), Some((0, 1)));
        assert_eq!(of("the log went back"), None);
    }
}
