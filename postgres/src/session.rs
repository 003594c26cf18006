//! Sessions: connections with the same settings, to a server that accepts writes.

use std::fmt;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use composable_rust_core::store::StoreError;
use sqlx::postgres::{PgConnectOptions, PgRow, PgSslMode};
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::error::store_error;
use crate::timeout::{PROBE_TIMEOUT, WATCH_INTERVAL, within};

/// The setting that identifies a session.
const MARKER: &str = "composable_rust.session";

/// The query that checks a session before use.
pub(crate) const CHECK: &str = "select coalesce(current_setting('composable_rust.session', true), ''), \
     current_setting('transaction_read_only'), pg_backend_pid()";

/// The query that returns `true` while the server works on a session's statement or sends the
/// response. The id of the session's server process and `)` must follow.
const IS_WORKING: &str = "select exists (select from pg_stat_activity \
     where state <> 'idle' and pid = ";

/// The keep-alive settings of a session. With them, the server detects a dead client within a
/// minute, and load balancers and firewalls do not forget an idle connection. They have no effect
/// on a Unix socket.
const KEEPALIVE: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "15"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "45000"),
];

/// A factory of sessions with the same settings.
pub(crate) struct Sessions {
    options: PgConnectOptions,
    /// The names and values of settings.
    settings: Vec<(&'static str, String)>,
    /// The acquire timeout: the maximum time for opening a session.
    wait: Duration,
    /// The generation of the sessions that are opened now. A new generation begins when a session
    /// of the current one is found to be lost or read-only, because the other sessions of that
    /// generation are most likely lost too.
    generation: AtomicU64,
}

/// A connection to the server.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) connection: PgConnection,
    marker: String,
    /// The id of the server process that serves this connection.
    process: i32,
    generation: u64,
    pub(crate) opened: Instant,
    pub(crate) used: Instant,
    checked: Instant,
}

/// An error while opening or checking a session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("cannot connect to the PostgreSQL server")]
    Driver(#[from] sqlx::Error),
    #[error("the PostgreSQL server at {0} is read-only")]
    ReadOnly(String),
    #[error("a connection pooler at {0} shares sessions among clients; it must be in session mode")]
    Shared(String),
}

impl From<SessionError> for StoreError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Driver(error) => store_error(error),
            other => Self::unavailable(other),
        }
    }
}

impl From<SessionError> for sqlx::Error {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Driver(error) => error,
            other => Self::Configuration(Box::new(other)),
        }
    }
}

impl Sessions {
    pub(crate) fn new(
        options: PgConnectOptions,
        settings: Vec<(&'static str, String)>,
        wait: Duration,
    ) -> Self {
        // Connection poolers accept few start-up parameters, and reject the others or drop them
        // silently. So `set_up` sends `settings` after connecting.
        let mut options = options.extra_float_digits(None);
        if options.get_application_name().is_none() {
            options = options.application_name("composable-rust");
        }
        let keepalive = KEEPALIVE.map(|(name, value)| (name, value.to_owned()));
        let settings = settings.into_iter().chain(keepalive).collect();
        Self { options, settings, wait, generation: AtomicU64::new(0) }
    }

    pub(crate) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Returns the host and port, or the socket.
    pub(crate) fn address(&self) -> String {
        match self.options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", self.options.get_host(), self.options.get_port()),
        }
    }

    /// Opens a session.
    pub(crate) async fn open(&self) -> Result<Session, SessionError> {
        let generation = self.generation();
        let opening = async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            let set_up = self.set_up(&mut connection).await;
            Ok(set_up.map(|(marker, process)| (connection, marker, process)))
        };
        let (connection, marker, process) = within(Some(self.wait), opening).await??;
        let now = Instant::now();
        Ok(Session {
            connection,
            marker,
            process,
            generation,
            opened: now,
            used: now,
            checked: now,
        })
    }

    /// Sets up a connection in one round trip. The statement is a single message, which a
    /// connection pooler cannot split across two sessions of the server.
    ///
    /// Returns the session's marker and the id of the server process.
    pub(crate) async fn set_up(
        &self,
        connection: &mut PgConnection,
    ) -> Result<(String, i32), SessionError> {
        let marker = Uuid::new_v4().simple().to_string();
        let own = [(MARKER, marker.clone())];
        let settings = own.iter().chain(&self.settings).map(|(name, value)| {
            format!(", set_config({}, {}, false)", literal(name), literal(value))
        });
        let sql = format!("{CHECK}{}", settings.collect::<String>());
        let row = connection.fetch_one(sql.as_str()).await?;
        self.judge(&row, "")?;
        let process = row.try_get(2)?;
        Ok((marker, process))
    }

    /// Checks a session by the server's response to [`CHECK`].
    ///
    /// The session must accept writes, and its marker must be `marker`: then it is the session that
    /// was opened, and its settings are in force. Without `marker`, any marker passes.
    pub(crate) async fn check(
        &self,
        response: impl Future<Output = Result<PgRow, sqlx::Error>>,
        marker: Option<&str>,
    ) -> Result<(), SessionError> {
        self.check_row(&within(Some(PROBE_TIMEOUT), response).await?, marker)
    }

    /// Checks a session by a row that begins with the columns of [`CHECK`], as
    /// [`check`](Self::check) does.
    pub(crate) fn check_row(&self, row: &PgRow, marker: Option<&str>) -> Result<(), SessionError> {
        let found: String = row.try_get(0)?;
        self.judge(row, marker.unwrap_or(&found))
    }

    /// Waits for the response to a statement of the session of `process`.
    ///
    /// The response to a long statement may never arrive, because a firewall has forgotten the
    /// connection or the server is gone. So this method opens another session at intervals and
    /// checks that the server still works on the statement. It fails after two negative checks in a
    /// row. A single one may be wrong: the server is idle between the messages of a statement, and
    /// a busy server may accept no other session for a while.
    pub(crate) async fn await_response<T>(
        &self,
        process: i32,
        limit: Option<Duration>,
        response: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        let mut response = pin!(within(limit, response));
        let mut missed = 0;
        while missed < 2 {
            tokio::select! {
                biased;
                response = &mut response => return response,
                () = sleep(WATCH_INTERVAL) => {}
            }
            let is_working = tokio::select! {
                biased;
                response = &mut response => return response,
                is_working = self.is_working(process) => is_working,
            };
            missed = if is_working { 0 } else { missed + 1 };
        }
        Err(sqlx::Error::Io(ErrorKind::TimedOut.into()))
    }

    /// Returns `true` if the server works on a statement of the session of `process`.
    async fn is_working(&self, process: i32) -> bool {
        let ask = async {
            let mut session = self.open().await?;
            let sql = format!("{IS_WORKING}{process})");
            let row =
                within(Some(PROBE_TIMEOUT), session.connection.fetch_one(sql.as_str())).await?;
            Ok::<bool, SessionError>(row.try_get(0)?)
        };
        match ask.await {
            Ok(is_working) => is_working,
            // The server has answered with an error, such as too many connections: it is not gone.
            Err(SessionError::Driver(sqlx::Error::Database(_))) => true,
            Err(_) => false,
        }
    }

    fn judge(&self, row: &PgRow, marker: &str) -> Result<(), SessionError> {
        // Another client of a pooler uses the session, or used it without a reset afterwards.
        if row.try_get::<&str, _>(0)? != marker {
            return Err(SessionError::Shared(self.address()));
        }
        // `transaction_read_only` is `on` on a standby too.
        if row.try_get::<&str, _>(1)? == "on" {
            return Err(SessionError::ReadOnly(self.address()));
        }
        Ok(())
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Returns `true` unless a session of the same generation was found to be lost or read-only.
    pub(crate) fn trusts(&self, session: &Session) -> bool {
        session.generation == self.generation()
    }

    /// Records that a session was found to be lost or read-only. The sessions of its generation are
    /// not used again.
    pub(crate) fn distrust(&self, session: &Session, reason: &dyn fmt::Display) {
        let next = session.generation + 1;
        let raised = self.generation.compare_exchange(
            session.generation,
            next,
            Ordering::SeqCst,
            Ordering::SeqCst,
        );
        // One log line for all sessions that were lost together.
        if raised.is_ok() {
            tracing::warn!(
                server = %self.address(),
                %reason,
                "lost a connection to PostgreSQL; replacing the older connections too"
            );
        }
    }

    /// Returns `true` if the server is another machine and the connection may be unencrypted.
    pub(crate) fn may_be_unencrypted(&self) -> bool {
        let host = self.options.get_host();
        let is_local = self.options.get_socket().is_some()
            || host.starts_with('/')
            || host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        // `disable` is an explicit choice.
        !is_local && matches!(self.options.get_ssl_mode(), PgSslMode::Allow | PgSslMode::Prefer)
    }
}

/// Omits the options, which may contain a password.
impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn process(&self) -> i32 {
        self.process
    }

    /// Checks the session with the server, unless the last check is recent.
    pub(crate) async fn check(&mut self, sessions: &Sessions) -> Result<(), SessionError> {
        if self.checked.elapsed() >= crate::timeout::CHECK_INTERVAL {
            self.check_now(sessions).await?;
        }
        Ok(())
    }

    pub(crate) async fn check_now(&mut self, sessions: &Sessions) -> Result<(), SessionError> {
        sessions.check(self.connection.fetch_one(CHECK), Some(&self.marker)).await?;
        self.checked = Instant::now();
        Ok(())
    }
}

/// Returns an SQL string constant that is right for both values of `standard_conforming_strings`.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_is_quoted() {
        assert_eq!(literal(r"it's a \"), r"E'it''s a \\'");
    }

    #[test]
    fn no_password_is_printed() {
        let options = "postgres://user:secret@host/shop".parse().unwrap();
        let sessions = Sessions::new(options, Vec::new(), Duration::from_secs(1));
        assert!(!format!("{sessions:?}").contains("secret"));
    }

    #[test]
    fn a_connection_to_another_machine_may_be_unencrypted() {
        for (url, expected) in [
            ("postgres://db.internal/shop", true),
            ("postgres://10.0.0.3/shop?sslmode=allow", true),
            ("postgres://db.internal/shop?sslmode=require", false),
            ("postgres://db.internal/shop?sslmode=disable", false),
            ("postgres://localhost/shop", false),
            ("postgres://127.0.0.2/shop", false),
            ("postgres:///shop?host=/run/postgresql", false),
        ] {
            let sessions = Sessions::new(url.parse().unwrap(), Vec::new(), Duration::ZERO);
            assert_eq!(sessions.may_be_unencrypted(), expected, "{url}");
        }
    }
}
