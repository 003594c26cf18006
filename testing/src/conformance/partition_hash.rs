//! A stream's partition is determined by a hash that must never change.

use composable_rust_core::store::LogInfo;

use super::builders::{append, stream};
use super::subject::StoreUnderTest;

/// Names, and their partitions in logs of 3, 8 and 65,535 partitions: xxh3-64 with seed 0, modulo
/// the count. Existing logs depend on these values.
const GOLDEN: [(&str, [u16; 3]); 7] = [
    ("order-1", [2, 6, 9_164]),
    ("order-2", [2, 4, 33_596]),
    ("order-2024-17/ä", [2, 3, 58_517]),
    ("cart-東京 🦀", [0, 3, 18_429]),
    ("thing-it's \"quoted\"", [1, 1, 58_735]),
    ("a-0", [0, 3, 56_337]),
    ("customer-7f9c24e8-3b3f-4a44-9b52-6f2ad1d3c001", [2, 4, 59_699]),
];

pub(super) async fn golden_vectors_hash_to_their_partitions(on: StoreUnderTest) {
    for (name, partitions) in GOLDEN {
        let thing = stream(name);
        let found = [3, 8, u16::MAX]
            .map(|count| LogInfo { partitions: count, ..on.log() }.partition_of(&thing));
        assert_eq!(found, partitions, "{name}");
        on.commit(&append(&thing, 0, 1)).await;
        let position = on.events(&thing).await[0].position;
        let lies = if on.partitions() == 3 { partitions[0] } else { 0 };
        assert_eq!(position.partition, lies, "{name}");
    }
    let long = stream(&format!("thing-{}", "x".repeat(1_000)));
    assert_eq!([3, 8, u16::MAX].map(|count| long.partition(count)), [1, 5, 40_621]);
}

pub(super) async fn events_are_in_the_partition_of_their_hash(on: StoreUnderTest) {
    for n in 0..20 {
        let thing = stream(&format!("thing-{n}"));
        on.commit(&append(&thing, 0, 1)).await;
        let position = on.events(&thing).await[0].position;
        assert_eq!(position.partition, thing.partition(on.partitions()));
    }
}
