//! Derived ids.

use composable_rust_core::effect::IdempotencyKey;
use composable_rust_core::message::Incoming;
use composable_rust_core::prelude::*;
use composable_rust_core::queue::ArmedTimer;
use composable_rust_core::store::TimerArming;
use composable_rust_core::{CorrelationId, InvalidId, MessageId, Metadata, Version};
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
        follower: None,
    };
    let incoming = Incoming { message_id, metadata, now: Timestamp::EPOCH };
    let id = Door::id("front-1");
    let ctx = Context::new(log, &id, Version::ZERO, &incoming, &());
    for number in [0, 7] {
        let firing = ArmedTimer {
            id: "t".to_owned(),
            arming: TimerArming { armed_by: message_id, effect_index: number },
        };
        assert_eq!(firing.message_id(log, &id.stream()).0, ctx.effect_id(number));
    }
}

/// Ids are idempotency keys, also of gateways: the values must not change while messages are under
/// way.
#[test]
fn derived_ids_are_pinned() {
    use composable_rust_core::message::derive_id;
    let id = derive_id("effect", Uuid::from_u128(1), &["door", "-", "1"], Uuid::from_u128(2), 3);
    assert_eq!(id.to_string(), "bf1f5a7f-fc8a-8e4d-8422-1dc034c9af1a");
    let elsewhere = MessageId::from_elsewhere("urn:uuid:1", "2");
    assert_eq!(elsewhere.to_string(), "963e9e09-2cda-8736-a8dd-b4d1335b8603");
    assert_ne!(elsewhere, MessageId::from_elsewhere("urn:uuid:12", ""));
    assert_eq!(MessageId::from_key("k").to_string(), "8254c329-a928-80f6-9539-dd376f4816ee");
}

/// A retry of a call must not change its key when the program is updated.
#[test]
fn idempotency_keys_of_calls_are_pinned() {
    let (one, other) = ("door-1".parse().unwrap(), "door-2".parse().unwrap());
    let log = Uuid::from_u128(1);
    let key = IdempotencyKey::Scoped("charge".to_owned());
    let resolved = key.resolve(log, &one, "bank").unwrap();
    assert_eq!(resolved, "ed44233e-d6c3-8e18-9564-24fd4feb9ef9");
    for (log, caller, gateway) in
        [(Uuid::from_u128(2), &one, "bank"), (log, &other, "bank"), (log, &one, "bank2")]
    {
        assert_ne!(key.resolve(log, caller, gateway).unwrap(), resolved);
    }
    let exact = IdempotencyKey::Exact("order-17".to_owned());
    assert_eq!(exact.resolve(log, &one, "bank").unwrap(), "order-17");
}

#[test]
fn invalid_idempotency_keys_are_rejected() {
    let caller = "door-1".parse().unwrap();
    for (text, error) in [
        (String::new(), InvalidId::Empty),
        ("k".repeat(1_025), InvalidId::TooLong(1_025)),
        ("a\0b".to_owned(), InvalidId::Nul),
    ] {
        for key in [IdempotencyKey::Scoped(text.clone()), IdempotencyKey::Exact(text)] {
            assert_eq!(key.resolve(Uuid::nil(), &caller, "bank"), Err(error.clone()));
        }
    }
}
