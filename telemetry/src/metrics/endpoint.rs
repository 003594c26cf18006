//! The endpoint that Prometheus scrapes.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::metrics::PrometheusMetrics;

/// Timeout of a request, from its first byte to the last one of the response, so that a scraper
/// that hangs does not keep out others for long.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a connection that could not be accepted, such as for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// Maximum size of a request in bytes.
const MAX_REQUEST: u64 = 16 << 10;

/// A running endpoint, which stops when it is dropped.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
}

/// Serves the metrics under `/metrics`, in a thread of its own: also while the app's executor is
/// busy.
pub(crate) fn serve(address: SocketAddr, metrics: PrometheusMetrics) -> io::Result<Endpoint> {
    let listener = TcpListener::bind(address)?;
    let (address, is_stopped) = (listener.local_addr()?, Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&is_stopped);
    thread::spawn(move || {
        for client in listener.incoming() {
            if stopped.load(Ordering::SeqCst) {
                return;
            }
            let answered = match client {
                Ok(client) => answer(&Limited::new(client), &metrics),
                Err(error) => {
                    thread::sleep(PAUSE);
                    Err(error)
                }
            };
            if let Err(error) = answered {
                tracing::debug!(%error, "failed to answer a scrape of the metrics");
            }
        }
    });
    Ok(Endpoint { address, is_stopped })
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        // Has the thread look at it.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_millis(100));
    }
}

/// A connection that ends at a deadline. A timeout of the socket restarts with each byte.
struct Limited {
    client: TcpStream,
    deadline: Instant,
}

impl Limited {
    fn new(client: TcpStream) -> Self {
        Self { client, deadline: Instant::now() + TIMEOUT }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for &Limited {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.client.set_read_timeout(self.left()?)?;
        (&self.client).read(into)
    }
}

impl Write for &Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.client.set_write_timeout(self.left()?)?;
        (&self.client).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&self.client).flush()
    }
}

fn answer(mut client: &Limited, metrics: &PrometheusMetrics) -> io::Result<()> {
    let mut lines = BufReader::new(client.take(MAX_REQUEST)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let mut parts = request.split(' ');
    let (method, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default();
    let (status, body) = match (method, path) {
        ("GET" | "HEAD", "/metrics") => ("200 OK", metrics.render()),
        ("GET" | "HEAD", _) => ("404 Not Found", "see /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "only GET and HEAD are allowed\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        PrometheusMetrics::CONTENT_TYPE,
        body.len()
    );
    client.write_all(head.as_bytes())?;
    if method != "HEAD" {
        client.write_all(body.as_bytes())?;
    }
    client.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(address: SocketAddr, request: &str) -> String {
        let mut client = TcpStream::connect(address).unwrap();
        write!(client, "{request} HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).unwrap();
        response
    }

    #[test]
    fn a_scraper_reads_the_metrics() {
        let (recorder, metrics) = PrometheusMetrics::new("shop").unwrap();
        metrics::with_local_recorder(&recorder, || metrics::counter!("tea_total").increment(2));
        let endpoint = serve("127.0.0.1:0".parse().unwrap(), metrics).unwrap();
        let address = endpoint.address;
        let response = request(address, "GET /metrics?name=tea");
        assert!(response.starts_with("HTTP/1.1 200 OK"), "{response}");
        assert!(response.contains("tea_total{service=\"shop\"} 2"), "{response}");
        assert!(!request(address, "HEAD /metrics").contains("tea_total"));
        assert!(request(address, "GET /").starts_with("HTTP/1.1 404"));
        assert!(request(address, "POST /metrics").starts_with("HTTP/1.1 405"));
        drop(endpoint);
        // The thread ends, and with it the listener.
        while TcpStream::connect(address).is_ok() {
            thread::yield_now();
        }
    }

    #[test]
    fn a_client_that_drips_keeps_nobody_out_for_long() {
        let (_, metrics) = PrometheusMetrics::new("shop").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut drips = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (client, _) = listener.accept().unwrap();
        let dripping = thread::spawn(move || {
            while drips.write_all(b"G").is_ok() {
                thread::sleep(Duration::from_millis(5));
            }
        });
        let limited = Limited { client, deadline: Instant::now() + Duration::from_millis(100) };
        let ended = answer(&limited, &metrics).unwrap_err().kind();
        assert!(matches!(ended, ErrorKind::TimedOut | ErrorKind::WouldBlock), "{ended}");
        drop(limited);
        dripping.join().unwrap();
    }
}
