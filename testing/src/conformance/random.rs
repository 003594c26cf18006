//! Seeded randomness, and tasks.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinHandle;

/// The generator of one task of a case. `CONFORMANCE_SEED` selects another seed. Default: 1.
pub(super) fn rng(case: &str, task: u64) -> StdRng {
    let seed: u64 = match std::env::var("CONFORMANCE_SEED") {
        Ok(text) => text.parse().expect("CONFORMANCE_SEED is a number"),
        Err(_) => 1,
    };
    if task == 0 {
        // Printed if the test fails.
        println!("{case}: repeat this course with CONFORMANCE_SEED={seed}");
    }
    StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(task))
}

/// Waits for a random time: none, some turns of other tasks, or at most `longest`.
pub(super) async fn moment(rng: &mut StdRng, longest: Duration) {
    if rng.random() {
        for _ in 0..rng.random_range(0..12) {
            tokio::task::yield_now().await;
        }
    } else {
        tokio::time::sleep(rng.random_range(Duration::ZERO..longest)).await;
    }
}

/// Lets ready tasks take some steps, after which a reader most likely waits.
pub(super) async fn others_go_on() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// Returns the task's value, or resumes its panic.
pub(super) async fn joined<T>(task: JoinHandle<T>) -> T {
    match task.await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => panic!("a task of the case ended early: {error}"),
        },
    }
}
