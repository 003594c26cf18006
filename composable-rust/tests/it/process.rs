//! A test of this executable, run in a process of its own.

use std::env::{current_exe, var};
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Timeout of each wait for a process. 120 seconds.
const MOST: Duration = Duration::from_secs(120);

/// Returns an environment variable that the parent process of this one sets.
pub(crate) fn parent_variable(name: &str) -> String {
    var(name).unwrap_or_else(|_| panic!("{name} is set by the test that starts this process"))
}

/// A running test; killed when dropped.
pub(crate) struct Process {
    child: Child,
    folder: TempDir,
}

impl Process {
    /// Starts the ignored test `test` with `variables` in its environment.
    pub(crate) fn start(test: &str, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = File::create(folder.path().join("log")).expect("a log");
        let mut command = Command::new(current_exe().expect("it is known"));
        command.args(["--ignored", "--exact", test, "--nocapture"]).envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        Self { child: command.spawn().expect("it starts"), folder }
    }

    /// Waits for a line that begins with `text`, and returns the rest of the line.
    pub(crate) async fn says(&mut self, text: &str) -> String {
        let began = Instant::now();
        loop {
            // Checked before the log is read: the log of an ended process is complete.
            let ended = self.child.try_wait().expect("it is ours");
            let said = self.said();
            let mut lines = said.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            if let Some(rest) = lines.find_map(|line| line.strip_prefix(text)) {
                return rest.to_owned();
            }
            assert!(ended.is_none() && began.elapsed() < MOST, "no `{text}`, {ended:?}: {said}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Freezes (`-STOP`), wakes (`-CONT`) or terminates (`-TERM`) the process.
    pub(crate) fn signal(&self, signal: &str) {
        let told = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(told.is_ok_and(|status| status.success()), "it can be told: {}", self.said());
    }

    /// Stops the process as an orchestrator does, and waits for its end.
    pub(crate) fn stop(&mut self) {
        self.signal("-TERM");
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                break status;
            }
            assert!(began.elapsed() < MOST, "it does not stop: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(status.success(), "{status}: {}", self.said());
    }

    /// Waits for the end of the process. Returns `true` if the process succeeded.
    pub(crate) async fn ends(&mut self) -> bool {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                // A panic is a failure of the test, not the death under test.
                assert!(status.code() != Some(101), "{status}: {}", self.said());
                return status.success();
            }
            assert!(began.elapsed() < MOST, "it does not end: {}", self.said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn said(&self) -> String {
        let log: PathBuf = self.folder.path().join("log");
        std::fs::read_to_string(log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
