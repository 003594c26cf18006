//! Numbers, times and ages in words.

use std::time::Duration;

use composable_rust::Timestamp;
use composable_rust::store::EventStore as _;
use composable_rust_admin::{Admin, AdminError};

/// Returns a number with separators, such as `5,000`.
pub(crate) fn number(of: u64) -> String {
    let digits = of.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a number with the noun that fits, such as `1 event` or `2 events`.
pub(crate) fn count(of: u64, noun: &str) -> String {
    format!("{} {noun}{}", number(of), if of == 1 { "" } else { "s" })
}

/// Returns a time span in its two largest units, such as `2 h 5 min`.
pub(crate) fn age(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let mut parts = Vec::new();
    let mut rest = seconds;
    for (unit, size) in units {
        if rest >= size || !parts.is_empty() || unit == "s" {
            parts.push((rest / size, unit));
            rest %= size;
        }
    }
    parts.truncate(2);
    let text = parts.iter().filter(|(n, unit)| *n > 0 || *unit == "s" && parts.len() == 1);
    text.map(|(n, unit)| format!("{n} {unit}")).collect::<Vec<_>>().join(" ")
}

/// Returns the age of a moment.
pub(crate) fn age_at(now: Timestamp, moment: Timestamp) -> String {
    if moment > now {
        format!("in {}", age(moment.since(now).as_secs()))
    } else {
        age(now.since(moment).as_secs())
    }
}

/// Returns a moment to the second, without a zone: UTC.
pub(crate) fn moment(of: Timestamp) -> String {
    let text = of.to_string();
    let (text, _) = text.split_once(['.', 'Z']).unwrap_or((&text, ""));
    text.replace('T', " ")
}

/// A moment in an argument: a time, or an age such as `15m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    At(Timestamp),
    Ago(Duration),
}

impl Moment {
    /// Returns the time, by the clock of the store.
    pub(crate) async fn resolve(self, admin: &Admin) -> Result<Timestamp, AdminError> {
        match self {
            Self::At(moment) => Ok(moment),
            Self::Ago(age) => Ok(admin.app().store().now().await? - age),
        }
    }

    /// Returns the time of an argument that may be missing.
    pub(crate) async fn option(
        of: Option<Self>,
        admin: &Admin,
    ) -> Result<Option<Timestamp>, AdminError> {
        match of {
            Some(of) => Ok(Some(of.resolve(admin).await?)),
            None => Ok(None),
        }
    }
}

impl std::str::FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form =
            || "write a time such as 2026-03-01T12:00:00Z, or an age such as 30s, 15m, 2h or 7d";
        if let Ok(moment) = text.parse() {
            return Ok(Self::At(moment));
        }
        let (digits, unit) =
            text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return Err(form().to_owned()),
        };
        let number: u32 = digits.parse().map_err(|_| form().to_owned())?;
        Ok(Self::Ago(Duration::from_secs(u64::from(number) * seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_separators_and_ages_two_units() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(count(1, "event"), "1 event");
        let ages = [0, 59, 60, 3_665, 7_200, 90_000].map(age);
        assert_eq!(ages, ["0 s", "59 s", "1 min", "1 h 1 min", "2 h", "1 d 1 h"]);
    }

    #[test]
    fn a_moment_is_a_time_or_an_age() {
        let at = "2026-03-01T12:00:00Z";
        assert_eq!(at.parse(), Ok(Moment::At(at.parse().unwrap())));
        assert_eq!("15m".parse(), Ok(Moment::Ago(Duration::from_secs(900))));
        for text in ["", "m", "15", "15x", "-1h", "yesterday", "1é"] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
        assert_eq!(moment("2026-03-01T12:00:00.5Z".parse().unwrap()), "2026-03-01 12:00:00");
    }
}
