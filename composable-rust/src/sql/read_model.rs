//! A read model in PostgreSQL or SQLite.

use std::error::Error;
use std::ops::{Deref, DerefMut};

use composable_rust_core::StreamId;
use composable_rust_core::projection::{
    BlockedStream, ProjectionRecord, ProjectionState, ReadModel,
};
use composable_rust_core::queue::Checkpoint;
use composable_rust_core::store::StoreError;

use super::query::Executor;
use super::sqlx::types::Uuid;
use super::sqlx::{self, Executor as _};
use super::{SqlConnection, SqlQuery};

/// A database for read models, in PostgreSQL or SQLite: that of the event store or any other.
///
/// [`connect_read_model`](crate::connect_read_model) opens it by its URL. Projections write with a
/// [`SqlConnection`]. Clones share the connections.
///
/// For other settings than the defaults, open the adapter's read model and wrap it:
/// `SqlReadModel::Postgres(PostgresReadModel::builder(url).schema("orders").connect().await?)`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SqlReadModel {
    /// A PostgreSQL database.
    #[cfg(feature = "postgres")]
    Postgres(composable_rust_postgres::PostgresReadModel),
    /// An SQLite file.
    #[cfg(feature = "sqlite")]
    Sqlite(composable_rust_sqlite::SqliteReadModel),
}

impl SqlReadModel {
    /// Returns a statement to run outside of a projection, such as a query. Its parameters are
    /// `$1`, `$2` and so on, on both databases.
    pub fn query<'a>(&'a self, sql: &'a str) -> SqlQuery<'a> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(model) => SqlQuery::on_postgres(sql, Executor::Pool(model.pool())),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(model) => SqlQuery::on_sqlite(sql, Executor::Pool(model.pool())),
        }
    }

    /// Runs statements without parameters, separated by `;`, such as those that create tables.
    ///
    /// # Errors
    ///
    /// The database's error of the first statement that fails. On PostgreSQL, and not on SQLite,
    /// the statements before it are undone.
    pub async fn execute_batch(&self, sql: &str) -> Result<(), sqlx::Error> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(model) => model.pool().execute(sqlx::raw_sql(sql)).await.map(drop),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(model) => model.pool().execute(sqlx::raw_sql(sql)).await.map(drop),
        }
    }
}

/// A transaction of a [`SqlReadModel`].
#[derive(Debug)]
pub struct SqlTransaction(SqlConnection);

impl Deref for SqlTransaction {
    type Target = SqlConnection;

    fn deref(&self) -> &SqlConnection {
        &self.0
    }
}

impl DerefMut for SqlTransaction {
    fn deref_mut(&mut self) -> &mut SqlConnection {
        &mut self.0
    }
}

/// Evaluates an expression for the adapter's read model.
macro_rules! each {
    ($read_model:expr, |$model:ident| $run:expr) => {
        match $read_model {
            #[cfg(feature = "postgres")]
            SqlReadModel::Postgres($model) => $run,
            #[cfg(feature = "sqlite")]
            SqlReadModel::Sqlite($model) => $run,
        }
    };
}

/// Evaluates an expression for the adapter's read model and its transaction.
macro_rules! both {
    ($read_model:expr, $sql_transaction:expr, |$model:ident, $transaction:ident| $run:expr) => {
        match ($read_model, $sql_transaction) {
            #[cfg(feature = "postgres")]
            (SqlReadModel::Postgres($model), SqlConnection::Postgres($transaction)) => $run,
            #[cfg(feature = "sqlite")]
            (SqlReadModel::Sqlite($model), SqlConnection::Sqlite($transaction)) => $run,
            #[cfg(all(feature = "postgres", feature = "sqlite"))]
            _ => Err(StoreError::Invalid("the transaction is of another database".to_owned())),
        }
    };
}

impl ReadModel for SqlReadModel {
    type Connection = SqlConnection;
    type Transaction = SqlTransaction;

    async fn begin(&self) -> Result<SqlTransaction, StoreError> {
        Ok(SqlTransaction(match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(model) => SqlConnection::Postgres(model.begin().await?),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(model) => SqlConnection::Sqlite(model.begin().await?),
        }))
    }

    async fn commit(&self, transaction: SqlTransaction) -> Result<(), StoreError> {
        both!(self, transaction.0, |model, transaction| model.commit(transaction).await)
    }

    async fn load(&self, name: &str) -> Result<Option<ProjectionRecord>, StoreError> {
        each!(self, |model| model.load(name).await)
    }

    async fn lock(
        &self,
        transaction: &mut SqlTransaction,
        name: &str,
        log: Uuid,
    ) -> Result<ProjectionRecord, StoreError> {
        both!(self, &mut transaction.0, |model, transaction| {
            model.lock(transaction, name, log).await
        })
    }

    async fn advance(
        &self,
        transaction: &mut SqlTransaction,
        name: &str,
        epoch: u64,
        to: &[Checkpoint],
    ) -> Result<(), StoreError> {
        both!(self, &mut transaction.0, |model, transaction| {
            model.advance(transaction, name, epoch, to).await
        })
    }

    async fn set_state(
        &self,
        transaction: &mut SqlTransaction,
        name: &str,
        to: &ProjectionState,
    ) -> Result<(), StoreError> {
        both!(self, &mut transaction.0, |model, transaction| {
            model.set_state(transaction, name, to).await
        })
    }

    async fn forget(
        &self,
        transaction: &mut SqlTransaction,
        name: &str,
        log: Uuid,
    ) -> Result<(), StoreError> {
        both!(self, &mut transaction.0, |model, transaction| {
            model.forget(transaction, name, log).await
        })
    }

    async fn blocked_streams(&self, name: &str) -> Result<Vec<BlockedStream>, StoreError> {
        each!(self, |model| model.blocked_streams(name).await)
    }

    async fn find_blocked(
        &self,
        transaction: &mut SqlTransaction,
        name: &str,
        stream: &StreamId,
    ) -> Result<Option<BlockedStream>, StoreError> {
        both!(self, &mut transaction.0, |model, transaction| {
            model.find_blocked(transaction, name, stream).await
        })
    }

    async fn set_blocked(
        &self,
        transaction: &mut SqlTransaction,
        name: &str,
        blocked: &BlockedStream,
    ) -> Result<(), StoreError> {
        both!(self, &mut transaction.0, |model, transaction| {
            model.set_blocked(transaction, name, blocked).await
        })
    }

    async fn clear_blocked(
        &self,
        transaction: &mut SqlTransaction,
        name: &str,
        stream: &StreamId,
    ) -> Result<(), StoreError> {
        both!(self, &mut transaction.0, |model, transaction| {
            model.clear_blocked(transaction, name, stream).await
        })
    }

    fn is_unavailable(&self, error: &(dyn Error + 'static)) -> bool {
        each!(self, |model| model.is_unavailable(error))
    }
}
