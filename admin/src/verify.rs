//! Verification of a log.

use std::collections::HashMap;

use composable_rust_core::event::StoredEvent;
use composable_rust_core::store::{EventStore as _, Inspection as _};
use composable_rust_core::{Position, StreamId};
use serde::Serialize;

use crate::content::error_chain;
use crate::workers::follows_log;
use crate::{Admin, AdminError};

/// The number of events that are read from a partition at a time.
const PAGE: usize = 2_000;
/// The number of problems that are listed; further ones are only counted.
const LISTED: usize = 100;

/// The progress of a long operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The part that is done.
    pub done: u64,
    /// The whole, if that is known.
    pub of: Option<u64>,
}

/// The result of a verification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// The number of events.
    pub events: u64,
    /// The number of streams.
    pub streams: u64,
    /// The number of events whose type this build decoded.
    pub decoded: u64,
    /// The number of events of types that are not registered here.
    pub unregistered: u64,
    /// `true` if the operation ended early: the rest of the log was not verified.
    pub interrupted: bool,
    /// The number of problems.
    pub problems: u64,
    /// The first 100 problems.
    pub listed: Vec<String>,
}

impl Verification {
    fn problem(&mut self, text: impl FnOnce() -> String) {
        self.problems += 1;
        if self.listed.len() < LISTED {
            self.listed.push(text());
        }
    }
}

impl Admin {
    /// Reads the whole log and verifies it:
    ///
    /// - offsets of a partition and versions of a stream are 1, 2, 3 … without gaps;
    /// - every stream is in the partition of its name;
    /// - every event decodes, if its type is registered;
    /// - times of a partition do not go back by more than a minute;
    /// - every checkpoint of a follower points at an event of the log, and at the same one as when
    ///   it was stored.
    ///
    /// It holds some 50 bytes in memory for each stream. Events that are appended meanwhile are not
    /// verified.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn verify(&self, progress: impl Fn(Progress)) -> Result<Verification, AdminError> {
        let heads = self.store().heads().await?;
        let of = heads.iter().map(|head| head.offset).sum();
        let mut found = Verification::default();
        for head in &heads {
            self.verify_partition(*head, &mut found, |done| {
                progress(Progress { done, of: Some(of) });
            })
            .await?;
        }
        self.verify_checkpoints(&mut found).await?;
        Ok(found)
    }

    async fn verify_partition(
        &self,
        head: Position,
        found: &mut Verification,
        progress: impl Fn(u64),
    ) -> Result<(), AdminError> {
        let mut at = Position::new(head.partition, 0);
        // The last version of each stream.
        let mut versions: HashMap<StreamId, u64> = HashMap::new();
        let mut latest = None;
        while at.offset < head.offset {
            if self.interrupt.is_interrupted() {
                found.interrupted = true;
                break;
            }
            let page = self.store().read_log(&[at], PAGE).await?;
            let Some(last) = page.last().map(|event| event.position) else {
                found.problem(|| format!("the log ends at {at}, before its head {head}"));
                break;
            };
            for event in page.iter().filter(|event| event.position.offset <= head.offset) {
                found.events += 1;
                if event.position.offset != at.offset + 1 {
                    let from = at.offset + 1;
                    found.problem(|| format!("offset {from} is missing before {}", event.position));
                }
                at = event.position;
                self.verify_event(event, &mut versions, found);
                let late = latest.filter(|latest| event.recorded_at + MINUTE < *latest);
                if let Some(late) = late {
                    let (position, at) = (event.position, event.recorded_at);
                    found.problem(|| format!("the event at {position} of {at} is before {late}"));
                }
                latest = latest.max(Some(event.recorded_at));
            }
            progress(found.events);
            if last.offset > head.offset {
                break;
            }
        }
        found.streams += versions.len() as u64;
        Ok(())
    }

    fn verify_event(
        &self,
        event: &StoredEvent,
        versions: &mut HashMap<StreamId, u64>,
        found: &mut Verification,
    ) {
        let (stream, version) = (&event.stream, event.version.get());
        let before = versions.insert(stream.clone(), version).unwrap_or(0);
        if version != before + 1 {
            found.problem(|| format!("version {version} of {stream} follows version {before}"));
        }
        let partition = self.log().partition_of(stream);
        if partition != event.position.partition {
            found.problem(|| {
                format!("{stream} is at {}, but belongs to partition {partition}", event.position)
            });
        }
        if !self.is_registered(stream.category()) {
            found.unregistered += 1;
        } else if let Err(error) = self.app.registry().decode(event) {
            found.problem(|| error_chain(&error));
        } else {
            found.decoded += 1;
        }
    }

    async fn verify_checkpoints(&self, found: &mut Verification) -> Result<(), AdminError> {
        let checkpoints = self.store().all_checkpoints().await?;
        // Read after the checkpoints, which follow the log while it grows.
        let heads = self.store().heads().await?;
        for of in checkpoints {
            let follows_log = follows_log(&of.name);
            let (at, name) = (of.checkpoint, &of.name);
            if !follows_log || at.offset == 0 {
                continue;
            }
            let head = heads.iter().find(|head| head.partition == at.partition);
            if head.is_none_or(|head| head.offset < at.offset) {
                let end = head.map_or(0, |head| head.offset);
                found.problem(|| {
                    format!("`{name}` is at {}, beyond the end {end} of the log", at.offset)
                });
                continue;
            }
            let before = Position::new(at.partition, at.offset - 1);
            let events = self.store().read_log(&[before], 1).await?;
            let stored = events.first().map(|event| event.id);
            if at.event_id.is_some() && stored != at.event_id {
                found.problem(|| {
                    format!("the event of `{name}` at {}:{} is another", at.partition, at.offset)
                });
            }
        }
        Ok(())
    }
}

const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);
