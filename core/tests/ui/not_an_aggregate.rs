use composable_rust_core::prelude::*;

#[derive(Debug, Clone, PartialEq)]
struct Payment;

fn pay(id: &Id<Payment>) {
    let _ = tell(id, ());
}

fn main() {}
