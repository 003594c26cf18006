//! Erasing streams, and finding what still names a subject.

use composable_rust_core::event::StoredEvent;
use composable_rust_core::queue::OutboxKind;
use composable_rust_core::store::{EventStore as _, Inspection as _, TimerEntry};
use composable_rust_core::{Position, StreamId, Version};
use futures_util::TryStreamExt as _;
use serde::Serialize;

use crate::{Admin, AdminError, Intent, Progress};

/// The number of events that are read from a partition at a time.
const PAGE: usize = 2_000;
/// The number of appearances that are listed; further ones are only counted.
const LISTED: usize = 1_000;

/// The result of an erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// The stream.
    pub stream: StreamId,
    /// The number of events that were erased.
    pub events: u64,
}

/// The places where a text appears.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Appearances {
    /// The number of places.
    pub count: u64,
    /// The first 1,000 of them.
    pub listed: Vec<Appearance>,
}

impl Appearances {
    fn add(&mut self, appearance: Appearance) {
        self.count += 1;
        if self.listed.len() < LISTED {
            self.listed.push(appearance);
        }
    }

    fn add_event(&mut self, of: &StoredEvent, part: &'static str) {
        let (stream, name) = (of.stream.clone(), of.name().to_owned());
        self.add(Appearance { stream, version: Some(of.version), part, name });
    }

    fn add_message(&mut self, sender: &StreamId, part: &'static str, name: &str) {
        let (stream, name) = (sender.clone(), name.to_owned());
        self.add(Appearance { stream, version: None, part, name });
    }
}

/// A place where a text appears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Appearance {
    /// The stream of the event, or the sender of the waiting message.
    pub stream: StreamId,
    /// The version of the event; `None` for a waiting message.
    pub version: Option<Version>,
    /// The part that contains the text: `content`, `metadata` or `stream` of an event, its
    /// `original` content if it is overridden, a `message` in a queue, a `timer` or a
    /// `dead letter`.
    pub part: &'static str,
    /// The stored name of the event or message.
    pub name: String,
}

impl Admin {
    /// Erases the content of all events of a stream permanently: payloads, metadata, snapshots,
    /// queued messages and timers. Versions and positions stay. Followers learn of it.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store is unavailable. Calling it again is safe.
    /// [`AdminError::OperatorsStream`]: the stream is not to be changed.
    pub async fn erase(&self, stream: &StreamId) -> Result<Erased, AdminError> {
        Self::check_not_audit(stream)?;
        self.audited(Intent::new("erase", stream.as_str()), async || {
            let events = self.store().erase_stream(stream).await?;
            let erased = Erased { stream: stream.clone(), events };
            Ok((erased, format!("{events} events erased")))
        })
        .await
    }

    /// Reads the whole log, with the originals of overridden events, the queues, the timers and the
    /// dead letters, and returns the places where a text appears in readable form, such as an
    /// e-mail address.
    ///
    /// It does not find a text in contents that a codec encrypts or compresses, in snapshots and
    /// inboxes, which an erasure of their streams deletes, or outside the store: on the bus and in
    /// read models.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn appearances(
        &self,
        text: &str,
        progress: impl Fn(Progress),
    ) -> Result<Appearances, AdminError> {
        let mut found = Appearances::default();
        if text.is_empty() {
            return Ok(found);
        }
        self.find_in_log(text, &mut found, progress).await?;
        self.find_in_originals(text, &mut found).await?;
        self.find_in_queues(text, &mut found).await?;
        self.find_in_timers(text, &mut found).await?;
        self.find_in_dead_letters(text, &mut found).await?;
        Ok(found)
    }

    async fn find_in_log(
        &self,
        text: &str,
        found: &mut Appearances,
        progress: impl Fn(Progress),
    ) -> Result<(), AdminError> {
        let heads = self.store().heads().await?;
        let of = heads.iter().map(|head| head.offset).sum();
        let mut done = 0;
        for head in heads {
            let mut at = Position::new(head.partition, 0);
            while at.offset < head.offset {
                let events = self.store().read_log(&[at], PAGE).await?;
                let Some(last) = events.last() else { break };
                at = last.position;
                done += events.len() as u64;
                for event in &events {
                    let parts = [
                        ("content", bytes_of(event)),
                        ("metadata", event.metadata.as_bytes()),
                        ("stream", event.stream.as_str().as_bytes()),
                    ];
                    for (part, bytes) in parts {
                        if contains(bytes, text) {
                            found.add_event(event, part);
                        }
                    }
                }
                progress(Progress { done, of: Some(of) });
            }
        }
        Ok(())
    }

    /// Searches the contents that were overridden, which no load returns.
    async fn find_in_originals(
        &self,
        text: &str,
        found: &mut Appearances,
    ) -> Result<(), AdminError> {
        for partition in 0..self.log().partitions {
            let mut after = None;
            loop {
                let store = self.store();
                let page = store.list_overridden(partition, after.as_ref(), PAGE).await?;
                for event in page.iter().filter(|event| contains(bytes_of(event), text)) {
                    found.add_event(event, "original");
                }
                match page.into_iter().last() {
                    Some(last) => after = Some(last),
                    None => break,
                }
            }
        }
        Ok(())
    }

    async fn find_in_queues(&self, text: &str, found: &mut Appearances) -> Result<(), AdminError> {
        for queue in self.app.queues().all().await? {
            if queue.queue.kind == OutboxKind::Timer {
                continue;
            }
            let mut messages = std::pin::pin!(self.app.queues().messages(&queue.queue));
            while let Some(message) = messages.try_next().await? {
                let row = &message.queued.row;
                let parts =
                    [&*row.content.bytes, row.metadata.as_bytes(), row.recipient.as_bytes()];
                if parts.iter().any(|part| contains(part, text)) {
                    found.add_message(&message.queued.sender, "message", &row.content.name);
                }
            }
        }
        Ok(())
    }

    async fn find_in_timers(&self, text: &str, found: &mut Appearances) -> Result<(), AdminError> {
        for queue in self.store().timer_queues().await? {
            let mut after = None;
            loop {
                let page = self.store().list_timers(&queue, after.as_ref(), PAGE).await?;
                for TimerEntry { timer, last_error } in &page {
                    let error = last_error.as_deref().unwrap_or_default();
                    let (content, metadata) = (&*timer.content.bytes, timer.metadata.as_bytes());
                    let parts = [content, metadata, timer.timer.id.as_bytes(), error.as_bytes()];
                    if parts.iter().any(|part| contains(part, text)) {
                        found.add_message(&timer.stream, "timer", &timer.content.name);
                    }
                }
                match page.into_iter().last() {
                    Some(last) => after = Some(last),
                    None => break,
                }
            }
        }
        Ok(())
    }

    async fn find_in_dead_letters(
        &self,
        text: &str,
        found: &mut Appearances,
    ) -> Result<(), AdminError> {
        let mut letters = std::pin::pin!(self.app.dead_letters().all());
        while let Some(letter) = letters.try_next().await? {
            let row = &letter.message.row;
            let error = letter.error.as_deref().unwrap_or_default();
            let (content, metadata) = (&*row.content.bytes, row.metadata.as_bytes());
            let parts = [content, metadata, row.recipient.as_bytes(), error.as_bytes()];
            if parts.iter().any(|part| contains(part, text)) {
                found.add_message(&letter.message.sender, "dead letter", &row.content.name);
            }
        }
        Ok(())
    }
}

fn bytes_of(event: &StoredEvent) -> &[u8] {
    event.content.present().map_or(&[], |content| &content.bytes)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
