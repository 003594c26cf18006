use composable_rust_core::Message;

#[derive(Debug, Clone, PartialEq)]
struct Item {
    sku: String,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum OrderEvent {
    Placed { items: Vec<Item>, at: i64 },
}

#[derive(Debug, Clone, PartialEq, Message)]
enum StockEvent {
    Taken(Item),
}

fn main() {}
