//! Snapshots.

use composable_rust_core::store::{Snapshot, StaleSnapshots};
use composable_rust_core::{EventId, StreamId};

use super::state::State;

impl State {
    pub(super) fn save_snapshot(&mut self, stream: &StreamId, snapshot: &Snapshot, last: EventId) {
        let now = self.time.now();
        let partition = self.partition_of_mut(stream);
        if partition.is_erased_at(stream, snapshot.version) {
            return;
        }
        let offset = partition.streams.get(stream).and_then(|data| data.offset(snapshot.version));
        if offset.and_then(|at| partition.row(at)).is_none_or(|row| row.original.id != last) {
            return;
        }
        let Some(data) = partition.streams.get_mut(stream) else { return };
        let present = data.snapshots.get(&snapshot.fingerprint);
        let is_newer = present.is_none_or(|present| present.version < snapshot.version);
        if is_newer {
            data.snapshots.insert(snapshot.fingerprint, snapshot.clone());
            data.snapshots_saved_at.insert(snapshot.fingerprint, now);
        }
    }

    pub(super) fn delete_snapshots(&mut self, stream: &StreamId, which: StaleSnapshots) {
        let now = self.time.now();
        let Some(data) = self.partition_of_mut(stream).streams.get_mut(stream) else { return };
        let saved_at = &data.snapshots_saved_at;
        data.snapshots.retain(|fingerprint, snapshot| match which {
            StaleSnapshots::Above(version) => snapshot.version <= version,
            StaleSnapshots::Others { than, age } => {
                *fingerprint == than || saved_at.get(fingerprint).is_none_or(|at| *at > now - age)
            }
        });
    }
}
