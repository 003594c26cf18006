//! The orders of a load. They follow from its name and their number, so that an audit knows them.

use crate::order::Cart;
use crate::shipping::MAX_UNITS;

/// Every how many orders the parcel is too large, so that the order is compensated.
const TOO_LARGE_EVERY: u64 = 40;

/// Returns the id of the `n`th order of a load.
pub fn order_id(load: &str, n: u64) -> String {
    format!("{load}-{n}")
}

/// Returns the cart of the `n`th order.
pub fn cart(n: u64) -> Cart {
    let is_too_large = n % TOO_LARGE_EVERY == TOO_LARGE_EVERY - 1;
    Cart {
        customer: format!("customer-{}", n % 50),
        sku: if n % 2 == 0 { "lamp" } else { "chair" }.to_owned(),
        units: if is_too_large { MAX_UNITS + 1 } else { 1 },
        cents: (n % 20 + 1) * 500,
    }
}
