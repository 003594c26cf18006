//! Publishing the events of the log to the bus.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{
    BusMessage, Checkpoint, EventBus as _, EventStore as _, Outbox as _, OutboxMessage, OutboxRow,
    Position, PublishError, Publisher as _, PublisherName, QueueChange, QueuePosition,
    ResumePosition, Settlement, SharedPublisher, StoredContent, StoredEvent, Version,
};
use futures_util::TryStreamExt as _;

use crate::error::error_chain;
use crate::worker::bus::parked_streams::{ParkedStreams, version_of};
use crate::worker::bus::published_topic::{PublishedTopic, Unpublishable};
use crate::worker::bus::publishers::{OpenPublisher, PublisherKey, PublisherSlot};
use crate::worker::context::{WorkerContext, kept};
use crate::worker::follower::{IDLE_PAUSE, LogHandler, Stop, event_at};
use crate::worker::leases::HeldLease;
use crate::worker::outbox::dead_letters::DECISION_POLL_INTERVAL;

/// Follows one partition of the log and publishes the events of one category to one topic.
///
/// Its publisher fences whoever had the partition before. It is opened when there is something to
/// publish, and closed when there was nothing for a while, or when other relays need the slot: a log
/// has many partitions, and most topics are quiet.
pub(crate) struct Relay {
    work: Arc<WorkerContext>,
    published: Arc<PublishedTopic>,
    name: String,
    key: PublisherKey,
    parked: ParkedStreams,
    /// The largest number of events that are published at a time: fewer for a while after the bus has
    /// refused a batch. A broker may take messages one by one and not together.
    most: usize,
}

/// Events that are published at a time at most. A transaction costs half at 1,000 messages, a fifth at
/// 5,000.
const PAGE: usize = 5_000;
/// Rows of parked streams that are read at a time.
const PARKED_STREAMS_PAGE: usize = 100;
/// Messages of a parked stream that are published at a time, and their bytes.
const CATCH_UP_EVENTS: usize = 1_000;
const CATCH_UP_BYTES: usize = 8 << 20;

impl Relay {
    pub(crate) fn new(
        work: Arc<WorkerContext>,
        published: Arc<PublishedTopic>,
        partition: u16,
    ) -> Self {
        let name = published.worker();
        let parked = ParkedStreams::new(&name, &published.topic);
        let key = (name.clone(), partition);
        Self { work, published, name, key, parked, most: PAGE }
    }

    /// Takes the publisher, or opens it and compares its position with the log. It is put back after
    /// its use, and closed where that failed.
    async fn publisher(&self, held: &HeldLease) -> Result<OpenPublisher, Stop> {
        match self.work.publishers.take(&self.key) {
            Some(open) => Ok(open),
            None => self.open(held).await,
        }
    }

    fn put_back(&self, open: OpenPublisher) {
        self.work.publishers.put_back(&self.key, open);
    }

    async fn open(&self, held: &HeldLease) -> Result<OpenPublisher, Stop> {
        let partition = held.lease.partition;
        let (slot, mut publisher) = self.open_alone(held).await?;
        let resume = publisher.resume_position().await.map_err(|error| stop_of(&error))?;
        let offset = resume.map_or(0, |resume| resume.offset);
        if let Some(ResumePosition { offset: 1.., event_id }) = resume {
            let position = Position::new(partition, offset);
            let event = event_at(self.work.store(), position).await?;
            if event.is_none() || (event_id.is_some() && event != event_id) {
                return Err(Stop::LogWentBack(format!("it is not what it was at {position}")));
            }
        }
        Ok(OpenPublisher { publisher, published: offset, used: self.work.now(), slot })
    }

    /// Opens the only publisher of the partition, once there may be another.
    async fn open_alone(&self, held: &HeldLease) -> Result<(PublisherSlot, SharedPublisher), Stop> {
        let work = &self.work;
        let Some(bus) = &work.bus else {
            return Err(Stop::Unavailable("the app has no bus".to_owned()));
        };
        let slot = tokio::select! {
            biased;
            () = work.stop.cancelled() => return Err(Stop::Unavailable("the app stops".to_owned())),
            slot = work.publishers.slot(work.clock()) => slot,
        };
        if !held.admits(work.clock(), Duration::ZERO) {
            return Err(Stop::Unavailable("the lease has lapsed".to_owned()));
        }
        let log = work.store().log();
        let (purpose, partition) = (self.name.clone(), held.lease.partition);
        let name = PublisherName { log: log.id, purpose, partition, partitions: log.partitions };
        let opened = bus.publisher(&name).await;
        Ok((slot, opened.map_err(|error| Stop::Unavailable(error_chain(&error)))?))
    }

    /// The messages for those of these events that are not on the topic yet, as are none after the
    /// offset `after`.
    ///
    /// An event that cannot be published parks its stream, but not while earlier events of the stream
    /// are in the same batch: the batch ends before it.
    fn batch(&self, events: &[StoredEvent], after: u64) -> Result<Batch, Stop> {
        let shared = &self.work.shared;
        let mut batch = Batch::default();
        let (mut in_batch, mut parked) = (BTreeSet::new(), BTreeSet::new());
        for event in events {
            let is_parked = self.parked.contains(&event.stream) || parked.contains(&event.stream);
            let goes = event.stream.category() == self.published.category
                && event.position.offset > after
                // An erasure is told whatever happens.
                && (!is_parked || event.content == StoredContent::Erased);
            if goes {
                match self.published.message(&shared.codecs, shared.log.id, event) {
                    Ok(None) => {}
                    Ok(Some(message)) => {
                        batch.first.get_or_insert(batch.done);
                        in_batch.insert(&event.stream);
                        batch.messages.push(message);
                    }
                    Err(Unpublishable::Newer(reason)) if batch.done == 0 => {
                        return Err(Stop::Newer(reason));
                    }
                    Err(Unpublishable::Newer(_)) => break,
                    Err(Unpublishable::AsItIs(_)) if in_batch.contains(&event.stream) => break,
                    Err(Unpublishable::AsItIs(error)) => {
                        parked.insert(&event.stream);
                        batch.parked.push((batch.done, error));
                    }
                }
            }
            batch.done += 1;
        }
        Ok(batch)
    }

    /// Publishes messages, with a position if given. If the bus takes no such messages, the next batch
    /// is smaller, and the outcome is `Refused` once it is a single message.
    async fn publish(
        &mut self,
        mut open: OpenPublisher,
        messages: Vec<BusMessage>,
        position: Option<ResumePosition>,
    ) -> Result<Publication, Stop> {
        let count = messages.len();
        match open.publisher.publish_batch(messages, position).await {
            Ok(()) => {
                let offset = position.map(|position| position.offset);
                open.published = offset.unwrap_or(open.published);
                open.used = self.work.now();
                self.work.publishers.put_back(&self.key, open);
                self.most = self.most.saturating_mul(2).min(PAGE);
                Ok(Publication::Done)
            }
            Err(error @ PublishError::Invalid(_)) => {
                let (name, reason) = (&self.name, error_chain(&error));
                tracing::info!(relay = name, count, reason, "the bus refused a batch; dividing it");
                self.most = count.div_ceil(2);
                Ok(if count > 1 { Publication::TooMuch } else { Publication::Refused(reason) })
            }
            Err(error) => Err(stop_of(&error)),
        }
    }

    /// Parks a stream from an event on.
    async fn park(&mut self, event: &StoredEvent, error: String) -> Result<(), Stop> {
        report(&self.published, event, &error);
        let row = self.parked.row(self.work.shared.log.id, &event.stream, event.version);
        let rows = std::slice::from_ref(&row);
        self.work.store().park(event.position.partition, rows, &kept(error)).await?;
        self.parked.insert(row.sender);
        Ok(())
    }

    /// Carries out what was decided about streams that are parked.
    async fn redrive(&mut self, held: &Arc<HeldLease>, at: u64) -> Result<(), Stop> {
        let work = Arc::clone(&self.work);
        let store = work.store();
        let queue = self.parked.queue(held.lease.partition);
        let queues = [(queue.clone(), Arc::clone(held))].into();
        let (letters, _) = work.decided(&queues).await?;
        work.carry_out(&queues, letters).await.1?;
        let rows = store
            .read_outbox(&[(queue.clone(), QueuePosition::default())], PARKED_STREAMS_PAGE)
            .await?;
        for row in rows {
            let change = loop {
                if let Some(change) = self.catch_up(held, at, &row).await? {
                    break change;
                }
            };
            let (lease, queue, place) = (held.lease.clone(), row.queue, row.position);
            let settlement = Settlement { lease, queue, position: place, change };
            if store.settle(held.lease.partition, &[settlement]).await?.contains(&false) {
                return Err(Stop::Fenced);
            }
        }
        self.parked.load(&work, held.lease.partition).await
    }

    /// Publishes a stream on from the event it was parked at, as far as the relay has come, which is
    /// `at` or the position at the broker. Gives what becomes of the row that stands for it; `None` if
    /// fewer events are to be tried.
    async fn catch_up(
        &mut self,
        held: &Arc<HeldLease>,
        at: u64,
        row: &OutboxRow,
    ) -> Result<Option<QueueChange>, Stop> {
        let attempts = row.attempts;
        if row.behind_parked {
            return Ok(Some(QueueChange::Parked { attempts, error: None }));
        }
        let work = Arc::clone(&self.work);
        let (log, stream) = (work.shared.log.id, &row.message.sender);
        let open = self.publisher(held).await?;
        let at = at.max(open.published);
        let first = version_of(&row.message.row);
        let (mut next, mut bytes, mut messages) = (first, 0, Vec::new());
        let (mut stuck, mut has_more, mut first_message) = (None, false, None);
        {
            let after = Version::new(first.get().saturating_sub(1));
            let mut events = std::pin::pin!(work.store().load_events(stream, after));
            while let Some(event) = events.try_next().await? {
                if event.position.offset > at {
                    break;
                }
                let count = messages.len();
                has_more = count >= CATCH_UP_EVENTS.min(self.most) || bytes > CATCH_UP_BYTES;
                if has_more {
                    break;
                }
                match self.published.message(&work.shared.codecs, log, &event) {
                    Ok(message) => {
                        if let Some(message) = message {
                            bytes += message.payload.len();
                            messages.push(message);
                            first_message.get_or_insert_with(|| event.clone());
                        }
                    }
                    Err(Unpublishable::Newer(reason)) => return Err(Stop::Newer(reason)),
                    Err(Unpublishable::AsItIs(error)) => {
                        stuck = Some((event, error));
                        break;
                    }
                }
                next = event.version.next();
            }
        }
        if let Some((event, error)) = stuck.take_if(|_| next == first) {
            report(&self.published, &event, &error);
            self.put_back(open);
            let error = Some(kept(error));
            return Ok(Some(QueueChange::Parked { attempts: attempts + 1, error }));
        }
        match first_message {
            None => self.put_back(open),
            Some(event) => match self.publish(open, messages, None).await? {
                Publication::Done => {}
                Publication::TooMuch => return Ok(None),
                Publication::Refused(error) if event.version == first => {
                    report(&self.published, &event, &error);
                    let error = Some(kept(error));
                    return Ok(Some(QueueChange::Parked { attempts: attempts + 1, error }));
                }
                Publication::Refused(_) => {
                    let rest = self.parked.row(log, stream, event.version);
                    return Ok(Some(QueueChange::Done(vec![rest])));
                }
            },
        }
        let rest = (has_more || stuck.is_some()).then(|| self.parked.row(log, stream, next));
        Ok(Some(QueueChange::Done(rest.into_iter().collect())))
    }

    /// Moves the position at the broker to before the first event.
    async fn rewind(&self, held: &HeldLease) -> Result<(), Stop> {
        let partition = held.lease.partition;
        let (slot, mut publisher) = self.open_alone(held).await?;
        let start = ResumePosition { offset: 0, event_id: None };
        let rewound = publisher.publish_batch(Vec::new(), Some(start)).await;
        rewound.map_err(|error| stop_of(&error))?;
        tracing::info!(relay = self.name, partition, "publishing from the start of the log again");
        self.put_back(OpenPublisher { publisher, published: 0, used: self.work.now(), slot });
        Ok(())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.work.publishers.close(&self.key);
    }
}

/// What is done with one page of the log.
#[derive(Default)]
struct Batch {
    messages: Vec<BusMessage>,
    /// The place of the event of the first message.
    first: Option<usize>,
    /// The places of the events from which on streams are parked, and why.
    parked: Vec<(usize, String)>,
    /// The number of events that it covers.
    done: usize,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.parked.is_empty()
    }
}

/// What became of messages that were to be published.
enum Publication {
    Done,
    /// The bus does not take them together.
    TooMuch,
    /// The bus does not take the message.
    Refused(String),
}

fn report(published: &PublishedTopic, event: &StoredEvent, error: &str) {
    let (topic, format) = (&published.topic, published.format);
    let StoredEvent { stream, version, id, .. } = event;
    tracing::error!(
        topic, ?format, %stream, %version, %id, error,
        "an event cannot be published; its stream is parked on this topic. Override the event, raise \
         the limit of the bus or of the topic, or deploy code that can publish it, and redrive the dead \
         letter; or refuse the dead letter to publish on without the event"
    );
}

fn stop_of(error: &PublishError) -> Stop {
    match error {
        PublishError::Fenced => Stop::Fenced,
        PublishError::Unavailable(error) => Stop::Unavailable(error_chain(error)),
        error @ (PublishError::Invalid(_) | PublishError::Rejected(_)) => {
            Stop::Unavailable(error_chain(error))
        }
    }
}

impl LogHandler for Relay {
    fn name(&self) -> &str {
        &self.name
    }

    fn begins_at_start(&self) -> bool {
        true
    }

    async fn take_over(
        &mut self,
        held: &Arc<HeldLease>,
        stored: Option<Checkpoint>,
    ) -> Result<(), Stop> {
        let partition = held.lease.partition;
        // The only checkpoint at the start is one that was rewound.
        if stored.is_some_and(|stored| stored.offset == 0) {
            self.rewind(held).await?;
        }
        self.parked.load(&self.work, partition).await
    }

    fn page(&self) -> usize {
        PAGE
    }

    fn pause(&self) -> Duration {
        if self.parked.is_empty() { IDLE_PAUSE } else { DECISION_POLL_INTERVAL }
    }

    async fn between_pages(&mut self, held: &Arc<HeldLease>, at: u64) -> Result<(), Stop> {
        self.work.publishers.close_if_unused(&self.key, self.work.now());
        if self.parked.is_due(self.work.now()) {
            self.redrive(held, at).await?;
        }
        Ok(())
    }

    fn give_up(&mut self, _: u16) {
        self.work.publishers.close(&self.key);
    }

    async fn handle(
        &mut self,
        held: &Arc<HeldLease>,
        events: &[StoredEvent],
    ) -> Result<(Vec<OutboxMessage>, usize), Stop> {
        let events = &events[..events.len().min(self.most)];
        let mut open = self.work.publishers.take(&self.key);
        let mut batch = self.batch(events, open.as_ref().map_or(0, |open| open.published))?;
        if open.is_none() && !batch.is_empty() {
            // What is on the topic already is known only now.
            let opened = self.open(held).await?;
            batch = self.batch(events, opened.published)?;
            open = Some(opened);
        }
        let Batch { messages, first, parked, done } = batch;
        let Some(last) = done.checked_sub(1).and_then(|index| events.get(index)) else {
            return Ok((Vec::new(), 0));
        };
        // Before the position moves.
        for (place, error) in parked {
            self.park(&events[place], error).await?;
        }
        let Some(open) = open else { return Ok((Vec::new(), done)) };
        let Some(first) = first.map(|first| &events[first]) else {
            self.put_back(open);
            return Ok((Vec::new(), done));
        };
        let position = ResumePosition { offset: last.position.offset, event_id: Some(last.id) };
        match self.publish(open, messages, Some(position)).await? {
            Publication::Done => Ok((Vec::new(), done)),
            Publication::TooMuch => Ok((Vec::new(), 0)),
            Publication::Refused(error) if first.content == StoredContent::Erased => {
                Err(Stop::Unavailable(error))
            }
            Publication::Refused(error) => {
                self.park(first, error).await?;
                Ok((Vec::new(), 0))
            }
        }
    }
}
