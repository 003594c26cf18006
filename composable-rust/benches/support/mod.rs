//! The benchmarks' shared code: an aggregate, the measuring of rounds, and the printing of results.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::future::Future;
use std::time::{Duration, Instant};

use composable_rust::prelude::*;
use serde::{Deserialize, Serialize};

/// An aggregate as large as a typical order: its events have about 50 bytes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Ticket {
    pub(crate) sold: u64,
    pub(crate) last: String,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum TicketCommand {
    Sell { to: String, cents: u64 },
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum TicketEvent {
    Sold { to: String, cents: u64, at: Timestamp },
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum TicketError {
    Free,
}

impl Aggregate for Ticket {
    const NAME: &'static str = "ticket";
    type Command = TicketCommand;
    type Event = TicketEvent;
    type Rejection = TicketError;
    type Environment = ();

    fn decide(&self, command: TicketCommand, ctx: &Context<Self>) -> Decision<Self> {
        match command {
            TicketCommand::Sell { cents: 0, .. } => reject(TicketError::Free),
            TicketCommand::Sell { to, cents } => {
                record(TicketEvent::Sold { to, cents, at: ctx.now() })
            }
        }
    }

    fn apply(&mut self, event: TicketEvent) {
        let TicketEvent::Sold { to, .. } = event;
        self.sold += 1;
        self.last = to;
    }
}

pub(crate) fn sell() -> TicketCommand {
    TicketCommand::Sell { to: "somebody with a name of average length".into(), cents: 1_250 }
}

/// Returns the duration of a round, from `BENCH_ROUND_MS`. Default: 2 seconds.
pub(crate) fn round() -> Duration {
    let millis = std::env::var("BENCH_ROUND_MS").ok().and_then(|text| text.parse().ok());
    Duration::from_millis(millis.unwrap_or(2_000))
}

/// The number of rounds of a measurement. Its result is their median.
pub(crate) const ROUNDS: usize = 5;

/// Runs `work` in `tasks` concurrent tasks, each of which returns its number of completions.
/// Returns the completions per second of all tasks together.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and a rate need not be")]
pub(crate) async fn rate<F, Fut>(tasks: usize, work: F) -> f64
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = u64> + Send + 'static,
{
    let began = Instant::now();
    let running: Vec<_> = (0..tasks).map(|task| tokio::spawn(work(task))).collect();
    let mut done = 0;
    for task in running {
        done += task.await.expect("a benchmark does not panic");
    }
    done as f64 / began.elapsed().as_secs_f64()
}

/// Repeats `work` until the round is over. Returns the number of completions.
pub(crate) async fn repeat_for<Fut: Future<Output = ()>>(mut work: impl FnMut() -> Fut) -> u64 {
    let (began, round) = (Instant::now(), round());
    let mut done = 0;
    while began.elapsed() < round {
        work().await;
        done += 1;
    }
    done
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints one line: the name, the rate, the reference and its rate, the ratio, and the aim.
pub(crate) fn report(what: &str, value: f64, reference: &str, other: f64, aim: &str) {
    println!(
        "{what:<52} {value:>10.0}/s   {reference:<34} {other:>10.0}/s   ratio {:>6.2}   aim {aim}",
        value / other
    );
}

pub(crate) fn section(title: &str) {
    println!("\n{title}");
}
