//! Waiting until nothing moves.

use std::time::Duration;

use composable_rust_core::store::EventStore;

use super::World;
use super::process::Calls;
use super::service::Service;

/// The number of times that all tasks run without any sign of activity before a world is at rest.
const QUIET_TURNS: u32 = 8;
/// The number of the store's calls at one moment after which a world does not come to rest.
const MAX_CALLS: u64 = 10_000;
/// The real time for which another thread's work on a store or a read model is waited for. After
/// it, the work counts as waiting for a later moment.
const MAX_REAL_WAIT: Duration = Duration::from_secs(5);
/// The real time between two looks at such work.
const REAL_PAUSE: Duration = Duration::from_millis(1);

/// The signs of activity since a world began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Activity {
    /// The number of calls of stores.
    calls: u64,
    /// The number of times that a task began to sleep.
    sleeps: u64,
    /// The number of operations of stores and read models that are under way.
    under_way: u64,
}

impl<S: EventStore + Clone> World<S> {
    fn activity(&self) -> Activity {
        let calls = || self.services.iter().map(Service::calls);
        let of_stores: u64 = calls().map(Calls::under_way).sum();
        let of_models: u64 =
            self.services.iter().map(|service| service.app.read_model_operations()).sum();
        // What sleeps until a later moment of the world is no other thread's work.
        let of_models = of_models.saturating_sub(self.environment.clock.sleeping_operations());
        Activity {
            calls: calls().map(Calls::made).sum(),
            sleeps: self.environment.clock.sleeps(),
            under_way: of_stores + of_models,
        }
    }

    /// Waits until nothing moves.
    ///
    /// # Errors
    ///
    /// The reason for which it does not come to rest.
    pub(super) async fn rest(&self) -> Result<(), String> {
        let mut last = self.activity();
        let most = last.calls + MAX_CALLS;
        let (mut quiet, mut waited) = (0, Duration::ZERO);
        while quiet < QUIET_TURNS {
            tokio::task::yield_now().await;
            let now = self.activity();
            if now.calls > most {
                return Err(format!("the store was called {MAX_CALLS} times, and is called again"));
            }
            if now != last {
                (last, quiet, waited) = (now, 0, Duration::ZERO);
            } else if now.under_way > 0 && waited < MAX_REAL_WAIT {
                tokio::time::sleep(REAL_PAUSE).await;
                waited += REAL_PAUSE;
            } else {
                quiet += 1;
            }
        }
        Ok(())
    }
}
