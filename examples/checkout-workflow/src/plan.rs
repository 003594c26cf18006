//! The checkouts to run.

use std::collections::BTreeMap;

use composable_rust::prelude::*;

use crate::{Cart, Checkout, Inventory};

/// The number of articles. The state of a stock has all its orders and grows with them.
const SKUS: u32 = 200;

/// The checkouts `NAME-000001` to `NAME-…`. Each has the same cart in every run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The prefix of the checkout ids.
    pub name: String,
    /// The number of checkouts.
    pub checkouts: u32,
}

impl Plan {
    /// Returns the checkouts with their carts.
    pub fn checkouts(&self) -> impl Iterator<Item = (Id<Checkout>, Cart)> + '_ {
        (1..=self.checkouts).map(|n| (Checkout::id(format!("{}-{n:06}", self.name)), cart(n)))
    }

    /// Returns the number of units that all checkouts need of each article.
    pub fn demand(&self) -> BTreeMap<Id<Inventory>, u32> {
        let mut demand = BTreeMap::new();
        for n in 1..=self.checkouts {
            let Cart { sku, units, .. } = cart(n);
            *demand.entry(sku).or_default() += units;
        }
        demand
    }
}

fn cart(n: u32) -> Cart {
    let bits = scrambled(u64::from(n));
    let pick = |shift: u32, count: u32| {
        u32::try_from((bits >> shift) % u64::from(count)).unwrap_or_default()
    };
    let (article, units) = (1 + pick(0, SKUS), 1 + pick(16, 3));
    let price = 199 + 50 * article;
    Cart {
        sku: Inventory::id(format!("sku-{article:03}")),
        units,
        cents: u64::from(units) * u64::from(price),
    }
}

/// Returns the `n`-th number of a fixed pseudorandom sequence.
///
/// Source: `SplitMix64`, <https://prng.di.unimi.it/splitmix64.c>.
fn scrambled(n: u64) -> u64 {
    let z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
