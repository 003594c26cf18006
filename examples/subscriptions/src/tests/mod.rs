//! Tests.

mod figures;
mod http;
mod invoice;
mod lines;
mod renewal;
mod stored;
mod subscription;
mod whole_app;

use crate::{Money, Plan, Terms};

/// The terms of a contract with this card.
fn terms(card: &str) -> Terms {
    Terms { plan: Plan::Pro, price: Money(2_900), card: card.to_owned() }
}
