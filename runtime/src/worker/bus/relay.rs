//! Relaying the events of the log to the bus.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::bus::{
    BusMessage, EventBus as _, PublishError, Publisher as _, PublisherName, ResumePosition,
    SharedPublisher,
};
use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::queue::{
    Checkpoint, Outbox as _, OutboxMessage, OutboxRow, QueueChange, QueuePosition, Settlement,
};
use composable_rust_core::store::EventStore as _;
use composable_rust_core::{StreamId, Version};
use futures_util::TryStreamExt as _;
use tracing::Instrument as _;

use crate::error::error_chain;
use crate::metrics::MESSAGES_PARKED;
use crate::spans;
use crate::worker::bus::connection::BusConnection;
use crate::worker::bus::parked_streams::ParkedStreams;
use crate::worker::bus::published_topic::PublishedTopic;
use crate::worker::bus::publishers::{OpenPublisher, PublisherKey, PublisherSlot};
use crate::worker::context::WorkerContext;
use crate::worker::dead_letters::{DECISION_POLL_INTERVAL, carry_out, decided};
use crate::worker::follower::{IDLE_POLL_INTERVAL, LogHandler, compare_with_log};
use crate::worker::leases::HeldLease;
use crate::worker::outcome::{Failure, truncate_error};
use crate::worker::parked_stream::version_of;

/// Publishes the events of one aggregate type, in one partition of the log, to one topic.
///
/// Its publisher fences the previous one of the partition. It is opened when there is an event to
/// publish, and closed when there was none for a while, or when other relays need the slot: a log
/// has many partitions, and most topics are quiet.
pub(crate) struct Relay {
    context: Arc<WorkerContext>,
    bus: Arc<BusConnection>,
    published: Arc<PublishedTopic>,
    name: String,
    key: PublisherKey,
    parked: ParkedStreams,
    /// Maximum events that are published at a time. It is halved when the bus rejects a batch,
    /// which a broker may accept in parts, and doubled with each success.
    max_batch: usize,
}

/// Maximum events that are published at a time. A transaction takes half of the time at 1,000
/// messages, a fifth at 5,000.
const MAX_BATCH: usize = 5_000;
/// Interval at which a relay checks whether its publisher is to be closed.
const UNUSED_PUBLISHER_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Rows of parked streams that are read at a time.
const PARKED_STREAMS_PAGE: usize = 100;
/// Maximum messages of a parked stream that are published at a time.
const MAX_CATCH_UP_EVENTS: usize = 1_000;
/// Bytes of messages of a parked stream after which no more are published at a time.
const MAX_CATCH_UP_BYTES: usize = 8 << 20;

impl Relay {
    pub(crate) fn new(
        context: Arc<WorkerContext>,
        bus: Arc<BusConnection>,
        published: Arc<PublishedTopic>,
        partition: u16,
    ) -> Self {
        let name = published.worker().to_string();
        let parked = ParkedStreams::new(&name, &published.topic);
        let key = (name.clone(), partition);
        Self { context, bus, published, name, key, parked, max_batch: MAX_BATCH }
    }

    /// Takes the publisher, or opens it and compares its position with the log. The caller puts it
    /// back after use, or drops it, and so closes it, if that failed.
    async fn publisher(&self, held: &HeldLease) -> Result<OpenPublisher, Failure> {
        match self.bus.publishers.take(&self.key) {
            Some(open) => Ok(open),
            None => self.open(held).await,
        }
    }

    fn put_back(&self, open: OpenPublisher) {
        self.bus.publishers.put_back(&self.key, open);
    }

    async fn open(&self, held: &HeldLease) -> Result<OpenPublisher, Failure> {
        let partition = held.lease.partition;
        let (slot, mut publisher) = self.open_exclusive(held).await?;
        let resume = publisher.resume_position().await.map_err(|error| failure_of(&error))?;
        let offset = resume.map_or(0, |resume| resume.offset);
        if let Some(ResumePosition { offset, event_id }) = resume {
            let checkpoint = Checkpoint { partition, offset, event_id };
            compare_with_log(self.context.store(), &checkpoint).await?;
        }
        Ok(OpenPublisher { publisher, published: offset, used: self.context.now(), slot })
    }

    /// Opens the exclusive publisher of the partition, once the bus admits one more.
    async fn open_exclusive(
        &self,
        held: &HeldLease,
    ) -> Result<(PublisherSlot, SharedPublisher), Failure> {
        let context = &self.context;
        let slot = tokio::select! {
            biased;
            () = context.stop.cancelled() => {
                return Err(Failure::Unavailable("the app is shutting down".to_owned()));
            }
            slot = self.bus.publishers.slot(context.clock()) => slot,
        };
        if !held.admits(context.clock(), Duration::ZERO) {
            return Err(Failure::Unavailable("the lease has lapsed".to_owned()));
        }
        let log = context.store().log();
        let (purpose, partition) = (self.name.clone(), held.lease.partition);
        let name = PublisherName { log: log.id, purpose, partition, partitions: log.partitions };
        let opened = self.bus.bus.publisher(&name).await;
        Ok((slot, opened.map_err(|error| Failure::Unavailable(error_chain(&error)))?))
    }

    /// Returns the messages of the events that are not on the topic yet: those after the offset
    /// `after`.
    ///
    /// An event that cannot be published parks its stream. If earlier events of the stream are in
    /// the same batch, the batch ends before it.
    fn batch(&self, events: &[StoredEvent], after: u64) -> Result<Batch, Failure> {
        let shared = &self.context.shared;
        let mut batch = Batch::default();
        let (mut in_batch, mut parked) = (BTreeSet::new(), BTreeSet::new());
        for event in events {
            let is_parked = self.parked.contains(&event.stream) || parked.contains(&event.stream);
            let goes = event.stream.category() == self.published.category
                && event.position.offset > after
                // An erasure is published even if the stream is parked.
                && (!is_parked || event.content == StoredContent::Erased);
            if goes {
                match self.published.message(&shared.codecs, shared.log.id, event) {
                    Ok(None) => {}
                    Ok(Some(message)) => {
                        batch.first.get_or_insert(batch.done);
                        in_batch.insert(&event.stream);
                        batch.messages.push(message);
                    }
                    Err(Failure::Poison(_)) if in_batch.contains(&event.stream) => break,
                    Err(Failure::Poison(error)) => {
                        parked.insert(&event.stream);
                        batch.parked.push((batch.done, error));
                    }
                    Err(failure) if batch.done == 0 => return Err(failure),
                    Err(_) => break,
                }
            }
            batch.done += 1;
        }
        Ok(batch)
    }

    /// Publishes messages, with a position if given. If the bus rejects them, the next batch is
    /// smaller, and the outcome is `Rejected` if it was a single message.
    async fn publish(
        &mut self,
        mut open: OpenPublisher,
        messages: Vec<BusMessage>,
        position: Option<ResumePosition>,
    ) -> Result<Publication, Failure> {
        let (count, span) = (messages.len(), spans::publish(&messages));
        let published = open.publisher.publish_batch(messages, position);
        let published = published.instrument(span.clone()).await;
        if let Err(error) = &published {
            spans::failed(&span, publish_error_kind(error));
        }
        match published {
            Ok(()) => {
                let offset = position.map(|position| position.offset);
                open.published = offset.unwrap_or(open.published);
                open.used = self.context.now();
                self.bus.publishers.put_back(&self.key, open);
                self.max_batch = self.max_batch.saturating_mul(2).min(MAX_BATCH);
                Ok(Publication::Done)
            }
            Err(error @ PublishError::Invalid(_)) => {
                let (name, reason) = (&self.name, error_chain(&error));
                tracing::info!(
                    relay = name,
                    count,
                    reason,
                    "the bus rejected a batch; retrying with half of it"
                );
                self.max_batch = count.div_ceil(2);
                Ok(if count > 1 { Publication::TooLarge } else { Publication::Rejected(reason) })
            }
            Err(error) => Err(failure_of(&error)),
        }
    }

    /// Parks a stream before an event.
    async fn park(&mut self, event: &StoredEvent, error: String) -> Result<(), Failure> {
        report(&self.published, event, &error);
        MESSAGES_PARKED.increment([&self.name]);
        let row = self.parked.row(self.context.shared.log.id, &event.stream, event.version);
        let rows = std::slice::from_ref(&row);
        self.context.store().park(event.position.partition, rows, &truncate_error(error)).await?;
        self.parked.insert(row.sender);
        Ok(())
    }

    /// Carries out decisions about parked streams, and publishes the streams that are redriven.
    async fn redrive(&mut self, held: &Arc<HeldLease>, at: u64) -> Result<(), Failure> {
        let context = Arc::clone(&self.context);
        let store = context.store();
        let queue = self.parked.queue(held.lease.partition);
        let queues = [(queue.clone(), Arc::clone(held))].into();
        let (letters, _) = decided(&context, &queues).await?;
        carry_out(&context, &queues, letters).await?;
        let rows = store
            .read_outbox(&[(queue.clone(), QueuePosition::default())], PARKED_STREAMS_PAGE)
            .await?;
        for row in rows {
            let change = loop {
                if let Some(change) = self.catch_up(held, at, &row).await? {
                    break change;
                }
            };
            let (lease, queue, position) = (held.lease.clone(), row.queue, row.position);
            let settlement = Settlement { lease, queue, position, change };
            if store.settle(held.lease.partition, &[settlement]).await?.contains(&false) {
                return Err(Failure::Fenced);
            }
        }
        Ok(self.parked.load(&context, held.lease.partition).await?)
    }

    /// Publishes a parked stream from the event it was parked before, up to the relay's own
    /// position: `at` or that at the broker. Returns the change of the stream's row; `None` if the
    /// batch was too large and must be tried again.
    async fn catch_up(
        &mut self,
        held: &Arc<HeldLease>,
        at: u64,
        row: &OutboxRow,
    ) -> Result<Option<QueueChange>, Failure> {
        let attempts = row.attempts;
        if row.behind_parked {
            return Ok(Some(QueueChange::Parked { attempts, error: None }));
        }
        let (log, stream) = (self.context.shared.log.id, &row.message.sender);
        let open = self.publisher(held).await?;
        let from = version_of(&row.message.row);
        let mut batch = self.parked_batch(stream, from, at.max(open.published)).await?;
        if let Some((event, error)) = batch.stuck.take_if(|_| batch.next == from) {
            self.put_back(open);
            return Ok(Some(self.parked_again(&event, attempts, error)));
        }
        match batch.first {
            None => self.put_back(open),
            Some(event) => match self.publish(open, batch.messages, None).await? {
                Publication::Done => {}
                Publication::TooLarge => return Ok(None),
                Publication::Rejected(error) if event.version == from => {
                    return Ok(Some(self.parked_again(&event, attempts, error)));
                }
                Publication::Rejected(_) => {
                    let rest = self.parked.row(log, stream, event.version);
                    return Ok(Some(QueueChange::Done(vec![rest])));
                }
            },
        }
        let has_rest = batch.has_more || batch.stuck.is_some();
        let rest = has_rest.then(|| self.parked.row(log, stream, batch.next));
        Ok(Some(QueueChange::Done(rest.into_iter().collect())))
    }

    fn parked_again(&self, event: &StoredEvent, attempts: u32, error: String) -> QueueChange {
        report(&self.published, event, &error);
        QueueChange::Parked { attempts: attempts + 1, error: Some(truncate_error(error)) }
    }

    /// Reads the next messages of a parked stream: those of events from version `from` on, up to
    /// the offset `until`.
    async fn parked_batch(
        &self,
        stream: &StreamId,
        from: Version,
        until: u64,
    ) -> Result<ParkedBatch, Failure> {
        let shared = &self.context.shared;
        let mut batch = ParkedBatch {
            messages: Vec::new(),
            first: None,
            next: from,
            stuck: None,
            has_more: false,
        };
        let mut bytes = 0;
        let after = Version::new(from.get().saturating_sub(1));
        let mut events = std::pin::pin!(self.context.store().load_events(stream, after));
        while let Some(event) = events.try_next().await? {
            if event.position.offset > until {
                break;
            }
            let max = MAX_CATCH_UP_EVENTS.min(self.max_batch);
            batch.has_more = batch.messages.len() >= max || bytes > MAX_CATCH_UP_BYTES;
            if batch.has_more {
                break;
            }
            match self.published.message(&shared.codecs, shared.log.id, &event) {
                Ok(None) => {}
                Ok(Some(message)) => {
                    bytes += message.payload.len();
                    batch.messages.push(message);
                    batch.first.get_or_insert_with(|| event.clone());
                }
                Err(Failure::Poison(error)) => {
                    batch.stuck = Some((event, error));
                    break;
                }
                Err(failure) => return Err(failure),
            }
            batch.next = event.version.next();
        }
        Ok(batch)
    }

    /// Moves the position at the broker to that of a checkpoint.
    async fn rewind(&self, held: &HeldLease, to: Checkpoint) -> Result<(), Failure> {
        let Checkpoint { partition, offset, .. } = to;
        let event_id = compare_with_log(self.context.store(), &to).await?;
        let (slot, mut publisher) = self.open_exclusive(held).await?;
        let start = ResumePosition { offset, event_id };
        let rewound = publisher.publish_batch(Vec::new(), Some(start)).await;
        rewound.map_err(|error| failure_of(&error))?;
        tracing::info!(relay = self.name, partition, offset, "publishing the log again");
        let used = self.context.now();
        self.put_back(OpenPublisher { publisher, published: offset, used, slot });
        Ok(())
    }
}

/// Returns the name of the kind of an error, as spans hold it.
fn publish_error_kind(error: &PublishError) -> &'static str {
    match error {
        PublishError::Invalid(_) => "invalid",
        PublishError::Rejected(_) => "rejected",
        PublishError::Unavailable(_) => "unavailable",
        PublishError::Fenced => "fenced",
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.bus.publishers.close(&self.key);
    }
}

/// The messages of one page of the log.
#[derive(Default)]
struct Batch {
    messages: Vec<BusMessage>,
    /// The index of the event of the first message.
    first: Option<usize>,
    /// The indexes of the events before which streams are parked, and the errors.
    parked: Vec<(usize, String)>,
    /// The number of events that the batch covers.
    done: usize,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.parked.is_empty()
    }
}

/// The next messages of a parked stream.
struct ParkedBatch {
    messages: Vec<BusMessage>,
    /// The event of the first message.
    first: Option<StoredEvent>,
    /// The version after the last event that the batch covers.
    next: Version,
    /// The event that cannot be published, and the error.
    stuck: Option<(StoredEvent, String)>,
    /// `true` if the stream has more events.
    has_more: bool,
}

/// The outcome of publishing messages.
enum Publication {
    Done,
    /// The bus rejects them together.
    TooLarge,
    /// The bus rejects the single message.
    Rejected(String),
}

fn report(published: &PublishedTopic, event: &StoredEvent, error: &str) {
    let (topic, format) = (&published.topic, published.format);
    let StoredEvent { stream, version, id, .. } = event;
    tracing::error!(
        topic, ?format, %stream, %version, %id, error,
        "an event cannot be published; parking its stream on this topic. Override the event, raise \
         the limit of the bus or of the topic, or deploy code that can publish it, and redrive the dead \
         letter; or discard the dead letter to publish the stream without the event"
    );
}

fn failure_of(error: &PublishError) -> Failure {
    match error {
        PublishError::Fenced => Failure::Fenced,
        PublishError::Unavailable(error) => Failure::Unavailable(error_chain(error)),
        error @ (PublishError::Invalid(_) | PublishError::Rejected(_)) => {
            Failure::Unavailable(error_chain(error))
        }
    }
}

impl LogHandler for Relay {
    fn name(&self) -> &str {
        &self.name
    }

    fn starts_at_beginning(&self) -> bool {
        true
    }

    async fn take_over(
        &mut self,
        held: &Arc<HeldLease>,
        stored: Option<Checkpoint>,
    ) -> Result<(), Failure> {
        let partition = held.lease.partition;
        // Only a checkpoint that was rewound has no event.
        if let Some(rewound) = stored.filter(|stored| stored.event_id.is_none()) {
            self.rewind(held, rewound).await?;
        }
        Ok(self.parked.load(&self.context, partition).await?)
    }

    fn max_page(&self) -> usize {
        MAX_BATCH
    }

    fn poll_interval(&self, context: &WorkerContext) -> Duration {
        let interval =
            if self.parked.is_empty() { IDLE_POLL_INTERVAL } else { DECISION_POLL_INTERVAL };
        // An open publisher is to be closed when it is unused.
        let is_open = self.bus.publishers.is_unused(&self.key);
        if is_open {
            interval.min(UNUSED_PUBLISHER_POLL_INTERVAL)
        } else {
            context.poll_interval(interval)
        }
    }

    fn hears_of_work(&self) -> bool {
        self.context.is_notified() && !self.parked.is_empty()
    }

    fn on_work(&mut self) {
        self.parked.may_have_decisions();
    }

    async fn between_pages(&mut self, held: &Arc<HeldLease>, at: u64) -> Result<(), Failure> {
        self.bus.publishers.close_if_unused(&self.key, self.context.now());
        if self.parked.is_due(self.context.now()) {
            self.redrive(held, at).await?;
        }
        Ok(())
    }

    fn release(&mut self, _: u16) {
        self.bus.publishers.close(&self.key);
    }

    async fn handle(
        &mut self,
        held: &Arc<HeldLease>,
        events: &[StoredEvent],
    ) -> Result<(Vec<OutboxMessage>, usize), Failure> {
        let events = &events[..events.len().min(self.max_batch)];
        let mut open = self.bus.publishers.take(&self.key);
        let mut batch = self.batch(events, open.as_ref().map_or(0, |open| open.published))?;
        if open.is_none() && !batch.is_empty() {
            // The events that are on the topic already are known only now.
            let opened = self.open(held).await?;
            batch = self.batch(events, opened.published)?;
            open = Some(opened);
        }
        let Batch { messages, first, parked, done } = batch;
        let Some(last) = done.checked_sub(1).and_then(|index| events.get(index)) else {
            return Ok((Vec::new(), 0));
        };
        // Streams are parked before the position moves past their events.
        for (index, error) in parked {
            self.park(&events[index], error).await?;
        }
        let Some(open) = open else { return Ok((Vec::new(), done)) };
        let Some(first) = first.map(|first| &events[first]) else {
            self.put_back(open);
            return Ok((Vec::new(), done));
        };
        let position = ResumePosition { offset: last.position.offset, event_id: Some(last.id) };
        match self.publish(open, messages, Some(position)).await? {
            Publication::Done => Ok((Vec::new(), done)),
            Publication::TooLarge => Ok((Vec::new(), 0)),
            Publication::Rejected(error) if first.content == StoredContent::Erased => {
                Err(Failure::Unavailable(error))
            }
            Publication::Rejected(error) => {
                self.park(first, error).await?;
                Ok((Vec::new(), 0))
            }
        }
    }
}
