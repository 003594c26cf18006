//! Publishing the events of the log to the bus.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use composable_rust_core::event::ERASED;
use composable_rust_core::{
    BusMessage, Codecs, EventBus as _, EventStore as _, Format, Message, PublishError,
    Publisher as _, PublisherName, QueuedRow, Recorded, RecordedEvent, ResumePosition,
    SharedPublisher, StoredContent,
};

use super::context::Work;
use super::envelope::event_message;
use super::follower::{Follow, Stop};
use super::leases::Held;
use crate::aggregate::Shared;
use crate::encode::describe;
use crate::error::panic_text;
use crate::handle::content_of;

/// The worker of the relay, as leases and checkpoints name it.
pub(crate) const RELAY: &str = "relay";

/// What is published of the events of one aggregate type.
pub(crate) struct Published {
    pub(crate) category: &'static str,
    pub(crate) topic: String,
    pub(crate) format: Format,
    pub(crate) map: Box<dyn Mapping>,
}

/// From an event to what stands on the topic: name, version, bytes. `None` is left out.
pub(crate) type Mapped = Option<(String, u16, Vec<u8>)>;

pub(crate) trait Mapping: Send + Sync {
    fn map(&self, codecs: &Codecs, event: &RecordedEvent, format: Format) -> Result<Mapped, Stop>;
}

/// The events as they are.
pub(crate) struct AsTheyAre<E>(pub(crate) std::marker::PhantomData<fn() -> E>);

impl<E: Message> Mapping for AsTheyAre<E> {
    fn map(&self, codecs: &Codecs, event: &RecordedEvent, format: Format) -> Result<Mapped, Stop> {
        let Some(content) = content_of(&event.content) else { return Ok(None) };
        let failed = |error| unreadable(event, &error);
        let (stored, bytes) = codecs.open(&event.stream, content).map_err(failed)?;
        if stored == format {
            return Ok(Some((content.name.to_string(), content.version, bytes.into_owned())));
        }
        let decoded: E = codecs.decode(&event.stream, content).map_err(failed)?;
        encoded(&decoded, format).map(Some)
    }
}

/// The events as a function maps them.
pub(crate) struct As<E, M, F>(pub(crate) F, pub(crate) std::marker::PhantomData<fn() -> (E, M)>);

impl<E: Message, M: Message, F> Mapping for As<E, M, F>
where
    F: Fn(&Recorded<E>) -> Option<M> + Send + Sync,
{
    fn map(&self, codecs: &Codecs, event: &RecordedEvent, format: Format) -> Result<Mapped, Stop> {
        let Some(content) = content_of(&event.content) else { return Ok(None) };
        let decoded: E =
            codecs.decode(&event.stream, content).map_err(|error| unreadable(event, &error))?;
        let recorded = event.decoded(decoded);
        let mapped = catch_unwind(AssertUnwindSafe(|| (self.0)(&recorded))).map_err(|panic| {
            Stop::Unavailable(format!("the mapping panicked: {}", panic_text(&*panic)))
        })?;
        mapped.map(|message| encoded(&message, format)).transpose()
    }
}

fn encoded(message: &impl Message, format: Format) -> Result<(String, u16, Vec<u8>), Stop> {
    let bytes = message.encode(format).map_err(|error| Stop::Unavailable(describe(&error)))?;
    let kind = message.kind();
    Ok((kind.name.to_owned(), kind.version, bytes))
}

/// Order forbids leaving an event out, so the relay stops before it.
fn unreadable(event: &RecordedEvent, error: &composable_rust_core::DecodeError) -> Stop {
    let text = format!("event {} at {}: {}", event.id, event.position, describe(error));
    if error.is_newer() { Stop::Newer(text) } else { Stop::Unavailable(text) }
}

/// Follows the log and publishes. Each partition has a publisher of its own, which fences whoever
/// had the partition before.
pub(crate) struct Relay {
    work: Arc<Work>,
    published: Arc<Vec<Published>>,
    publishers: BTreeMap<u16, SharedPublisher>,
}

impl Relay {
    pub(crate) fn new(work: Arc<Work>, published: Arc<Vec<Published>>) -> Self {
        Self { work, published, publishers: BTreeMap::new() }
    }
}

/// Opens the only publisher of a partition.
pub(crate) async fn open(
    work: &Work,
    purpose: &str,
    partition: u16,
) -> Result<SharedPublisher, Stop> {
    let Some(bus) = &work.bus else {
        return Err(Stop::Unavailable("the app has no bus".to_owned()));
    };
    let log = work.store().log();
    let (purpose, partitions) = (purpose.to_owned(), log.partitions);
    let name = PublisherName { log: log.id, purpose, partition, partitions };
    bus.publisher(&name).await.map_err(|error| Stop::Unavailable(describe(&error)))
}

pub(crate) fn stop_of(error: &PublishError) -> Stop {
    match error {
        PublishError::Fenced => Stop::Fenced,
        PublishError::Unavailable(error) => Stop::Unavailable(describe(error)),
    }
}

fn messages(
    shared: &Shared,
    published: &[Published],
    events: &[RecordedEvent],
) -> Result<Vec<BusMessage>, (Stop, usize, Vec<BusMessage>)> {
    let mut messages = Vec::with_capacity(events.len());
    for (index, event) in events.iter().enumerate() {
        for of in published.iter().filter(|of| of.category == event.stream.category()) {
            if event.content == StoredContent::Erased {
                // Other services forget what they made of the stream.
                let (topic, log) = (&of.topic, shared.log.id);
                messages.push(event_message(topic, log, event, ERASED, 1, of.format, Vec::new()));
                continue;
            }
            match of.map.map(&shared.codecs, event, of.format) {
                Ok(None) => {}
                Ok(Some((name, schema, bytes))) => {
                    let (log, format) = (shared.log.id, of.format);
                    let topic = &of.topic;
                    messages.push(event_message(topic, log, event, &name, schema, format, bytes));
                }
                Err(stop) => return Err((stop, index, messages)),
            }
        }
    }
    Ok(messages)
}

impl Follow for Relay {
    fn name(&self) -> &str {
        RELAY
    }

    fn begins_at_start(&self) -> bool {
        true
    }

    async fn take_over(&mut self, held: &Arc<Held>) -> Result<Option<ResumePosition>, Stop> {
        let partition = held.lease.partition;
        let mut publisher = open(&self.work, RELAY, partition).await?;
        let position = publisher.resume_position().await.map_err(|error| stop_of(&error))?;
        self.publishers.insert(partition, publisher);
        Ok(position)
    }

    /// A transaction costs half at 1,000 messages, a fifth at 5,000.
    fn page(&self) -> usize {
        5_000
    }

    fn give_up(&mut self, partition: u16) {
        self.publishers.remove(&partition);
    }

    async fn handle(
        &mut self,
        held: &Arc<Held>,
        events: &[RecordedEvent],
    ) -> Result<(Vec<QueuedRow>, usize), Stop> {
        let partition = held.lease.partition;
        let (messages, done) = match messages(&self.work.shared, &self.published, events) {
            Ok(messages) => (messages, events.len()),
            Err((stop, 0, _)) => return Err(stop),
            // Up to the event that is in the way; events of several topics are whole or not there.
            Err((_, index, _)) => {
                let before = self::messages(&self.work.shared, &self.published, &events[..index]);
                (before.map_err(|(stop, _, _)| stop)?, index)
            }
        };
        let Some(publisher) = self.publishers.get_mut(&partition) else {
            return Err(Stop::Unavailable("it has no publisher".to_owned()));
        };
        let last = events.get(done.wrapping_sub(1));
        let position = last.map(|event| ResumePosition {
            offset: event.position.offset,
            event_id: Some(event.id),
        });
        if !messages.is_empty() {
            let outcome = publisher.publish_batch(messages, position).await;
            outcome.map_err(|error| stop_of(&error))?;
        }
        if let Some(event) = last {
            let lag = self.work.shared.clock.now().since(event.recorded_at).as_secs_f64();
            metrics::gauge!("composable_rust_relay_lag_seconds", "partition" => partition.to_string())
                .set(lag);
        }
        Ok((Vec::new(), done))
    }
}
