//! Amounts of money.

use std::fmt;
use std::iter::Sum;
use std::ops::AddAssign;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An amount of money in whole cents: an integer, so sums are exact.
///
/// It is printed and parsed as `12.34`. In JSON it is the number of cents.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Cents(pub u64);

/// A text that is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount such as 12.34: up to nine digits, a point and two more")]
pub struct InvalidCents(String);

impl FromStr for Cents {
    type Err = InvalidCents;

    fn from_str(text: &str) -> Result<Self, InvalidCents> {
        let digits = |part: &str, max: usize| {
            let fits = (1..=max).contains(&part.len());
            (fits && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse::<u64>().ok())?
        };
        let parse = || {
            let (whole, cents) = text.split_once('.')?;
            let cents = digits(cents, 2).filter(|_| cents.len() == 2)?;
            Some(Self(digits(whole, 9)? * 100 + cents))
        };
        parse().ok_or_else(|| InvalidCents(text.to_owned()))
    }
}

impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:02}", self.0 / 100, self.0 % 100);
        f.pad(&text)
    }
}

impl AddAssign for Cents {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sum for Cents {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        Self(amounts.map(|amount| amount.0).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_parsed_and_printed_exactly() {
        let cents = |text: &str| text.parse::<Cents>().map(|cents| cents.0);
        assert_eq!(cents("11.77"), Ok(1177));
        assert_eq!(cents("0.00"), Ok(0));
        assert_eq!(cents("999999999.99"), Ok(99_999_999_999));
        assert_eq!(Cents(120_005).to_string(), "1200.05");
    }

    #[test]
    fn other_texts_are_rejected() {
        for text in
            ["", ".", "1", "1.", ".50", "1.5", "1.234", "-1.00", "+1.00", "1,00", "1.0x", "١.00"]
        {
            assert_eq!(text.parse::<Cents>(), Err(InvalidCents(text.to_owned())));
        }
        assert!("1000000000.00".parse::<Cents>().is_err());
    }
}
