//! Reading what one has written.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use composable_rust_core::Position;
use composable_rust_runtime::operations::ProjectionHandle;

use crate::Problem;
use crate::headers::names::COMPOSABLE_WAIT_FOR;
use crate::headers::single::{invalid, single};

/// The default time limit of a wait.
const DEADLINE: Duration = Duration::from_secs(5);

/// The positions that a read model must show before a query reads it: the `Composable-Wait-For`
/// header, with `Composable-Position`s of earlier responses, separated by commas. Without the
/// header, there is nothing to wait for.
///
/// # Example: a query that shows what the client wrote
///
/// ```
/// # use composable_rust_core::Projection;
/// use axum::extract::State;
/// use composable_rust_axum::{Json, Problem, WaitFor};
/// use composable_rust_runtime::App;
///
/// # async fn open_orders() -> Vec<String> { Vec::new() }
/// async fn list<Orders: Projection>(
///     State(app): State<App>,
///     wait_for: WaitFor,
/// ) -> Result<Json<Vec<String>>, Problem> {
///     wait_for.on(&app.projection::<Orders>()).await?;
///     Ok(Json(open_orders().await))
/// }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WaitFor {
    positions: Vec<Position>,
    deadline: Option<Duration>,
}

impl<S: Send + Sync> FromRequestParts<S> for WaitFor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(field) = single(&parts.headers, &COMPOSABLE_WAIT_FOR)? else {
            return Ok(Self::default());
        };
        let positions = field.split(',').map(|position| position.trim().parse());
        let positions: Result<_, _> = positions.collect();
        let positions = positions.map_err(|_| {
            invalid(&COMPOSABLE_WAIT_FOR, "is not a list of positions, such as 3:1042, 5:17")
        })?;
        Ok(Self { positions, deadline: None })
    }
}

impl WaitFor {
    /// Returns the positions.
    pub fn positions(&self) -> &[Position] {
        &self.positions
    }

    /// Sets the time limit. Default: 5 seconds.
    #[must_use]
    pub fn within(self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Waits until the read model of a projection shows all positions.
    ///
    /// # Errors
    ///
    /// A problem of status 503, with `Retry-After`: the projection is behind, is not running, or
    /// its database is unavailable.
    ///
    /// # Cancel safety
    ///
    /// A dropped future has no effect.
    pub async fn on(&self, projection: &ProjectionHandle) -> Result<(), Problem> {
        let deadline = self.deadline.unwrap_or(DEADLINE);
        projection.wait_for(self.positions.iter().copied(), deadline).await?;
        Ok(())
    }
}
