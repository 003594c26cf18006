//! Arming and firing timers, with a million of them pending.
//!
//! Needs `DATABASE_URL`: `cargo xtask bench --bench timers` has it. `BENCH_TIMERS` is the number
//! of pending timers.

#![allow(clippy::cast_precision_loss, reason = "rates are not exact")]

mod support;

use std::time::{Duration, Instant};

use composable_rust::codec::Codecs;
use composable_rust::event::NewEvent;
use composable_rust::postgres::PostgresEventStore;
use composable_rust::prelude::*;
use composable_rust::store::{
    Append, Due, EventStore as _, ExpectedVersion, NewTimer, TimerArming, TimerChange,
};
use composable_rust::{EventId, MessageId};
use serde::{Deserialize, Serialize};
use support::{report, section};
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Alarm {
    rang: bool,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum AlarmCommand {
    #[message(internal)]
    Ring,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum AlarmEvent {
    Set,
    Rang,
}

impl Aggregate for Alarm {
    const NAME: &'static str = "alarm";
    type Command = AlarmCommand;
    type Event = AlarmEvent;
    type Rejection = std::convert::Infallible;
    type Environment = ();

    fn decide(&self, _: AlarmCommand, _: &Context<Self>) -> Decision<Self> {
        record(AlarmEvent::Rang)
    }

    fn apply(&mut self, event: AlarmEvent) {
        self.rang = event == AlarmEvent::Rang;
    }
}

const METADATA: &str = r#"{"correlation":"6b1f7c0e-1f0a-4c35-9d7e-0f0f2a2f7b11","causation":"6b1f7c0e-1f0a-4c35-9d7e-0f0f2a2f7b11"}"#;
const FIRED: usize = 20_000;

#[tokio::main]
async fn main() {
    let Ok(url) = std::env::var("DATABASE_URL") else {
        println!("timers: skipped; run `cargo xtask bench` to have a server");
        return;
    };
    let pending = std::env::var("BENCH_TIMERS").ok().and_then(|n| n.parse().ok());
    let pending = pending.unwrap_or(1_000_000);
    section("Timers, PostgreSQL");
    let pool = sqlx::PgPool::connect(&url).await.expect("a server");
    let schema = format!("timers_{}", Uuid::new_v4().simple());
    sqlx::query(&format!("create schema {schema}")).execute(&pool).await.expect("a schema");
    let with = if url.contains('?') { "&" } else { "?" };
    let url = format!("{url}{with}options=-csearch_path%3D{schema}");
    let store = PostgresEventStore::connect(&url).await.expect("a store");
    let app = App::builder(store.clone()).aggregate::<Alarm>(()).build().expect("a correct app");
    app.start();

    let few = fire(&app, &store, "few").await;
    let (began, year) = (Instant::now(), Duration::from_secs(365 * 24 * 3_600));
    arm(&store, "pending", pending, year).await;
    let rate = pending as f64 / began.elapsed().as_secs_f64();
    println!(
        "{:<52} {rate:>10.0}/s   one each in an append with one event, batches of 500",
        "arming"
    );
    let many = fire(&app, &store, "many").await;
    report(&format!("firing, {pending} pending"), many, "firing, none pending", few, "1");

    // An idle server process reports its statistics within ten seconds.
    let told = Duration::from_secs(12);
    let commits = async || -> i64 {
        let sql = "select xact_commit from pg_stat_database where datname = current_database()";
        tokio::time::sleep(told).await;
        sqlx::query_scalar(sql).fetch_one(&pool).await.expect("statistics")
    };
    let before = commits().await;
    let statements = (commits().await - before) as f64 / told.as_secs_f64();
    println!("{:<52} {statements:>10.1}/s   statements of an idle app", "idle");
    app.shutdown(Duration::from_secs(5)).await;
    sqlx::query(&format!("drop schema {schema} cascade")).execute(&pool).await.expect("dropped");
}

async fn arm(store: &PostgresEventStore, name: &str, count: usize, after: Duration) {
    let (codecs, log) = (Codecs::default(), store.log());
    let mut batches: Vec<Vec<Append>> = vec![Vec::new(); usize::from(log.partitions)];
    for n in 0..count {
        let stream = Alarm::id(format!("{name}-{n}")).stream();
        let message = MessageId(Uuid::new_v4());
        let event = NewEvent {
            id: EventId(Uuid::new_v4()),
            content: codecs.encode(&stream, &AlarmEvent::Set).expect("an event"),
            metadata: METADATA.to_owned(),
        };
        let timer = NewTimer {
            id: "ring".to_owned(),
            arming: TimerArming { armed_by: message, effect_index: 0 },
            due: Due::After(after),
            content: codecs.encode(&stream, &AlarmCommand::Ring).expect("a command"),
            metadata: METADATA.to_owned(),
        };
        let partition = log.partition_of(&stream);
        let mut append = Append::new(stream, ExpectedVersion::EMPTY).with_events(vec![event]);
        append.timers.push(TimerChange::Arm(timer));
        let batch = &mut batches[usize::from(partition)];
        batch.push(append);
        if batch.len() == 500 {
            store.append_events(partition, batch).await.expect("an append");
            batch.clear();
        }
    }
    for (partition, batch) in (0..).zip(batches) {
        store.append_events(partition, &batch).await.expect("an append");
    }
}

/// Returns the timers fired per second when all are due at once.
async fn fire(app: &App, store: &PostgresEventStore, name: &str) -> f64 {
    let heads = async || -> u64 {
        store.heads().await.expect("the heads").iter().map(|head| head.offset).sum()
    };
    let before = heads().await;
    // All are due together, after the last is armed.
    arm(store, name, FIRED, Duration::from_secs(3)).await;
    let mut began = Instant::now();
    let mut started = false;
    loop {
        let done = heads().await - before;
        if done > FIRED as u64 && !started {
            (began, started) = (Instant::now(), true);
        }
        if done >= 2 * FIRED as u64 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let _ = app;
    FIRED as f64 / began.elapsed().as_secs_f64()
}
