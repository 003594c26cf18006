//! The reaper: a process that cleans up after this one, however this one ends.
//!
//! The reaper reads cleanup tasks from a pipe. The pipe closes when this process ends for any
//! reason, including panics and `kill -9`. The reaper then ends the running command, stops the
//! servers and removes their folders. A normal exit takes the same path, so every run tests it.
//!
//! A server is held until it is registered (see [`held_process`](crate::held_process)). A command
//! is not: after a `kill -9` just before its registration, it runs to its own end.

use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};

use crate::cleanup::{CleanupList, CleanupTask};

/// The hidden subcommand that the reaper process runs.
pub(crate) const SUBCOMMAND: &str = "reaper-process";

/// A handle to the reaper process.
///
/// Clones share one reaper process. It cleans up when [`Reaper::clean_up`] is called on any of
/// them, or when this process ends.
#[derive(Debug, Clone)]
pub(crate) struct Reaper {
    connection: Arc<Mutex<Connection>>,
}

/// The reaper process and the pipe to it.
#[derive(Debug)]
pub(crate) struct Connection {
    process: Child,
    /// `None` once the reaper has cleaned up.
    pipe: Option<ChildStdin>,
}

impl Reaper {
    /// Starts the reaper process.
    pub(crate) fn start() -> Result<Self> {
        let program = std::env::current_exe().context("failed to find this program's path")?;
        let mut process = Command::new(program)
            .arg(SUBCOMMAND)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // In a process group of its own, Ctrl-C at the terminal does not reach it.
            .process_group(0)
            .spawn()
            .context("failed to start the reaper process")?;
        let pipe = process.stdin.take();
        Ok(Self { connection: Arc::new(Mutex::new(Connection { process, pipe })) })
    }

    /// Registers a cleanup task.
    pub(crate) fn register(&self, task: &CleanupTask) -> Result<()> {
        self.lock().register(task)
    }

    /// Calls `start`, which starts something, and registers the cleanup task that it returns.
    ///
    /// Signals that this process handles wait until the task is registered. SIGKILL does not.
    pub(crate) fn start_registered<T>(
        &self,
        start: impl FnOnce() -> Result<(T, CleanupTask)>,
    ) -> Result<T> {
        let mut connection = self.lock();
        if connection.has_cleaned_up() {
            bail!("interrupted");
        }
        let (started, task) = start()?;
        connection.register(&task)?;
        Ok(started)
    }

    /// Runs all cleanup tasks and returns when they are done.
    pub(crate) fn clean_up(&self) {
        self.lock().clean_up();
    }

    /// Locks the connection, so that no other thread registers a task meanwhile.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Does the work of [`Reaper::clean_up`].
    pub(crate) fn clean_up(&mut self) {
        drop(self.pipe.take());
        let _ = self.process.wait();
    }

    /// Returns `true` if all cleanup tasks were run.
    pub(crate) fn has_cleaned_up(&self) -> bool {
        self.pipe.is_none()
    }

    fn register(&mut self, task: &CleanupTask) -> Result<()> {
        let pipe = self.pipe.as_mut().context("interrupted")?;
        // One write: if this process is killed, the reaper has read all of the line or none of it.
        let line = format!("{task}\n");
        pipe.write_all(line.as_bytes()).context("the reaper process has ended")
    }
}

/// Runs the reaper process: reads cleanup tasks until the pipe closes, then runs them.
pub(crate) fn run() {
    read(io::stdin().lock()).run();
}

/// Reads cleanup tasks, one per line, until the end of the input.
///
/// Ignores a last line without a line break: the number of a process in it may be cut off, and so
/// be that of another process.
fn read(mut input: impl BufRead) -> CleanupList {
    let mut list = CleanupList::default();
    let mut line = String::new();
    while input.read_line(&mut line).is_ok_and(|length| length > 0) {
        match line.strip_suffix('\n').map(str::parse) {
            Some(Ok(task)) => list.add(task),
            Some(Err(error)) => {
                eprintln!("xtask: reaper: ignoring invalid task {line:?}: {error:#}");
            }
            None => eprintln!("xtask: reaper: ignoring incomplete task {line:?}"),
        }
        line.clear();
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_last_line_is_ignored() {
        let list = read("folder /a\nnonsense\nserver process 12\ncommand group 47".as_bytes());
        let mut expected = CleanupList::default();
        expected.add("folder /a".parse().unwrap());
        expected.add("server process 12".parse().unwrap());
        assert_eq!(list, expected);
    }
}
