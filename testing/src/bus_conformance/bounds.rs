//! Nobody is flooded.

use super::subject::{Subject, acknowledge, numbers, texts};

pub(super) async fn hold_for_what_is_in_hand(on: Subject) {
    let bound = on.max_outstanding();
    on.publish(on.numbered("k", 0, bound * 3)).await;
    let mut reader = on.join("readers").await;
    for round in 0..3 {
        let held = reader.take_until_silence().await;
        assert_eq!(held.len(), bound, "in hand without being settled");
        assert_eq!(texts(&held), numbers(round * bound, (round + 1) * bound));
        acknowledge(held).await;
    }
    reader.silence().await;
}

pub(super) async fn leave_out_what_was_dropped(on: Subject) {
    let bound = on.max_outstanding();
    on.publish(on.numbered("k", 0, bound + 1)).await;
    let mut reader = on.join("readers").await;
    let mut held = reader.take_until_silence().await;
    assert_eq!(held.len(), bound, "in hand without being settled");
    // A bus may wait until there is room for several.
    held.truncate(1);
    assert_eq!(texts(&reader.take(1).await), numbers(bound, bound + 1));
}
