//! Publishing the events of the log to the bus.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::event::ERASED;
use composable_rust_core::{
    BusMessage, Codecs, EventBus as _, EventStore as _, Format, Message, Position, PublishError,
    Publisher as _, PublisherName, QueuedRow, Recorded, RecordedEvent, ResumePosition,
    SharedPublisher, StoredContent,
};

use super::context::Work;
use super::envelope::event_message;
use super::follower::{Follow, Stop, event_at};
use super::leases::Held;
use crate::encode::describe;
use crate::error::panic_text;
use crate::handle::content_of;
use crate::unknowns::Newer;

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
    match Newer::of(error) {
        Some(newer) => Stop::Newer(Newer { reason: text, ..newer }),
        None => Stop::Unavailable(text),
    }
}

/// Follows one partition of the log and publishes the events of one category to one topic.
///
/// Its publisher fences whoever had the partition before. It is opened when there is something to
/// publish, and closed when there was nothing for a while: a log has many partitions, and most
/// topics are quiet.
pub(crate) struct Relay {
    work: Arc<Work>,
    published: Arc<Published>,
    name: String,
    open: Option<OpenPublisher>,
}

struct OpenPublisher {
    publisher: SharedPublisher,
    /// The offset up to which everything is on the topic.
    published: u64,
    /// The last use, in monotonic time.
    used: Duration,
}

/// The time after which a publisher that is not used is closed.
const CLOSE_AFTER: Duration = Duration::from_secs(60);

/// Returns the worker of a topic and category, as leases, checkpoints and publishers name it. Each
/// process publishes what it registers: one that does not know a type must not move the checkpoint
/// past its events.
pub(crate) fn relay_worker(published: &Published) -> String {
    format!("relay/{}/{}", published.topic, published.category)
}

impl Relay {
    pub(crate) fn new(work: Arc<Work>, published: Arc<Published>) -> Self {
        let name = relay_worker(&published);
        Self { work, published, name, open: None }
    }

    /// The publisher, whose position is compared with the log when it is opened.
    async fn open(&mut self, partition: u16) -> Result<&mut OpenPublisher, Stop> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.open_publisher(partition).await?,
        };
        Ok(self.open.insert(OpenPublisher { used: self.work.now(), ..open }))
    }

    async fn open_publisher(&self, partition: u16) -> Result<OpenPublisher, Stop> {
        let mut publisher = open(&self.work, &self.name, partition).await?;
        let resume = publisher.resume_position().await.map_err(|error| stop_of(&error))?;
        let offset = resume.map_or(0, |resume| resume.offset);
        if let Some(ResumePosition { offset: 1.., event_id }) = resume {
            let position = Position::new(partition, offset);
            let event = event_at(self.work.store(), position).await?;
            if event.is_none() || (event_id.is_some() && event != event_id) {
                return Err(Stop::LogWentBack(format!("it is not what it was at {position}")));
            }
        }
        Ok(OpenPublisher { publisher, published: offset, used: self.work.now() })
    }

    /// Publishes what is not on the topic yet, with the position of `last`.
    async fn publish(
        &mut self,
        partition: u16,
        mut messages: Vec<(u64, BusMessage)>,
        last: &RecordedEvent,
    ) -> Result<(), Stop> {
        let open = self.open(partition).await?;
        messages.retain(|(offset, _)| *offset > open.published);
        if messages.is_empty() {
            return Ok(());
        }
        let messages = messages.into_iter().map(|(_, message)| message).collect();
        let offset = last.position.offset;
        let position = ResumePosition { offset, event_id: Some(last.id) };
        let outcome = open.publisher.publish_batch(messages, Some(position)).await;
        outcome.map_err(|error| stop_of(&error))?;
        open.published = offset;
        Ok(())
    }

    fn close_if_unused(&mut self) {
        let now = self.work.now();
        self.open.take_if(|open| now.saturating_sub(open.used) >= CLOSE_AFTER);
    }

    /// The messages for these events, with their offsets, and for how many events they are: up to the
    /// first that is in the way.
    #[allow(clippy::type_complexity, reason = "it is used once")]
    fn messages(&self, events: &[RecordedEvent]) -> Result<(Vec<(u64, BusMessage)>, usize), Stop> {
        let (shared, of) = (&self.work.shared, &self.published);
        let message = |event: &RecordedEvent| {
            if event.content == StoredContent::Erased {
                // Other services forget what they made of the stream.
                return Ok(Some((ERASED.to_owned(), 1, Vec::new())));
            }
            of.map.map(&shared.codecs, event, of.format)
        };
        let mut messages = Vec::new();
        for (index, event) in events.iter().enumerate() {
            if event.stream.category() != of.category {
                continue;
            }
            match message(event) {
                Ok(None) => {}
                Ok(Some((name, schema, bytes))) => {
                    let (topic, log) = (&of.topic, shared.log.id);
                    let message = event_message(topic, log, event, &name, schema, of.format, bytes);
                    messages.push((event.position.offset, message));
                }
                Err(stop) if index == 0 => return Err(stop),
                Err(_) => return Ok((messages, index)),
            }
        }
        Ok((messages, events.len()))
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
        error @ (PublishError::Invalid(_) | PublishError::Refused(_)) => {
            Stop::Unavailable(describe(error))
        }
    }
}

impl Follow for Relay {
    fn name(&self) -> &str {
        &self.name
    }

    fn begins_at_start(&self) -> bool {
        true
    }

    /// A transaction costs half at 1,000 messages, a fifth at 5,000.
    fn page(&self) -> usize {
        5_000
    }

    fn idle(&mut self) {
        self.close_if_unused();
    }

    fn give_up(&mut self, _: u16) {
        self.open = None;
    }

    async fn handle(
        &mut self,
        held: &Arc<Held>,
        events: &[RecordedEvent],
    ) -> Result<(Vec<QueuedRow>, usize), Stop> {
        let partition = held.lease.partition;
        let (messages, done) = self.messages(events)?;
        let Some(last) = done.checked_sub(1).and_then(|index| events.get(index)) else {
            return Ok((Vec::new(), 0));
        };
        if messages.is_empty() {
            self.close_if_unused();
        } else {
            self.publish(partition, messages, last).await?;
        }
        let lag = self.work.shared.clock.now().since(last.recorded_at).as_secs_f64();
        metrics::gauge!("composable_rust_relay_lag_seconds", "partition" => partition.to_string())
            .set(lag);
        Ok((Vec::new(), done))
    }
}
