//! Group commit: all appends that wait for a partition share its next transaction.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use composable_rust_core::StreamId;
use composable_rust_core::environment::{Clock, Rng};
use composable_rust_core::store::{
    Append, AppendOutcome, EventStore as _, LogInfo, SharedEventStore, StoreError,
};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::backoff::Backoff;
use crate::environment::{SystemClock, SystemRng};
use crate::instance::measure::AppendMetrics;
use crate::panic::lock;
use crate::settings::Settings;

/// A writer for any event store that appends in batches, with one task per partition: all appends
/// that wait are sent as one batch, and those that arrive meanwhile are the next batch.
///
/// A batch whose outcome is unknown is retried for as long as a caller waits for it: as a whole at
/// first, then in halves, so that an append that always fails does not delay others for long. If
/// the store rejects a batch, its appends are sent one by one, so that only the faulty one fails.
///
/// Appends to one stream are sent in order, unless an earlier one keeps failing.
#[derive(Clone)]
pub struct GroupCommit(Arc<Inner>);

struct Inner {
    store: SharedEventStore,
    log: LogInfo,
    writers: Vec<Mutex<Option<mpsc::Sender<QueuedAppend>>>>,
    settings: Settings,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    metrics: Arc<AppendMetrics>,
}

struct QueuedAppend {
    append: Append,
    reply: oneshot::Sender<Result<AppendOutcome, StoreError>>,
}

impl fmt::Debug for GroupCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupCommit").field("store", &self.0.store).finish_non_exhaustive()
    }
}

impl GroupCommit {
    /// Creates a writer with the system's clock and the default settings.
    pub fn new(store: SharedEventStore) -> Self {
        Self::with(store, Settings::default(), Arc::new(SystemClock), Arc::new(SystemRng))
    }

    pub(crate) fn with(
        store: SharedEventStore,
        settings: Settings,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Self {
        let log = store.log();
        let writers = (0..log.partitions).map(|_| Mutex::new(None)).collect();
        let metrics = Arc::default();
        Self(Arc::new(Inner { store, log, writers, settings, clock, rng, metrics }))
    }

    /// Appends in one batch with the other appends that wait for the partition. Waits while the
    /// partition's queue is full.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Invalid`]: nothing was written. Change the append.
    /// - [`StoreError::Unavailable`]: the writer ended, because the store panicked or the tokio
    ///   runtime stopped. The outcome is unknown. The next append gets a new writer.
    ///
    /// # Cancel safety
    ///
    /// After the future is dropped, the append may still commit, unless it was waiting in the
    /// queue.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn append(&self, append: Append) -> Result<AppendOutcome, StoreError> {
        append.validate()?;
        let partition = self.0.log.partition_of(&append.stream);
        let writer = self.writer(partition);
        let (reply, outcome) = oneshot::channel();
        let gone = || StoreError::unavailable("the partition's writer has ended");
        writer.send(QueuedAppend { append, reply }).await.map_err(|_| gone())?;
        outcome.await.map_err(|_| gone())?
    }

    /// Returns the queue of the partition's writer; starts a writer if none runs.
    fn writer(&self, partition: u16) -> mpsc::Sender<QueuedAppend> {
        let slot = &self.0.writers[usize::from(partition)];
        let mut slot = lock(slot);
        if let Some(writer) = slot.as_ref().filter(|writer| !writer.is_closed()) {
            return writer.clone();
        }
        let (queue, waiting) = mpsc::channel(self.0.settings.writer_queue_capacity);
        let writer = Writer {
            sender: Sender {
                partition,
                store: self.0.store.clone(),
                clock: Arc::clone(&self.0.clock),
                rng: Arc::clone(&self.0.rng),
                metrics: Arc::clone(&self.0.metrics),
            },
            settings: self.0.settings.clone(),
            postponed: Arc::new(Semaphore::new(MAX_POSTPONED)),
            waiting,
            next: VecDeque::new(),
            is_busy: false,
        };
        tokio::spawn(writer.run());
        *slot = Some(queue.clone());
        queue
    }
}

/// The number of attempts at a batch before it is halved, and at a single append before it is
/// postponed.
const MAX_ATTEMPTS: u32 = 3;
/// The maximum number of appends of one partition that are retried beside its writer.
const MAX_POSTPONED: usize = 16;

/// Sends batches to one partition.
#[derive(Clone)]
struct Sender {
    partition: u16,
    store: SharedEventStore,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    metrics: Arc<AppendMetrics>,
}

struct Writer {
    sender: Sender,
    settings: Settings,
    /// Permits for appends that are retried beside the writer.
    postponed: Arc<Semaphore>,
    waiting: mpsc::Receiver<QueuedAppend>,
    /// Appends for the next batch, because the current one has an append to the same stream.
    next: VecDeque<QueuedAppend>,
    /// `true` if the last batch had more than one append, or more appends wait.
    is_busy: bool,
}

/// A batch of appends, at most one per stream.
#[derive(Default)]
struct Batch {
    streams: BTreeSet<StreamId>,
    appends: Vec<Append>,
    replies: Vec<oneshot::Sender<Result<AppendOutcome, StoreError>>>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, queued: QueuedAppend) {
        self.bytes += queued.append.size();
        self.streams.insert(queued.append.stream.clone());
        self.appends.push(queued.append);
        self.replies.push(queued.reply);
    }

    /// Splits the batch into halves, without the appends that no caller waits for; empty halves are
    /// left out.
    fn halves(self) -> Vec<Self> {
        let entries = self.appends.into_iter().zip(self.replies);
        let entries: Vec<_> = entries.filter(|(_, reply)| !reply.is_closed()).collect();
        let middle = entries.len().div_ceil(2);
        let mut halves = [Self::default(), Self::default()];
        for (index, (append, reply)) in entries.into_iter().enumerate() {
            halves[usize::from(index >= middle)].add(QueuedAppend { append, reply });
        }
        halves.into_iter().filter(|half| !half.appends.is_empty()).collect()
    }

    /// `true` if no caller waits for any of the appends.
    fn is_abandoned(&self) -> bool {
        self.replies.iter().all(oneshot::Sender::is_closed)
    }
}

impl Writer {
    async fn run(mut self) {
        while let Some(batch) = self.next_batch().await {
            self.commit(batch, MAX_ATTEMPTS).await;
        }
    }

    async fn next_batch(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        for queued in std::mem::take(&mut self.next) {
            self.take(&mut batch, queued);
        }
        while batch.appends.is_empty() {
            let queued = self.waiting.recv().await?;
            self.take(&mut batch, queued);
        }
        // Under load, let other tasks queue their appends first: tokio runs a woken task before
        // those that wait, so the first append would be sent alone.
        if self.is_busy {
            tokio::task::yield_now().await;
        }
        while batch.appends.len() < self.settings.max_appends_per_batch
            && batch.bytes < self.settings.max_bytes_per_batch
            && self.next.len() < self.settings.writer_queue_capacity
        {
            let Ok(queued) = self.waiting.try_recv() else { break };
            self.take(&mut batch, queued);
        }
        self.is_busy = batch.appends.len() > 1 || !self.waiting.is_empty();
        Some(batch)
    }

    /// Adds an append to the batch, or to the next one. Drops it if its caller has given up.
    fn take(&mut self, batch: &mut Batch, queued: QueuedAppend) {
        if queued.reply.is_closed() {
            return;
        }
        if batch.streams.contains(&queued.append.stream) {
            self.next.push_back(queued);
        } else {
            batch.add(queued);
        }
    }

    /// Sends a batch until its outcome is known or no caller waits for it.
    ///
    /// A batch that keeps failing is sent in halves, because a single append may be at fault: it
    /// meets a damaged page, or its statement takes too long. That append is then retried beside
    /// the writer, which continues with the others.
    async fn commit(&self, batch: Batch, max_attempts: u32) {
        let mut backoff = backoff();
        for attempt in 1..=max_attempts {
            match self.sender.send(&batch).await {
                Some(result) => return self.complete(batch, result).await,
                None if batch.is_abandoned() => return,
                None if attempt < max_attempts => {
                    backoff.wait(&*self.sender.clock, &*self.sender.rng).await;
                }
                None => {}
            }
        }
        if batch.appends.len() == 1 {
            return self.postpone(batch).await;
        }
        tracing::warn!(
            partition = self.sender.partition,
            appends = batch.appends.len(),
            "failed to append a batch; retrying in halves"
        );
        for half in batch.halves() {
            let max_attempts = if half.appends.len() == 1 { MAX_ATTEMPTS } else { 1 };
            Box::pin(self.commit(half, max_attempts)).await;
        }
    }

    /// Passes the outcomes to the callers. If the store rejects the batch, commits its appends one
    /// by one.
    async fn complete(&self, batch: Batch, result: Result<Vec<AppendOutcome>, StoreError>) {
        match result {
            Ok(outcomes) => {
                for (reply, outcome) in batch.replies.into_iter().zip(outcomes) {
                    let _ = reply.send(Ok(outcome));
                }
            }
            Err(error) if batch.appends.len() == 1 => {
                for reply in batch.replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the store rejects a batch; sending its appends one by one");
                for (append, reply) in batch.appends.into_iter().zip(batch.replies) {
                    let mut single = Batch::default();
                    single.add(QueuedAppend { append, reply });
                    Box::pin(self.commit(single, MAX_ATTEMPTS)).await;
                }
            }
        }
    }

    /// Retries a single append that keeps failing, beside the writer unless too many already are:
    /// while the server is unavailable, all appends fail.
    async fn postpone(&self, batch: Batch) {
        let Ok(permit) = Arc::clone(&self.postponed).try_acquire_owned() else {
            return self.sender.retry(batch).await;
        };
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let _permit = permit;
            sender.retry(batch).await;
        });
    }
}

impl Sender {
    /// Sends a single append until its outcome is known or its caller has given up.
    async fn retry(&self, batch: Batch) {
        let mut backoff = backoff();
        while !batch.is_abandoned() {
            backoff.wait(&*self.clock, &*self.rng).await;
            let Some(result) = self.send(&batch).await else { continue };
            let outcome = result.map(|mut outcomes| outcomes.remove(0));
            for reply in batch.replies {
                let _ = reply.send(outcome.clone());
            }
            return;
        }
    }

    /// Returns the outcomes of a batch; `None` if they are unknown.
    async fn send(&self, batch: &Batch) -> Option<Result<Vec<AppendOutcome>, StoreError>> {
        let started = self.clock.monotonic();
        let appended = self.store.append_events(self.partition, &batch.appends).await;
        let duration = self.clock.monotonic().saturating_sub(started);
        self.metrics.appended(&batch.appends, &appended, duration);
        match appended {
            Err(error) if error.is_transient() => {
                let cause = std::error::Error::source(&error);
                tracing::warn!(
                    partition = self.partition,
                    cause = cause.map(tracing::field::display),
                    "the outcome of an append is unknown; retrying"
                );
                None
            }
            result => Some(result),
        }
    }
}

fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(50), Duration::from_secs(2))
}
