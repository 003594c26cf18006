//! A collector of telemetry that counts what it gets and keeps nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::Context as _;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use tokio::net::TcpListener;

/// A running collector of the protocol OTLP over HTTP.
#[derive(Debug)]
pub(super) struct Collector {
    pub(super) addr: SocketAddr,
    bytes: Arc<AtomicU64>,
}

impl Collector {
    /// Starts a collector on a free port. It ends with the runtime.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
        let addr = listener.local_addr().context("cannot listen")?;
        let bytes = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&bytes);
        let router = Router::new().fallback(async move |body: Body| {
            let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
            counter.fetch_add(body.len() as u64, Relaxed);
            StatusCode::OK
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { addr, bytes })
    }

    /// Returns the number of bytes that were exported to it.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}
