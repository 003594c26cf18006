//! Saved states, which shorten loads.

use std::fmt;

use crate::Version;

/// The shape of a snapshot: a digest of the state's traced type and `SNAPSHOT_VERSION`. Snapshots
/// of other shapes are ignored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The state of a stream after its first events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The number of events that the state includes.
    pub version: Version,
    /// The fingerprint of the code that wrote the snapshot.
    pub fingerprint: Fingerprint,
    /// The codec that wrote the bytes.
    pub codec: String,
    /// The state.
    pub bytes: Vec<u8>,
}
