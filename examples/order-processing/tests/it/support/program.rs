//! The program, run as a process.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use composable_rust::App;
use tempfile::TempDir;

use super::Client;

/// The program with a store and a folder.
pub(crate) struct Program {
    store: String,
    folder: TempDir,
}

/// The exit code and the output of a run.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Asserts success, and returns stdout.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.status, Some(0), "{self:?}");
        self.stdout
    }

    /// Asserts the exit code `status`, and returns the last line of stderr.
    #[track_caller]
    pub(crate) fn fails(self, status: i32) -> String {
        assert_eq!(self.status, Some(status), "{self:?}");
        self.stderr.lines().last().unwrap_or_default().to_owned()
    }
}

impl Program {
    /// Creates the program on a new SQLite file.
    pub(crate) fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = format!("sqlite:{}", folder.path().join("orders.db").display());
        Self { store, folder }
    }

    /// Creates the program on the store at `url`.
    pub(crate) fn on(url: &str) -> Self {
        Self { store: url.to_owned(), folder: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn store(&self) -> &str {
        &self.store
    }

    /// Opens an app of this process on the same store.
    pub(crate) async fn app(&self) -> App {
        let url = self.store.parse().expect("a store URL");
        order_processing::open(&url).await.expect("the store opens")
    }

    /// Returns the folder in which the program runs.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file to the folder.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::write(&path, content).expect("the file is written");
        path
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_order-processing"));
        command.env("STORE_URL", &self.store).env_remove("RUST_LOG");
        command.args(args).current_dir(self.folder()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let output = self.command(args).output().expect("the program starts");
        Output {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// Starts the program without its output.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts")
    }

    /// Starts `serve` on a free port.
    pub(crate) fn serve(&self) -> Server {
        let mut command = self.command(&["serve", "--addr", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        stdout.read_line(&mut line).expect("the address is printed");
        let addr = line.trim().strip_prefix("listening at http://").and_then(|a| a.parse().ok());
        let addr = addr.unwrap_or_else(|| panic!("not an address: {line:?}"));
        Server { child, addr, stdout }
    }
}

/// A running server. It is killed when dropped.
pub(crate) struct Server {
    child: Child,
    addr: SocketAddr,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Server {
    /// Opens a connection.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    /// `true` if the server accepts a new connection.
    #[cfg(unix)]
    pub(crate) fn accepts_connections(&self) -> bool {
        std::net::TcpStream::connect(self.addr).is_ok()
    }

    /// Sends a signal, such as `-TERM`, to the server.
    pub(crate) fn signal(&self, signal: &str) {
        send_signal(&self.child, signal);
    }

    /// Waits for the end. Returns the exit code and the last line of stdout.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().expect("the server ends").code();
        let last = (&mut self.stdout).lines().map_while(Result::ok).last();
        (status, last.unwrap_or_default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal, such as `-INT`, to a process.
pub(crate) fn send_signal(child: &Child, signal: &str) {
    let sent = Command::new("kill").arg(signal).arg(child.id().to_string()).status();
    assert!(sent.expect("kill is installed").success());
}
