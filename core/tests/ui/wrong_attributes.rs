use composable_rust_core::Message;

#[derive(Debug, Clone, PartialEq, Message)]
#[message(prefix = "", name = "order")]
enum OrderEvent {
    #[message(versoin = 2)]
    Placed,
    #[message(version = 0)]
    Zero,
    #[message(version = 70000)]
    Large,
    #[message(version = 2, from(2 = Old))]
    NotOlder,
    #[message(version = 4, from(1 = Old, 3 = Old))]
    Gap,
    #[message(version = 2, from(1 = Old, 1 = Old))]
    Twice,
    #[message(from(1 = Old))]
    Forgotten,
    #[message(version = 3, from(2 = Old), write = 1)]
    Unread,
    #[message(from())]
    Nothing,
    #[message(name = "$erased")]
    Reserved,
    #[message(reply)]
    NoReply,
    #[message(status = 200)]
    NoError,
    Field {
        #[message(name = "a")]
        a: u8,
        #[message(opaque = "")]
        b: u8,
    },
}

fn main() {}
