//! Prices.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount in cents.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Money(pub(crate) i64);

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

/// A plan.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Plan {
    #[default]
    Basic,
    Pro,
    Team,
}

impl Plan {
    /// Returns the price of a month for new contracts.
    pub(crate) fn price(self) -> Money {
        Money([900, 2_900, 9_900][self as usize])
    }

    /// Returns the name in the read model.
    pub(crate) fn name(self) -> &'static str {
        ["basic", "pro", "team"][self as usize]
    }
}

/// The contract of a subscription.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Terms {
    pub(crate) plan: Plan,
    /// The price of a month. It stays when the plan gets another price for new contracts.
    pub(crate) price: Money,
    /// The card processor's token for the card.
    pub(crate) card: String,
}
