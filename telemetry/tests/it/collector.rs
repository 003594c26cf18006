//! The requests that a collector receives from a process configured by its environment.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use composable_rust_core::prelude::*;
use composable_rust_runtime::App;
use composable_rust_telemetry::Telemetry;
use composable_rust_testing::InMemoryEventStore;

use crate::shop::{Bank, Order, OrderCommand, Payment};

/// Reads a request, and returns its path and body.
fn receive(mut client: TcpStream) -> (String, Vec<u8>) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.to_ascii_lowercase();
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    (first.split(' ').nth(1).unwrap().to_owned(), body)
}

#[test]
fn a_collector_receives_traces_and_metrics_until_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, received) = mpsc::channel();
    thread::spawn(move || {
        for client in listener.incoming() {
            if sender.send(receive(client.unwrap())).is_err() {
                return;
            }
        }
    });
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "collector::a_process", "--ignored"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        .status();
    assert!(status.unwrap().success());
    // The thread passes on a request after it has answered it.
    let next = || received.recv_timeout(Duration::from_secs(2)).ok();
    let requests: Vec<_> = std::iter::from_fn(next).collect();
    let has = |path: &str, text: &str| {
        let holds = |body: &[u8]| body.windows(text.len()).any(|part| part == text.as_bytes());
        requests.iter().any(|(of, body)| of == path && holds(body))
    };
    for text in ["send order.place", "decide order", "shop", "deployment.environment.name"] {
        assert!(has("/v1/traces", text), "{text}");
    }
    for text in ["composable_rust_command_duration", "committed", "composable_rust_append_batch"] {
        assert!(has("/v1/metrics", text), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a process of the test above"]
async fn a_process() {
    let telemetry = Telemetry::from_env("shop").unwrap().init().unwrap();
    let app = App::builder(InMemoryEventStore::new());
    let app = app.aggregate::<Order>(()).aggregate::<Payment>(()).gateway(Bank).build().unwrap();
    app.handle(&Order::id("1")).send(OrderCommand::Place).await.unwrap();
    // The instance's task may still hold the span of the command.
    app.shutdown(Duration::from_secs(10)).await;
    telemetry.shutdown();
}
