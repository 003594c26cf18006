//! Which checkouts there are to be.

use std::collections::BTreeMap;

use composable_rust::prelude::*;

use crate::{Cart, Checkout, Inventory};

/// How many articles there are. A stock's state knows all its orders and grows with them.
const SKUS: u32 = 200;

/// Checkouts `NAME-000001` to `NAME-…`, each always the same.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What their ids begin with.
    pub name: String,
    /// How many they are.
    pub checkouts: u32,
}

impl Plan {
    /// Each with its cart.
    pub fn checkouts(&self) -> impl Iterator<Item = (Id<Checkout>, Cart)> + '_ {
        (1..=self.checkouts).map(|n| (Checkout::id(format!("{}-{n:06}", self.name)), cart(n)))
    }

    /// How many pieces all of them take of each article.
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
    let chance = scrambled(u64::from(n));
    let pick = |shift: u32, count: u32| {
        u32::try_from((chance >> shift) % u64::from(count)).unwrap_or_default()
    };
    let (article, units) = (1 + pick(0, SKUS), 1 + pick(16, 3));
    let price = 199 + 50 * article;
    Cart {
        sku: Inventory::id(format!("sku-{article:03}")),
        units,
        cents: u64::from(units) * u64::from(price),
    }
}

/// `SplitMix64`: <https://prng.di.unimi.it/splitmix64.c>.
fn scrambled(n: u64) -> u64 {
    let z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
