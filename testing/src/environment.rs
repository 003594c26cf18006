//! Environments that fail the test on unexpected use.

use std::time::Duration;

use composable_rust_core::Timestamp;
use composable_rust_core::environment::{Clock, IdGenerator, Rng};
use futures_util::future::BoxFuture;
use uuid::Uuid;

/// Fails the test because it used a dependency that it did not provide. For the methods of custom
/// test doubles.
///
/// # Panics
///
/// Always panics, with the name of the dependency and the remedy.
///
/// ```should_panic
/// use composable_rust_testing::unimplemented_dependency;
///
/// trait Prices {
///     fn cents(&self, sku: &str) -> u64;
/// }
///
/// struct NoPrices;
/// impl Prices for NoPrices {
///     fn cents(&self, _: &str) -> u64 {
///         unimplemented_dependency("Prices::cents")
///     }
/// }
///
/// // Panics: `Prices::cents` was used, and the test's environment does not give it.
/// NoPrices.cents("pencil");
/// ```
#[track_caller]
pub fn unimplemented_dependency(name: &str) -> ! {
    panic!(
        "`{name}` was used, and the test's environment does not give it.\n\n\
         If the code under test should use it here, put a value for `{name}` into the environment \
         of this test.\nIf it should not, the test has found a mistake."
    )
}

/// A closure for an environment's field that fails the test when called. For closures with another
/// number of parameters write `|_, _| unimplemented_dependency("…")`.
///
/// ```
/// use composable_rust_testing::unimplemented_fn;
///
/// struct Environment {
///     price: Box<dyn Fn(&'static str) -> u64>,
/// }
///
/// let env = Environment { price: Box::new(unimplemented_fn("Environment::price")) };
/// # let _ = env.price;
/// ```
pub fn unimplemented_fn<T, R>(
    name: &'static str,
) -> impl Fn(T) -> R + Clone + Send + Sync + 'static {
    move |_| unimplemented_dependency(name)
}

/// Ports of the core that fail the test when used; made by [`unimplemented_clock`],
/// [`unimplemented_ids`] and [`unimplemented_rng`].
#[derive(Debug, Clone, Copy)]
pub struct Unimplemented(());

/// A clock that fails the test when used. Where time matters, use [`MockClock`](crate::MockClock).
pub fn unimplemented_clock() -> Unimplemented {
    Unimplemented(())
}

/// An id generator that fails the test when used. Where ids matter, use
/// [`SequentialIds`](crate::SequentialIds).
pub fn unimplemented_ids() -> Unimplemented {
    Unimplemented(())
}

/// A source of randomness that fails the test when used. Where randomness matters, use
/// [`SeededRng`](crate::SeededRng).
pub fn unimplemented_rng() -> Unimplemented {
    Unimplemented(())
}

impl Clock for Unimplemented {
    #[track_caller]
    fn now(&self) -> Timestamp {
        use_of("Clock::now", "MockClock::new()")
    }

    #[track_caller]
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        use_of("Clock::sleep", "MockClock::new()")
    }
}

impl IdGenerator for Unimplemented {
    #[track_caller]
    fn new_id(&self) -> Uuid {
        use_of("IdGenerator::new_id", "SequentialIds::new()")
    }
}

impl Rng for Unimplemented {
    #[track_caller]
    fn next_u64(&self) -> u64 {
        use_of("Rng::next_u64", "SeededRng::new(1)")
    }
}

#[track_caller]
fn use_of(method: &str, instead: &str) -> ! {
    panic!(
        "`{method}` was used, and the test's environment does not give it.\n\n\
         If the code under test should use it here, put this into the environment of this \
         test:\n\n    {instead}\n\nIf it should not, the test has found a mistake."
    )
}
