//! Measures the overhead of the counter, as a reducer and as an aggregate, over a bare `match`.

#![allow(missing_docs, reason = "criterion's macros generate public items")]

use std::hint::black_box;
use std::time::Instant;

use composable_rust::prelude::*;
use composable_rust::testing::fixtures;
use counter::{Counter, CounterCommand, CounterEvent, Tally, TallyAction};
use criterion::{Criterion, criterion_group, criterion_main};

fn bare(count: &mut i64, action: TallyAction) {
    match action {
        TallyAction::Increment => *count += 1,
        TallyAction::Decrement => *count -= 1,
    }
}

fn action(n: u64) -> TallyAction {
    if n % 3 == 0 { TallyAction::Decrement } else { TallyAction::Increment }
}

fn command(n: u64) -> CounterCommand {
    if n % 3 == 0 { CounterCommand::Decrement } else { CounterCommand::Increment }
}

fn reduce(count: &mut i64, n: u64) {
    let effects = Tally.reduce(count, black_box(action(n)), &());
    black_box(effects.is_empty());
}

fn handle(counter: &mut Counter, n: u64, ctx: &Context<Counter>) {
    if let Ok(outcome) = counter.decide(black_box(command(n)), ctx) {
        for event in outcome.events {
            counter.apply(event.clone());
            black_box(counter.react(&event, ctx).is_empty());
        }
    }
}

fn bare_rules(count: &mut u64, command: &CounterCommand) -> Option<CounterEvent> {
    match command {
        CounterCommand::Increment => {
            *count += 1;
            Some(CounterEvent::Incremented)
        }
        CounterCommand::Decrement if *count == 0 => None,
        CounterCommand::Decrement => {
            *count -= 1;
            Some(CounterEvent::Decremented)
        }
    }
}

fn benches(criterion: &mut Criterion) {
    let id = Counter::id("1");
    let incoming = fixtures::incoming(1, Timestamp::EPOCH);
    let log_id = fixtures::metadata().correlation_id.0;
    let version = composable_rust::Version::ZERO;
    let ctx = Context::<Counter>::new(log_id, &id, version, &incoming, &());
    let mut group = criterion.benchmark_group("counter");
    let (mut n, mut count) = (0, 0);
    group.bench_function("bare match", |b| {
        b.iter(|| {
            n += 1;
            bare(black_box(&mut count), black_box(action(n)));
        });
    });
    group.bench_function("reduce", |b| {
        b.iter(|| {
            n += 1;
            reduce(black_box(&mut count), n);
        });
    });
    let mut counter = Counter::default();
    group.bench_function("decide, apply, react", |b| {
        b.iter(|| {
            n += 1;
            handle(black_box(&mut counter), n, &ctx);
        });
    });
    group.finish();
    // `cargo test` runs each benchmark once, without this argument, and needs no comparison.
    if std::env::args().any(|argument| argument == "--bench") {
        compare(&ctx);
    }
}

/// Measures both overheads, and prints them beside their aims. The variants run in alternation, so
/// that changes in the machine's speed affect all of them.
fn compare(ctx: &Context<Counter>) {
    const TIMES: u64 = 20_000_000;
    let nanos = |work: &mut dyn FnMut(u64)| {
        let started = Instant::now();
        for n in 0..TIMES {
            work(n);
        }
        #[expect(clippy::cast_precision_loss, reason = "a duration needs no exact value")]
        let each = started.elapsed().as_nanos() as f64 / TIMES as f64;
        each
    };
    let (mut count, mut rules, mut counter) = (0_i64, 0_u64, Counter::default());
    let mut minimum = [f64::MAX; 4];
    for _ in 0..5 {
        let round = [
            nanos(&mut |n| bare(black_box(&mut count), black_box(action(n)))),
            nanos(&mut |n| reduce(black_box(&mut count), n)),
            nanos(&mut |n| {
                black_box(bare_rules(black_box(&mut rules), black_box(&command(n))));
            }),
            nanos(&mut |n| handle(black_box(&mut counter), n, ctx)),
        ];
        for (minimum, value) in minimum.iter_mut().zip(round) {
            *minimum = minimum.min(value);
        }
    }
    let [bare, reduce, rules, handle] = minimum;
    println!(
        "reduce + effects: {reduce:.1} ns, bare match {bare:.1} ns, {:+.1}   aim < 20",
        reduce - bare
    );
    println!(
        "decide + apply + react: {handle:.1} ns, bare match {rules:.1} ns, {:+.1}   aim < 10",
        handle - rules
    );
}

criterion_group!(counter_benches, benches);
criterion_main!(counter_benches);
