//! Calendar days.

use std::fmt;
use std::str::FromStr;

use composable_rust::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A calendar day, `1997-01-31`.
///
/// It is a number in binary formats, and text in JSON and when printed or parsed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(u32);

/// A text that is not a calendar day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a day of the calendar such as 1997-01-31")]
pub struct InvalidDate(String);

impl Date {
    /// Creates a day; `None` if the calendar does not have it.
    pub fn new(year: u32, month: u32, day: u32) -> Option<Self> {
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let last = match month {
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            1..=12 => 31,
            _ => return None,
        };
        let exists = (1..=9999).contains(&year) && (1..=last).contains(&day);
        exists.then_some(Self(year * 10_000 + month * 100 + day))
    }

    /// Returns the day of a time, in UTC.
    pub fn of(time: Timestamp) -> Self {
        let text = time.to_string();
        let day = text.get(..10).and_then(|day| day.parse().ok());
        day.unwrap_or(Self(19_700_101))
    }

    /// Returns the month, `1997-01`.
    pub fn month(self) -> String {
        format!("{:04}-{:02}", self.0 / 10_000, self.0 / 100 % 100)
    }

    /// Parses the digits of year, month and day without separators: `19970131`.
    ///
    /// # Errors
    ///
    /// When the text does not have eight digits, or the calendar does not have the day.
    pub fn from_digits(text: &str) -> Result<Self, InvalidDate> {
        let number = (text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse::<u32>().ok())
            .flatten();
        number
            .and_then(|number| Self::new(number / 10_000, number / 100 % 100, number % 100))
            .ok_or_else(|| InvalidDate(text.to_owned()))
    }

    /// Returns the digits without separators: the inverse of [`Date::from_digits`].
    pub fn digits(self) -> String {
        format!("{:08}", self.0)
    }
}

impl FromStr for Date {
    type Err = InvalidDate;

    fn from_str(text: &str) -> Result<Self, InvalidDate> {
        let invalid = || InvalidDate(text.to_owned());
        match (text.len(), text.get(4..5), text.get(7..8)) {
            (10, Some("-"), Some("-")) => {
                Self::from_digits(&text.replace('-', "")).map_err(|_| invalid())
            }
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:02}", self.month(), self.0 % 100)
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u32(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Date {
    /// Validates text, which comes from clients, but not numbers, which come from the log.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            u32::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_parsed_and_printed() {
        assert_eq!(Date::from_digits("19970131").map(|d| d.to_string()), Ok("1997-01-31".into()));
        assert!("1996-02-29".parse::<Date>().is_ok());
        assert_eq!(Date::of(Timestamp::from_micros(1_740_830_400_500_000)).digits(), "20250301");
        assert_eq!(Date::new(1997, 12, 31).map(Date::month), Some("1997-12".into()));
    }

    #[test]
    fn days_that_do_not_exist_are_rejected() {
        for text in ["19970230", "19970431", "19001301", "19000229", "00000101", "1997013", ""] {
            assert_eq!(Date::from_digits(text), Err(InvalidDate(text.to_owned())));
        }
        for text in ["1997-02-30", "1997/01/31", "19970131", "1997-1-31", "199-701-31", "ä997-1-31"]
        {
            assert_eq!(text.parse::<Date>(), Err(InvalidDate(text.to_owned())));
        }
    }
}
