//! The orders of a load. They follow from its name and their number, so that an audit knows them.

use crate::order::Cart;

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
        sku: ["lamp", "chair", "table"][(n % 3) as usize].to_owned(),
        units: if is_too_large { crate::shipping::MAX_UNITS + 1 } else { (n % 5 + 1) as u32 },
        cents: (n % 20 + 1) * 500,
    }
}
