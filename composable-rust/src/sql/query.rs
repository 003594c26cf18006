//! Statements that run on both databases.

use std::fmt;

use super::sqlx::query::Query;
use super::sqlx::{self, Database, Pool};
use super::{SqlRow, SqlValue};

/// A statement with its parameters, of [`SqlConnection::query`](crate::SqlConnection::query) or
/// [`SqlReadModel::query`](crate::SqlReadModel::query).
#[must_use = "a statement does nothing until it is executed or its rows are fetched"]
pub struct SqlQuery<'a>(Statement<'a>);

enum Statement<'a> {
    #[cfg(feature = "postgres")]
    Postgres(Query<'a, sqlx::Postgres, sqlx::postgres::PgArguments>, Executor<'a, sqlx::Postgres>),
    #[cfg(feature = "sqlite")]
    Sqlite(Query<'a, sqlx::Sqlite, sqlx::sqlite::SqliteArguments<'a>>, Executor<'a, sqlx::Sqlite>),
}

pub(super) enum Executor<'a, D: Database> {
    Pool(&'a Pool<D>),
    Connection(&'a mut D::Connection),
}

/// Evaluates an expression for the query and the executor of a statement.
macro_rules! run {
    ($statement:expr, |$query:ident, $executor:ident| $run:expr) => {
        match $statement {
            #[cfg(feature = "postgres")]
            Statement::Postgres($query, Executor::Pool($executor)) => $run,
            #[cfg(feature = "postgres")]
            Statement::Postgres($query, Executor::Connection($executor)) => $run,
            #[cfg(feature = "sqlite")]
            Statement::Sqlite($query, Executor::Pool($executor)) => $run,
            #[cfg(feature = "sqlite")]
            Statement::Sqlite($query, Executor::Connection($executor)) => $run,
        }
    };
}

impl<'a> SqlQuery<'a> {
    #[cfg(feature = "postgres")]
    pub(super) fn on_postgres(sql: &'a str, executor: Executor<'a, sqlx::Postgres>) -> Self {
        Self(Statement::Postgres(sqlx::query(sql), executor))
    }

    #[cfg(feature = "sqlite")]
    pub(super) fn on_sqlite(sql: &'a str, executor: Executor<'a, sqlx::Sqlite>) -> Self {
        Self(Statement::Sqlite(sqlx::query(sql), executor))
    }

    /// Binds the next parameter: the first call binds `$1`, the second `$2`.
    ///
    /// A value that cannot be encoded is an error when the statement runs.
    pub fn bind<T: SqlValue<'a>>(self, value: T) -> Self {
        Self(match self.0 {
            #[cfg(feature = "postgres")]
            Statement::Postgres(query, executor) => {
                Statement::Postgres(query.bind(value), executor)
            }
            #[cfg(feature = "sqlite")]
            Statement::Sqlite(query, executor) => Statement::Sqlite(query.bind(value), executor),
        })
    }

    /// Runs the statement and returns the number of rows that it has inserted, updated or deleted.
    ///
    /// # Errors
    ///
    /// The database's error.
    pub async fn execute(self) -> Result<u64, sqlx::Error> {
        Ok(run!(self.0, |query, executor| query.execute(executor).await?.rows_affected()))
    }

    /// Runs the statement and returns all rows.
    ///
    /// # Errors
    ///
    /// The database's error, or that of a row which is not a `T`.
    pub async fn fetch_all<T: SqlRow>(self) -> Result<Vec<T>, sqlx::Error> {
        run!(self.0, |query, executor| {
            query.fetch_all(executor).await?.iter().map(T::from_row).collect()
        })
    }

    /// Runs the statement and returns the first row; `None` if there are no rows.
    ///
    /// # Errors
    ///
    /// As [`fetch_all`](Self::fetch_all).
    pub async fn fetch_optional<T: SqlRow>(self) -> Result<Option<T>, sqlx::Error> {
        run!(self.0, |query, executor| {
            query.fetch_optional(executor).await?.as_ref().map(T::from_row).transpose()
        })
    }

    /// Runs the statement and returns the first row.
    ///
    /// # Errors
    ///
    /// [`sqlx::Error::RowNotFound`] if there are no rows; else as [`fetch_all`](Self::fetch_all).
    pub async fn fetch_one<T: SqlRow>(self) -> Result<T, sqlx::Error> {
        run!(self.0, |query, executor| T::from_row(&query.fetch_one(executor).await?))
    }
}

impl fmt::Debug for SqlQuery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlQuery").finish_non_exhaustive()
    }
}
