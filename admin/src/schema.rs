//! Names and versions of the log's events, against this build.

use std::collections::{BTreeMap, BTreeSet};

use composable_rust_core::event::StoredEvent;
use composable_rust_core::store::EventStore as _;
use composable_rust_core::{Position, StreamId, Timestamp};
use serde::Serialize;

use crate::content::error_chain;
use crate::{Admin, AdminError};

/// The number of events that are read at a time.
const PAGE: usize = 2_000;
/// The maximum number of kinds of events that are kept apart.
const MAX_KINDS: usize = 10_000;

/// A scan of the log for the kinds of its events, which [`Admin::scan_schema`] continues.
#[derive(Debug, Clone, Default)]
pub struct SchemaScan {
    /// The positions until which the log is examined.
    positions: Vec<Position>,
    /// The number of events of the log when the scan was last continued.
    of: u64,
    kinds: BTreeMap<(String, String, u16), SchemaEntry>,
}

/// A kind of events in the log: a name and a version of its shape, in the streams of a type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SchemaEntry {
    /// The category of the streams.
    pub category: String,
    /// The stored name.
    pub name: String,
    /// The version of the content's shape; 0 without a content.
    pub version: u16,
    /// The number of events examined so far.
    pub count: u64,
    /// The time of the last one in the order of the scan.
    pub last_at: Timestamp,
    /// The stream of one of them.
    pub example: StreamId,
    /// `true` if this build registers the type.
    pub is_registered: bool,
    /// The reason why this build cannot read one of them.
    pub problem: Option<String>,
}

impl SchemaScan {
    /// Returns the number of events that are examined.
    pub fn done(&self) -> u64 {
        self.positions.iter().map(|position| position.offset).sum()
    }

    /// Returns the number of events of the log.
    pub fn of(&self) -> u64 {
        self.of
    }

    /// Returns the kinds found so far, in order of categories, names and versions.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &SchemaEntry> {
        self.kinds.values()
    }
}

impl Admin {
    /// Continues a scan of the log by up to `limit` events, rounded up to whole pages: a bounded
    /// call, to be repeated until [`SchemaScan::done`] reaches [`SchemaScan::of`]. Of each kind and
    /// page, one event is decoded.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry with the same scan.
    pub async fn scan_schema(&self, scan: &mut SchemaScan, limit: usize) -> Result<(), AdminError> {
        if scan.positions.is_empty() {
            scan.positions = self.log().start_positions();
        }
        let heads = self.store().heads().await?;
        scan.of = heads.iter().map(|head| head.offset).sum();
        let mut read = 0;
        while read < limit {
            let behind = scan.positions.iter().find(|at| {
                heads.iter().any(|head| head.partition == at.partition && head.offset > at.offset)
            });
            let Some(behind) = behind.copied() else { break };
            let events = self.store().read_log(&[behind], PAGE).await?;
            let Some(last) = events.last().map(|event| event.position) else { break };
            self.add_kinds(scan, &events);
            read += events.len();
            for at in scan.positions.iter_mut().filter(|at| at.partition == last.partition) {
                *at = last;
            }
        }
        Ok(())
    }

    fn add_kinds(&self, scan: &mut SchemaScan, events: &[StoredEvent]) {
        let mut decoded = BTreeSet::new();
        for event in events {
            let version = event.content.present().map_or(0, |content| content.version);
            let category = event.stream.category();
            let key = (category.to_owned(), event.name().to_owned(), version);
            if scan.kinds.len() >= MAX_KINDS && !scan.kinds.contains_key(&key) {
                continue;
            }
            let is_registered = self.is_registered(category);
            let entry = scan.kinds.entry(key.clone()).or_insert_with(|| SchemaEntry {
                category: category.to_owned(),
                name: event.name().to_owned(),
                version,
                count: 0,
                last_at: event.recorded_at,
                example: event.stream.clone(),
                is_registered,
                problem: None,
            });
            entry.count += 1;
            entry.last_at = event.recorded_at;
            if !is_registered || !decoded.insert(key) {
                continue;
            }
            if let Err(error) = self.app.registry().decode(event) {
                entry.problem = Some(error_chain(&error));
                entry.example = event.stream.clone();
            }
        }
    }
}
