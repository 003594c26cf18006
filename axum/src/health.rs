//! Health endpoints for orchestrators.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use composable_rust_core::projection::ProjectionState;
use composable_rust_core::queue::{Leases as _, Pause};
use composable_rust_core::store::EventStore as _;
use composable_rust_runtime::App;
use composable_rust_runtime::operations::ProjectionHandle;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::timeout;

/// The time within which a store must respond.
const LIMIT: Duration = Duration::from_secs(2);

/// The health of a process, as the endpoints `/live` and `/ready`.
///
/// - `/live` is 200 as long as the process serves requests. A supervisor restarts the process when
///   it is not.
/// - `/ready` is 200 if the process can serve requests: its stores respond within 2 seconds, and it
///   is not [draining](Self::drain). Otherwise it is 503, with the reasons.
///
/// A process stays ready under conditions that neither a restart nor another process would mend: a
/// paused log, a failed projection, a topic that cannot be read, an instance that cannot be
/// loaded. They are in the response as `warnings`, for people and for alerts.
///
/// # Example: endpoints beside those of a service
///
/// ```
/// # use axum::Router;
/// # use composable_rust_runtime::App;
/// use composable_rust_axum::Health;
///
/// # fn f(app: &App, router: Router) {
/// let health = Health::new([("orders", app)]);
/// let router = router.merge(health.router());
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Health(Arc<HealthInner>);

#[derive(Debug)]
struct HealthInner {
    apps: Vec<(String, App)>,
    is_draining: AtomicBool,
}

impl Health {
    /// Creates the health of the apps of a process, each with the name by which responses call it.
    pub fn new<'a, N: Into<String>>(apps: impl IntoIterator<Item = (N, &'a App)>) -> Self {
        let apps = apps.into_iter().map(|(name, app)| (name.into(), app.clone())).collect();
        Self(Arc::new(HealthInner { apps, is_draining: AtomicBool::new(false) }))
    }

    /// Makes `/ready` answer 503 from now on, then waits for `delay`, so that load balancers take
    /// the process out before it stops. Await it between the signal and the shutdown.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use composable_rust_axum::Health;
    /// # use composable_rust_runtime::shutdown_signal;
    /// async fn ended(health: Health) {
    ///     shutdown_signal().await;
    ///     health.drain(Duration::from_secs(5)).await;
    /// }
    /// ```
    pub async fn drain(&self, delay: Duration) {
        self.0.is_draining.store(true, Ordering::Relaxed);
        tokio::time::sleep(delay).await;
    }

    /// Returns the routes `/live` and `/ready`. They need no authorization and reveal no data.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/live", get(async || Json(json!({ "status": "live" }))))
            .route("/ready", get(ready))
            .with_state(self.clone())
    }

    /// Returns the reasons for which the process is not ready, and the warnings.
    async fn check(&self) -> (Vec<String>, Vec<String>) {
        let (mut reasons, mut warnings) = (Vec::new(), Vec::new());
        if self.0.is_draining.load(Ordering::Relaxed) {
            reasons.push("the process is shutting down".to_owned());
        }
        // At the same time: several databases that hang take no longer than one.
        let checks = join_all(self.0.apps.iter().map(|(name, app)| check(name, app))).await;
        for (of_app, warnings_of_app) in checks {
            reasons.extend(of_app);
            warnings.extend(warnings_of_app);
        }
        (reasons, warnings)
    }
}

/// Returns the reasons for which an app is not ready, and its warnings.
async fn check(name: &str, app: &App) -> (Option<String>, Vec<String>) {
    let read_models = join_all(app.projections().into_iter().map(check_projection));
    let (store, read_models) = tokio::join!(check_store(app), read_models);
    let (reason, paused) = match store {
        Ok(is_paused) => (None, is_paused.then(|| "the log is paused".to_owned())),
        Err(reason) => (Some(format!("{name}: {reason}")), None),
    };
    let stuck = app.stuck_instances().len();
    let stuck = (stuck > 0).then(|| format!("{stuck} instances cannot be loaded"));
    let deaf = app.subscriptions().iter().filter(|of| !of.is_reading()).count();
    let deaf = (deaf > 0).then(|| format!("{deaf} subscriptions cannot read all their topics"));
    let warnings = paused.into_iter().chain(read_models.into_iter().flatten());
    let warnings = warnings.chain(stuck).chain(deaf).map(|of| format!("{name}: {of}"));
    (reason, warnings.collect())
}

/// Returns whether the log is paused, or why the store cannot be used.
async fn check_store(app: &App) -> Result<bool, String> {
    let store = app.store();
    let paused = async {
        store.now().await?;
        store.load_leases(&[]).await
    };
    match timeout(LIMIT, paused).await {
        Ok(Ok(leases)) => Ok(leases.pause(Pause::LOG).is_some()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the store does not respond".to_owned()),
    }
}

/// Returns what is wrong with a projection.
async fn check_projection(projection: ProjectionHandle) -> Option<String> {
    let name = projection.name();
    match timeout(LIMIT, projection.status()).await {
        Ok(Ok(status)) => matches!(status.state, ProjectionState::Failed { .. })
            .then(|| format!("the projection `{name}` has failed")),
        Ok(Err(_)) | Err(_) => Some(format!("the read model of `{name}` does not respond")),
    }
}

async fn ready(State(health): State<Health>) -> (StatusCode, Json<Value>) {
    let (reasons, warnings) = health.check().await;
    let (status, text) = if reasons.is_empty() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    (status, Json(json!({ "status": text, "reasons": reasons, "warnings": warnings })))
}
