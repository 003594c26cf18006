//! Wakes the tasks that wait for events or work: after a commit of this process at once, after one
//! of another process by `NOTIFY`.
//!
//! A notification is never sent inside an append's transaction: PostgreSQL serializes the commits
//! of notifying transactions. It is sent afterwards, on a connection of its own, once for all
//! commits since the last notification. A lost notification is harmless, since waiters also poll
//! the log.

use std::hash::{BuildHasher as _, RandomState};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use composable_rust_core::Position;
use composable_rust_core::store::LogInfo;
use sqlx::Executor as _;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::futures::Notified;
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::pool::Pool;
use crate::session::{CHECK, Sessions};
use crate::timeout::CHECK_INTERVAL;

/// The minimum time between two notifications of a process.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(5);
/// A notification needs no flush of the write-ahead log.
const NOTIFY: &str = "select set_config('synchronous_commit', 'off', true), pg_notify($1, part) \
     from unnest($2) part";
/// The prefix of the part of a payload that announces work; the sender's name follows.
const WORK: &str = "work@";
/// The wait before a connection is retried.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The highest known offsets of the partitions.
#[derive(Debug)]
pub(crate) struct HeadTracker {
    heads: Arc<Heads>,
    channel: String,
    sessions: Arc<Sessions>,
    notifying: Arc<Pool>,
    pub(crate) poll_interval: Duration,
    /// The time of the last read of the heads; locked during a read.
    pub(crate) last_poll: Mutex<Option<Instant>>,
    notifier: Task,
    listener: Task,
}

/// A background task that ends with its owner.
#[derive(Debug, Default)]
struct Task(StdMutex<Option<AbortHandle>>);

impl Task {
    /// Starts the task unless it runs. It may have ended with the tokio runtime that it ran on.
    fn ensure<F: Future<Output = ()> + Send + 'static>(&self, start: impl FnOnce() -> F) {
        let mut handle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if handle.as_ref().is_none_or(AbortHandle::is_finished) {
            *handle = Some(tokio::spawn(start()).abort_handle());
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let handle = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = handle {
            handle.abort();
        }
    }
}

#[derive(Debug)]
struct Heads {
    /// The name of this store among those that share the log.
    name: String,
    /// The highest known offset, by partition. It falls only when the server is found to have less.
    known: Vec<AtomicU64>,
    /// The highest offset that this process committed, by partition.
    committed: Vec<AtomicU64>,
    /// Notified when `known` rises.
    rising: Notify,
    /// The number of commits, here or elsewhere, that may have created work.
    work: watch::Sender<u64>,
    /// The number of commits of this process that have created work.
    own_work: AtomicU64,
    /// Notified when `committed` or `own_work` rises.
    committing: Notify,
}

impl HeadTracker {
    pub(crate) fn new(
        log: LogInfo,
        sessions: Arc<Sessions>,
        notifying: Arc<Pool>,
        poll_interval: Duration,
    ) -> Self {
        Self {
            heads: Arc::new(Heads::new(log.partitions)),
            channel: format!("events_{}", log.id.simple()),
            sessions,
            notifying,
            poll_interval,
            last_poll: Mutex::new(None),
            notifier: Task::default(),
            listener: Task::default(),
        }
    }

    /// Records a commit of this process: wakes the waiting tasks here, and notifies the other
    /// processes.
    pub(crate) fn committed(&self, head: Position) {
        self.seen(head);
        if let Some(committed) = self.heads.committed.get(usize::from(head.partition)) {
            if committed.fetch_max(head.offset, Ordering::SeqCst) < head.offset {
                self.tell_others();
            }
        }
    }

    /// Records that this process committed work: wakes the waiting tasks here, and notifies the
    /// other processes.
    pub(crate) fn has_work(&self) {
        self.heads.has_work();
        self.heads.own_work.fetch_add(1, Ordering::SeqCst);
        self.tell_others();
    }

    fn tell_others(&self) {
        self.notifier.ensure(|| {
            notify(Arc::clone(&self.heads), self.channel.clone(), Arc::clone(&self.notifying))
        });
        self.heads.committing.notify_one();
    }

    /// Waits until the number of commits that created work differs from `seen`, for one poll
    /// interval at most. Returns the number.
    pub(crate) async fn work_since(&self, seen: u64) -> u64 {
        self.listen();
        let mut work = self.heads.work.subscribe();
        let changed = work.wait_for(|count| *count != seen);
        match timeout(self.poll_interval, changed).await {
            Ok(Ok(count)) => *count,
            Ok(Err(_)) | Err(_) => seen,
        }
    }

    /// Records that an offset is committed, by any process.
    pub(crate) fn seen(&self, head: Position) {
        self.heads.seen(head);
    }

    /// Returns the highest known offset of a partition.
    pub(crate) fn known(&self, partition: u16) -> u64 {
        self.heads.known(partition)
    }

    /// Records that the server has no event beyond `end`; the server was asked after `known` was
    /// read. If `known` is beyond `end`, those events were lost, as in a failover, and a task that
    /// waits for them would read in a loop.
    pub(crate) fn nothing_beyond(&self, end: Position, known: u64) {
        self.heads.nothing_beyond(end, known);
    }

    /// Starts to listen for notifications of other processes.
    pub(crate) fn listen(&self) {
        self.listener.ensure(|| {
            listen(Arc::clone(&self.heads), self.channel.clone(), Arc::clone(&self.sessions))
        });
    }

    /// Completes when a known offset rises.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.heads.rising.notified()
    }

    /// Returns `true` if events after any of these positions are known.
    pub(crate) fn is_beyond(&self, after: &[Position]) -> bool {
        after.iter().any(|position| self.known(position.partition) > position.offset)
    }
}

impl Heads {
    fn new(partitions: u16) -> Self {
        let zeros = || (0..partitions).map(|_| AtomicU64::new(0)).collect();
        let name = RandomState::new().hash_one(partitions);
        Self {
            name: format!("{name:016x}"),
            known: zeros(),
            committed: zeros(),
            rising: Notify::new(),
            // A first call passes 0 and must not wait for work that exists already.
            work: watch::Sender::new(1),
            own_work: AtomicU64::new(0),
            committing: Notify::new(),
        }
    }

    fn on_notification(&self, part: &str) {
        if let Some(sender) = part.strip_prefix(WORK) {
            // This process has woken its own tasks already.
            if sender != self.name {
                self.has_work();
            }
        } else if let Ok(position) = part.parse() {
            self.seen(position);
        }
    }

    fn has_work(&self) {
        self.work.send_modify(|count| *count += 1);
    }

    fn known(&self, partition: u16) -> u64 {
        let known = self.known.get(usize::from(partition));
        known.map_or(0, |known| known.load(Ordering::SeqCst))
    }

    fn nothing_beyond(&self, end: Position, known: u64) {
        if known > end.offset {
            if let Some(now) = self.known.get(usize::from(end.partition)) {
                // Offsets that became known since the server was asked stay.
                let _ = now.compare_exchange(known, end.offset, Ordering::SeqCst, Ordering::SeqCst);
            }
        }
    }

    fn seen(&self, head: Position) {
        if let Some(known) = self.known.get(usize::from(head.partition)) {
            if known.fetch_max(head.offset, Ordering::SeqCst) < head.offset {
                self.rising.notify_waiters();
            }
        }
    }
}

/// Notifies other processes of this process's commits.
async fn notify(heads: Arc<Heads>, channel: String, pool: Arc<Pool>) {
    let mut notified = NotifiedUpTo::new(heads.committed.len());
    loop {
        heads.committing.notified().await;
        let payloads = notified.payloads(&heads);
        if payloads.is_empty() {
            continue;
        }
        let query = sqlx::query(NOTIFY).bind(&channel).bind(&payloads);
        match pool.run(async |connection| query.execute(connection).await).await {
            Ok(_) => sleep(NOTIFY_INTERVAL).await,
            Err(error) => {
                tracing::debug!(%error, "failed to notify other processes of new events; they poll");
                sleep(RETRY_INTERVAL).await;
            }
        }
    }
}

/// The offsets and the work that other processes were notified of.
struct NotifiedUpTo {
    committed: Vec<u64>,
    work: u64,
}

impl NotifiedUpTo {
    fn new(partitions: usize) -> Self {
        Self { committed: vec![0; partitions], work: 0 }
    }

    /// Returns the payloads to send: the positions that rose since the last time, and a part that
    /// announces work, separated by spaces. A payload has room for 8,000 bytes.
    fn payloads(&mut self, heads: &Heads) -> Vec<String> {
        let mut payloads = Vec::new();
        for (partition, (notified, committed)) in
            (0..).zip(self.committed.iter_mut().zip(&heads.committed))
        {
            let committed = committed.load(Ordering::SeqCst);
            if std::mem::replace(notified, committed) < committed {
                payloads.push(Position::new(partition, committed).to_string());
            }
        }
        let work = heads.own_work.load(Ordering::SeqCst);
        if std::mem::replace(&mut self.work, work) < work {
            payloads.push(format!("{WORK}{}", heads.name));
        }
        payloads.chunks(250).map(|part| part.join(" ")).collect()
    }
}

/// Listens for the commits of other processes, without end.
async fn listen(heads: Arc<Heads>, channel: String, sessions: Arc<Sessions>) {
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
    loop {
        if let Err(error) = receive_notifications(&heads, &channel, &pool, &sessions).await {
            tracing::debug!(%error, "failed to listen for new events; retrying, and polling meanwhile");
        }
        sleep(RETRY_INTERVAL).await;
    }
}

async fn receive_notifications(
    heads: &Heads,
    channel: &str,
    pool: &sqlx::PgPool,
    sessions: &Sessions,
) -> Result<(), sqlx::Error> {
    // The pool would retry for a long time and log each attempt as an error.
    sessions.open().await?;
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    listener.listen(channel).await?;
    // Notifications that are lost with a connection are made up for by the next poll.
    loop {
        match timeout(CHECK_INTERVAL, listener.try_recv()).await {
            Ok(Ok(Some(heard))) => {
                heard.payload().split(' ').for_each(|part| heads.on_notification(part));
            }
            Ok(Ok(None)) => return Err(sqlx::Error::Io(ErrorKind::ConnectionReset.into())),
            Ok(Err(error)) => return Err(error),
            Err(_) => sessions.check(listener.fetch_one(CHECK), None).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_known_meanwhile_stays() {
        let heads = Heads::new(1);
        heads.seen(Position::new(0, 9));
        heads.nothing_beyond(Position::new(0, 7), 8);
        assert_eq!(heads.known(0), 9, "it rose from 8 while the server was asked");
        heads.nothing_beyond(Position::new(0, 12), 9);
        assert_eq!(heads.known(0), 9, "nothing beyond 12 says nothing about 9");
        heads.nothing_beyond(Position::new(0, 7), 9);
        assert_eq!(heads.known(0), 7);
    }

    #[test]
    fn news_are_told_once() {
        let heads = Heads::new(2);
        heads.committed[0].store(7, Ordering::SeqCst);
        let mut notified = NotifiedUpTo::new(2);
        assert_eq!(notified.payloads(&heads), ["0:7"]);
        assert!(notified.payloads(&heads).is_empty());
        heads.committed[1].store(3, Ordering::SeqCst);
        heads.own_work.store(2, Ordering::SeqCst);
        assert_eq!(notified.payloads(&heads), [format!("1:3 work@{}", heads.name)]);
        assert!(notified.payloads(&heads).is_empty());
    }

    #[test]
    fn only_work_of_others_is_heard() {
        let heads = Heads::new(1);
        let other = Heads::new(1);
        heads.on_notification(&format!("work@{}", heads.name));
        assert_eq!(*heads.work.borrow(), 1);
        heads.on_notification(&format!("work@{}", other.name));
        assert_eq!(*heads.work.borrow(), 2);
    }
}
