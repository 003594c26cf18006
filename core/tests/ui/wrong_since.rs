use composable_rust_core::prelude::*;

#[path = "support/shop.rs"]
mod shop;
use shop::*;

#[derive(Debug, Clone, PartialEq, Message)]
enum OrderEvent {
    NotRaised {
        #[message(since = 2)]
        gift: bool,
    },
    #[message(version = 2)]
    TooHigh {
        #[message(since = 3, default = true)]
        gift: bool,
    },
    #[message(version = 2)]
    Always {
        #[message(since = 1)]
        gift: bool,
    },
    Nothing {
        #[message(default = true)]
        gift: bool,
    },
    #[message(version = 3)]
    Unexplained {
        #[message(since = 2)]
        gift: bool,
    },
    #[message(version = 2, from(1 = Old))]
    Both {
        #[message(since = 2)]
        gift: bool,
    },
    #[message(version = 2)]
    NotStored {
        #[message(since = 2)]
        #[serde(skip)]
        gift: bool,
    },
    #[message(version = 2, write = 3)]
    Unread {
        #[message(since = 2)]
        gift: bool,
    },
    #[message(version = 2)]
    Replied(#[message(since = 2)] u8, Reply<Payment>),
}

#[derive(Debug, Clone, PartialEq, Message)]
enum Removing {
    #[message(removed(gift: bool, since = 2))]
    NotRaised,
    #[message(version = 2, removed(gift: bool))]
    When,
    #[message(version = 2, removed(gift: bool, since = 2, after = sku))]
    After { sku: String },
    #[message(version = 2, removed(gift: bool, since = 2, before = skew))]
    Before { sku: String },
    #[message(version = 2, removed(bool, since = 2))]
    Unnamed { sku: String },
    #[message(version = 2, removed(gift: bool, since = 2))]
    Named(String),
    #[message(version = 3, removed(gift: bool, added = 3, since = 2))]
    Backwards { sku: String },
}

fn main() {}
