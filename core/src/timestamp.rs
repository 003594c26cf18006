//! Timestamps with the precision of PostgreSQL.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment in UTC, in microseconds since 1970-01-01T00:00:00Z.
///
/// A timestamp is an integer in binary formats, and RFC 3339 in JSON and when printed or parsed.
/// For a moment outside the years -9999 to 9999, such as [`Timestamp::MAX`], the text is the number
/// of microseconds.
///
/// ```
/// use composable_rust_core::Timestamp;
///
/// let moment: Timestamp = "2025-03-01T12:00:00.5Z".parse()?;
/// assert_eq!(moment.as_micros(), 1_740_830_400_500_000);
/// assert_eq!(moment.to_string(), "2025-03-01T12:00:00.5Z");
/// # Ok::<(), composable_rust_core::InvalidTimestamp>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// The last moment, in the year 294247; stands for "never".
    pub const MAX: Self = Self(i64::MAX);

    /// Returns the moment `micros` microseconds after 1970-01-01T00:00:00Z.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the microseconds since 1970-01-01T00:00:00Z.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns the duration since `earlier`; zero if `earlier` is not before this moment.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    fn micros(duration: Duration) -> i64 {
        i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(Self::micros(duration)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(Self::micros(duration)))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self::EPOCH + after,
            Err(before) => Self::EPOCH - before.duration(),
        }
    }
}

impl From<Timestamp> for jiff::Timestamp {
    /// Converts to jiff. Moments outside its years (-9999 to 9999) become its first or last.
    fn from(timestamp: Timestamp) -> Self {
        Self::from_microsecond(timestamp.0).unwrap_or(if timestamp.0 < 0 {
            Self::MIN
        } else {
            Self::MAX
        })
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(timestamp: jiff::Timestamp) -> Self {
        Self(timestamp.as_microsecond())
    }
}

#[cfg(feature = "chrono")]
impl From<Timestamp> for chrono::DateTime<chrono::Utc> {
    /// Converts to chrono. Moments outside its years become its first or last.
    fn from(timestamp: Timestamp) -> Self {
        Self::from_timestamp_micros(timestamp.0).unwrap_or(if timestamp.0 < 0 {
            Self::MIN_UTC
        } else {
            Self::MAX_UTC
        })
    }
}

#[cfg(feature = "chrono")]
impl From<chrono::DateTime<chrono::Utc>> for Timestamp {
    fn from(moment: chrono::DateTime<chrono::Utc>) -> Self {
        Self(moment.timestamp_micros())
    }
}

#[cfg(feature = "time")]
impl From<Timestamp> for time::OffsetDateTime {
    /// Converts to time. Moments outside its years (-9999 to 9999) become its first or last.
    fn from(timestamp: Timestamp) -> Self {
        let nanos = i128::from(timestamp.0) * 1_000;
        Self::from_unix_timestamp_nanos(nanos).unwrap_or(if timestamp.0 < 0 {
            time::PrimitiveDateTime::MIN.assume_utc()
        } else {
            time::PrimitiveDateTime::MAX.assume_utc()
        })
    }
}

#[cfg(feature = "time")]
impl From<time::OffsetDateTime> for Timestamp {
    fn from(moment: time::OffsetDateTime) -> Self {
        // A thousandth of an i128 of nanoseconds within these years is an i64.
        Self(i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000)).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(moment) => moment.fmt(f),
            Err(_) => self.0.fmt(f),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The error of parsing a text that is neither an RFC 3339 moment nor a number of microseconds
/// outside the years of RFC 3339.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{text}` is not an RFC 3339 moment such as 2025-03-01T12:00:00Z")]
pub struct InvalidTimestamp {
    text: String,
    source: jiff::Error,
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        text.parse::<jiff::Timestamp>().map(Self::from).or_else(|source| {
            let outside =
                text.parse().ok().filter(|m| jiff::Timestamp::from_microsecond(*m).is_err());
            outside.map(Self).ok_or_else(|| InvalidTimestamp { text: text.to_owned(), source })
        })
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            i64::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_survives_json() {
        let last = jiff::Timestamp::MAX.as_microsecond();
        for micros in [i64::MIN, -1, 0, 1_740_830_400_500_001, last, last + 1, i64::MAX] {
            let moment = Timestamp::from_micros(micros);
            let json = serde_json::to_string(&[moment]).unwrap();
            assert_eq!(serde_json::from_str::<[Timestamp; 1]>(&json).unwrap(), [moment], "{json}");
        }
        assert_eq!(Timestamp::MAX.to_string(), "9223372036854775807");
    }

    #[test]
    fn a_number_within_the_years_is_no_moment() {
        for text in ["0", "1740830400500001", "", "9223372036854775808", "never"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[cfg(all(feature = "chrono", feature = "time"))]
    #[test]
    fn conversions_agree() {
        for micros in [i64::MIN, -1, 0, 1_740_830_400_500_001, i64::MAX] {
            let moment = Timestamp::from_micros(micros);
            let chrono = chrono::DateTime::<chrono::Utc>::from(moment);
            let time = time::OffsetDateTime::from(moment);
            let jiff = jiff::Timestamp::from(moment);
            if micros.unsigned_abs() < 1 << 60 {
                let back: [Timestamp; 3] = [chrono.into(), time.into(), jiff.into()];
                assert_eq!(back, [moment; 3]);
            }
        }
    }
}
