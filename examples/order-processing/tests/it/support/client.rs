//! A minimal HTTP client with one connection and JSON bodies.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

/// A connection to the server.
pub(crate) struct Client(BufReader<TcpStream>);

/// A response of the server.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Response {
    /// Asserts the status, and returns the body.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.body
    }

    /// Asserts the status of an error, and returns its code.
    #[track_caller]
    pub(crate) fn fails(self, status: u16) -> String {
        let body = self.expect(status);
        assert_eq!(body["type"], "about:blank", "{body}");
        body["code"].as_str().expect("a code").to_owned()
    }
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("the server listens");
        stream.set_nodelay(true).expect("TCP_NODELAY is set");
        Self(BufReader::new(stream))
    }

    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.get_with(path, &[])
    }

    pub(crate) fn get_with(&mut self, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n");
        for (name, value) in headers {
            request.extend([name, ": ", value, "\r\n"]);
        }
        self.send_and_receive(&(request + "\r\n"))
    }

    pub(crate) fn post(&mut self, path: &str, headers: &[(&str, &str)], body: &Value) -> Response {
        self.send_and_receive(&Self::post_request(path, headers, &body.to_string()))
    }

    /// Sends a POST request without reading the response.
    pub(crate) fn post_without_reading(
        mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) {
        let request = Self::post_request(path, headers, &body.to_string());
        self.send(&request);
    }

    pub(crate) fn post_request(path: &str, headers: &[(&str, &str)], body: &str) -> String {
        use std::fmt::Write as _;
        let mut request = format!("POST {path} HTTP/1.1\r\nHost: test\r\n");
        for (name, value) in [("Content-Type", "application/json")].iter().chain(headers) {
            let _ = write!(request, "{name}: {value}\r\n");
        }
        let _ = write!(request, "Content-Length: {}\r\n\r\n{body}", body.len());
        request
    }

    /// Sends a whole request and reads the response.
    pub(crate) fn send_and_receive(&mut self, request: &str) -> Response {
        self.send(request);
        self.receive()
    }

    /// Sends a request or part of one.
    pub(crate) fn send(&mut self, request: &str) {
        self.0.get_mut().write_all(request.as_bytes()).expect("the request is sent");
    }

    /// Reads a response.
    pub(crate) fn receive(&mut self) -> Response {
        let mut line = || {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("the server responds");
            line.trim_end().to_owned()
        };
        let first = line();
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a status line: {first:?}"));
        let mut length = 0;
        loop {
            let header = line().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("a whole body");
        // A `100 Continue` has no body.
        let body =
            if length == 0 { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
        Response { status, body }
    }
}
