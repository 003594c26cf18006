//! A place in the log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A place in the log: a log partition and the offset in it.
///
/// Offsets of a partition are 1, 2, 3 … in commit order without a gap; offset 0 is before the
/// first event. Between partitions nothing is promised. Prints and parses as `partition:offset`,
/// which is also its form in JSON.
///
/// ```
/// use composable_rust_core::Position;
///
/// let position: Position = "3:1042".parse()?;
/// assert_eq!((position.partition, position.offset), (3, 1042));
/// assert_eq!(position.to_string(), "3:1042");
/// # Ok::<(), composable_rust_core::InvalidPosition>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The log partition, counted from 0.
    pub partition: u16,
    /// The offset in the partition, counted from 1; 0 is before the first event.
    pub offset: u64,
}

impl Position {
    /// Offset `offset` of `partition`.
    pub const fn new(partition: u16, offset: u64) -> Self {
        Self { partition, offset }
    }

    /// Before the first event of every partition of a log of `count` partitions.
    pub fn start_positions(count: u16) -> Vec<Self> {
        (0..count).map(|partition| Self::new(partition, 0)).collect()
    }
}

/// One position, where several are taken.
impl IntoIterator for Position {
    type Item = Self;
    type IntoIter = std::iter::Once<Self>;

    fn into_iter(self) -> Self::IntoIter {
        std::iter::once(self)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

/// A text that is not `partition:offset`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a position is written partition:offset, for example 3:1042, not `{0}`")]
pub struct InvalidPosition(String);

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let parts = text.split_once(':').and_then(|(partition, offset)| {
            Some(Self::new(partition.parse().ok()?, offset.parse().ok()?))
        });
        parts.ok_or_else(|| InvalidPosition(text.to_owned()))
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            (self.partition, self.offset).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            let (partition, offset) = Deserialize::deserialize(deserializer)?;
            Ok(Self { partition, offset })
        }
    }
}
