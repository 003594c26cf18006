//! The services of the shop.

use std::fmt;
use std::str::FromStr;

/// A part of the shop that can run in a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Service {
    /// Checkouts and orders.
    Checkout,
    /// Payments and calls to the payment provider.
    Payments,
    /// Stock and parcels.
    Warehouse,
}

impl Service {
    /// All services.
    pub const ALL: [Self; 3] = [Self::Checkout, Self::Payments, Self::Warehouse];

    /// Returns the name used on the command line and in the names of files and schemas.
    pub fn name(self) -> &'static str {
        match self {
            Self::Checkout => "checkout",
            Self::Payments => "payments",
            Self::Warehouse => "warehouse",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that is not the name of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a service; the services are checkout, payments and warehouse")]
pub struct UnknownService(String);

impl FromStr for Service {
    type Err = UnknownService;

    fn from_str(text: &str) -> Result<Self, UnknownService> {
        let found = Self::ALL.into_iter().find(|service| service.name() == text);
        found.ok_or_else(|| UnknownService(text.to_owned()))
    }
}
