//! The builder of the store.

use std::fmt;
use std::time::Duration;

use composable_rust_core::store::{Adoption, DEFAULT_PARTITIONS};

use crate::error::ConnectError;
use crate::migrate::MigrationPlan;
use crate::{PostgresEventStore, connect};

/// The maximum number of partitions of a new log.
pub(crate) const MAX_PARTITIONS: u16 = 1_024;

/// The maximum length of a name in bytes; the server truncates a longer one.
const MAX_NAME: usize = 63;

/// A builder of a [`PostgresEventStore`].
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

    /// The number of log partitions of a new log, from 1 to 1,024. Default: [`DEFAULT_PARTITIONS`].
    /// It never changes; for a log that exists, its own number is used.
    pub fn partitions(mut self, count: u16) -> Self {
        self.partitions = count;
        self
    }

    /// The maximum number of connections for reads and appends together, at least 2. Default: 16.
    /// Half of them, at most one per partition, write.
    pub fn max_connections(mut self, count: u32) -> Self {
        self.max_connections = count.max(2);
        self
    }

    /// The timeout for a connection, after which the result is `Unavailable`. Default: 5 seconds.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// The time after which an idle connection is closed. Default: 30 seconds.
    ///
    /// It must be shorter than the idle timeout of the load balancers and address translators
    /// between the store and the server. Those of the clouds forget a connection after 4 to 6
    /// minutes, some after one, without closing it.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// The server's time limit for one statement, after which the result is `Unavailable`. Default:
    /// 60 seconds. Whole milliseconds; zero means no limit. Reading a stream is one statement, and
    /// so is erasing one.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// The poll interval for commits of other processes while their notifications cannot be
    /// received. Default: 250 milliseconds.
    ///
    /// While notifications are received, the log is polled after 20 such intervals: only the
    /// notification of a process that died just after its commit is lost then.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// The schema of the tables, created if it is missing. Default: the first schema of the user's
    /// `search_path`. Several logs can share a database this way.
    pub fn schema(mut self, name: &str) -> Self {
        self.schema = Some(name.to_owned());
        self
    }

    /// `true` if the store creates and migrates the tables. Default: `true`. With `false`, and
    /// wherever no migration is due, a role suffices that may read and write rows and call the
    /// functions.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Decides which log a copied database contains, where [`connect`](Self::connect) would return
    /// [`ConnectError::Copied`]; elsewhere only
    /// [`Adoption::UndetectedCopy`] has an effect. Meant for one start, by hand: a program that
    /// always sets it adopts every copy.
    pub fn adopt(mut self, adoption: Adoption) -> Self {
        self.adopt = Some(adoption);
        self
    }

    /// Opens the store. Any number of processes may do so at the same time, also when the database
    /// is empty.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] says what to do in each case. Only after `Unreachable` and `ReadOnly` can a
    /// retry succeed.
    ///
    /// # Cancel safety
    ///
    /// The schema may have been migrated. A repeated call continues from there.
    pub async fn connect(self) -> Result<PostgresEventStore, ConnectError> {
        self.check()?;
        connect::connect(self).await
    }

    /// Returns the migrations that the database lacks, for a deployment that runs them as a step of
    /// its own. Nothing is changed. [`connect`](Self::connect) runs them.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn migration_plan(&self) -> Result<MigrationPlan, ConnectError> {
        self.check()?;
        connect::plan(self).await
    }

    fn check(&self) -> Result<(), ConnectError> {
        if !(1..=MAX_PARTITIONS).contains(&self.partitions) {
            return Err(ConnectError::Partitions(format!(
                "a log has from 1 to {MAX_PARTITIONS} partitions, not {}",
                self.partitions
            )));
        }
        match &self.schema {
            Some(schema) if !is_name(schema) => Err(ConnectError::InvalidSchema(schema.clone())),
            _ => Ok(()),
        }
    }
}

/// Returns `true` if PostgreSQL accepts a name without truncating it.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !name.contains('\0')
}

/// Omits the URL, which may contain a password.
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
