//! Errors, told apart by what the caller should do.

use std::error::Error;

use composable_rust_core::store::StoreError;

/// The reason for which a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL is not `postgres://user:password@host:port/database?…`. Correct it.
    #[error("not a PostgreSQL URL")]
    InvalidUrl(#[source] sqlx::Error),
    /// No server answers at the address, or the server rejected the user or the database. Check
    /// that the server runs, then the URL. Retrying helps only while the server starts.
    #[error("cannot connect to the PostgreSQL server at {address}")]
    Unreachable {
        /// The host and port, or the socket's directory.
        address: String,
        /// The driver's error.
        source: sqlx::Error,
    },
    /// The connection cannot be encrypted as `sslmode` in the URL demands: the program was built
    /// without the feature `postgres-tls` (`tls` of this crate), the server does not offer
    /// encryption, or its certificate is not trusted.
    #[error("cannot encrypt the connection to the PostgreSQL server at {address}")]
    Tls {
        /// The host and port, or the socket's directory.
        address: String,
        /// The driver's error.
        source: sqlx::Error,
    },
    /// The server accepts no writes: it is a standby, was the primary before a failover, or is
    /// configured as read-only. Name the primary in the URL; during a failover, retry.
    #[error("the PostgreSQL server at {address} is read-only")]
    ReadOnly {
        /// The host and port, or the socket's directory.
        address: String,
    },
    /// A connection pooler lends one session to several clients, so that settings and prepared
    /// statements get lost. Set the pooler to session mode (`PgBouncer`: `pool_mode = session`,
    /// with `server_reset_query = DISCARD ALL`), or connect to the server directly.
    #[error(
        "a connection pooler at {address} shares sessions among its clients: put it into session \
         mode or connect to the server directly"
    )]
    SharedSession {
        /// The host and port, or the socket's directory.
        address: String,
    },
    /// The server is older than PostgreSQL 15. Upgrade it.
    #[error("the server is PostgreSQL {0}, at least 15 is needed")]
    ServerTooOld(String),
    /// The database does not hold text as UTF-8. Create one with `encoding 'UTF8'`.
    #[error("the database holds text as {0}, UTF8 is needed")]
    Encoding(String),
    /// A schema's name has from 1 to 63 bytes and no NUL; PostgreSQL would cut a longer one. Choose
    /// another.
    #[error("a schema cannot be called {0:?}: a name has from 1 to 63 bytes and no NUL")]
    InvalidSchema(String),
    /// The schema contains no log, but tables with other owners under the names that the store
    /// needs. Give the store a schema of its own with [`schema`].
    ///
    /// [`schema`]: crate::PostgresEventStoreBuilder::schema
    #[error(
        "the schema {schema} has tables of other owners ({}): give the event store its own schema",
        tables.join(", ")
    )]
    ForeignTables {
        /// The schema.
        schema: String,
        /// The names of the tables.
        tables: Vec<String>,
    },
    /// A newer version of this crate migrated the database, and this version is older than the
    /// oldest that may use it. Run the newer version.
    #[error(
        "the database has schema version {found}, which needs code that knows version {oldest}; this \
         program knows versions up to {known}"
    )]
    SchemaNewer {
        /// The database's version.
        found: i32,
        /// The oldest version that may use the database.
        oldest: i32,
        /// The highest version that this program knows.
        known: i32,
    },
    /// The database has no schema or an old one, and the builder was told [`migrate(false)`]. Run
    /// `composable migrate apply`.
    ///
    /// [`migrate(false)`]: crate::PostgresEventStoreBuilder::migrate
    #[error(
        "the database has schema version {found}, this program needs {needed}: run \
         `composable migrate apply`"
    )]
    SchemaOlder {
        /// The database's version; 0 if there is no schema, or no log in it.
        found: i32,
        /// The version that this program needs.
        needed: i32,
    },
    /// The requested number of partitions is not from 1 to 1,024, or the log in the database
    /// contradicts itself.
    #[error("{0}")]
    Partitions(String),
    /// The log distributes its streams by a hash that this program does not know.
    #[error("the log spreads its streams by `{0}`, this program knows xxh3-64")]
    UnknownHash(String),
    /// The log belongs to another database, of which this one is a copy: a restored backup, a
    /// clone, an upgraded or moved cluster. If this database continues the log, connect once with
    /// [`adopt(Adoption::Successor)`]; if the other does, with [`adopt(Adoption::Copy)`].
    ///
    /// A physical copy (of a disk, or a standby that was promoted) cannot be distinguished from the
    /// original and is not detected: see
    /// [`UndetectedCopy`](composable_rust_core::store::Adoption::UndetectedCopy).
    ///
    /// [`adopt(Adoption::Successor)`]: crate::PostgresEventStoreBuilder::adopt
    /// [`adopt(Adoption::Copy)`]: crate::PostgresEventStoreBuilder::adopt
    #[error(
        "the log is at home in another database ({home}), this one ({here}) is a copy: connect once \
         with adopt(Adoption::Successor), or run `composable adopt successor`, if the log goes on \
         here; with adopt(Adoption::Copy), or `composable adopt copy`, if this is to be a log of its \
         own"
    )]
    Copied {
        /// The log's database: the cluster's system identifier and the database's number.
        home: String,
        /// This database.
        here: String,
    },
    /// A statement failed while the schema was read or migrated, for example because the user may
    /// not create tables.
    #[error("cannot read or migrate the schema")]
    Schema(#[source] sqlx::Error),
}

/// Converts the error of a statement to the port's error.
///
/// An error that a retry may not meet again, or that leaves the outcome unknown, is `Unavailable`.
pub(crate) fn store_error(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(database) => {
            if is_refusal(database.code().as_deref(), database.constraint()) {
                StoreError::Invalid(database.message().to_owned())
            } else {
                StoreError::unavailable(error)
            }
        }
        sqlx::Error::Encode(_) => StoreError::Invalid(error.to_string()),
        _ => StoreError::unavailable(error),
    }
}

/// Converts the error of a statement in a read model's transaction. An error that a retry would
/// meet again is `Invalid`, since its cause is what the projection wrote.
pub(crate) fn model_error(error: sqlx::Error) -> StoreError {
    if is_unavailable(&error) {
        return StoreError::unavailable(error);
    }
    match error.as_database_error() {
        Some(database) if database.code().as_deref() == Some(ABORTED) => {
            StoreError::Invalid(IGNORED_ERROR.to_owned())
        }
        Some(database) => StoreError::Invalid(database.message().to_owned()),
        None => StoreError::Invalid(error.to_string()),
    }
}

/// `in_failed_sql_transaction`
const ABORTED: &str = "25P02";

const IGNORED_ERROR: &str = "a statement of the projection failed and its error was ignored, which \
    has aborted the transaction: return the error, or prevent it (`on conflict do nothing`)";

/// Returns `true` if the server will reject the same statement every time.
fn is_refusal(sqlstate: Option<&str>, constraint: Option<&str>) -> bool {
    match constraint {
        // Another client wrote to the log without the partition's lock. The next attempt sees the
        // written rows.
        Some("events_pkey" | "events_log_offset_key") => return false,
        Some("inbox_pkey" | "outbox_pkey" | "timers_pkey") => return true,
        _ => {}
    }
    // 22 data, 23 constraints, 54 limits (a key that is too long, JSON that is too deep).
    sqlstate.is_some_and(|code| {
        let class = code.get(..2).unwrap_or_default();
        matches!(class, "22" | "23" | "54")
    })
}

/// Returns `true` if a projection's error comes from a lost database or from other transactions,
/// not from the projection.
pub(crate) fn is_unavailable(error: &(dyn Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    let Some(error) = causes.into_iter().find_map(|error| error.downcast_ref::<sqlx::Error>())
    else {
        return false;
    };
    match error {
        sqlx::Error::Database(database) => database.code().as_deref().is_some_and(passes_by_itself),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// Returns `true` if this SQLSTATE means that the same statement may succeed later.
fn passes_by_itself(sqlstate: &str) -> bool {
    // 08 connections, 40 deadlocks and serialization, 53 resources, 55P03 locks, 57 operator and
    // limits, 58 system; 25006 a server that is not the primary, 25P03 a transaction that was idle
    // too long.
    matches!(sqlstate, "25006" | "25P03" | "55P03")
        || matches!(sqlstate.get(..2), Some("08" | "40" | "53" | "57" | "58"))
}

#[cfg(test)]
mod tests {
    use super::{is_refusal, is_unavailable, passes_by_itself};

    #[test]
    fn a_projection_fails_for_want_of_the_database_or_by_itself() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot add up")]
        struct Wrapped(#[source] sqlx::Error);

        for error in [sqlx::Error::PoolTimedOut, sqlx::Error::WorkerCrashed] {
            assert!(is_unavailable(&error), "{error:?}");
            assert!(is_unavailable(&Wrapped(error)));
        }
        assert!(!is_unavailable(&sqlx::Error::RowNotFound));
        assert!(!is_unavailable(&std::fmt::Error));
        for code in ["08006", "40001", "40P01", "57P01", "57014", "53300", "25006"] {
            assert!(passes_by_itself(code), "{code}");
        }
        for code in ["42P01", "22012", "23505", "25P02"] {
            assert!(!passes_by_itself(code), "{code}");
        }
    }

    #[test]
    fn only_data_is_refused_for_good() {
        for code in ["22P05", "22003", "23514", "54000"] {
            assert!(is_refusal(Some(code), None), "{code}");
        }
        for code in ["40001", "40P01", "57014", "57P01", "53300", "08006", "25000", "42501"] {
            assert!(!is_refusal(Some(code), None), "{code}");
        }
        assert!(!is_refusal(Some("23505"), Some("events_pkey")));
        assert!(!is_refusal(None, None));
    }
}
