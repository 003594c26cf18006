//! The cost of telemetry: durable sends with everything on and with everything off, in turn.
//!
//! `cargo xtask bench -p composable-rust --bench telemetry` prints the ratio for PostgreSQL, for
//! SQLite, and for the store in memory, where telemetry weighs most. Each round is a process, since
//! a process has one tracer; a thread of the first process is the collector.

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use composable_rust::postgres::PostgresEventStore;
use composable_rust::prelude::*;
use composable_rust::sqlite::SqliteEventStore;
use composable_rust::telemetry::{LogFormat, Telemetry};
use composable_rust::testing::{InMemoryEventStore, TestDatabase};
use support::{ROUNDS, Ticket, median, rate, repeat_for, section, sell};

const STORES: [&str; 3] = ["postgres", "sqlite", "memory"];
/// Without telemetry, with everything, and with one trace in ten.
const MODES: [&str; 3] = ["off", "on", "tenth"];
const CALLERS: usize = 64;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let Some(round) = arguments.iter().position(|argument| argument == "--round") {
        return run_round(&arguments[round + 1], arguments[round + 2] != "off");
    }
    section("Telemetry on and off");
    let collector = collect();
    let has_server = std::env::var_os("DATABASE_URL").is_some();
    if !has_server {
        println!("DATABASE_URL is not set, so PostgreSQL is left out");
    }
    for store in STORES.into_iter().filter(|store| has_server || *store != "postgres") {
        let mut rates = [const { Vec::new() }; MODES.len()];
        for _ in 0..ROUNDS {
            for (mode, rates) in MODES.iter().zip(&mut rates) {
                rates.push(measure(store, mode, collector));
            }
        }
        let [off, on, tenth] = rates.map(median);
        println!(
            "{store:>8}: off {off:>9.0}/s, on {on:>9.0}/s, ratio {:.2}, \
             with one trace in ten {tenth:>9.0}/s, ratio {:.2}",
            on / off,
            tenth / off
        );
    }
}

/// Returns the sends per second of a process.
fn measure(store: &str, mode: &str, collector: SocketAddr) -> f64 {
    let program = std::env::current_exe().expect("the program has a path");
    let mut round = Command::new(program);
    round.args(["--round", store, mode]);
    if mode == "tenth" {
        round.env("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
        round.env("OTEL_TRACES_SAMPLER_ARG", "0.1");
    }
    round.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"));
    let output = round.output().expect("the round starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("not a rate: {text}"))
}

#[tokio::main]
async fn run_round(store: &str, is_on: bool) {
    let telemetry = is_on.then(|| {
        let telemetry = Telemetry::from_env("bench").expect("the variables are valid");
        let telemetry = telemetry.log_format(LogFormat::Json).log_writer(std::io::sink);
        telemetry.init().expect("telemetry starts")
    });
    let folder = tempfile::tempdir().expect("a temporary folder is created");
    let mut database = None;
    let builder = match store {
        "postgres" => {
            let database = database.insert(TestDatabase::create().await);
            let store = PostgresEventStore::connect(&database.url()).await;
            App::builder(store.expect("the store opens"))
        }
        "sqlite" => {
            let store = SqliteEventStore::open(folder.path().join("bench.db")).await;
            App::builder(store.expect("the store opens"))
        }
        _ => App::builder(InMemoryEventStore::with_partitions(8)),
    };
    let app = builder.aggregate::<Ticket>(()).build().expect("the app is valid");
    let sent = rate(CALLERS, |caller| {
        let ticket = app.handle(&Ticket::id(caller.to_string()));
        async move {
            repeat_for(|| async {
                ticket.send(sell()).await.expect("the sale succeeds");
            })
            .await
        }
    })
    .await;
    drop(telemetry);
    println!("{sent}");
}

/// Starts a collector that accepts everything.
fn collect() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("the port is known");
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || while accept(&client).is_some() {});
        }
    });
    address
}

/// Reads a request and accepts it; `None` at the end of the connection.
fn accept(mut client: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(client);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.to_ascii_lowercase();
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).ok()?;
    client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()
}
