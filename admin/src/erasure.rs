//! Erasing streams, and finding what still names a subject.

use composable_rust_core::event::StoredContent;
use composable_rust_core::store::EventStore as _;
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

/// A place where a text appears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Appearance {
    /// The stream of the event, or the sender of the waiting message.
    pub stream: StreamId,
    /// The version of the event; `None` for a waiting message.
    pub version: Option<Version>,
    /// The part that contains the text: `content`, `metadata`, `stream`, `message` or
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
    pub async fn erase(&self, stream: &StreamId) -> Result<Erased, AdminError> {
        self.audited(Intent::new("erase", stream.as_str()), async || {
            let events = self.store().erase_stream(stream).await?;
            let erased = Erased { stream: stream.clone(), events };
            Ok((erased, format!("{events} events erased")))
        })
        .await
    }

    /// Reads the whole log, the queues and the dead letters, and returns the places where a text
    /// appears in readable form, such as an e-mail address: the first 1,000, and the number of all.
    /// Contents that are encrypted or compressed by a codec are not readable.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn appearances(
        &self,
        text: &str,
        progress: impl Fn(Progress),
    ) -> Result<(Vec<Appearance>, u64), AdminError> {
        let (mut found, mut count) = (Vec::new(), 0);
        let mut add = |appearance: Appearance| {
            count += 1;
            if found.len() < LISTED {
                found.push(appearance);
            }
        };
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
                    let bytes = match &event.content {
                        StoredContent::Present(content) => &*content.bytes,
                        StoredContent::Erased | StoredContent::Closed => &[],
                    };
                    for (part, bytes) in [
                        ("content", bytes),
                        ("metadata", event.metadata.as_bytes()),
                        ("stream", event.stream.as_str().as_bytes()),
                    ] {
                        if contains(bytes, text) {
                            add(Appearance {
                                stream: event.stream.clone(),
                                version: Some(event.version),
                                part,
                                name: event.name().to_owned(),
                            });
                        }
                    }
                }
                progress(Progress { done, of: Some(of) });
            }
        }
        for queue in self.app.queues().all().await? {
            let mut messages = std::pin::pin!(self.app.queues().messages(&queue.queue));
            while let Some(message) = messages.try_next().await? {
                let row = &message.queued.row;
                if contains(&row.content.bytes, text) || contains(row.metadata.as_bytes(), text) {
                    let (stream, name) = (message.queued.sender, row.content.name.to_string());
                    add(Appearance { stream, version: None, part: "message", name });
                }
            }
        }
        let mut letters = std::pin::pin!(self.app.dead_letters().all());
        while let Some(letter) = letters.try_next().await? {
            let row = &letter.message.row;
            let error = letter.error.as_deref().unwrap_or_default();
            let parts = [&*row.content.bytes, row.metadata.as_bytes(), error.as_bytes()];
            if parts.iter().any(|part| contains(part, text)) {
                let (stream, name) = (letter.message.sender.clone(), row.content.name.to_string());
                add(Appearance { stream, version: None, part: "dead letter", name });
            }
        }
        Ok((found, count))
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    !text.is_empty() && bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
