//! What is published of an aggregate type, and in which form.

use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use composable_rust_core::event::ERASED;
use composable_rust_core::{
    BusMessage, Codecs, DecodeError, Format, Message, Recorded, StoredContent, StoredEvent,
};
use uuid::Uuid;

use crate::app::unknown_messages::NewerCode;
use crate::error::{error_chain, panic_text};
use crate::worker::bus::cloud_event::event_message;
use crate::worker::bus::parked_streams::RELAY_PREFIX;

/// The publication of one aggregate type's events to one topic.
pub(crate) struct PublishedTopic {
    pub(crate) category: &'static str,
    pub(crate) topic: String,
    pub(crate) format: Format,
    pub(crate) map: Box<dyn EventMapping>,
    /// The largest payload that the bus takes, in bytes.
    pub(crate) limit: Option<usize>,
}

/// Why an event is not published.
#[derive(Debug)]
pub(crate) enum Unpublishable {
    /// Newer code is needed.
    Newer(NewerCode),
    /// It cannot be, as it stands in the log.
    AsItIs(String),
}

/// From an event to what stands on the topic: name, version, bytes. `None` is left out.
pub(crate) type MappedEvent = Option<(String, u16, Vec<u8>)>;

pub(crate) trait EventMapping: Send + Sync {
    fn map(
        &self,
        codecs: &Codecs,
        event: &StoredEvent,
        format: Format,
    ) -> Result<MappedEvent, Unpublishable>;

    /// Encodes an event that is to be appended as it will be published, and reads it back if
    /// `verify` says so. Returns the number of bytes.
    fn check(&self, event: &dyn Any, format: Format, verify: bool) -> Result<usize, String>;
}

/// The events as they are.
pub(crate) struct Verbatim<E>(pub(crate) PhantomData<fn() -> E>);

impl<E: Message> EventMapping for Verbatim<E> {
    fn map(
        &self,
        codecs: &Codecs,
        event: &StoredEvent,
        format: Format,
    ) -> Result<MappedEvent, Unpublishable> {
        let Some(content) = event.content.present() else { return Ok(None) };
        let failed = |error| unreadable(event, &error);
        let (stored, bytes) = codecs.open(&event.stream, content).map_err(failed)?;
        if stored == format {
            if format == Format::Json && has_null(&bytes) {
                let read: Result<E, _> = codecs.decode(&event.stream, content);
                // What newer code recorded goes out as it is.
                if let Err(error @ Unpublishable::AsItIs(_)) = read.map_err(failed) {
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
                return Err("it reads back as another event".to_owned());
            }
        }
        Ok(bytes.len())
    }
}

/// The events as a function maps them.
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
    ) -> Result<MappedEvent, Unpublishable> {
        let Some(content) = event.content.present() else { return Ok(None) };
        let decoded: E =
            codecs.decode(&event.stream, content).map_err(|error| unreadable(event, &error))?;
        let mapped = (self.0)(&event.decoded(decoded));
        mapped.map(|message| encoded(&message, format)).transpose()
    }

    /// The function may look at what only the append decides, such as the time.
    fn check(&self, _: &dyn Any, _: Format, _: bool) -> Result<usize, String> {
        Ok(0)
    }
}

fn encoded<E: Message>(
    message: &E,
    format: Format,
) -> Result<(String, u16, Vec<u8>), Unpublishable> {
    let bytes =
        message.encode(format).map_err(|error| Unpublishable::AsItIs(error_chain(&error)))?;
    let kind = message.kind();
    if format == Format::Json && has_null(&bytes) {
        let again = E::decode(kind.name, kind.version, format, &bytes);
        if again.ok().as_ref() != Some(message) {
            return Err(Unpublishable::AsItIs(format!(
                "`{}` does not read back from JSON as it was: JSON has no infinity and no NaN",
                kind.name
            )));
        }
    }
    Ok((kind.name.to_owned(), kind.version, bytes))
}

/// `true` if JSON may have a `null`, as which numbers are written that JSON does not have.
fn has_null(json: &[u8]) -> bool {
    json.windows(4).any(|bytes| bytes == b"null")
}

fn unreadable(event: &StoredEvent, error: &DecodeError) -> Unpublishable {
    let text = format!("event {} at {}: {}", event.id, event.position, error_chain(error));
    match NewerCode::of(error) {
        Some(newer) => Unpublishable::Newer(NewerCode { reason: text, ..newer }),
        None => Unpublishable::AsItIs(text),
    }
}

impl PublishedTopic {
    /// The name of the relay's lease, checkpoint and publisher. Each process publishes what it
    /// registers: one that does not know a type must not move the checkpoint past its events.
    pub(crate) fn worker(&self) -> String {
        format!("{RELAY_PREFIX}{}/{}", self.topic, self.category)
    }

    /// The message for an event; `None` if it is left out.
    pub(crate) fn message(
        &self,
        codecs: &Codecs,
        log: Uuid,
        event: &StoredEvent,
    ) -> Result<Option<BusMessage>, Unpublishable> {
        let (topic, format) = (&self.topic, self.format);
        if event.content == StoredContent::Erased {
            // Other services forget what they made of the stream.
            return Ok(Some(event_message(topic, log, event, ERASED, 1, format, Vec::new())));
        }
        // Upcasters, codecs and mappings are code of users.
        let mapping = AssertUnwindSafe(|| self.map.map(codecs, event, format));
        let mapped = catch_unwind(mapping).unwrap_or_else(|panic| {
            let text = format!("the code that publishes it panicked: {}", panic_text(&*panic));
            Err(Unpublishable::AsItIs(text))
        });
        let Some((name, version, bytes)) = mapped? else { return Ok(None) };
        self.check_size(bytes.len()).map_err(Unpublishable::AsItIs)?;
        Ok(Some(event_message(topic, log, event, &name, version, format, bytes)))
    }

    /// Checks that an event which is to be appended can be published.
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
                Err(format!("it has {bytes} bytes there, more than the {limit} that the bus takes"))
            }
            _ => Ok(()),
        }
    }
}
