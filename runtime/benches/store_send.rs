//! Benchmark of sending to a store whose state is one number, without effects and with one.

use std::hint::black_box;
use std::time::{Duration, Instant};

use composable_rust_core::{effects, prelude::*};
use composable_rust_runtime::Store;
use criterion::Criterion;
use futures_util::future::BoxFuture;
use tokio::runtime::Runtime;

struct Counter;

#[derive(Clone)]
enum Action {
    Increment,
    IncrementTwice,
}

impl Reducer for Counter {
    type State = i64;
    type Action = Action;
    type Environment = ();

    fn reduce(&self, count: &mut i64, action: Action, (): &()) -> Effects<Action> {
        *count += 1;
        match action {
            Action::Increment => effects![],
            Action::IncrementTwice => effects![future(async { Some(Action::Increment) })],
        }
    }
}

/// Between waits, so that effects neither pile up nor wait for room.
const BURST: u64 = 1_000;

fn bare(iterations: u64) -> Duration {
    let mut count = 0;
    let start = Instant::now();
    for _ in 0..iterations {
        let effects = Counter.reduce(black_box(&mut count), black_box(Action::Increment), &());
        black_box(effects.is_empty());
    }
    start.elapsed()
}

async fn without_effects(iterations: u64) -> Duration {
    let store = Store::new(Counter, 0, ());
    let start = Instant::now();
    for _ in 0..iterations {
        black_box(store.send(black_box(Action::Increment)).await).expect("no panic");
    }
    start.elapsed()
}

/// The sender's side: what a send with one effect takes until it returns.
async fn dispatching(iterations: u64) -> Duration {
    let store = Store::new(Counter, 0, ());
    let mut elapsed = Duration::ZERO;
    let mut left = iterations;
    while left > 0 {
        let burst = left.min(BURST);
        let start = Instant::now();
        for _ in 0..burst {
            black_box(store.send(black_box(Action::IncrementTwice)).await).expect("no panic");
        }
        elapsed += start.elapsed();
        while store.running() > 0 {
            tokio::task::yield_now().await;
        }
        left -= burst;
    }
    elapsed
}

/// From the send until the action that the effect brought back is reduced, in bursts.
async fn round_trip(iterations: u64) -> Duration {
    let store = Store::new(Counter, 0, ());
    let start = Instant::now();
    let mut left = iterations;
    while left > 0 {
        let burst = left.min(BURST);
        for _ in 0..burst {
            black_box(store.send(black_box(Action::IncrementTwice)).await).expect("no panic");
        }
        while store.running() > 0 {
            tokio::task::yield_now().await;
        }
        left -= burst;
    }
    start.elapsed()
}

/// The reference: starting a task that does nothing, and that is all.
async fn bare_spawn(iterations: u64) -> Duration {
    let mut elapsed = Duration::ZERO;
    let mut left = iterations;
    while left > 0 {
        let burst = left.min(BURST);
        let start = Instant::now();
        for _ in 0..burst {
            let work: BoxFuture<'static, Option<Action>> = Box::pin(async { None });
            black_box(tokio::spawn(work));
        }
        elapsed += start.elapsed();
        tokio::time::sleep(Duration::from_micros(1)).await;
        left -= burst;
    }
    elapsed
}

fn current_thread() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn multi_thread() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

/// The same side by side, as the ratios that are aimed for.
fn summary() {
    const ROUNDS: u64 = 200_000;
    let nanos = |duration: Duration| {
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 nanoseconds")]
        let nanos = duration.as_nanos() as f64 / ROUNDS as f64;
        nanos
    };
    let best = |run: &dyn Fn() -> Duration| nanos((0..5).map(|_| run()).min().expect("five runs"));
    let (one, many) = (current_thread(), multi_thread());
    let reduce = best(&|| bare(ROUNDS));
    println!("store_send: reduce alone            {reduce:7.1} ns");
    for (threads, runtime) in [("one thread", &one), ("all threads", &many)] {
        let row = |name: &str, run: fn(u64) -> BoxFuture<'static, Duration>, aim: &str| {
            // In a task, as a server's handlers are.
            let send = best(&|| runtime.block_on(runtime.spawn(run(ROUNDS))).expect("no panic"));
            println!("store_send: {threads}, {name:22} {send:7.1} ns {aim}");
        };
        row("without effects", |n| Box::pin(without_effects(n)), "(aim: under 250 ns)");
        row("dispatching one effect", |n| Box::pin(dispatching(n)), "(aim: under 1000 ns)");
        row("a bare tokio::spawn", |n| Box::pin(bare_spawn(n)), "");
        row("effect and its action", |n| Box::pin(round_trip(n)), "");
    }
}

fn send(c: &mut Criterion) {
    let runtime = current_thread();
    let mut group = c.benchmark_group("store_send");
    group.bench_function("without_effects", |b| {
        b.to_async(&runtime).iter_custom(without_effects);
    });
    group.bench_function("dispatching", |b| b.to_async(&runtime).iter_custom(dispatching));
    group.bench_function("round_trip", |b| b.to_async(&runtime).iter_custom(round_trip));
    group.finish();
}

fn main() {
    // Not when `cargo test` merely tries the benchmarks.
    if std::env::args().any(|argument| argument == "--bench") {
        summary();
    }
    let mut criterion = Criterion::default().configure_from_args();
    send(&mut criterion);
    criterion.final_summary();
}
