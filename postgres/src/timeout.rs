//! Timeouts for a server that may be silently gone.

use std::future::Future;
use std::io::ErrorKind;
use std::time::Duration;

/// The maximum age of a connection, after which a changed address of the server is used.
pub(crate) const MAX_CONNECTION_AGE: Duration = Duration::from_secs(30 * 60);
/// The idle time after which a connection is checked before use.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// The timeout of that check.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// The time without a response after which another session checks whether the server still works on
/// the statement, and the interval of further checks.
pub(crate) const WATCH_INTERVAL: Duration = Duration::from_secs(5);
/// The timeout for reading the rest of an abandoned response, to keep its connection.
pub(crate) const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(1);
/// The response timeout for statements about leases, which expire soon.
pub(crate) const LEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// The time that a client waits beyond the server's own limit.
const GRACE: Duration = Duration::from_secs(5);

/// Returns the response timeout of a statement; `None`: no timeout.
pub(crate) fn response_timeout(statement_timeout: Duration) -> Option<Duration> {
    (!statement_timeout.is_zero()).then(|| statement_timeout.saturating_add(GRACE))
}

/// Waits for `answer` within a time limit.
pub(crate) async fn within<T>(
    limit: Option<Duration>,
    response: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, response)
            .await
            .unwrap_or(Err(sqlx::Error::Io(ErrorKind::TimedOut.into()))),
        None => response.await,
    }
}

/// Returns `true` if the server's response was this error, so that the connection is usable
/// afterwards. 57P0x: the server is about to close the connection; 25006: the server is read-only,
/// as a former primary is after a failover.
pub(crate) fn is_connection_reusable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            !error.code().is_some_and(|code| code.starts_with("57P") || code == "25006")
        }
        sqlx::Error::RowNotFound => true,
        _ => false,
    }
}
