//! Places in the log at which followers continue.

use composable_rust_core::queue::Checkpoint;
use composable_rust_core::store::{EventStore as _, SharedEventStore, StoreError};
use composable_rust_core::{Position, Timestamp};

use crate::app::app::App;

/// The place in the log at which a policy or relay continues.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogStart {
    /// The first event.
    Beginning,
    /// The first event that was recorded at this time or later. In a partition whose clock was set
    /// back, it is one of those around the time.
    Since(Timestamp),
    /// After these positions, in their partitions. The other partitions are left alone.
    After(Vec<Position>),
    /// The end of the log: none of the present events.
    End,
}

impl App {
    /// Returns the positions after which a follower continues that starts at a place in the log.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`]: a position is in no partition of the log, or beyond its end.
    /// [`StoreError::Unavailable`]: retry.
    pub async fn positions_of(&self, start: &LogStart) -> Result<Vec<Position>, StoreError> {
        let shared = self.shared();
        let heads = shared.store.heads().await?;
        let end = |partition: u16| {
            let head = heads.iter().find(|head| head.partition == partition);
            head.map_or(0, |head| head.offset)
        };
        let all = 0..shared.log.partitions;
        let mut positions = Vec::new();
        match start {
            LogStart::Beginning => positions.extend(all.map(|of| Position::new(of, 0))),
            LogStart::End => positions.extend(all.map(|of| Position::new(of, end(of)))),
            LogStart::Since(time) => {
                for partition in all {
                    let end = Position::new(partition, end(partition));
                    positions.push(before(&shared.store, end, *time).await?);
                }
            }
            LogStart::After(after) => {
                for at in after {
                    if !all.contains(&at.partition) || at.offset > end(at.partition) {
                        return Err(StoreError::Invalid(format!("the log has no position {at}")));
                    }
                }
                positions.clone_from(after);
            }
        }
        Ok(positions)
    }
}

/// Returns the position before the first event of a partition that was recorded at a time or later,
/// by bisection.
async fn before(
    store: &SharedEventStore,
    end: Position,
    time: Timestamp,
) -> Result<Position, StoreError> {
    let (mut earlier, mut later) = (0, end.offset + 1);
    while later - earlier > 1 {
        let middle = earlier + (later - earlier) / 2;
        let events = store.read_log(&[Position::new(end.partition, middle - 1)], 1).await?;
        match events.first() {
            Some(event) if event.recorded_at < time => earlier = middle,
            _ => later = middle,
        }
    }
    Ok(Position::new(end.partition, earlier))
}

/// Returns a position as a checkpoint without an event, as a rewound relay has it.
pub(crate) fn rewound(at: Position) -> Checkpoint {
    Checkpoint { partition: at.partition, offset: at.offset, event_id: None }
}
