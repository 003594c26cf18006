use composable_rust_core::Message;

#[derive(Debug, Clone, PartialEq, Message)]
enum OrderEvent {
    Placed,
    #[message(name = "order.placed")]
    Ordered,
}

fn main() {}
