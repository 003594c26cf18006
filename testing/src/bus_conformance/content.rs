//! Messages are delivered as they were published.

use std::time::Duration;

use composable_rust_core::bus::{
    BusMessage, BusRecord, Delivery as _, EventBus as _, PublishError, SharedDelivery,
};
use composable_rust_core::environment::Clock as _;
use composable_rust_core::event::ERASED;
use composable_rust_runtime::environment::SystemClock;

use super::subject::{BusUnderTest, acknowledge, by_key};

/// A large payload, for buses without a limit.
const LARGE: usize = 1 << 20;

pub(super) async fn messages_round_trip(on: BusUnderTest) {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let message = BusMessage {
        topic: on.topic("things"),
        key: "Schlüssel \"7\"/\n".to_owned(),
        headers: vec![
            header("ce_type", "order.placed"),
            header("twice", "first"),
            header("twice", "second"),
            header("empty", ""),
            header("näme", "wärt\u{1f980}"),
        ],
        payload: (0..=255).collect(),
    };
    on.publish(vec![message.clone()]).await;
    let delivery = on.join("readers").await.next().await;
    assert_eq!(delivery.message(), &message);
    assert_eq!(delivery.record(), BusRecord::from(&message));
}

pub(super) async fn deliveries_carry_the_publication_time(on: BusUnderTest) {
    let before = SystemClock.now();
    on.publish(on.numbered("k", 0, 1)).await;
    let mut publisher = on.publisher().await;
    super::subject::batch(&mut publisher, on.numbered("k", 1, 1), None).await;
    let after = SystemClock.now();
    let mut reader = on.join("readers").await;
    for _ in 0..2 {
        // A bus may record whole milliseconds, or no time at all.
        if let Some(at) = reader.next().await.published_at() {
            assert!(at + Duration::from_millis(1) > before && at <= after, "{at}");
        }
    }
}

pub(super) async fn payloads_may_be_empty(on: BusUnderTest) {
    let message = BusMessage {
        topic: on.topic("things"),
        key: "k".to_owned(),
        headers: Vec::new(),
        payload: Vec::new(),
    };
    on.publish(vec![message.clone()]).await;
    assert_eq!(on.join("readers").await.next().await.message(), &message);
}

pub(super) async fn an_erasure_is_a_tombstone(on: BusUnderTest) {
    let erasure = BusMessage {
        topic: on.topic("things"),
        key: "k".to_owned(),
        headers: vec![("ce_type".to_owned(), ERASED.to_owned())],
        payload: Vec::new(),
    };
    on.publish(vec![erasure.clone()]).await;
    let mut publisher = on.publisher().await;
    super::subject::batch(&mut publisher, vec![erasure.clone()], None).await;
    let mut reader = on.join("readers").await;
    for _ in 0..2 {
        let delivery = reader.next().await;
        assert_eq!(delivery.message(), &erasure);
        assert_eq!(delivery.record().payload, None, "it has no payload");
        acknowledge(vec![delivery]).await;
    }
}

fn large(on: &BusUnderTest, bytes: usize) -> BusMessage {
    let mut message = on.message("k", "large");
    message.headers.push(("traceparent".to_owned(), "0".repeat(55)));
    // Random bytes, which a broker cannot compress.
    let mut state = 1_u32;
    message.payload = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(bytes)
    .collect();
    message
}

pub(super) async fn payloads_may_be_as_large_as_the_limit(on: BusUnderTest) {
    let bytes = on.bus.max_payload_bytes().unwrap_or(LARGE);
    let message = large(&on, bytes);
    on.publish(vec![message.clone()]).await;
    let mut publisher = on.publisher().await;
    super::subject::batch(&mut publisher, vec![message.clone(); 3], None).await;
    let mut reader = on.join("readers").await;
    for _ in 0..4 {
        let delivery = reader.next().await;
        assert!(delivery.message() == &message, "{bytes} bytes come back");
        acknowledge(vec![delivery]).await;
    }
}

pub(super) async fn payloads_beyond_the_limit_are_rejected(on: BusUnderTest) {
    if let Some(limit) = on.bus.max_payload_bytes() {
        for _ in 0..2 {
            let refused = on.bus.publish(large(&on, limit + 1)).await;
            assert!(matches!(refused, Err(PublishError::Invalid(_))), "{limit} + 1: {refused:?}");
        }
    }
    assert_eq!(on.all(&["k"]).await, [], "nothing was published");
}

pub(super) async fn a_batch_may_span_many_topics(on: BusUnderTest) {
    let topics: Vec<_> = (0..12).map(|n| on.topic(&format!("things-{n}"))).collect();
    for topic in &topics {
        let mut messages = on.numbered(topic, 0, 3);
        for message in &mut messages {
            message.topic.clone_from(topic);
        }
        on.publish(messages).await;
    }
    let deliveries = on.join_for("readers", &topics).await.take(36).await;
    for delivery in &deliveries {
        assert_eq!(delivery.message().topic, delivery.message().key, "each in its topic");
    }
    let keys = by_key(deliveries.iter().map(SharedDelivery::message));
    assert_eq!(keys.len(), 12);
    assert!(keys.values().all(|numbers| *numbers == ["0", "1", "2"]), "{keys:?}");
}

pub(super) async fn impossible_topic_names_are_invalid(on: BusUnderTest) {
    let long = format!("things-{}", "x".repeat(300));
    for topic in [&*long, "", ".", "things and more", "dinge-ä"] {
        let mut message = on.message("k", "0");
        topic.clone_into(&mut message.topic);
        for outcome in [
            on.bus.publish(message.clone()).await,
            on.bus.publish_to_existing(message.clone()).await,
        ] {
            assert!(matches!(outcome, Err(PublishError::Invalid(_))), "`{topic}`: {outcome:?}");
        }
    }
    on.publish(on.numbered("k", 0, 1)).await;
    assert_eq!(on.join("readers").await.next().await.message(), &on.message("k", "0"));
}

pub(super) async fn missing_topics_are_rejected_unless_created(on: BusUnderTest) {
    let mut missing = on.message("k", "1");
    missing.topic = on.topic("missing");
    for _ in 0..2 {
        let outcome = on.bus.publish_to_existing(missing.clone()).await;
        assert!(matches!(outcome, Err(PublishError::Rejected(_))), "{outcome:?}");
    }
    on.bus.publish_to_existing(on.message("k", "0")).await.expect_err("it is missing too");
    on.publish(on.numbered("k", 0, 1)).await;
    on.bus.publish_to_existing(on.message("k", "1")).await.expect("the topic exists");
    let mut reader = on.join("readers").await;
    assert_eq!(super::subject::texts(&reader.take(2).await), ["0", "1"]);
    // A subscription creates the topic.
    let mut reader = on.join_for("readers-of-the-missing", &[missing.topic.clone()]).await;
    on.bus.publish_to_existing(missing.clone()).await.expect("the topic exists");
    assert_eq!(reader.next().await.message(), &missing, "what was refused was not published");
}
