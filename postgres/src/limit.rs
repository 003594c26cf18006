//! How long to wait for a server that may be silently gone.

use std::future::Future;
use std::io::ErrorKind;
use std::time::Duration;

/// A connection that was idle for longer may have been forgotten by what lies between.
pub(crate) const MAX_IDLE: Duration = Duration::from_secs(300);
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
/// to close it.
pub(crate) fn is_whole(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => !error.code().is_some_and(|c| c.starts_with("57P")),
        sqlx::Error::RowNotFound => true,
        _ => false,
    }
}
