//! The process of a service, as its store sees it: it can crash.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use composable_rust_core::Timestamp;
use composable_rust_core::environment::Clock;
use composable_rust_core::store::{EventStore, Presence, StoreError};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _};
use uuid::Uuid;

use crate::MockClock;
use crate::intercept::{CallKind, Intercept, StoreCall, StreamRows};

/// A process. Once it has crashed, none of its calls reaches the store, and neither a call nor a
/// sleep returns.
#[derive(Debug, Default)]
pub(super) struct Process {
    has_crashed: AtomicBool,
    presences: Mutex<Vec<PresenceUntilCrash>>,
}

type PresenceUntilCrash = Arc<Mutex<Option<Box<dyn Presence>>>>;

impl Process {
    pub(super) fn crash(&self) {
        self.has_crashed.store(true, Ordering::SeqCst);
        for presence in lock(&self.presences).drain(..) {
            drop(lock(&presence).take());
        }
    }

    async fn alive(&self) {
        if self.has_crashed.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }
}

impl<S: EventStore> Intercept<S> for Process {
    async fn call<T: Send>(
        &self,
        _: StoreCall,
        made: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.alive().await;
        let answer = made.await;
        self.alive().await;
        answer
    }

    fn load<'a>(&'a self, _: StoreCall, rows: StreamRows<'a>) -> StreamRows<'a> {
        let rows = async move {
            self.alive().await;
            rows
        };
        stream::once(rows).flatten().boxed()
    }

    fn attend(&self, store: &S, holder: Uuid) -> Option<Box<dyn Presence>> {
        let presence = Arc::new(Mutex::new(Some(store.attend(holder)?)));
        lock(&self.presences).push(Arc::clone(&presence));
        Some(Box::new(CrashingPresence(presence)))
    }
}

/// The clock of a process.
#[derive(Debug)]
pub(super) struct ProcessClock {
    pub(super) clock: MockClock,
    pub(super) process: Arc<Process>,
}

impl Clock for ProcessClock {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (sleep, process) = (self.clock.sleep(duration), Arc::clone(&self.process));
        Box::pin(async move {
            process.alive().await;
            sleep.await;
            process.alive().await;
        })
    }
}

/// A presence that ends with its process.
#[derive(Debug)]
struct CrashingPresence(PresenceUntilCrash);

impl Presence for CrashingPresence {
    fn lease_changes(&self, seen: u64) -> BoxFuture<'static, u64> {
        match &*lock(&self.0) {
            Some(presence) => presence.lease_changes(seen),
            None => Box::pin(std::future::pending()),
        }
    }
}

impl Drop for CrashingPresence {
    fn drop(&mut self) {
        drop(lock(&self.0).take());
    }
}

/// Counts the calls of a store, for a world that waits until there are none.
#[derive(Debug, Default)]
pub(super) struct Calls {
    made: AtomicU64,
    under_way: AtomicU64,
}

impl Calls {
    /// Returns the number of calls, without those that wait for news.
    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::SeqCst)
    }

    /// Returns the number of calls that are under way.
    pub(super) fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::SeqCst)
    }
}

struct UnderWay<'a>(&'a AtomicU64);

impl<'a> UnderWay<'a> {
    fn of(calls: &'a Calls) -> Self {
        calls.made.fetch_add(1, Ordering::SeqCst);
        calls.under_way.fetch_add(1, Ordering::SeqCst);
        Self(&calls.under_way)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<S: EventStore> Intercept<S> for Calls {
    async fn call<T: Send>(
        &self,
        call: StoreCall,
        made: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let _under_way = (call.kind != CallKind::Wait).then(|| UnderWay::of(self));
        made.await
    }

    fn load<'a>(&'a self, _: StoreCall, rows: StreamRows<'a>) -> StreamRows<'a> {
        let under_way = UnderWay::of(self);
        rows.inspect(move |_| {
            let _ = &under_way;
        })
        .boxed()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
