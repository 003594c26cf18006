//! Streams of every permitted name.

use std::collections::BTreeSet;

use composable_rust_core::StreamId;
use composable_rust_core::store::{Fingerprint, MAX_CATEGORY_BYTES, MAX_ID_BYTES};

use super::builders::{append, inbox_entry, snapshot, stream};
use super::subject::StoreUnderTest;

/// Writes and reads everything that is stored under the stream's name.
async fn use_stream(on: &StoreUnderTest, thing: &StreamId) {
    let print = Fingerprint(1);
    let entry = inbox_entry(0, 2);
    on.commit(&append(thing, 0, 2).with_inbox(vec![entry.clone()])).await;
    on.commit(&append(thing, 2, 1)).await;
    on.save(thing, &snapshot(2, print)).await;
    let events = on.events(thing).await;
    assert_eq!(events.iter().map(|e| e.version.get()).collect::<Vec<_>>(), [1, 2, 3], "{thing:?}");
    assert!(events.iter().all(|event| event.stream == *thing), "{thing:?}");
    assert!(on.inbox_entry(thing, entry.message_id).await.is_some(), "{thing:?}");
    assert_eq!(on.load(thing, print).await, (Some(snapshot(2, print)), events[2..].to_vec()));
}

pub(super) async fn unusual_stream_names_work(on: StoreUnderTest) {
    let names = [
        "it's \"quoted\" `too`",
        "a/b\\c/../d",
        "%_*?[a]",
        "'; drop table events; --",
        "$1 {} {0} :name ?",
        "tab\tnewline\nreturn\r",
        "\u{1}\u{7f}\u{85}\u{feff}",
        "Größe-東京-🦀-नमस्ते",
        "\u{202e}right to left",
        "null",
        " ",
        "-",
        "a,b;c\u{2028}d",
    ];
    for id in names {
        use_stream(&on, &StreamId::new("thing", id).expect("a permitted id")).await;
    }
    let stored: BTreeSet<_> = on.whole_log().await.into_iter().map(|event| event.stream).collect();
    assert_eq!(stored.len(), names.len());
}

pub(super) async fn similar_stream_names_are_different(on: StoreUnderTest) {
    let ids = [
        "a",
        "A",
        "a ",
        " a",
        "á",
        "a\u{301}",
        "ａ",
        "ß",
        "ss",
        "SS",
        "i",
        "ı",
        "İ",
        "1",
        "01",
        "1.0",
        "1e0",
        "\u{200b}a",
        "ﬁ",
        "fi",
    ];
    for id in ids {
        let thing = StreamId::new("thing", id).expect("a permitted id");
        assert_eq!(on.events(&thing).await, [], "{id:?} is not written yet");
        use_stream(&on, &thing).await;
    }
}

pub(super) async fn long_stream_names_work(on: StoreUnderTest) {
    let thousand = "x".repeat(1_000);
    use_stream(&on, &stream(&format!("thing-{thousand}"))).await;
    use_stream(&on, &stream(&format!("thing-{thousand}y"))).await;
    use_stream(&on, &stream(&format!("thing-{}", "x".repeat(MAX_ID_BYTES)))).await;
    use_stream(&on, &stream(&format!("thing-{}", "🦀".repeat(MAX_ID_BYTES / 4)))).await;
    let category = "c".repeat(MAX_CATEGORY_BYTES);
    use_stream(&on, &StreamId::new(&category, &thousand).expect("a permitted id")).await;
    // Random text, so that an index on names has to hold it uncompressed.
    let mixed: String = (0..250u32)
        .map(|n| char::from_u32(0x4e00 + n.wrapping_mul(7_919) % 20_000).unwrap_or('x'))
        .collect();
    use_stream(&on, &stream(&format!("thing-{mixed}"))).await;
}
