//! The version of a stream, and the version that a writer expects.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The number of events in a stream, which is also the version of its last event.
///
/// Events have the versions 1, 2, 3 … without a gap; 0 is the stream without events.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Version(u64);

impl Version {
    /// The version before the first event.
    pub const ZERO: Self = Self(0);

    /// Returns the version after `count` events.
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// Returns the version as a number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the version `count` events later.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }

    /// Returns the version after the next event.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Version {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The version that a writer requires of the stream it appends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExpectedVersion {
    /// Any version. A repeated append is recognised by its marks only.
    Any,
    /// The stream has at least one event.
    Exists,
    /// The stream has exactly this many events; `Version::ZERO` requires a stream without events.
    Exact(Version),
}

impl ExpectedVersion {
    /// The expectation of a stream without events.
    pub const EMPTY: Self = Self::Exact(Version::ZERO);

    /// Returns `true` if a stream at version `actual` is what the writer requires.
    pub fn admits(self, actual: Version) -> bool {
        match self {
            Self::Any => true,
            Self::Exists => actual > Version::ZERO,
            Self::Exact(expected) => actual == expected,
        }
    }
}
