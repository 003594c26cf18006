//! Read models whose projections run on PostgreSQL and on SQLite.

mod connection;
mod query;
mod read_model;
mod value;

pub use connection::SqlConnection;
pub use query::SqlQuery;
pub use read_model::{SqlReadModel, SqlTransaction};
pub use value::{SqlRow, SqlValue};

#[cfg(feature = "postgres")]
use composable_rust_postgres::sqlx;
#[cfg(not(feature = "postgres"))]
use composable_rust_sqlite::sqlx;
