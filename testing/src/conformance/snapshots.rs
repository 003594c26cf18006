//! Snapshots.

use std::time::Duration;

use composable_rust_core::store::{Fingerprint, Snapshot, StaleSnapshots};
use composable_rust_core::{EventId, Version};
use uuid::Uuid;

use super::builders::{append, snapshot, stream};
use super::subject::StoreUnderTest;

/// Fingerprints at the limits of a signed 64-bit column, and beyond.
const PRINTS: [Fingerprint; 3] = [Fingerprint(0), Fingerprint(u64::MAX), Fingerprint(1 << 63)];

pub(super) async fn snapshots_round_trip(on: StoreUnderTest) {
    let thing = stream("thing-1");
    on.commit(&append(&thing, 0, 3)).await;
    for (print, size) in PRINTS.into_iter().zip([0, 1, 1024 * 1024]) {
        let saved = Snapshot { bytes: vec![0xA5; size], ..snapshot(3, print) };
        on.save(&thing, &saved).await;
        assert_eq!(on.snapshot(&thing, print).await, Some(saved.clone()));
        assert_eq!(on.load(&thing, print).await, (Some(saved), vec![]));
    }
    assert_eq!(on.snapshot(&stream("thing-2"), PRINTS[0]).await, None);
}

pub(super) async fn older_snapshots_never_replace_newer_ones(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let print = Fingerprint(7);
    on.commit(&append(&thing, 0, 9)).await;
    let saved = snapshot(5, print);
    on.save(&thing, &saved).await;
    for ignored in [1, 4, 5] {
        let other = Snapshot { bytes: b"ignored".to_vec(), ..snapshot(ignored, print) };
        on.save(&thing, &other).await;
        assert_eq!(on.snapshot(&thing, print).await, Some(saved.clone()), "after {ignored}");
    }
    on.save(&thing, &snapshot(6, print)).await;
    assert_eq!(on.snapshot(&thing, print).await, Some(snapshot(6, print)));
}

pub(super) async fn snapshots_are_kept_by_fingerprint(on: StoreUnderTest) {
    let thing = stream("thing-1");
    on.commit(&append(&thing, 0, 4)).await;
    for (print, version) in PRINTS.into_iter().zip([4, 2, 1]) {
        on.save(&thing, &snapshot(version, print)).await;
    }
    for (print, version) in PRINTS.into_iter().zip([4, 2, 1]) {
        assert_eq!(on.snapshot(&thing, print).await, Some(snapshot(version, print)));
        let (found, tail) = on.load(&thing, print).await;
        assert_eq!(found, Some(snapshot(version, print)));
        assert_eq!(tail, on.events_after(&thing, Version::new(version)).await);
    }
    assert_eq!(on.snapshot(&thing, Fingerprint(8)).await, None);
}

pub(super) async fn a_snapshot_shortens_a_load(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let print = Fingerprint(7);
    on.commit(&append(&thing, 0, 5)).await;
    let all = on.events(&thing).await;
    assert_eq!(on.load(&thing, print).await, (None, all.clone()));
    on.save(&thing, &snapshot(3, print)).await;
    assert_eq!(on.load(&thing, print).await, (Some(snapshot(3, print)), all[3..].to_vec()));
    assert_eq!(on.load(&thing, Fingerprint(8)).await, (None, all.clone()));
    on.save(&thing, &snapshot(5, print)).await;
    assert_eq!(on.load(&thing, print).await, (Some(snapshot(5, print)), vec![]));
    on.commit(&append(&thing, 5, 2)).await;
    let (_, tail) = on.load(&thing, print).await;
    assert_eq!(tail.iter().map(|e| e.version.get()).collect::<Vec<_>>(), [6, 7]);
}

pub(super) async fn the_newest_of_concurrent_snapshots_stays(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let print = Fingerprint(7);
    on.commit(&append(&thing, 0, 20)).await;
    let there = on.another_process().await;
    let saves = (1..=20).map(|version| {
        let process = if version % 2 == 0 { on.clone() } else { there.clone() };
        let thing = thing.clone();
        tokio::spawn(async move { process.save(&thing, &snapshot(version, print)).await })
    });
    for save in saves.collect::<Vec<_>>() {
        save.await.expect("the snapshot is saved");
    }
    assert_eq!(on.snapshot(&thing, print).await, Some(snapshot(20, print)));
}

pub(super) async fn a_snapshot_needs_its_event_at_its_version(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let print = Fingerprint(7);
    on.save(&thing, &snapshot(1, print)).await;
    assert_eq!(on.snapshot(&thing, print).await, None);
    on.commit(&append(&thing, 0, 3)).await;
    on.save(&thing, &snapshot(2, print)).await;
    for ahead in [4, 10] {
        on.save(&thing, &snapshot(ahead, print)).await;
        assert_eq!(on.snapshot(&thing, print).await, Some(snapshot(2, print)), "at {ahead}");
    }
    let (found, tail) = on.load(&thing, print).await;
    assert_eq!((found, tail.len()), (Some(snapshot(2, print)), 1));
    on.save(&thing, &snapshot(3, print)).await;
    assert_eq!(on.snapshot(&thing, print).await, Some(snapshot(3, print)));
}

/// A standby may lack the last events of its failed primary, and have others by the time that a
/// snapshot of the lost ones is saved.
pub(super) async fn a_snapshot_needs_the_id_of_its_event(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let print = Fingerprint(7);
    on.commit(&append(&thing, 0, 3)).await;
    let events = on.events(&thing).await;
    for lost in [EventId(Uuid::from_u128(7)), events[1].id] {
        on.save_after(&thing, &snapshot(3, print), lost).await;
        assert_eq!(on.snapshot(&thing, print).await, None);
    }
    on.save_after(&thing, &snapshot(3, print), events[2].id).await;
    assert_eq!(on.snapshot(&thing, print).await, Some(snapshot(3, print)));
}

pub(super) async fn snapshots_above_a_version_are_deleted(on: StoreUnderTest) {
    let (thing, other) = (stream("thing-1"), stream("thing-2"));
    for stream in [&thing, &other] {
        on.commit(&append(stream, 0, 5)).await;
        for (print, version) in PRINTS.into_iter().zip([3, 4, 5]) {
            on.save(stream, &snapshot(version, print)).await;
        }
    }
    on.delete_snapshots(&thing, StaleSnapshots::Above(Version::new(3))).await;
    assert_eq!(on.snapshot(&thing, PRINTS[0]).await, Some(snapshot(3, PRINTS[0])));
    assert_eq!(on.snapshot(&thing, PRINTS[1]).await, None);
    assert_eq!(on.snapshot(&thing, PRINTS[2]).await, None);
    assert_eq!(on.snapshot(&other, PRINTS[2]).await, Some(snapshot(5, PRINTS[2])));
    // Later snapshots are saved as usual.
    on.save(&thing, &snapshot(4, PRINTS[1])).await;
    assert_eq!(on.snapshot(&thing, PRINTS[1]).await, Some(snapshot(4, PRINTS[1])));
}

pub(super) async fn old_snapshots_of_other_fingerprints_are_deleted(on: StoreUnderTest) {
    let (thing, other) = (stream("thing-1"), stream("thing-2"));
    for stream in [&thing, &other] {
        on.commit(&append(stream, 0, 5)).await;
        for (print, version) in PRINTS.into_iter().zip([3, 4, 5]) {
            on.save(stream, &snapshot(version, print)).await;
        }
    }
    let than = PRINTS[1];
    for age in [Duration::from_secs(3_600), Duration::MAX] {
        on.delete_snapshots(&thing, StaleSnapshots::Others { than, age }).await;
        for print in PRINTS {
            assert!(on.snapshot(&thing, print).await.is_some(), "none is so old");
        }
    }
    on.delete_snapshots(&thing, StaleSnapshots::Others { than, age: Duration::ZERO }).await;
    assert_eq!(on.snapshot(&thing, PRINTS[0]).await, None);
    assert_eq!(on.snapshot(&thing, PRINTS[1]).await, Some(snapshot(4, PRINTS[1])));
    assert_eq!(on.snapshot(&thing, PRINTS[2]).await, None);
    assert_eq!(on.snapshot(&other, PRINTS[0]).await, Some(snapshot(3, PRINTS[0])));
}
