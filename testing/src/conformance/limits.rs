//! Sizes and characters: stored exactly, or rejected without harm to the rest of the batch.

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::{NewEvent, StoredContent};
use composable_rust_core::queue::OutboxKind;
use composable_rust_core::store::{
    Append, MAX_METADATA_BYTES, MAX_PAYLOAD_BYTES, NewInboxEntry, NewOutboxRow, NewTimer,
    StoreError, TimerArming, TimerChange,
};

use super::builders::{append, content, event, fresh_id, inbox_entry, json, metadata, stream};
use super::subject::{StoreUnderTest, committed};

fn one(event: NewEvent) -> Append {
    let mut append = append(&stream("thing-1"), 0, 0);
    append.events.push(event);
    append
}

/// An append that stores an outbox row.
pub(super) fn with_effect(content: EncodedMessage) -> Append {
    let mut append = append(&stream("thing-1"), 0, 1).with_inbox(vec![inbox_entry(0, 1)]);
    append.outbox.push(NewOutboxRow {
        id: fresh_id(),
        kind: OutboxKind::Dispatch,
        target: "thing".to_owned(),
        recipient: "thing-2".to_owned(),
        content,
        metadata: metadata(),
    });
    append
}

/// An append that arms a timer.
pub(super) fn with_timer(id: &str, content: EncodedMessage) -> Append {
    let mut append = append(&stream("thing-1"), 0, 1).with_inbox(vec![inbox_entry(0, 1)]);
    append.timers.push(TimerChange::Arm(NewTimer {
        id: id.to_owned(),
        arming: TimerArming { armed_by: append.inbox[0].message_id, effect_index: 0 },
        due: composable_rust_core::store::Due::After(std::time::Duration::from_secs(60)),
        content,
        metadata: metadata(),
    }));
    append
}

/// JSON text of `bytes` bytes.
fn json_of(bytes: usize) -> String {
    format!("{{\"user\":\"{}\"}}", "x".repeat(bytes - 11))
}

pub(super) async fn payloads_of_every_size_round_trip(on: StoreUnderTest) {
    for (n, size) in [0, 1, 2_000, 1024 * 1024, MAX_PAYLOAD_BYTES].into_iter().enumerate() {
        let thing = stream(&format!("thing-{n}"));
        let bytes: Vec<u8> = (0..=250).cycle().take(size).collect();
        let mut append = append(&thing, 0, 1);
        append.events[0].content = content(bytes);
        on.commit(&append).await;
        let stored = on.events(&thing).await.remove(0).content;
        let kept = stored == StoredContent::Present(append.events[0].content.clone());
        assert!(kept, "a payload of {size} bytes comes back as it went in");
    }
}

pub(super) async fn metadata_at_the_limit_round_trips(on: StoreUnderTest) {
    let mut event = event();
    event.metadata = json_of(MAX_METADATA_BYTES);
    assert_eq!(event.metadata.len(), MAX_METADATA_BYTES);
    on.commit(&one(event.clone())).await;
    let stored = on.events(&stream("thing-1")).await.remove(0);
    assert_eq!(json(&stored.metadata), json(&event.metadata));
}

pub(super) async fn payloads_beyond_the_limit_are_rejected(on: StoreUnderTest) {
    let large = content(vec![0; MAX_PAYLOAD_BYTES + 1]);
    let event = NewEvent { content: large.clone(), ..event() };
    on.refuse(&one(event), "an event beyond the limit").await;
    on.refuse(&with_effect(large.clone()), "an effect beyond the limit").await;
    on.refuse(&with_timer("t", large.clone()), "a timer beyond the limit").await;
    let entry = NewInboxEntry { outcome: large.bytes, ..inbox_entry(0, 0) };
    on.refuse(&one_with(entry), "an answer beyond the limit").await;
}

fn one_with(entry: NewInboxEntry) -> Append {
    one(event()).with_inbox(vec![entry])
}

pub(super) async fn metadata_beyond_the_limit_is_rejected(on: StoreUnderTest) {
    let large = json_of(MAX_METADATA_BYTES + 1);
    on.refuse(&one(NewEvent { metadata: large.clone(), ..event() }), "an event's metadata").await;
    let mut effect = with_effect(content("x"));
    effect.outbox[0].metadata.clone_from(&large);
    on.refuse(&effect, "an effect's metadata").await;
    let mut timer = with_timer("t", content("x"));
    if let TimerChange::Arm(timer) = &mut timer.timers[0] {
        timer.metadata = large;
    }
    on.refuse(&timer, "a timer's metadata").await;
}

pub(super) async fn malformed_metadata_is_rejected(on: StoreUnderTest) {
    for text in ["{", "nonsense", "{} {}", "{\"a\":1,}", "'a'"] {
        let event = NewEvent { metadata: text.to_owned(), ..event() };
        on.refuse(&one(event), "metadata that is not JSON").await;
    }
}

pub(super) async fn nul_characters_are_rejected(on: StoreUnderTest) {
    let named = |name: &'static str| EncodedMessage { name: name.into(), ..content("x") };
    let coded = EncodedMessage { codec: "ra\0w".into(), ..content("x") };
    on.refuse(&one(NewEvent { content: named("a\0b"), ..event() }), "NUL in a name").await;
    on.refuse(&one(NewEvent { content: coded, ..event() }), "NUL in a codec").await;
    for text in ["{\"user\":\"a\\u0000b\"}", "{\"user\":\"\\\\\\u0000\"}", "{\"user\":\"\0\"}"] {
        let event = NewEvent { metadata: text.to_owned(), ..event() };
        on.refuse(&one(event), "NUL in metadata").await;
    }
    for text in ["{\"a\\u0000\":1}", "[[[\"\\u0000\"]]]"] {
        let mut effect = with_effect(content("x"));
        text.clone_into(&mut effect.outbox[0].metadata);
        on.refuse(&effect, "NUL in an effect's metadata").await;
    }
    let mut effect = with_effect(content("x"));
    "a\0".clone_into(&mut effect.outbox[0].target);
    on.refuse(&effect, "NUL in a target").await;
    let mut effect = with_effect(content("x"));
    "thing-\0".clone_into(&mut effect.outbox[0].recipient);
    on.refuse(&effect, "NUL in a recipient").await;
    on.refuse(&with_effect(named("\0")), "NUL in an effect's name").await;
    on.refuse(&with_timer("t\0", content("x")), "NUL in a timer's id").await;
    on.refuse(&with_timer("t", named("\0")), "NUL in a timer's name").await;
}

pub(super) async fn nul_bytes_in_payloads_round_trip(on: StoreUnderTest) {
    let bytes = b"\0a\0\xff\xfe\\x00\0".to_vec();
    let event = NewEvent { content: content(bytes.clone()), ..event() };
    // An escaped backslash before `u0000` is six ordinary characters.
    let event = NewEvent { metadata: "{\"user\":\"\\\\u0000\"}".to_owned(), ..event };
    let entry = NewInboxEntry { outcome: bytes, ..inbox_entry(0, 1) };
    on.commit(&one(event.clone()).with_inbox(vec![entry.clone()])).await;
    let stored = on.events(&stream("thing-1")).await.remove(0);
    assert_eq!(stored.content, StoredContent::Present(event.content));
    assert_eq!(json(&stored.metadata), json(&event.metadata));
    let kept =
        on.inbox_entry(&stream("thing-1"), entry.message_id).await.expect("the inbox entry stands");
    assert_eq!(kept.outcome, entry.outcome);
}

pub(super) async fn reserved_names_are_rejected(on: StoreUnderTest) {
    for name in ["$closed", "$erased", "$", ""] {
        let content = EncodedMessage { name: name.into(), ..content("x") };
        on.refuse(&one(NewEvent { content, ..event() }), "a name of the framework, or none").await;
    }
}

pub(super) async fn invalid_inbox_entries_are_rejected(on: StoreUnderTest) {
    on.refuse(&one_with(inbox_entry(1, 1)), "an inbox entry of events that are not there").await;
    on.refuse(
        &one_with(inbox_entry(u32::MAX, u32::MAX)),
        "an inbox entry of events that are not there",
    )
    .await;
    let entry = inbox_entry(0, 1);
    let twice = one(event()).with_inbox(vec![entry.clone(), entry]);
    on.refuse(&twice, "two inbox entries of one message").await;
}

pub(super) async fn unusual_metadata_is_stored_exactly_or_rejected(on: StoreUnderTest) {
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let hard = [
        r#"{"user":"\ud800"}"#,
        r#"{"user":"\udc00\ud800"}"#,
        r#"{"n":1e400000}"#,
        r#"{"n":12345678901234567890123456789.000000000000000001}"#,
        r#"{"a":1,"a":2}"#,
        r#""just text""#,
        &deep,
    ];
    let streams = on.streams_of(0, "thing", 3);
    for (n, text) in hard.into_iter().enumerate() {
        let before = on.events(&streams[1]).await.len();
        let mut append = append(&streams[1], before as u64, 1);
        text.clone_into(&mut append.events[0].metadata);
        let stored = match on.try_append(&append).await {
            Ok(outcome) => usize::from(committed(&outcome).1.is_some()),
            Err(StoreError::Invalid(_)) => 0,
            Err(other) => panic!("{text} must be stored or rejected as invalid, not {other:?}"),
        };
        assert_eq!(on.events(&streams[1]).await.len(), before + stored, "{text}");
        let neighbours = [&streams[0], &streams[2]];
        for neighbour in neighbours {
            on.commit(&super::builders::append(neighbour, n as u64, 1)).await;
        }
    }
}
