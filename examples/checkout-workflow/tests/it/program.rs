//! The program, run as processes that can be killed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use tempfile::TempDir;

/// The program with its connection arguments and a folder.
pub(crate) struct Program {
    connection: Vec<String>,
    folder: TempDir,
}

impl Program {
    /// Creates the program with arguments for every subcommand. The ledger is in the folder.
    pub(crate) fn new(connection: impl IntoIterator<Item = String>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = folder.path().join("ledger.jsonl").display().to_string();
        let connection = connection.into_iter().chain(["--ledger".to_owned(), ledger]).collect();
        Self { connection, folder }
    }

    /// Creates the program on a new SQLite file.
    pub(crate) fn on_a_file() -> Self {
        // The program runs in its folder.
        Self::new(["--store".to_owned(), "sqlite:checkout.db".to_owned()])
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger.jsonl")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_checkout-workflow"));
        command.args(&self.connection).args(args).current_dir(self.folder.path());
        command.stdin(Stdio::null());
        command
    }

    /// Runs the program, asserts success, and returns stdout.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).output().expect("the program starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?} {}: {text}\n{errors}", output.status);
        text
    }

    /// Runs the program, asserts success, and returns stderr.
    #[track_caller]
    pub(crate) fn errors(&self, args: &[&str]) -> String {
        let output =
            self.command(args).env_remove("RUST_LOG").output().expect("the program starts");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Runs the program, asserts the exit code `status`, and returns the last line of stderr.
    #[track_caller]
    pub(crate) fn fails(&self, args: &[&str], status: i32) -> String {
        let output = self.command(args).output().expect("the program starts");
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        errors.lines().last().unwrap_or_default().to_owned()
    }

    /// Starts the program. Its output goes to the file `name` in the folder.
    pub(crate) fn start(&self, name: &str, args: &[&str]) -> Process {
        Process::start(self.command(args), self.folder.path().join(name))
    }
}

/// A running process. It is killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a process. Its output goes to the file `log`.
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Self {
        let open = || File::options().create(true).append(true).open(&log).expect("the log opens");
        let child = command.stdout(open()).stderr(open()).spawn().expect("the program starts");
        Self { child, log }
    }

    /// Kills the process with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the process is killed");
        self.child.wait().expect("the process can be waited for");
    }

    /// Stops the process with SIGTERM, waits for it, and asserts success.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.signal("-TERM");
        let status = self.child.wait().expect("the process can be waited for");
        assert!(status.success(), "{status}: {}", self.log_tail());
    }

    /// Stops the process with SIGTERM and waits for it. Returns the end of its log.
    pub(crate) fn terminate(&mut self) -> String {
        self.signal("-TERM");
        self.child.wait().expect("the process can be waited for");
        self.log_tail()
    }

    /// Sends a signal, such as `-STOP`.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "the signal is sent");
    }

    /// `true` if the process is running. Asserts success if it has ended.
    #[track_caller]
    pub(crate) fn is_running(&mut self) -> bool {
        match self.child.try_wait().expect("the process can be waited for") {
            None => true,
            Some(status) => {
                assert!(status.success(), "{status}: {}", self.log_tail());
                false
            }
        }
    }

    /// Returns the exit status if the process has ended.
    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the process can be waited for")
    }

    /// Returns the last lines of the log.
    pub(crate) fn log_tail(&self) -> String {
        last_lines(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
