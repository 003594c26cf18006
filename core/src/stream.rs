//! The name of a stream, and the log partition it belongs to.

use crate::limits::{MAX_CATEGORY_BYTES, MAX_ID_BYTES};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The name of a stream: `category-id`, split at the first hyphen.
///
/// The category is a [`Target::NAME`](crate::Target::NAME) of at most [`MAX_CATEGORY_BYTES`]; the
/// id is the rest, hyphens included.
/// Stream ids are permanent and public, so they must not hold personal data.
///
/// # Example: parsing a stream name
///
/// ```
/// use composable_rust_core::StreamId;
///
/// let stream: StreamId = "order-2024-17/ä".parse()?;
/// assert_eq!((stream.category(), stream.id()), ("order", "2024-17/ä"));
/// assert!("Order-1".parse::<StreamId>().is_err());
/// assert!("order-".parse::<StreamId>().is_err());
/// # Ok::<(), composable_rust_core::InvalidId>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(Arc<str>);

impl StreamId {
    /// Creates the name of the stream of instance `id` of `category`.
    ///
    /// # Errors
    ///
    /// [`InvalidId`] says which rule is broken; ask the sender for another id.
    pub fn new(category: &str, id: &str) -> Result<Self, InvalidId> {
        check_category(category)?;
        check_id(id)?;
        Ok(Self(format!("{category}-{id}").into()))
    }

    /// Returns the part before the first hyphen.
    pub fn category(&self) -> &str {
        self.0.split_once('-').map_or(&*self.0, |(category, _)| category)
    }

    /// Returns the part after the first hyphen.
    pub fn id(&self) -> &str {
        self.0.split_once('-').map_or("", |(_, id)| id)
    }

    /// Returns the whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the partition of this stream in a log of `count` partitions: xxh3-64 (seed 0) of the
    /// name's UTF-8 bytes, modulo the count. Every store and every process computes the same.
    ///
    /// # Panics
    ///
    /// If `count` is 0.
    pub fn partition(&self, count: u16) -> u16 {
        let hash = xxhash_rust::xxh3::xxh3_64(self.0.as_bytes());
        u16::try_from(hash % u64::from(count)).unwrap_or_else(|_| unreachable!("less than a u16"))
    }
}

/// Returns `true` if `name` is a valid `NAME`: `[a-z][a-z0-9_]*`, at most [`MAX_CATEGORY_BYTES`].
/// Usable at compile time.
pub(crate) const fn is_category(name: &str) -> bool {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > MAX_CATEGORY_BYTES || !bytes[0].is_ascii_lowercase() {
        return false;
    }
    let mut i = 1;
    while i < bytes.len() {
        let b = bytes[i];
        if !(b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            return false;
        }
        i += 1;
    }
    true
}

fn check_category(category: &str) -> Result<(), InvalidId> {
    if is_category(category) {
        Ok(())
    } else if category.len() > MAX_CATEGORY_BYTES {
        Err(InvalidId::LongCategory(category.len()))
    } else {
        Err(InvalidId::Category(category.to_owned()))
    }
}

pub(crate) fn check_id(id: &str) -> Result<(), InvalidId> {
    if id.is_empty() {
        Err(InvalidId::Empty)
    } else if id.len() > MAX_ID_BYTES {
        Err(InvalidId::TooLong(id.len()))
    } else if id.contains('\0') {
        Err(InvalidId::Nul)
    } else {
        Ok(())
    }
}

/// The error of a text that is not an instance id or a stream name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidId {
    /// The id is empty.
    #[error("an id must not be empty")]
    Empty,
    /// The id is longer than [`MAX_ID_BYTES`].
    #[error("an id may have {MAX_ID_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// The id contains a NUL character, which PostgreSQL cannot store.
    #[error("an id must not hold a NUL character")]
    Nul,
    /// The category is longer than [`MAX_CATEGORY_BYTES`].
    #[error("a category may have {MAX_CATEGORY_BYTES} bytes, this one has {0}")]
    LongCategory(usize),
    /// The category is not `[a-z][a-z0-9_]*`.
    #[error("a stream name is `category-id` and its category matches [a-z][a-z0-9_]*, not `{0}`")]
    Category(String),
}

impl FromStr for StreamId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (category, id) =
            text.split_once('-').ok_or_else(|| InvalidId::Category(text.to_owned()))?;
        check_category(category)?;
        check_id(id)?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for StreamId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for StreamId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_pinned() {
        // The hash decides where data lies: these values must never change.
        let golden = [
            ("order-1", 0x5fc4_6503_368e_2876_u64, [2, 6, 9_164]),
            ("order-2", 0x1180_871c_d943_115c, [2, 4, 33_596]),
            ("order-2024-17/ä", 0xdf28_01a2_4537_be93, [2, 3, 58_517]),
            ("cart-東京 🦀", 0xf3ce_0a81_28e2_20cb, [0, 3, 18_429]),
            ("thing-it's \"quoted\"", 0x2e45_819e_2153_1439, [1, 1, 58_735]),
            ("a-0", 0xbab6_f4cd_4b99_e0f3, [0, 3, 56_337]),
        ];
        for (name, hash, partitions) in golden {
            assert_eq!(xxhash_rust::xxh3::xxh3_64(name.as_bytes()), hash, "{name}");
            let stream: StreamId = name.parse().unwrap();
            assert_eq!([3, 8, u16::MAX].map(|count| stream.partition(count)), partitions, "{name}");
        }
    }

    #[test]
    fn ids_are_checked() {
        assert_eq!(StreamId::new("order", ""), Err(InvalidId::Empty));
        assert_eq!(StreamId::new("order", "a\0"), Err(InvalidId::Nul));
        assert!(matches!(
            StreamId::new("order", &"x".repeat(1_025)),
            Err(InvalidId::TooLong(1_025))
        ));
        assert!(StreamId::new("order", &"x".repeat(1_024)).is_ok());
        assert!(matches!(StreamId::new("or-der", "1"), Err(InvalidId::Category(_))));
        assert!("order".parse::<StreamId>().is_err());
        assert!(StreamId::new(&"c".repeat(MAX_CATEGORY_BYTES), "1").is_ok());
        let long = format!("{}-1", "c".repeat(MAX_CATEGORY_BYTES + 1)).parse::<StreamId>();
        assert_eq!(long, Err(InvalidId::LongCategory(65)));
    }
}
