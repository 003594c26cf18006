//! Group commit: everything that waits for a partition goes into its next transaction.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use composable_rust_core::{
    Append, AppendOutcome, Clock, EventStore as _, LogInfo, Rng, SharedEventStore, StoreError,
    StreamId,
};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::backoff::Backoff;
use crate::panic::lock;
use crate::{Settings, SystemClock, SystemRng};

/// Appends to any event store, one writer per partition: a writer sends everything that waits as
/// one batch, and what arrives meanwhile is the next batch.
///
/// A batch whose outcome is unknown is sent again for as long as anybody waits for it: the same at
/// first, then in halves, so that an append that always fails holds up no other for long. If a batch
/// is refused, its appends are sent one by one, so that only the guilty one fails.
///
/// Appends to one stream are sent in order, unless one before them fails again and again.
#[derive(Clone)]
pub struct GroupCommit(Arc<Inner>);

struct Inner {
    store: SharedEventStore,
    log: LogInfo,
    writers: Vec<Mutex<Option<mpsc::Sender<QueuedAppend>>>>,
    settings: Settings,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
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
    /// With the system's clock and the default settings.
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
        Self(Arc::new(Inner { store, log, writers, settings, clock, rng }))
    }

    /// Appends with whatever else waits for the partition; waits while its queue is full.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Invalid`]: nothing was written. Change the append.
    /// - [`StoreError::Unavailable`]: the writer ended, because the store panicked or the tokio
    ///   runtime stops. The outcome is unknown; the next append has a new writer.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may still commit, unless it was waiting in the queue.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn append(&self, append: Append) -> Result<AppendOutcome, StoreError> {
        append.validate()?;
        let partition = self.0.log.partition_of(&append.stream);
        let writer = self.writer(partition);
        let (reply, outcome) = oneshot::channel();
        let gone = || StoreError::unavailable("the partition's writer is gone");
        writer.send(QueuedAppend { append, reply }).await.map_err(|_| gone())?;
        outcome.await.map_err(|_| gone())?
    }

    /// The partition's writer, started if there is none or it has ended.
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
            },
            settings: self.0.settings.clone(),
            aside: Arc::new(Semaphore::new(MAX_POSTPONED)),
            waiting,
            held: VecDeque::new(),
            crowded: false,
        };
        tokio::spawn(writer.run());
        *slot = Some(queue.clone());
        queue
    }
}

/// Tries of a batch, and of an append alone, before it is not one of many that fail.
const MAX_ATTEMPTS: u32 = 3;
/// Appends of one partition that are retried beside its writer, at most.
const MAX_POSTPONED: usize = 16;

/// Sends batches to one partition.
#[derive(Clone)]
struct Sender {
    partition: u16,
    store: SharedEventStore,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

struct Writer {
    sender: Sender,
    settings: Settings,
    /// Room for appends that are retried beside the writer.
    aside: Arc<Semaphore>,
    waiting: mpsc::Receiver<QueuedAppend>,
    /// Appends whose stream was already in the batch when they came.
    held: VecDeque<QueuedAppend>,
    /// Whether the last batch held more than one append.
    crowded: bool,
}

/// A batch being put together: at most one append per stream, within the bounds.
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

    /// Its two halves, less what nobody waits for any more; those that hold nothing are left out.
    fn halves(self) -> Vec<Self> {
        let waited = self.appends.into_iter().zip(self.replies);
        let waited: Vec<_> = waited.filter(|(_, reply)| !reply.is_closed()).collect();
        let middle = waited.len().div_ceil(2);
        let mut halves = [Self::default(), Self::default()];
        for (index, (append, reply)) in waited.into_iter().enumerate() {
            halves[usize::from(index >= middle)].add(QueuedAppend { append, reply });
        }
        halves.into_iter().filter(|half| !half.appends.is_empty()).collect()
    }

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
        for queued in std::mem::take(&mut self.held) {
            self.take(&mut batch, queued);
        }
        while batch.appends.is_empty() {
            let queued = self.waiting.recv().await?;
            self.take(&mut batch, queued);
        }
        // Where many append, whoever is about to does so first: a task that is woken runs before
        // those that wait, and would send the first append alone.
        if self.crowded {
            tokio::task::yield_now().await;
        }
        while batch.appends.len() < self.settings.max_appends_per_batch
            && batch.bytes < self.settings.max_bytes_per_batch
            && self.held.len() < self.settings.writer_queue_capacity
        {
            let Ok(queued) = self.waiting.try_recv() else { break };
            self.take(&mut batch, queued);
        }
        self.crowded = batch.appends.len() > 1 || !self.waiting.is_empty();
        Some(batch)
    }

    /// What nobody waits for any more was never sent and need not be.
    fn take(&mut self, batch: &mut Batch, queued: QueuedAppend) {
        if queued.reply.is_closed() {
        } else if batch.streams.contains(&queued.append.stream) {
            self.held.push_back(queued);
        } else {
            batch.add(queued);
        }
    }

    /// Sends a batch until its outcome is known or nobody waits for it any more.
    ///
    /// What fails again and again is sent in halves, for one append may be at fault for all: a damaged
    /// page, a statement that takes too long. Such an append is then retried beside the writer, which
    /// goes on.
    async fn commit(&self, batch: Batch, tries: u32) {
        let mut backoff = backoff();
        for n in 1..=tries {
            match self.sender.send(&batch).await {
                Some(answer) => return self.answer(batch, answer).await,
                None if batch.is_abandoned() => return,
                None if n < tries => backoff.wait(&*self.sender.clock, &*self.sender.rng).await,
                None => {}
            }
        }
        if batch.appends.len() == 1 {
            return self.set_aside(batch).await;
        }
        tracing::warn!(
            partition = self.sender.partition,
            appends = batch.appends.len(),
            "a batch fails again and again; it is sent in halves"
        );
        for half in batch.halves() {
            let tries = if half.appends.len() == 1 { MAX_ATTEMPTS } else { 1 };
            Box::pin(self.commit(half, tries)).await;
        }
    }

    async fn answer(&self, batch: Batch, answer: Result<Vec<AppendOutcome>, StoreError>) {
        match answer {
            Ok(verdicts) => {
                for (reply, verdict) in batch.replies.into_iter().zip(verdicts) {
                    let _ = reply.send(Ok(verdict));
                }
            }
            Err(error) if batch.appends.len() == 1 => {
                for reply in batch.replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a batch was refused; its appends are sent one by one");
                for (append, reply) in batch.appends.into_iter().zip(batch.replies) {
                    let mut alone = Batch::default();
                    alone.add(QueuedAppend { append, reply });
                    Box::pin(self.commit(alone, MAX_ATTEMPTS)).await;
                }
            }
        }
    }

    /// Retries an append that fails by itself, beside the writer if not too many are retried so
    /// already: when the server is away, all fail.
    async fn set_aside(&self, batch: Batch) {
        let Ok(room) = Arc::clone(&self.aside).try_acquire_owned() else {
            return self.sender.retry(batch).await;
        };
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let _room = room;
            sender.retry(batch).await;
        });
    }
}

impl Sender {
    /// Sends a batch of one until its outcome is known or nobody waits for it any more.
    async fn retry(&self, batch: Batch) {
        let mut backoff = backoff();
        while !batch.is_abandoned() {
            backoff.wait(&*self.clock, &*self.rng).await;
            let Some(answer) = self.send(&batch).await else { continue };
            let verdict = answer.map(|mut verdicts| verdicts.remove(0));
            for reply in batch.replies {
                let _ = reply.send(verdict.clone());
            }
            return;
        }
    }

    /// The store's answer; `None` if the outcome is unknown.
    async fn send(&self, batch: &Batch) -> Option<Result<Vec<AppendOutcome>, StoreError>> {
        match self.store.append_events(self.partition, &batch.appends).await {
            Err(error) if error.is_transient() => {
                let cause = std::error::Error::source(&error);
                tracing::warn!(
                    partition = self.partition,
                    cause = cause.map(tracing::field::display),
                    "the outcome of an append is unknown; it is sent again"
                );
                None
            }
            answer => Some(answer),
        }
    }
}

fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(50), Duration::from_secs(2))
}
