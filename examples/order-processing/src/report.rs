//! The report on all orders.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use composable_rust::prelude::*;
use composable_rust::store::EventStore as _;
use composable_rust::{LoadError, Position};
use futures_util::TryStreamExt as _;
use serde::Serialize;

use crate::{Cents, Details, Order};

/// The totals of all orders. A cancelled order counts only as cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// The number of orders that are not cancelled.
    pub orders: u64,
    /// The number of units in these orders.
    pub units: u64,
    /// The total price of these orders.
    #[serde(rename = "revenue_cents")]
    pub revenue: Cents,
    /// The number of customers who placed these orders.
    pub customers: u64,
    /// The totals of each month, in order, without months that have no orders.
    pub months: Vec<Month>,
    /// The number of cancelled orders.
    #[serde(skip)]
    pub cancelled: u64,
}

/// The totals of one month.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Month {
    /// The month, `1997-01`.
    pub month: String,
    /// The number of orders that are not cancelled.
    pub orders: u64,
    /// The number of units in these orders.
    pub units: u64,
    /// The total price of these orders.
    #[serde(rename = "revenue_cents")]
    pub revenue: Cents,
}

impl Report {
    /// Reads the log up to its current end and computes the totals.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub async fn of(app: &App) -> Result<Self, LoadError> {
        let start = Position::start_positions(app.store().log().partitions);
        let mut events = std::pin::pin!(app.events::<Order>(start));
        let mut orders = HashMap::<_, Order>::new();
        while let Some(recorded) = events.try_next().await? {
            orders.entry(recorded.stream).or_default().apply(recorded.event);
        }
        Ok(orders.values().collect())
    }
}

impl<'a> FromIterator<&'a Order> for Report {
    fn from_iter<I: IntoIterator<Item = &'a Order>>(orders: I) -> Self {
        let mut months = BTreeMap::<String, Month>::new();
        let mut customers = HashSet::new();
        let mut cancelled = 0;
        for order in orders {
            match order {
                Order::New => {}
                Order::Cancelled { .. } => cancelled += 1,
                Order::Placed {
                    details: Details { customer, placed_on, units, amount }, ..
                } => {
                    customers.insert(customer);
                    let month = months.entry(placed_on.month()).or_default();
                    month.orders += 1;
                    month.units += u64::from(*units);
                    month.revenue += *amount;
                }
            }
        }
        let months: Vec<_> =
            months.into_iter().map(|(month, sums)| Month { month, ..sums }).collect();
        Self {
            orders: months.iter().map(|month| month.orders).sum(),
            units: months.iter().map(|month| month.units).sum(),
            revenue: months.iter().map(|month| month.revenue).sum(),
            customers: customers.len() as u64,
            months,
            cancelled,
        }
    }
}

/// The width of the longest bar of the chart, in characters.
const MAX_BAR_WIDTH: u64 = 30;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let totals = [
            ("orders", grouped(self.orders)),
            ("units", grouped(self.units)),
            ("revenue", money(self.revenue)),
            ("customers", grouped(self.customers)),
            ("cancelled", grouped(self.cancelled)),
        ];
        for (name, total) in totals {
            writeln!(f, "{name:<9} {total:>15}")?;
        }
        if self.months.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n{:<7} {:>9} {:>9} {:>14}", "month", "orders", "units", "revenue")?;
        let max = self.months.iter().map(|month| month.revenue.0).max().unwrap_or(0).max(1);
        for Month { month, orders, units, revenue } in &self.months {
            let bar = (u128::from(revenue.0) * u128::from(MAX_BAR_WIDTH)).div_ceil(u128::from(max));
            let bar = "█".repeat(usize::try_from(bar).unwrap_or(0));
            let (orders, units, revenue) = (grouped(*orders), grouped(*units), money(*revenue));
            let row = format!("{month} {orders:>9} {units:>9} {revenue:>14}  {bar}");
            writeln!(f, "{}", row.trim_end())?;
        }
        Ok(())
    }
}

/// Formats a number with separators: `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats an amount with separators: `1,234.05`.
fn money(amount: Cents) -> String {
    format!("{}.{:02}", grouped(amount.0 / 100), amount.0 % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(money(Cents(250_031_563)), "2,500,315.63");
    }
}
