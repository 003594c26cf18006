//! Ids that are derived.

use composable_rust_core::prelude::*;
use composable_rust_core::{CorrelationId, Firing, Incoming, MessageId, Metadata, Version};
use uuid::Uuid;

use crate::door::Door;

#[test]
fn a_timer_delivers_under_the_id_of_the_effect_that_armed_it() {
    let (log, message_id) = (Uuid::from_u128(1), MessageId(Uuid::from_u128(2)));
    let metadata = Metadata {
        correlation_id: CorrelationId(Uuid::nil()),
        causation_id: Uuid::nil(),
        user: None,
        user_from: None,
        traceparent: None,
        return_addresses: Vec::new(),
        reply: None,
    };
    let incoming = Incoming { message_id, metadata, now: Timestamp::EPOCH };
    let id = Door::id("front-1");
    let ctx = Context::new(log, &id, Version::ZERO, &incoming, &());
    for number in [0, 7] {
        let firing = Firing { id: "t".to_owned(), arming: (message_id, number) };
        assert_eq!(firing.message_id(log, &id.stream()).0, ctx.effect_id(number));
    }
}
