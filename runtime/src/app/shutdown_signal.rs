//! The signals that ask a process to stop.

/// Completes on Ctrl-C or SIGTERM. Pass it to [`App::run_until`](crate::App::run_until).
///
/// If the process cannot listen for one of the signals, it logs a warning and ignores that signal.
///
/// # Example: a service that shuts down on a signal
///
/// ```no_run
/// use std::time::Duration;
///
/// use composable_rust_runtime::{App, shutdown_signal};
///
/// # async fn run(app: App) {
/// app.run_until(shutdown_signal(), Duration::from_secs(20)).await;
/// # }
/// ```
pub async fn shutdown_signal() {
    tokio::select! {
        biased;
        () = interrupted() => {}
        () = terminated() => {}
    }
}

async fn interrupted() {
    // A process that cannot listen can still be killed, which loses nothing.
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::warn!(%error, "failed to listen for Ctrl-C; ignoring it");
        std::future::pending::<()>().await;
    }
}

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        Err(error) => {
            tracing::warn!(%error, "failed to listen for SIGTERM; ignoring it");
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending::<()>().await;
}
