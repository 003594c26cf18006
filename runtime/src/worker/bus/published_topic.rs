//! The events of an aggregate type on a topic: their names, versions and format.

use std::any::Any;
use std::marker::PhantomData;

use composable_rust_core::bus::BusMessage;
use composable_rust_core::codec::{Codecs, DecodeError, Format};
use composable_rust_core::event::ERASED;
use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::{Message, Recorded};
use uuid::Uuid;

use crate::app::unknown_messages::NewerCode;
use crate::error::error_chain;
use crate::panic::guarded;
use crate::worker::cloud_event::event_message;
use crate::worker::outcome::Failure;
use crate::worker::worker_id::WorkerId;

/// The publication of one aggregate type's events to one topic.
pub(crate) struct PublishedTopic {
    pub(crate) category: &'static str,
    pub(crate) topic: String,
    pub(crate) format: Format,
    pub(crate) map: Box<dyn EventMapping>,
    /// The maximum payload of the bus, in bytes.
    pub(crate) limit: Option<usize>,
}

/// The name, version and payload of an event on the topic; `None` if the event is not published.
pub(crate) type MappedEvent = Option<(String, u16, Vec<u8>)>;

/// Maps events to the payloads that are published.
pub(crate) trait EventMapping: Send + Sync {
    /// Maps an event.
    ///
    /// # Errors
    ///
    /// - [`Failure::NeedsNewerCode`]: only newer code can decode it.
    /// - [`Failure::Poison`]: it cannot be decoded or encoded.
    fn map(
        &self,
        codecs: &Codecs,
        event: &StoredEvent,
        format: Format,
    ) -> Result<MappedEvent, Failure>;

    /// Encodes an event before it is appended, as it will be published, and decodes it again if
    /// `verify`. Returns the number of bytes.
    fn check(&self, event: &dyn Any, format: Format, verify: bool) -> Result<usize, String>;
}

/// Publishes events unchanged.
pub(crate) struct Verbatim<E>(pub(crate) PhantomData<fn() -> E>);

impl<E: Message> EventMapping for Verbatim<E> {
    fn map(
        &self,
        codecs: &Codecs,
        event: &StoredEvent,
        format: Format,
    ) -> Result<MappedEvent, Failure> {
        let Some(content) = event.content.present() else { return Ok(None) };
        let failed = |error| unreadable(event, &error);
        let (stored, bytes) = codecs.open(&event.stream, content).map_err(failed)?;
        if stored == format {
            if format == Format::Json && has_null(&bytes) {
                let read: Result<E, _> = codecs.decode(&event.stream, content);
                // An event of newer code is published as it is.
                if let Err(error @ Failure::Poison(_)) = read.map_err(failed) {
                    return Err(error);
                }
            }
            return Ok(Some((content.name.to_string(), content.version, bytes.into_owned())));
        }
        let decoded: E = codecs.decode(&event.stream, content).map_err(failed)?;
        encoded(&decoded, format).map(Some)
    }

    fn check(&self, event: &dyn Any, format: Format, verify: bool) -> Result<usize, String> {
        let Some(event) = event.downcast_ref::<E>() else { return Ok(0) };
        let bytes = event.encode(format).map_err(|error| error_chain(&error))?;
        if verify {
            let kind = event.kind();
            let again = E::decode(kind.name, kind.version, format, &bytes);
            let again = again.map_err(|error| error_chain(&error))?;
            if again != *event {
                return Err("the encoded event decodes to another event".to_owned());
            }
        }
        Ok(bytes.len())
    }
}

/// Publishes what a function returns for an event.
pub(crate) struct MapWith<E, M, F>(pub(crate) F, pub(crate) PhantomData<fn() -> (E, M)>);

impl<E: Message, M: Message, F> EventMapping for MapWith<E, M, F>
where
    F: Fn(&Recorded<E>) -> Option<M> + Send + Sync,
{
    fn map(
        &self,
        codecs: &Codecs,
        event: &StoredEvent,
        format: Format,
    ) -> Result<MappedEvent, Failure> {
        let Some(content) = event.content.present() else { return Ok(None) };
        let decoded: E =
            codecs.decode(&event.stream, content).map_err(|error| unreadable(event, &error))?;
        let mapped = (self.0)(&event.decoded(decoded));
        mapped.map(|message| encoded(&message, format)).transpose()
    }

    /// Checks nothing: the function may depend on what only the append decides, such as the time.
    fn check(&self, _: &dyn Any, _: Format, _: bool) -> Result<usize, String> {
        Ok(0)
    }
}

fn encoded<E: Message>(message: &E, format: Format) -> Result<(String, u16, Vec<u8>), Failure> {
    let bytes = message.encode(format).map_err(|error| Failure::Poison(error_chain(&error)))?;
    let kind = message.kind();
    if format == Format::Json && has_null(&bytes) {
        let again = E::decode(kind.name, kind.version, format, &bytes);
        if again.ok().as_ref() != Some(message) {
            return Err(Failure::Poison(format!(
                "`{}` decodes from JSON to another message: JSON has no infinity and no NaN",
                kind.name
            )));
        }
    }
    Ok((kind.name.to_owned(), kind.version, bytes))
}

/// Returns `true` if JSON may have a `null`, which stands for infinity and NaN.
fn has_null(json: &[u8]) -> bool {
    json.windows(4).any(|bytes| bytes == b"null")
}

fn unreadable(event: &StoredEvent, error: &DecodeError) -> Failure {
    let reason = format!("event {} at {}: {}", event.id, event.position, error_chain(error));
    match NewerCode::of(error) {
        Some(newer) => Failure::NeedsNewerCode(NewerCode { reason, ..newer }),
        None => Failure::Poison(reason),
    }
}

impl PublishedTopic {
    /// Returns the relay, which names its lease, checkpoint and publisher. There is one for each
    /// type, because a process that does not know a type must not move the checkpoint past its
    /// events.
    pub(crate) fn worker(&self) -> WorkerId {
        WorkerId::Relay { topic: self.topic.clone(), category: self.category.to_owned() }
    }

    /// Returns the message for an event; `None` if the event is not published.
    pub(crate) fn message(
        &self,
        codecs: &Codecs,
        log: Uuid,
        event: &StoredEvent,
    ) -> Result<Option<BusMessage>, Failure> {
        let (topic, format) = (&self.topic, self.format);
        if event.content == StoredContent::Erased {
            // Other services erase what they hold of the stream.
            return Ok(Some(event_message(topic, log, event, ERASED, 1, format, Vec::new())));
        }
        // Upcasters, codecs and mappings are code of users.
        let mapped = guarded(|| self.map.map(codecs, event, format)).unwrap_or_else(|message| {
            Err(Failure::Poison(format!("the mapping to the topic panicked: {message}")))
        });
        let Some((name, version, bytes)) = mapped? else { return Ok(None) };
        self.check_size(bytes.len()).map_err(Failure::Poison)?;
        Ok(Some(event_message(topic, log, event, &name, version, format, bytes)))
    }

    /// Checks before an event is appended that it can be published.
    pub(crate) fn check<E: Message>(&self, event: &E, verify: bool) -> Result<(), String> {
        let checked = self.map.check(event, self.format, verify);
        checked.and_then(|bytes| self.check_size(bytes)).map_err(|reason| {
            let (name, topic, format) = (event.kind().name, &self.topic, self.format);
            format!("`{name}` cannot be published to `{topic}` in {format:?} format: {reason}")
        })
    }

    fn check_size(&self, bytes: usize) -> Result<(), String> {
        match self.limit {
            Some(limit) if bytes > limit => {
                Err(format!("it has {bytes} bytes, more than the {limit} that the bus takes"))
            }
            _ => Ok(()),
        }
    }
}
