//! What sending to a store costs: with a state of one number, without effects and with one.

use std::hint::black_box;
use std::time::{Duration, Instant};

use composable_rust_core::{effects, prelude::*};
use composable_rust_runtime::Store;
use criterion::{Criterion, criterion_group, criterion_main};
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
        black_box(Counter.reduce(black_box(&mut count), black_box(Action::Increment), &()));
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

fn current_thread() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn multi_thread() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

/// The same side by side, as the ratios that are aimed for.
fn summary(_: &mut Criterion) {
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
    let row = |name: &str, run: &dyn Fn(&Runtime) -> Duration, aim: f64| {
        for (threads, runtime) in [("one thread", &one), ("all threads", &many)] {
            let send = best(&|| run(runtime));
            println!("store_send: {name:14} {threads:11}   {send:7.1} ns   (aim: under {aim} ns)");
        }
    };
    row("no effects,", &|rt| rt.block_on(without_effects(ROUNDS)), 250.0);
    row("one effect,", &|rt| rt.block_on(dispatching(ROUNDS)), 1_000.0);
    row("and its action,", &|rt| rt.block_on(round_trip(ROUNDS)), 2_000.0);
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

criterion_group!(benches, summary, send);
criterion_main!(benches);
