//! `composable console`, as a process.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::support::{Fixture, composable, text};

const TOKEN: &str = "a token of sixteen bytes or more";

/// A console that is served.
struct Served {
    child: Child,
    /// The rest of its output; a closed pipe would end it.
    _out: BufReader<ChildStdout>,
    first: String,
    address: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Served {
    fn start(fixture: &Fixture, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_composable"))
            .args(["--store", &fixture.url(), "console", "--by", "bea"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        out.read_line(&mut first).unwrap();
        let address = first.strip_prefix("open http://").unwrap_or_else(|| panic!("{first}"));
        let (address, _) = address.split_once('/').unwrap();
        let address = address.replace("0.0.0.0", "127.0.0.1");
        Self { child, _out: out, first, address }
    }

    /// Sends a request and returns the response as text.
    fn ask(&self, method: &str, path: &str, head: &str, body: &str) -> String {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(
            socket,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{head}\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n\
             {body}",
            self.address
        )
        .unwrap();
        let mut response = Vec::new();
        socket.read_to_end(&mut response).unwrap();
        text(&response)
    }

    fn get(&self, path: &str, head: &str) -> String {
        self.ask("GET", path, head, "")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_this_machine_and_only_reads() {
    let fixture = Fixture::new().await;
    let mut served = Served::start(&fixture, &["--listen", "127.0.0.1:0"]);
    assert!(served.first.contains("read-only; Ctrl-C ends it"), "{}", served.first);
    let page = served.get("/", "");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("Overview"), "{page}");
    assert!(page.contains("bea") && page.contains("read-only"), "{page}");
    let page = served.get("/streams/order-1", "");
    assert!(page.contains("order.placed") && !page.contains("buyer-1"), "{page}");
    let forwarded = served.get("/", "X-Forwarded-For: 10.0.0.7\r\n");
    assert!(forwarded.starts_with("HTTP/1.1 403"), "{forwarded}");
    let own = "Sec-Fetch-Site: same-origin\r\n";
    let change = served.ask("POST", "/log/pause", own, "confirmed=yes");
    assert!(change.starts_with("HTTP/1.1 403") && change.contains("read-only"), "{change}");
    // It works on nothing.
    let processes = composable(&["--store", &fixture.url(), "processes", "--json"]);
    assert_eq!(text(&processes.stdout).trim(), "[]");
    interrupt(&served.child);
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_it_serves_other_machines_and_allows_changes() {
    let fixture = Fixture::new().await;
    let args = ["--listen", "0.0.0.0:0", "--token", TOKEN, "--allow-changes", "--show-payloads"];
    let served = Served::start(&fixture, &args);
    assert!(served.get("/", "").starts_with("HTTP/1.1 401"));
    let wrong = "Authorization: Bearer another token of sixteen bytes\r\n";
    assert!(served.get("/", wrong).starts_with("HTTP/1.1 401"));
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    assert!(served.get("/", &right).starts_with("HTTP/1.1 200"));
    let change = served.ask("POST", "/log/pause", &right, "confirmed=yes&reason=maintenance");
    assert!(change.starts_with("HTTP/1.1 303"), "{change}");
    let audit = composable(&["--store", &fixture.url(), "audit", "--json"]);
    let audit = text(&audit.stdout);
    assert!(audit.contains("\"bea\"") && audit.contains("maintenance"), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_not_open_to_other_machines_without_a_token() {
    let fixture = Fixture::new().await;
    let url = fixture.url();
    for (args, code, error) in [
        (&["--listen", "0.0.0.0:0"][..], 5, "to listen on 0.0.0.0:0, add --token"),
        (&["--listen", "[::]:0"], 5, "to listen on [::]:0, add --token"),
        (&["--listen", "0.0.0.0:0", "--token", "short"], 2, "fewer than 16 bytes"),
        (&["--listen", "nowhere"], 2, "invalid socket address"),
    ] {
        let output = composable(&[&["--store", &*url, "console"], args].concat());
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {err}");
        assert!(err.contains(error), "{args:?}: {err}");
    }
}

fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
}
