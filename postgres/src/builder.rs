//! How a store is opened.

use std::fmt;
use std::time::Duration;

use composable_rust_core::{Adoption, DEFAULT_PARTITIONS};

use crate::error::ConnectError;
use crate::{PostgresEventStore, connect};

/// The most partitions a log can be created with.
pub(crate) const MAX_PARTITIONS: u16 = 1_024;

/// The longest name, in bytes; the server would cut a longer one.
const MAX_NAME: usize = 63;

/// How a [`PostgresEventStore`] is opened.
///
/// # Example: a worker with a schema of its own
///
/// ```no_run
/// use std::time::Duration;
/// use composable_rust_postgres::PostgresEventStore;
///
/// # async fn f() -> Result<(), composable_rust_postgres::ConnectError> {
/// let store = PostgresEventStore::builder("postgres://app@localhost/shop")
///     .schema("orders")
///     .max_connections(8)
///     .statement_timeout(Duration::from_secs(10))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing is opened until `connect`"]
pub struct PostgresEventStoreBuilder {
    pub(crate) url: String,
    pub(crate) partitions: u16,
    pub(crate) max_connections: u32,
    pub(crate) acquire_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) statement_timeout: Duration,
    pub(crate) poll_interval: Duration,
    pub(crate) schema: Option<String>,
    pub(crate) migrate: bool,
    pub(crate) adopt: Option<Adoption>,
}

impl PostgresEventStoreBuilder {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            partitions: DEFAULT_PARTITIONS,
            max_connections: 16,
            acquire_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            statement_timeout: Duration::from_secs(60),
            poll_interval: Duration::from_millis(250),
            schema: None,
            migrate: true,
            adopt: None,
        }
    }

    /// How many log partitions the log gets if this call creates it: from 1 to 1,024, and
    /// [`DEFAULT_PARTITIONS`] unless said. The count of a log that is there is read, whatever is
    /// said here; it never changes.
    pub fn partitions(mut self, count: u16) -> Self {
        self.partitions = count;
        self
    }

    /// The most connections that reads and appends together may hold; at least 2, and 16 unless
    /// said. Half of them, at most one per partition, write.
    pub fn max_connections(mut self, count: u32) -> Self {
        self.max_connections = count.max(2);
        self
    }

    /// How long to wait for a connection, 5 seconds unless said; then the answer is `Unavailable`.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// How long a connection that is not in use is kept. Default: 30 seconds. It must be shorter than
    /// what lies between remembers a connection that says nothing: load balancers and address
    /// translation of the clouds forget it after 4 to 6 minutes, some after one, and tell nobody.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// How long the server may work on one statement, 60 seconds unless said; then it gives up and
    /// the answer is `Unavailable`. Whole milliseconds; zero is no limit. Reading a stream is one
    /// statement, and so is erasing one.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// How often waiters look for commits of other processes, 250 milliseconds unless said.
    /// Notifications make it faster; this holds when they are lost. Who waits for work looks for
    /// himself as often.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// The schema that holds the tables, created if it is missing; where the user's `search_path`
    /// leads unless said. Several logs can share a database this way.
    pub fn schema(mut self, name: &str) -> Self {
        self.schema = Some(name.to_owned());
        self
    }

    /// Whether to create and migrate the tables; `true` unless said. A role that may only read and
    /// write rows and call the functions suffices with `false`, and wherever nothing is left to
    /// create or to migrate.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Says which log a copied database holds, where [`connect`](Self::connect) would refuse it with
    /// [`ConnectError::Copied`]; elsewhere it has no effect. Meant for one start, by hand: a program
    /// that always says so adopts every copy.
    pub fn adopt(mut self, adoption: Adoption) -> Self {
        self.adopt = Some(adoption);
        self
    }

    /// Opens the store. Any number of processes may do so at once, also when the database is empty.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] says what to do in each case; only `Unreachable` and
    /// `ReadOnly` are worth another attempt.
    ///
    /// # Cancel safety
    ///
    /// The schema may have been migrated; calling it again goes on from there.
    pub async fn connect(self) -> Result<PostgresEventStore, ConnectError> {
        if !(1..=MAX_PARTITIONS).contains(&self.partitions) {
            return Err(ConnectError::Partitions(format!(
                "a log has from 1 to {MAX_PARTITIONS} partitions, not {}",
                self.partitions
            )));
        }
        if let Some(schema) = &self.schema {
            if !is_name(schema) {
                return Err(ConnectError::InvalidSchema(schema.clone()));
            }
        }
        connect::connect(self).await
    }
}

/// Whether PostgreSQL takes the whole of a name.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !name.contains('\0')
}

/// Without the URL, which may hold a password.
impl fmt::Debug for PostgresEventStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            url: _,
            partitions,
            max_connections,
            acquire_timeout,
            idle_timeout,
            statement_timeout,
            poll_interval,
            schema,
            migrate,
            adopt,
        } = self;
        f.debug_struct("PostgresEventStoreBuilder")
            .field("partitions", partitions)
            .field("max_connections", max_connections)
            .field("acquire_timeout", acquire_timeout)
            .field("idle_timeout", idle_timeout)
            .field("statement_timeout", statement_timeout)
            .field("poll_interval", poll_interval)
            .field("schema", schema)
            .field("migrate", migrate)
            .field("adopt", adopt)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_printed() {
        let builder = PostgresEventStore::builder("postgres://user:secret@host/shop");
        assert!(!format!("{builder:?}").contains("secret"));
    }
}
