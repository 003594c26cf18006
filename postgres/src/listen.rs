//! Listening for the commits of other processes, and polling for those whose notification is lost.
//!
//! While notifications are received, only those of a process that died between its commit and its
//! notification are missing, so the log is polled rarely, on the listener's connection. The poll
//! also checks that connection. While none are received, the waiting tasks poll.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::Position;
use sqlx::Executor as _;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::time::{Instant, sleep, timeout_at};

use crate::log::HEADS;
use crate::notify::{Heads, RETRY_INTERVAL};
use crate::row::unsigned;
use crate::session::{CHECK, Sessions};
use crate::timeout::{CHECK_INTERVAL, PROBE_TIMEOUT, within};

/// The number of poll intervals between two polls while notifications are received.
const INTERVALS_WHILE_LISTENING: u32 = 20;

/// Listens for the commits of other processes, without end.
pub(crate) async fn listen(
    heads: Arc<Heads>,
    channel: String,
    sessions: Arc<Sessions>,
    poll_interval: Duration,
) {
    let options = sessions.options().clone();
    let set_up = Arc::clone(&sessions);
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .after_connect(move |connection, _| {
            let sessions = Arc::clone(&set_up);
            Box::pin(async move {
                sessions.set_up(connection).await?;
                Ok(())
            })
        })
        .connect_lazy_with(options);
    let interval = poll_interval.saturating_mul(INTERVALS_WHILE_LISTENING);
    loop {
        let listened = listen_once(&heads, &channel, &pool, &sessions, interval).await;
        if let Err(error) = listened {
            tracing::debug!(%error, "failed to listen for new events; retrying, and polling meanwhile");
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// Listens until the connection is lost.
async fn listen_once(
    heads: &Heads,
    channel: &str,
    pool: &sqlx::PgPool,
    sessions: &Sessions,
    interval: Duration,
) -> Result<(), sqlx::Error> {
    // The pool would retry for a long time and log each attempt as an error.
    sessions.open().await?;
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    listener.listen(channel).await?;
    // Commits from here on are heard of; the first poll finds the earlier ones.
    poll(heads, &mut listener, sessions).await?;
    let _listening = heads.listening();
    let (mut polled, mut checked) = (Instant::now(), Instant::now());
    loop {
        let (poll_at, check_at) = (polled + interval, checked + CHECK_INTERVAL);
        let now = Instant::now();
        if now >= poll_at {
            poll(heads, &mut listener, sessions).await?;
            (polled, checked) = (Instant::now(), Instant::now());
        } else if now >= check_at {
            sessions.check(listener.fetch_one(CHECK), None).await?;
            checked = Instant::now();
        } else if let Ok(heard) = timeout_at(poll_at.min(check_at), listener.try_recv()).await {
            let heard = heard?.ok_or_else(|| sqlx::Error::Io(ErrorKind::ConnectionReset.into()))?;
            heard.payload().split(' ').for_each(|part| heads.on_notification(part));
        }
    }
}

/// Reads the heads of all partitions, and checks the session.
async fn poll(
    heads: &Heads,
    listener: &mut PgListener,
    sessions: &Sessions,
) -> Result<(), sqlx::Error> {
    let known = heads.all_known();
    let sql = format!("{CHECK}, {HEADS}");
    let rows = within(Some(PROBE_TIMEOUT), sqlx::query(&sql).fetch_all(listener)).await?;
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    sessions.check_row(first, None)?;
    let head =
        |row| Ok(Position::new(unsigned::<i16, u16>(row, 3)?, unsigned::<i64, u64>(row, 4)?));
    let found = rows.iter().map(head).collect::<Result<Vec<_>, sqlx::Error>>()?;
    heads.polled(&found, &known);
    Ok(())
}
