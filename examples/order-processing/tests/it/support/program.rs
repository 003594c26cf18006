//! The real program.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use composable_rust::App;
use tempfile::TempDir;

use super::Client;

/// The program on one store.
pub(crate) struct Program {
    store: String,
    folder: TempDir,
}

/// What the program left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// What it printed, if it succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.status, Some(0), "{self:?}");
        self.stdout
    }

    /// Its last line on stderr, if it failed with `status`.
    #[track_caller]
    pub(crate) fn fails(self, status: i32) -> String {
        assert_eq!(self.status, Some(status), "{self:?}");
        self.stderr.lines().last().unwrap_or_default().to_owned()
    }
}

impl Program {
    /// On a new file.
    pub(crate) fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = format!("sqlite:{}", folder.path().join("orders.db").display());
        Self { store, folder }
    }

    /// On the database at `url`.
    pub(crate) fn on(url: &str) -> Self {
        Self { store: url.to_owned(), folder: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn store(&self) -> &str {
        &self.store
    }

    /// An app of this process on the program's store.
    pub(crate) async fn app(&self) -> App {
        let url = self.store.parse().expect("a store URL");
        order_processing::open(&url).await.expect("the store opens")
    }

    /// A folder for the test's files, in which the program runs.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file into the folder.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::write(&path, content).expect("it can be written");
        path
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_order-processing"));
        command.env("STORE_URL", &self.store).env_remove("RUST_LOG");
        command.args(args).current_dir(self.folder()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let output = self.command(args).output().expect("it starts");
        Output {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// Starts it and lets it run, its output going nowhere.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
    }

    /// Starts `serve` on a free port.
    pub(crate) fn serve(&self) -> Server {
        let mut command = self.command(&["serve", "--addr", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        stdout.read_line(&mut line).expect("it says where it listens");
        let addr = line.trim().strip_prefix("listening at http://").and_then(|a| a.parse().ok());
        let addr = addr.unwrap_or_else(|| panic!("it says where it listens, not {line:?}"));
        Server { child, addr, stdout }
    }
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    addr: SocketAddr,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Server {
    /// A new connection.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    /// Whether somebody new can connect.
    #[cfg(unix)]
    pub(crate) fn takes_connections(&self) -> bool {
        std::net::TcpStream::connect(self.addr).is_ok()
    }

    /// Sends a signal, such as `-TERM`.
    pub(crate) fn signal(&self, signal: &str) {
        send_signal(&self.child, signal);
    }

    /// Waits for the end: exit status and last line.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().expect("it ends").code();
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
    assert!(sent.expect("kill is there").success());
}
