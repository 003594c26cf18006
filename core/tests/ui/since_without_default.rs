use composable_rust_core::Message;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Reason {
    Price,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum OrderEvent {
    #[message(version = 2)]
    Cancelled {
        #[message(since = 2)]
        why: Reason,
    },
}

fn main() {}
