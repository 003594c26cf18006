//! The few commands of the W3C's protocol `WebDriver` that the tests need, for a `chromedriver`
//! that they start.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// The key under which an element's id is given.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

impl Browser {
    /// Starts `chromedriver` and a browser; `None` if there is none on this machine.
    pub(crate) async fn start(dark: bool) -> Option<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut browser = Self { driver, port, session: String::new() };
        let mut args = vec![
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1100,760",
            "--hide-scrollbars",
        ];
        args.extend(dark.then_some("--blink-settings=preferredColorScheme=0"));
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": args},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        for _ in 0..300 {
            sleep(Duration::from_millis(100)).await;
            if let Some(value) = browser.try_send("POST", "/session", &capabilities).await {
                value["sessionId"].as_str().expect("a session").clone_into(&mut browser.session);
                return Some(browser);
            }
        }
        panic!("chromedriver does not answer");
    }

    pub(crate) async fn open(&self, url: &str) {
        self.send("POST", "/url", json!({"url": url})).await;
    }

    /// Sets the size of the page, also to one that is smaller than a window can be.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        let command = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": size});
        self.send("POST", "/goog/cdp/execute", command).await;
    }

    pub(crate) async fn url(&self) -> String {
        self.send("GET", "/url", Value::Null).await.as_str().unwrap().to_owned()
    }

    pub(crate) async fn click(&self, css: &str) {
        let element = self.find(css).await;
        self.send("POST", &format!("/element/{element}/click"), json!({})).await;
    }

    pub(crate) async fn fill(&self, css: &str, text: &str) {
        let element = self.find(css).await;
        self.send("POST", &format!("/element/{element}/value"), json!({"text": text})).await;
    }

    /// Presses keys, without a focused field.
    pub(crate) async fn press(&self, keys: &str) {
        self.fill("body", keys).await;
    }

    pub(crate) async fn run(&self, script: &str) -> Value {
        self.send("POST", "/execute/sync", json!({"script": script, "args": []})).await
    }

    pub(crate) async fn text(&self) -> String {
        let text = self.run("return document.body.innerText").await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page's text contains `part`.
    pub(crate) async fn wait_for(&self, part: &str) {
        self.wait_until(&format!("return document.body.innerText.includes({})", json!(part))).await;
    }

    /// Waits until a script returns `true`.
    pub(crate) async fn wait_until(&self, script: &str) {
        for _ in 0..150 {
            if self.run(script).await == true {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("{script} is not true: {}", self.text().await);
    }

    /// Returns a screenshot as the Base64 text of a PNG.
    pub(crate) async fn screenshot(&self) -> String {
        self.send("GET", "/screenshot", Value::Null).await.as_str().unwrap().to_owned()
    }

    /// Returns the warnings and errors that the browser has logged since the last call: of scripts,
    /// of the content security policy, and of loading.
    pub(crate) async fn logged(&self) -> Vec<String> {
        let entries = self.send("POST", "/se/log", json!({"type": "browser"})).await;
        let entries = entries.as_array().cloned().unwrap_or_default();
        let is_problem = |entry: &&Value| entry["level"] == "WARNING" || entry["level"] == "SEVERE";
        entries.iter().filter(is_problem).map(|entry| entry["message"].to_string()).collect()
    }

    async fn find(&self, css: &str) -> String {
        let found = self.send("POST", "/element", json!({"using": "css selector", "value": css}));
        found.await[ELEMENT].as_str().unwrap_or_else(|| panic!("no element `{css}`")).to_owned()
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Value {
        let path = format!("/session/{}{path}", self.session);
        let value = self.try_send(method, &path, &body).await;
        value.unwrap_or_else(|| panic!("chromedriver does not answer {path}"))
    }

    async fn try_send(&self, method: &str, path: &str, body: &Value) -> Option<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        socket.write_all(head.as_bytes()).await.ok()?;
        socket.write_all(body.as_bytes()).await.ok()?;
        let mut bytes = Vec::new();
        // The driver keeps the connection open, so the length counts.
        let mut piece = vec![0; 65_536];
        while !is_whole(&bytes) {
            match socket.read(&mut piece).await.ok()? {
                0 => break,
                count => bytes.extend_from_slice(&piece[..count]),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let (_, content) = text.split_once("\r\n\r\n")?;
        let mut answer: Value = serde_json::from_str(content).ok()?;
        let value = answer["value"].take();
        assert!(value.get("error").is_none(), "{path}: {value}");
        Some(value)
    }
}

/// Returns `true` if a response has as many bytes as it says.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    length.is_some_and(|length: usize| bytes.len() >= end + 4 + length)
}
