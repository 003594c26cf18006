//! The least of an HTTP client: one connection, JSON both ways.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

/// One connection to the server.
pub(crate) struct Client(BufReader<TcpStream>);

/// An answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Response {
    /// The body, if the status is `status`.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.body
    }

    /// The error's code, if the status is `status`.
    #[track_caller]
    pub(crate) fn fails(self, status: u16) -> String {
        let body = self.expect(status);
        assert!(body["message"].is_string(), "{body}");
        body["code"].as_str().expect("a code").to_owned()
    }
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("it listens");
        stream.set_nodelay(true).expect("it is a socket");
        Self(BufReader::new(stream))
    }

    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
    }

    pub(crate) fn post(&mut self, path: &str, headers: &[(&str, &str)], body: &Value) -> Response {
        self.ask(&Self::post_request(path, headers, &body.to_string()))
    }

    /// Posts without waiting for the answer.
    pub(crate) fn post_and_leave(mut self, path: &str, headers: &[(&str, &str)], body: &Value) {
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

    /// Sends a whole request and reads the answer.
    pub(crate) fn ask(&mut self, request: &str) -> Response {
        self.send(request);
        self.answer()
    }

    /// Sends a request or a part of one.
    pub(crate) fn send(&mut self, request: &str) {
        self.0.get_mut().write_all(request.as_bytes()).expect("it is sent");
    }

    pub(crate) fn answer(&mut self) -> Response {
        let mut line = || {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("it answers");
            line.trim_end().to_owned()
        };
        let first = line();
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("an answer, not {first:?}"));
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
        self.0.read_exact(&mut body).expect("the body is whole");
        // A `100 Continue` has no body.
        let body =
            if length == 0 { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
        Response { status, body }
    }
}
