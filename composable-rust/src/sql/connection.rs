//! The connection that projections write with.

use std::fmt;

use super::SqlQuery;
use super::query::Executor;
use super::sqlx::{self, Executor as _, Transaction};

/// A connection to PostgreSQL or SQLite inside a transaction: the
/// [`Connection`](crate::Projection::Connection) of a projection that runs on both.
///
/// For a statement that only one of the databases knows, match on the connection and use `sqlx`.
///
/// # Example: a statement for each database
///
/// ```
/// use composable_rust::{ProjectionError, SqlConnection};
/// use composable_rust::postgres::sqlx;
///
/// async fn clear(connection: &mut SqlConnection) -> Result<(), ProjectionError> {
///     match connection {
///         SqlConnection::Postgres(transaction) => {
///             sqlx::query("truncate sales").execute(&mut **transaction).await?;
///         }
///         other => other.execute_batch("delete from sales").await?,
///     }
///     Ok(())
/// }
/// ```
#[non_exhaustive]
pub enum SqlConnection {
    /// A transaction of PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(Transaction<'static, sqlx::Postgres>),
    /// A transaction of SQLite.
    #[cfg(feature = "sqlite")]
    Sqlite(Transaction<'static, sqlx::Sqlite>),
}

impl SqlConnection {
    /// Returns a statement to run in the transaction. Its parameters are `$1`, `$2` and so on, on
    /// both databases.
    pub fn query<'a>(&'a mut self, sql: &'a str) -> SqlQuery<'a> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(transaction) => {
                SqlQuery::on_postgres(sql, Executor::Connection(&mut **transaction))
            }
            #[cfg(feature = "sqlite")]
            Self::Sqlite(transaction) => {
                SqlQuery::on_sqlite(sql, Executor::Connection(&mut **transaction))
            }
        }
    }

    /// Runs statements without parameters, separated by `;`, in the transaction.
    ///
    /// # Errors
    ///
    /// The database's error of the first statement that fails. Return it from the projection.
    pub async fn execute_batch(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(transaction) => transaction.execute(sqlx::raw_sql(sql)).await.map(drop),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(transaction) => transaction.execute(sqlx::raw_sql(sql)).await.map(drop),
        }
    }
}

impl fmt::Debug for SqlConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlConnection").finish_non_exhaustive()
    }
}
