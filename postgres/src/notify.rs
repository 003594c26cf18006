//! Wakes the tasks that wait for events or work: after a commit of this process at once, after one
//! of another process by `NOTIFY`.
//!
//! A notification is never sent inside an append's transaction: PostgreSQL serializes the commits
//! of notifying transactions. It is sent afterwards, on a connection of its own, once for all
//! commits since the last notification. A lost notification is harmless, since the log is also
//! polled: see `listen`.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use composable_rust_core::Position;
use composable_rust_core::store::LogInfo;
use tokio::sync::futures::Notified;
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::listen::listen;
use crate::pool::Pool;
use crate::session::Sessions;

/// The minimum time between two notifications of a process.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(5);
/// A notification needs no flush of the write-ahead log.
const NOTIFY: &str = "select set_config('synchronous_commit', 'off', true), pg_notify($1, part) \
     from unnest($2) part";
/// The prefix of the part of a payload that announces work; the sender's name follows.
const WORK: &str = "work@";
/// The wait before a connection is retried.
pub(crate) const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The minimum interval at which waiting workers are woken without news while no notifications are
/// received.
const WAKE_INTERVAL_WITHOUT_LISTENING: Duration = Duration::from_secs(1);

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

/// A background task that ends with its owner, unless it is detached.
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

impl Task {
    /// Lets the task outlive its owner.
    fn detach(&mut self) {
        *self.0.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
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
pub(crate) struct Heads {
    /// The name of this store among those that share the log.
    name: String,
    /// The highest known offset, by partition. It falls only when the server is found to have less.
    known: Vec<AtomicU64>,
    /// The highest offset that this process committed, by partition.
    committed: Vec<AtomicU64>,
    /// Notified when `known` rises, and when `is_listening` changes.
    rising: Notify,
    /// The number of commits, here or elsewhere, that may have created work.
    work: watch::Sender<u64>,
    /// The number of commits of this process that have created work.
    own_work: AtomicU64,
    /// Notified when `committed` or `own_work` rises, and when `is_closed`.
    committing: Notify,
    /// `true` if the store was dropped.
    is_closed: AtomicBool,
    /// `true` while notifications of other processes are received.
    is_listening: AtomicBool,
    /// The time at which waiting workers were last woken without news.
    woken_without_news: StdMutex<Option<Instant>>,
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

    /// Records that an operator committed work: wakes the waiting tasks here, and returns once the
    /// other processes are notified, as an operator's process may end at once.
    pub(crate) async fn has_operators_work(&self) {
        self.heads.has_work();
        let payload = [format!("{WORK}{}", self.heads.name)];
        let query = sqlx::query(NOTIFY).bind(&self.channel).bind(&payload);
        let told = self.notifying.run(async |connection| query.execute(connection).await).await;
        if let Err(error) = told {
            tracing::debug!(%error, "failed to notify other processes of work; retrying");
            self.heads.own_work.fetch_add(1, Ordering::SeqCst);
            self.tell_others();
        }
    }

    fn tell_others(&self) {
        self.notifier.ensure(|| {
            notify(Arc::clone(&self.heads), self.channel.clone(), Arc::clone(&self.notifying))
        });
        self.heads.committing.notify_one();
    }

    /// Waits until the number of commits that created work differs from `seen`, for one poll
    /// interval at most. Returns the number. It also rises while no notifications are received, as
    /// there may be such commits then.
    pub(crate) async fn work_since(&self, seen: u64) -> u64 {
        self.listen();
        let mut work = self.heads.work.subscribe();
        let changed = work.wait_for(|count| *count != seen);
        if let Ok(Ok(count)) = timeout(self.poll_interval, changed).await {
            return *count;
        }
        self.heads.wake_without_news();
        *self.heads.work.borrow()
    }

    /// Records that an offset is committed, by any process.
    pub(crate) fn seen(&self, head: Position) {
        self.heads.seen(head);
    }

    /// Returns the highest known offset of a partition.
    pub(crate) fn known(&self, partition: u16) -> u64 {
        self.heads.known(partition)
    }

    /// Returns the highest known offsets of all partitions.
    pub(crate) fn all_known(&self) -> Vec<u64> {
        self.heads.all_known()
    }

    /// Records that the server has no event beyond `end`; the server was asked after `known` was
    /// read. If `known` is beyond `end`, those events were lost, as in a failover, and a task that
    /// waits for them would read in a loop.
    pub(crate) fn nothing_beyond(&self, end: Position, known: u64) {
        self.heads.nothing_beyond(end, known);
    }

    /// Records the heads that the server returned; it was asked after `known` was read.
    pub(crate) fn polled(&self, heads: &[Position], known: &[u64]) {
        self.heads.polled(heads, known);
    }

    /// Starts to listen for notifications of other processes.
    pub(crate) fn listen(&self) {
        self.listener.ensure(|| {
            let (heads, sessions) = (Arc::clone(&self.heads), Arc::clone(&self.sessions));
            listen(heads, self.channel.clone(), sessions, self.poll_interval)
        });
    }

    /// Returns `true` while notifications of other processes are received, and the log is polled by
    /// the listener.
    pub(crate) fn is_listening(&self) -> bool {
        self.heads.is_listening.load(Ordering::SeqCst)
    }

    /// Completes when a known offset rises, or [`is_listening`](Self::is_listening) changes.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.heads.rising.notified()
    }

    /// Returns `true` if events after any of these positions are known.
    pub(crate) fn is_beyond(&self, after: &[Position]) -> bool {
        after.iter().any(|position| self.known(position.partition) > position.offset)
    }
}

/// The notifier ends once it has told other processes of the last commits: a process that commits
/// and ends has news too.
impl Drop for HeadTracker {
    fn drop(&mut self) {
        self.heads.is_closed.store(true, Ordering::SeqCst);
        self.heads.committing.notify_one();
        self.notifier.detach();
    }
}

impl Heads {
    pub(crate) fn new(partitions: u16) -> Self {
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
            is_closed: AtomicBool::new(false),
            is_listening: AtomicBool::new(false),
            woken_without_news: StdMutex::default(),
        }
    }

    /// Records that notifications are received until the guard is dropped, and wakes the workers:
    /// those sent before may be lost.
    pub(crate) fn listening(&self) -> Listening<'_> {
        self.has_work();
        self.set_listening(true);
        Listening(self)
    }

    fn set_listening(&self, is_listening: bool) {
        self.is_listening.store(is_listening, Ordering::SeqCst);
        self.rising.notify_waiters();
    }

    /// Wakes the waiting workers while no notifications are received, once per interval.
    fn wake_without_news(&self) {
        if self.is_listening.load(Ordering::SeqCst) {
            return;
        }
        let mut woken = self.woken_without_news.lock().unwrap_or_else(PoisonError::into_inner);
        if woken.is_none_or(|at| at.elapsed() >= WAKE_INTERVAL_WITHOUT_LISTENING) {
            *woken = Some(Instant::now());
            self.has_work();
        }
    }

    pub(crate) fn on_notification(&self, part: &str) {
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

    pub(crate) fn all_known(&self) -> Vec<u64> {
        self.known.iter().map(|known| known.load(Ordering::SeqCst)).collect()
    }

    pub(crate) fn polled(&self, heads: &[Position], known: &[u64]) {
        // The events of a process that died before it notified others may have queued rows.
        let is_news = |head: &Position| head.offset > self.known(head.partition);
        let has_news = heads.iter().any(is_news);
        for (head, known) in heads.iter().zip(known) {
            self.nothing_beyond(*head, *known);
            self.seen(*head);
        }
        if has_news {
            self.has_work();
        }
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

/// The time in which notifications are received.
pub(crate) struct Listening<'a>(&'a Heads);

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.set_listening(false);
    }
}

/// Notifies other processes of this process's commits, until the store is dropped.
async fn notify(heads: Arc<Heads>, channel: String, pool: Arc<Pool>) {
    let mut notified = NotifiedUpTo::new(heads.committed.len());
    loop {
        heads.committing.notified().await;
        let is_last = heads.is_closed.load(Ordering::SeqCst);
        let before = notified.clone();
        let payloads = notified.payloads(&heads);
        if !payloads.is_empty() {
            let query = sqlx::query(NOTIFY).bind(&channel).bind(&payloads);
            match pool.run(async |connection| query.execute(connection).await).await {
                Ok(_) => sleep(NOTIFY_INTERVAL).await,
                Err(error) => {
                    tracing::debug!(%error, "failed to notify other processes of news; retrying");
                    notified = before;
                    heads.committing.notify_one();
                    sleep(RETRY_INTERVAL).await;
                }
            }
        }
        if is_last {
            return;
        }
    }
}

/// The offsets and the work that other processes were notified of.
#[derive(Clone)]
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
