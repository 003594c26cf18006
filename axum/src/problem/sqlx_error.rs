//! Problems from the errors of queries.

use axum::http::StatusCode;

use super::errors::internal;
use crate::Problem;

/// The problem of a query. The log has the error; the response has no text of it.
///
/// - 503 `unavailable`, with `Retry-After`: no connection came free in time, the connection is
///   lost, the database is busy or stopping, or it has ended the query because of a deadlock or a
///   timeout.
/// - 500 `internal`: the others, also a row that was not found.
///
/// A missing row may be the client's mistake or the program's, and only the program knows: read it
/// with `fetch_optional`.
///
/// # Example: a handler that reads a table
///
/// ```
/// use composable_rust_axum::{Json, Problem};
///
/// # async fn fetch_all() -> Result<Vec<String>, sqlx::Error> { Err(sqlx::Error::PoolTimedOut) }
/// async fn list() -> Result<Json<Vec<String>>, Problem> {
///     Ok(Json(fetch_all().await?))
/// }
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// let problem = runtime.block_on(list()).unwrap_err();
/// assert_eq!((problem.status().as_u16(), problem.detail()), (503, None));
/// # Ok::<(), std::io::Error>(())
/// ```
impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        if is_transient(&error) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the read model is unavailable; responding with status 503"
            );
            return Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable").retry_after(1);
        }
        internal("internal", &error)
    }
}

/// `true` if the same query may succeed later.
fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(database) => database.code().is_some_and(|code| passes(&code)),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// `true` if an error of this code may be over soon: an SQLSTATE of PostgreSQL, which has five
/// characters, or an extended result code of SQLite.
fn passes(code: &str) -> bool {
    if code.len() == 5 {
        // 08 connections, 40 deadlocks and serialization, 53 resources, 55P03 locks, 57 operator
        // and limits, 58 system.
        return code == "55P03" || matches!(code.get(..2), Some("08" | "40" | "53" | "57" | "58"));
    }
    // The low byte is the primary code: busy, locked, out of memory, interrupted, a failed read or
    // write, a full disk, a file that cannot be opened, a failed lock.
    code.parse().is_ok_and(|code: u32| matches!(code & 0xff, 5 | 6 | 7 | 9 | 10 | 13 | 14 | 15))
}
