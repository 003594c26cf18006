//! Reproducible ids and randomness.

use std::sync::atomic::{AtomicU64, Ordering};

use composable_rust_core::environment::{IdGenerator, Rng};
use uuid::Uuid;

/// Sequential ids: `00000000-0000-0000-0000-000000000001` and so on.
///
/// ```
/// use composable_rust_core::environment::IdGenerator;
/// use composable_rust_testing::SequentialIds;
///
/// let ids = SequentialIds::new();
/// assert_eq!(ids.new_id().to_string(), "00000000-0000-0000-0000-000000000001");
/// assert_eq!(ids.new_id(), SequentialIds::nth(2));
/// ```
#[derive(Debug, Default)]
pub struct SequentialIds(AtomicU64);

impl SequentialIds {
    /// A generator that starts at 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// Id number `n`, for a test's expectations.
    pub fn nth(n: u64) -> Uuid {
        Uuid::from_u128(n.into())
    }
}

impl IdGenerator for SequentialIds {
    fn new_id(&self) -> Uuid {
        Self::nth(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// Seeded randomness: the same seed gives the same numbers on every machine.
///
/// The numbers are those of `SplitMix64` (Steele, Lea, Flood 2014): good enough for jitter and for
/// choosing among test cases, not for secrets.
///
/// ```
/// use composable_rust_core::environment::Rng;
/// use composable_rust_testing::SeededRng;
///
/// assert_eq!(SeededRng::new(7).next_u64(), SeededRng::new(7).next_u64());
/// ```
#[derive(Debug)]
pub struct SeededRng(AtomicU64);

/// `SplitMix64`'s increment, 2^64 divided by the golden ratio.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

impl SeededRng {
    /// The generator of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Rng for SeededRng {
    fn next_u64(&self) -> u64 {
        let mut z = self.0.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_split_mix() {
        // The first outputs for seed 1234567 of the algorithm's reference code.
        let rng = SeededRng::new(1_234_567);
        let numbers = [rng.next_u64(), rng.next_u64(), rng.next_u64()];
        assert_eq!(
            numbers,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }
}
