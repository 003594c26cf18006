//! Events over a real socket, and the end of the server.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use composable_rust_axum::{log_positions, serve};
use composable_rust_core::TargetExt as _;
use composable_rust_runtime::App;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::order::{Order, OrderCommand};
use crate::support::{api, app};

/// A connection that reads server-sent events.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn open(addr: SocketAddr, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Self(BufReader::new(stream))
    }

    /// Returns the next line with this prefix, without it; `None` at the end of the connection.
    async fn line(&mut self, prefix: &str) -> Option<String> {
        let read = async {
            loop {
                let mut line = String::new();
                if self.0.read_line(&mut line).await.unwrap() == 0 {
                    return None;
                }
                if let Some(rest) = line.trim_end().strip_prefix(prefix) {
                    return Some(rest.to_owned());
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), read).await.expect("a line")
    }
}

async fn place(app: &App, units: u32) {
    let place = OrderCommand::Place { units, wrapping: None };
    app.handle(&Order::id("1")).send(place).await.unwrap();
}

async fn ship(app: &App) {
    app.handle(&Order::id("1")).send(OrderCommand::Ship).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_resume_and_end_with_the_server() {
    let app = app();
    let router: Router = api(&app).route("/positions", log_positions(&app));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn({
        let app = app.clone();
        async move {
            let signal = async { stopped.await.unwrap_or(()) };
            serve(&app, listener, router, signal, Duration::from_secs(20)).await
        }
    });

    let mut client = Client::open(addr, "/orders/1/events", "").await;
    assert_eq!(client.line("HTTP/1.1 ").await.as_deref(), Some("200 OK"));
    assert_eq!(client.line("content-type: ").await.as_deref(), Some("text/event-stream"));
    place(&app, 2).await;
    assert_eq!(client.line("id: ").await.as_deref(), Some("1"));
    assert_eq!(client.line("event: ").await.as_deref(), Some("order.placed"));
    let data = client.line("data: ").await.unwrap();
    let data: serde_json::Value = serde_json::from_str(&data).unwrap();
    assert_eq!(data["content"]["units"], 2);
    drop(client);

    // What happens meanwhile is not missed.
    ship(&app).await;
    let mut resumed = Client::open(addr, "/orders/1/events", "Last-Event-ID: 1\r\n").await;
    assert_eq!(resumed.line("id: ").await.as_deref(), Some("2"));
    let mut later = Client::open(addr, "/orders/1/events?after=1", "").await;
    assert_eq!(later.line("event: ").await.as_deref(), Some("order.shipped"));
    let mut bad = Client::open(addr, "/orders/1/events", "Last-Event-ID: x\r\n").await;
    assert_eq!(bad.line("HTTP/1.1 ").await.as_deref(), Some("400 Bad Request"));
    drop(bad);
    let mut positions = Client::open(addr, "/positions", "").await;
    let data = positions.line("data: ").await.unwrap();
    assert!(data.contains(":2\""), "{data}");

    let ended = std::time::Instant::now();
    stop.send(()).unwrap();
    assert_eq!(resumed.line("id: ").await, None);
    assert_eq!(later.line("id: ").await, None);
    assert_eq!(positions.line("data: ").await, None);
    drop((resumed, later, positions));
    assert!(server.await.unwrap().unwrap());
    assert!(ended.elapsed() < Duration::from_secs(15), "streams do not delay the end");
    assert!(TcpStream::connect(addr).await.is_err());
}
