//! Exclusive publishers: one for each log partition, the one opened last.

use composable_rust_core::EventId;
use composable_rust_core::bus::{EventBus as _, PublishError, Publisher as _, ResumePosition};
use uuid::Uuid;

use super::subject::{BusUnderTest, batch, by_key, numbers, text};

/// A position with a unique event.
fn at(offset: u64) -> ResumePosition {
    let event_id = Some(EventId(Uuid::from_u128(u128::from(offset) + (7 << 64))));
    ResumePosition { offset, event_id }
}

pub(super) async fn a_publisher_keeps_the_order(on: BusUnderTest) {
    let mut publisher = on.publisher().await;
    for n in 0..5 {
        let both = ["a", "b"].map(|key| on.numbered(key, n * 20, 20)).concat();
        batch(&mut publisher, both, None).await;
    }
    for (key, texts) in by_key(&on.all(&["a", "b"]).await) {
        assert_eq!(texts, numbers(0, 100), "the messages of {key}");
    }
}

pub(super) async fn a_batch_is_published_whole_or_not_at_all(on: BusUnderTest) {
    let mut publisher = on.publisher().await;
    batch(&mut publisher, on.numbered("k", 0, 1), Some(at(1))).await;
    let Some(limit) = on.bus.max_payload_bytes() else { return };
    let mut refused = on.numbered("k", 1, 3);
    refused[1].payload = vec![0; limit + 1];
    let outcome = publisher.publish_batch(refused, Some(at(4))).await;
    assert!(matches!(outcome, Err(PublishError::Invalid(_))), "{outcome:?}");

    let mut publisher = on.publisher().await;
    assert_eq!(publisher.resume_position().await.expect("a position"), Some(at(1)));
    batch(&mut publisher, on.numbered("k", 7, 1), None).await;
    let texts: Vec<_> = on.all(&["k"]).await.iter().map(text).collect();
    assert_eq!(texts, ["0", "7"], "nothing of the refused batch");
}

pub(super) async fn a_publisher_resumes_at_the_last_position(on: BusUnderTest) {
    let mut publisher = on.publisher().await;
    assert_eq!(publisher.resume_position().await.expect("a position"), None);
    // Zero is a position too, and a position may decrease.
    for position in [0, 7, 1 << 40, 9] {
        batch(&mut publisher, on.numbered("k", 0, 1), Some(at(position))).await;
        assert_eq!(publisher.resume_position().await.expect("a position"), Some(at(position)));
        publisher = on.another_process().await.publisher().await;
        assert_eq!(publisher.resume_position().await.expect("a position"), Some(at(position)));
    }
}

pub(super) async fn a_batch_without_a_position_keeps_the_last(on: BusUnderTest) {
    let mut publisher = on.publisher().await;
    batch(&mut publisher, on.numbered("k", 0, 1), Some(at(7))).await;
    batch(&mut publisher, on.numbered("k", 1, 1), None).await;
    assert_eq!(publisher.resume_position().await.expect("a position"), Some(at(7)));
    let mut next = on.publisher().await;
    assert_eq!(next.resume_position().await.expect("a position"), Some(at(7)));
}

pub(super) async fn a_position_may_have_no_event(on: BusUnderTest) {
    let position = Some(ResumePosition { offset: 4, event_id: None });
    batch(&mut on.publisher().await, on.numbered("k", 0, 1), position).await;
    let mut next = on.another_process().await.publisher().await;
    assert_eq!(next.resume_position().await.expect("a position"), position);
}

pub(super) async fn a_position_may_move_without_messages(on: BusUnderTest) {
    let mut publisher = on.publisher().await;
    batch(&mut publisher, Vec::new(), None).await;
    assert_eq!(publisher.resume_position().await.expect("a position"), None);
    batch(&mut publisher, Vec::new(), Some(at(3))).await;
    let mut next = on.publisher().await;
    assert_eq!(next.resume_position().await.expect("a position"), Some(at(3)));
}

pub(super) async fn a_new_publisher_fences_the_earlier_one(on: BusUnderTest) {
    let there = on.another_process().await;
    let mut earlier = on.publisher().await;
    batch(&mut earlier, on.numbered("k", 0, 1), Some(at(1))).await;
    let mut later = there.publisher().await;
    assert_eq!(later.resume_position().await.expect("a position"), Some(at(1)));
    for _ in 0..2 {
        let outcome = earlier.publish_batch(on.numbered("k", 100, 5), Some(at(100))).await;
        assert!(matches!(outcome, Err(PublishError::Fenced)), "{outcome:?}");
    }
    batch(&mut later, on.numbered("k", 1, 1), Some(at(2))).await;
    assert_eq!(later.resume_position().await.expect("a position"), Some(at(2)));
    drop(earlier);
    batch(&mut later, on.numbered("k", 2, 1), Some(at(3))).await;
    let texts: Vec<_> = on.all(&["k"]).await.iter().map(text).collect();
    assert_eq!(texts, ["0", "1", "2"], "nothing of the earlier holder");
}

pub(super) async fn publishers_of_other_partitions_are_not_fenced(on: BusUnderTest) {
    let mut publishers = Vec::new();
    for partition in 0..3 {
        publishers.push(on.publisher_of(partition).await);
    }
    for (n, publisher) in (0..).zip(&mut publishers) {
        batch(publisher, on.numbered("k", 0, 1), Some(at(n))).await;
    }
    for (n, publisher) in (0..).zip(&mut publishers) {
        assert_eq!(publisher.resume_position().await.expect("a position"), Some(at(n)));
    }
    assert_eq!(on.all(&["k"]).await.len(), 3);
}

pub(super) async fn an_interrupted_batch_is_published_whole_or_not_at_all(on: BusUnderTest) {
    let mut sent = 0;
    for round in 1..=8_usize {
        let (mut interrupted, messages) = (on.publisher().await, on.numbered("k", sent, 30));
        let position = Some(at(round as u64));
        let running =
            tokio::spawn(async move { interrupted.publish_batch(messages, position).await });
        tokio::time::sleep(std::time::Duration::from_millis(round as u64 * 2)).await;
        running.abort();
        let _ = running.await;
        let resumed = on.publisher().await.resume_position().await.expect("a position");
        if resumed == position {
            sent += 30;
        }
    }
    let texts: Vec<_> = on.all(&["k"]).await.iter().map(text).collect();
    assert_eq!(texts, numbers(0, sent));
}
