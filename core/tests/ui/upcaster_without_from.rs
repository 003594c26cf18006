use composable_rust_core::Message;
use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Message)]
enum OrderEvent {
    #[message(version = 3, from(1 = PlacedV1, 2 = PlacedV2))]
    Placed { sku: String },
}

#[derive(Deserialize)]
struct PlacedV1 {}

#[derive(Deserialize)]
struct PlacedV2 {}

fn main() {}
