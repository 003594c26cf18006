use composable_rust_core::Message;

#[derive(Debug, Clone, PartialEq, Message)]
struct Placed {
    sku: String,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum GenericEvent<T> {
    Placed(T),
}

#[derive(Debug, Clone, PartialEq, Message)]
enum BorrowedEvent<'a> {
    Placed(&'a str),
}

#[derive(Debug, Clone, PartialEq, Message)]
enum StaticEvent {
    Placed(&'static str),
}

fn main() {}
