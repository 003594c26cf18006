//! What can go wrong, told apart by what the caller should do.

use composable_rust_core::StoreError;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL is not `postgres://user:password@host:port/database?…`. Correct it.
    #[error("not a PostgreSQL URL")]
    InvalidUrl(#[source] sqlx::Error),
    /// Nobody answers at the address, or the server refused the user or database. Check that it
    /// runs, then the URL; trying again helps if it is only starting.
    #[error("cannot connect to the PostgreSQL server at {address}")]
    Unreachable {
        /// Host and port, or the socket's directory.
        address: String,
        /// What the attempt ended with.
        source: sqlx::Error,
    },
    /// The server is older than PostgreSQL 15. Upgrade it.
    #[error("the server is PostgreSQL {0}, at least 15 is needed")]
    ServerTooOld(String),
    /// The database was migrated by a newer version of this crate. Run that version.
    #[error("the database has schema version {found}, this program knows versions up to {known}")]
    SchemaNewer {
        /// The database's version.
        found: i32,
        /// The highest version that this program knows.
        known: i32,
    },
    /// The database has no schema or an old one, and [`migrate(false)`] was asked for. Run the
    /// migrations.
    ///
    /// [`migrate(false)`]: crate::PostgresEventStoreBuilder::migrate
    #[error(
        "the database has schema version {found}, this program needs {needed}: run the migrations"
    )]
    SchemaOlder {
        /// The database's version; 0 if there is no schema, or no log in it.
        found: i32,
        /// The version that this program needs.
        needed: i32,
    },
    /// The number of partitions asked for is not from 1 to 1,024, or the log in the database
    /// contradicts itself.
    #[error("{0}")]
    Partitions(String),
    /// Streams are spread by a hash that this program does not know.
    #[error("the log spreads its streams by `{0}`, this program knows xxh3-64")]
    UnknownHash(String),
    /// A statement failed while the schema was read or migrated, for instance because the user may
    /// not create tables.
    #[error("cannot read or migrate the schema")]
    Schema(#[source] sqlx::Error),
}

/// What a failed statement means to whoever asked for it.
///
/// Whatever may be different next time, and whatever leaves the outcome open, is `Unavailable`.
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

/// Whether the server will refuse the same statement every time.
fn is_refusal(sqlstate: Option<&str>, constraint: Option<&str>) -> bool {
    match constraint {
        // Somebody wrote to the log without its lock. The next attempt sees what they wrote.
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

#[cfg(test)]
mod tests {
    use super::is_refusal;

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
