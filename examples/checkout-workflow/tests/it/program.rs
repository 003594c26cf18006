//! The real program, in processes that can be killed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use tempfile::TempDir;

/// The program with its stores, its broker and its ledger.
pub(crate) struct Program {
    places: Vec<String>,
    folder: TempDir,
}

impl Program {
    /// `places` come before every subcommand. The ledger is in a folder of the test's.
    pub(crate) fn new(places: impl IntoIterator<Item = String>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = folder.path().join("ledger.jsonl").display().to_string();
        let places = places.into_iter().chain(["--ledger".to_owned(), ledger]).collect();
        Self { places, folder }
    }

    /// On a new file.
    pub(crate) fn on_a_file() -> Self {
        // It runs in its folder.
        Self::new(["--store".to_owned(), "sqlite:checkout.db".to_owned()])
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger.jsonl")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_checkout-workflow"));
        command.args(&self.places).args(args).current_dir(self.folder.path());
        command.stdin(Stdio::null());
        command
    }

    /// Runs it to its end; gives what it printed if it succeeded.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).output().expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?} {}: {text}\n{errors}", output.status);
        text
    }

    /// Runs it to its end; gives its last line on stderr, if it failed with `status`.
    #[track_caller]
    pub(crate) fn fails(&self, args: &[&str], status: i32) -> String {
        let output = self.command(args).output().expect("it starts");
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        errors.lines().last().unwrap_or_default().to_owned()
    }

    /// Starts it; what it says goes to a file called `name`.
    pub(crate) fn start(&self, name: &str, args: &[&str]) -> Process {
        Process::start(self.command(args), self.folder.path().join(name))
    }
}

/// A running process; killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; what it says goes to the file `log`.
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Self {
        let open = || File::options().create(true).append(true).open(&log).expect("a log");
        let child = command.stdout(open()).stderr(open()).spawn().expect("it starts");
        Self { child, log }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it is ours");
    }

    /// Has it stop as Ctrl-C does, and waits for it.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.signal("-TERM");
        let status = self.child.wait().expect("it is ours");
        assert!(status.success(), "{status}: {}", self.said());
    }

    /// Has it stop as Ctrl-C does, however it ends. Gives the end of what it said.
    pub(crate) fn terminate(&mut self) -> String {
        self.signal("-TERM");
        self.child.wait().expect("it is ours");
        self.said()
    }

    /// Sends a signal, such as `-STOP`.
    pub(crate) fn signal(&self, signal: &str) {
        let told = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(told.is_ok_and(|status| status.success()), "it can be told");
    }

    /// Whether it is still running.
    #[track_caller]
    pub(crate) fn runs(&mut self) -> bool {
        match self.child.try_wait().expect("it is ours") {
            None => true,
            Some(status) => {
                assert!(status.success(), "{status}: {}", self.said());
                false
            }
        }
    }

    /// How it ended by itself, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is ours")
    }

    /// The end of what it said.
    pub(crate) fn said(&self) -> String {
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
