//! Generated purchase files with the difficulties of the CDNOW file.
//!
//! Customers buy more than once a day, also the same goods for the same price. Prices may be 0,
//! columns are padded, and lines end in CR LF.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

/// A generated purchase file.
#[derive(Debug, Clone)]
pub(crate) struct PurchaseFile(String);

/// The expected output of `report --json`.
#[derive(Debug, PartialEq)]
pub(crate) struct Totals {
    pub(crate) orders: usize,
    pub(crate) json: Value,
}

impl PurchaseFile {
    /// Generates a file with at least `lines` purchases.
    pub(crate) fn generated(seed: u64, lines: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut text = " customer_id  date number_of_cds  dollar_value\r\n".to_owned();
        let mut written = 0;
        for customer in 1.. {
            let mut day = (1997, 1, 1 + rng.random_range(0..28));
            for _ in 0..rng.random_range(1..6) {
                let same_day = if rng.random_bool(0.1) { rng.random_range(2..5) } else { 1 };
                let (cds, cents) = (rng.random_range(1..12), rng.random_range(99..9_999));
                for n in 0..same_day {
                    // The same price as before, another one, or 0.
                    let cents = if rng.random_bool(0.02) { 0 } else { cents + n % 2 * 101 };
                    let (year, month, date) = day;
                    let amount = format!("{}.{:02}", cents / 100, cents % 100);
                    let _ = write!(
                        text,
                        " {customer:05} {year}{month:02}{date:02} {cds:2} {amount:>7}\r\n"
                    );
                    written += 1;
                }
                day = later(day, &mut rng);
            }
            if written >= lines {
                break;
            }
        }
        Self(text)
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Returns the header and the first `lines` purchases.
    pub(crate) fn first(&self, lines: usize) -> String {
        self.0.split_inclusive('\n').take(lines + 1).collect()
    }

    /// Computes the totals without the code of the program.
    pub(crate) fn totals(&self) -> Totals {
        totals(&self.0)
    }
}

/// Returns a day one to three months later.
fn later((year, month, _): (u32, u32, u32), rng: &mut StdRng) -> (u32, u32, u32) {
    let month = month + rng.random_range(1..4);
    let date = 1 + rng.random_range(0..28);
    if month > 12 { (year + 1, month - 12, date) } else { (year, month, date) }
}

fn totals(text: &str) -> Totals {
    let mut customers = BTreeSet::new();
    let mut months = BTreeMap::<String, (u64, u64, u64)>::new();
    for line in text.lines().skip(1) {
        let columns: Vec<_> = line.split(' ').filter(|column| !column.is_empty()).collect();
        customers.insert(columns[0]);
        let month = months.entry(format!("{}-{}", &columns[1][..4], &columns[1][4..6]));
        let (orders, units, cents) = month.or_default();
        *orders += 1;
        *units += columns[2].parse::<u64>().unwrap();
        *cents += columns[3].replace('.', "").parse::<u64>().unwrap();
    }
    let sum = |of: fn(&(u64, u64, u64)) -> u64| months.values().map(of).sum::<u64>();
    let orders = sum(|m| m.0);
    let rows: Vec<_> = months
        .iter()
        .map(|(month, (orders, units, cents))| {
            json!({ "month": month, "orders": orders, "units": units, "revenue_cents": cents })
        })
        .collect();
    let json = json!({
        "orders": orders, "units": sum(|m| m.1), "revenue_cents": sum(|m| m.2),
        "customers": customers.len(), "months": rows,
    });
    Totals { orders: usize::try_from(orders).unwrap(), json }
}
