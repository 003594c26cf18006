//! A store as one process reaches it: it can freeze, crash, lose responses and hold them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use composable_rust_core::StreamId;
use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::queue::{CheckpointAdvance, OutboxMessage};
use composable_rust_core::store::{
    Append, AppendOutcome, EventStore, Presence, StoreError, StreamRow,
};
use composable_rust_testing::{Intercept, Intercepted, StoreCall, StreamRows};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::watch;
use uuid::Uuid;

/// The state of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProcessState {
    Running,
    /// Its calls wait.
    Frozen,
    /// Its calls never return, and have no effect.
    Dead,
}

/// The outcome of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// None: the call is done.
    None,
    /// The call is not made, and rejected as invalid.
    Rejected,
    /// The call is not made, and reported as unavailable.
    FailsBefore,
    /// The call is made, and reported as unavailable.
    FailsAfter,
    /// The call is not made, and reported as unavailable after this many milliseconds.
    FailsIn(u64),
    /// The call is made, and its response is held until the test releases it.
    Held,
    /// The process crashes before the call.
    CrashesBefore,
    /// The process crashes after the call.
    CrashesAfter,
}

/// A store that behaves as its process does. Clones belong to the same process.
pub(crate) type Node<S> = Intercepted<S, NodeProcess>;

/// The process, which a test controls.
#[derive(Debug)]
pub(crate) struct NodeProcess {
    state: watch::Sender<ProcessState>,
    held: watch::Sender<bool>,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Debug, Default)]
struct Plan {
    mishaps: BTreeMap<&'static str, VecDeque<Mishap>>,
    slow: BTreeMap<&'static str, Duration>,
    counts: BTreeMap<&'static str, u64>,
    holding: u32,
    calls: u64,
    /// The number of the call at which the process crashes, and whether that call is made.
    crash_at: Option<(u64, bool)>,
    /// A stream for which every batch with an append fails, reported as unavailable.
    failing: Option<StreamId>,
    /// A partition in which enqueueing waits for a lock, in vain.
    locked: Option<u16>,
    /// Changes to the rows of the next loads.
    rewrites: VecDeque<Rewrite>,
    /// The number of open loads, now and at most.
    open: (u32, u32),
    /// The most bytes of events that a page of the log had.
    largest_page: usize,
}

struct Rewrite(Box<dyn FnOnce(Vec<StreamRow>) -> Vec<StreamRow> + Send>);

impl fmt::Debug for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rewrite")
    }
}

/// A load whose rows are being read.
struct Open(Arc<Mutex<Plan>>);

impl Open {
    fn new(plan: &Arc<Mutex<Plan>>) -> Self {
        let mut open = plan.lock().unwrap();
        open.open.0 += 1;
        open.open.1 = open.open.1.max(open.open.0);
        Self(Arc::clone(plan))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().unwrap().open.0 -= 1;
    }
}

impl NodeProcess {
    /// Starts a process that reaches the store.
    pub(crate) fn start<S>(store: S) -> Node<S> {
        let (state, held) = (watch::Sender::new(ProcessState::Running), watch::Sender::new(true));
        Node::layered(store, Self { state, held, plan: Arc::default() })
    }

    /// Crashes the process: no later call reaches the store.
    pub(crate) fn crash(&self) {
        self.state.send_replace(ProcessState::Dead);
    }

    /// Crashes the process at the call of this number, before or after it is made.
    pub(crate) fn crash_at(&self, call: u64, is_done: bool) {
        self.plan().crash_at = Some((call, is_done));
    }

    /// The number of calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.plan().calls
    }

    /// Freezes the process, as `SIGSTOP` does.
    pub(crate) fn freeze(&self) {
        self.state.send_replace(ProcessState::Frozen);
    }

    /// Thaws the process, as `SIGCONT` does.
    pub(crate) fn wake(&self) {
        self.state.send_replace(ProcessState::Running);
    }

    /// Sets the outcomes of the next calls of the method.
    pub(crate) fn next(&self, method: &'static str, mishaps: impl IntoIterator<Item = Mishap>) {
        self.plan().mishaps.entry(method).or_default().extend(mishaps);
    }

    /// Fails appends to the stream from now on; `None` ends it.
    pub(crate) fn fail_appends_of(&self, stream: Option<StreamId>) {
        self.plan().failing = stream;
    }

    /// Makes enqueueing in the partition wait five seconds and fail from now on; `None` ends it.
    pub(crate) fn lock(&self, partition: Option<u16>) {
        self.plan().locked = partition;
    }

    /// Changes the rows of the next load without a change.
    pub(crate) fn next_load(
        &self,
        rewrite: impl FnOnce(Vec<StreamRow>) -> Vec<StreamRow> + Send + 'static,
    ) {
        self.plan().rewrites.push_back(Rewrite(Box::new(rewrite)));
    }

    /// The most loads that were open at a time.
    pub(crate) fn most_open(&self) -> u32 {
        self.plan().open.1
    }

    /// The most bytes of events that a page of the log had.
    pub(crate) fn largest_page(&self) -> usize {
        self.plan().largest_page
    }

    /// Delays each call of the method from now on.
    pub(crate) fn slow(&self, method: &'static str, time: Duration) {
        self.plan().slow.insert(method, time);
    }

    /// `true` while a response is held.
    pub(crate) fn holds(&self) -> bool {
        self.plan().holding > 0
    }

    /// Releases all held responses.
    pub(crate) fn release(&self) {
        self.held.send_replace(false);
    }

    /// The number of calls of each method.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.plan().counts.clone()
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap()
    }

    async fn alive(&self) {
        let mut state = self.state.subscribe();
        let running =
            state.wait_for(|state| *state != ProcessState::Frozen).await.map(|state| *state);
        if running.ok() != Some(ProcessState::Running) {
            std::future::pending::<()>().await;
        }
    }

    async fn pass<T>(
        &self,
        method: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.alive().await;
        let mishap = {
            let mut plan = self.plan();
            *plan.counts.entry(method).or_default() += 1;
            plan.calls += 1;
            match plan.crash_at {
                Some((call, is_done)) if call == plan.calls => {
                    Some(if is_done { Mishap::CrashesAfter } else { Mishap::CrashesBefore })
                }
                _ => plan.mishaps.get_mut(method).and_then(VecDeque::pop_front),
            }
        };
        if mishap == Some(Mishap::CrashesBefore) {
            self.crash();
            self.alive().await;
        }
        if let Some(Mishap::FailsIn(millis)) = mishap {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            return Err(StoreError::unavailable("failed after a while"));
        }
        if mishap == Some(Mishap::Rejected) {
            return Err(StoreError::Invalid("the call is rejected".to_owned()));
        }
        if mishap == Some(Mishap::FailsBefore) {
            return Err(StoreError::unavailable("failed before"));
        }
        let slow = self.plan().slow.get(method).copied();
        if let Some(time) = slow {
            tokio::time::sleep(time).await;
        }
        let answer = call.await;
        match mishap {
            Some(Mishap::FailsAfter) => return Err(StoreError::unavailable("failed after")),
            Some(Mishap::Held) => {
                self.plan().holding += 1;
                let _ = self.held.subscribe().wait_for(|held| !held).await;
                self.plan().holding -= 1;
            }
            Some(Mishap::CrashesAfter) => self.crash(),
            _ => {}
        }
        self.alive().await;
        answer
    }
}

impl<S: EventStore> Intercept<S> for NodeProcess {
    async fn call<T: Send>(
        &self,
        call: StoreCall,
        made: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.pass(call.method, made).await
    }

    /// The leases of a process that freezes or crashes expire.
    fn attend(&self, _: &S, _: Uuid) -> Option<Box<dyn Presence>> {
        None
    }

    fn load<'a>(&'a self, call: StoreCall, rows: StreamRows<'a>) -> StreamRows<'a> {
        let rows = async move {
            self.pass(call.method, std::future::ready(Ok(()))).await?;
            let open = Open::new(&self.plan);
            let rewrite = self.plan().rewrites.pop_front();
            let rows = match rewrite {
                None => rows,
                Some(Rewrite(rewrite)) => {
                    let rows = rewrite(rows.try_collect().await?);
                    stream::iter(rows.into_iter().map(Ok)).boxed()
                }
            };
            Ok(rows.inspect(move |_| {
                let _ = &open;
            }))
        };
        stream::once(rows).try_flatten().boxed()
    }

    async fn append_events(
        &self,
        store: &S,
        partition: u16,
        batch: &[Append],
    ) -> Result<Vec<AppendOutcome>, StoreError> {
        let failing = self.plan().failing.clone();
        if batch.iter().any(|append| Some(&append.stream) == failing.as_ref()) {
            let failed = std::future::ready(Err(StoreError::unavailable("a damaged page")));
            return self.pass("append_events", failed).await;
        }
        self.pass("append_events", store.append_events(partition, batch)).await
    }

    fn after_read_log(&self, events: Vec<StoredEvent>) -> Vec<StoredEvent> {
        let size = |event: &StoredEvent| match &event.content {
            StoredContent::Present(content) => content.bytes.len(),
            _ => 0,
        };
        let page = events.iter().map(size).sum();
        let mut plan = self.plan();
        plan.largest_page = plan.largest_page.max(page);
        events
    }

    async fn enqueue(
        &self,
        store: &S,
        partition: u16,
        rows: &[OutboxMessage],
        advance: Option<&CheckpointAdvance>,
    ) -> Result<bool, StoreError> {
        let locked = self.plan().locked;
        if locked == Some(partition) && !rows.is_empty() {
            tokio::time::sleep(Duration::from_secs(5)).await;
            return Err(StoreError::unavailable("the partition is locked"));
        }
        self.pass("enqueue", store.enqueue(partition, rows, advance)).await
    }
}
