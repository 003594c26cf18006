//! How long to wait for a server that may be silently gone.

use std::future::Future;
use std::io::ErrorKind;
use std::time::Duration;

/// A connection is not used for longer, so that a change of address reaches all of them.
pub(crate) const MAX_CONNECTION_AGE: Duration = Duration::from_secs(30 * 60);
/// The server is asked about a connection before it is used, if it was not for so long.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How long the server may take for the answer to that.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer may take before another session asks what became of it, and then again.
pub(crate) const WATCH_INTERVAL: Duration = Duration::from_secs(5);
/// How long to read rows that nobody wants, to keep their connection.
pub(crate) const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the answer about leases may take: they lapse soon.
pub(crate) const LEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// How much longer than the server's own limit to wait for its answer.
const GRACE: Duration = Duration::from_secs(5);

/// How long a statement's answer may take; `None`: for ever.
pub(crate) fn answer_limit(statement_timeout: Duration) -> Option<Duration> {
    (!statement_timeout.is_zero()).then(|| statement_timeout.saturating_add(GRACE))
}

/// What `answer` becomes, if it does so in time.
pub(crate) async fn within<T>(
    limit: Option<Duration>,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, answer)
            .await
            .unwrap_or(Err(sqlx::Error::Io(ErrorKind::TimedOut.into()))),
        None => answer.await,
    }
}

/// Whether the server's answer was this error, so that the connection goes on. 57P0x: it is about
/// to close it; 25006: it is read-only, as a former primary is after a failover.
pub(crate) fn is_whole(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            !error.code().is_some_and(|code| code.starts_with("57P") || code == "25006")
        }
        sqlx::Error::RowNotFound => true,
        _ => false,
    }
}
