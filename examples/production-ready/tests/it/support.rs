//! Processes of the shop, and requests to them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The time within which something happens that a test waits for. Gauges of queues are set every 15
/// seconds, and the leases of a killed process lapse after as many.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A process that ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Returns the body of a response; `None` if the server is not up.
pub(crate) fn request(addr: SocketAddr, line: &str, body: &str) -> Option<String> {
    request_with(addr, line, "", body)
}

/// As [`request`], with a header or several, each with its line end.
pub(crate) fn request_with(
    addr: SocketAddr,
    line: &str,
    header: &str,
    body: &str,
) -> Option<String> {
    let mut stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.0\r\nHost: {addr}\r\nContent-Type: application/json\r\n{header}\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).ok()?;
    response.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

pub(crate) fn until(what: &str, mut check: impl FnMut() -> bool) {
    let started = Instant::now();
    while !check() {
        assert!(started.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Places an order; `None` if the server is not up. A repetition has the same effect.
pub(crate) fn place_order(addr: SocketAddr, id: &str) -> Option<String> {
    let body = r#"{"customer":"ann","sku":"lamp","units":1,"cents":100}"#;
    let key = format!("Idempotency-Key: \"{id}\"\r\n");
    request_with(addr, &format!("POST /orders/{id}/place"), &key, body)
}

/// A process of the shop, which can be stopped or killed, and started again.
pub(crate) struct ShopProcess {
    variables: Vec<(String, String)>,
    pub(crate) addr: SocketAddr,
    process: Option<Running>,
}

impl ShopProcess {
    /// Creates a process that is not started. It draws no charges by chance, and answers at once.
    pub(crate) fn new(variables: &[(&str, &str)]) -> Self {
        let addr = free_address();
        let listen = addr.to_string();
        let common = [
            ("SHOP_LISTEN", &*listen),
            ("SHOP_DRAIN_SECONDS", "0"),
            ("SHOP_PROVIDER_MILLIS", "1"),
            ("SHOP_PROVIDER_DECLINES", "0"),
            ("RUST_LOG", "error"),
        ];
        let all = common.iter().chain(variables);
        let variables = all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self { variables: variables.collect(), addr, process: None }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_production-ready"));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the process, after killing it if it runs.
    pub(crate) fn start(&mut self, variables: &[(&str, &str)]) {
        self.process = None;
        let mut command = self.command();
        command.arg("serve").envs(variables.iter().copied()).stdout(Stdio::null());
        self.process = Some(Running(command.spawn().unwrap()));
        until("the shop is live", || request(self.addr, "GET /live", "").is_some());
    }

    /// Kills the process at once.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Has the process finish what it has accepted, and waits for its end.
    pub(crate) fn stop(&mut self) {
        let Some(mut running) = self.process.take() else { return };
        let pid = running.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(running.0.wait().unwrap().success(), "the process ends without an error");
    }

    /// Places orders whose ids are numbers, one after the other.
    pub(crate) fn place(&self, orders: Range<u32>) {
        for n in orders {
            let placed = place_order(self.addr, &n.to_string()).unwrap_or_default();
            assert!(placed.contains("\"version\":1"), "order {n}: {placed}");
        }
    }

    /// Returns a JSON document of the process; `Null` if there is none.
    pub(crate) fn get(&self, path: &str) -> Value {
        let body = request(self.addr, &format!("GET {path}"), "").unwrap_or_default();
        serde_json::from_str(&body).unwrap_or_default()
    }

    /// Runs an operator's command on the store, and returns its output and its exit code.
    pub(crate) fn run(&self, args: &[&str]) -> (String, i32) {
        let Output { status, stdout, stderr } = self.command().args(args).output().unwrap();
        let text = String::from_utf8(stdout).unwrap() + &String::from_utf8_lossy(&stderr);
        (text, status.code().unwrap())
    }

    /// Runs an operator's command and prints it with its output, which it returns with the exit
    /// code.
    pub(crate) fn show(&self, args: &[&str]) -> (String, i32) {
        let started = Instant::now();
        let (text, code) = self.run(args);
        println!(
            "$ shop {}  [{:.1?}]\n{text}[exit code {code}]",
            args.join(" "),
            started.elapsed()
        );
        (text, code)
    }

    /// Runs an operator's command that succeeds, prints its output and returns it.
    pub(crate) fn operate(&self, args: &[&str]) -> String {
        let (text, code) = self.show(args);
        assert_eq!(code, 0, "{args:?}: {text}");
        text
    }

    /// Runs an operator's command that succeeds, and returns the value that it prints.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let (text, code) = self.run(&[args, &["--json"]].concat());
        assert_eq!(code, 0, "{args:?}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}
