//! A process or process group to terminate.

use std::fmt;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{
    Pid, Signal, kill_process, kill_process_group, test_kill_process, test_kill_process_group,
};

/// A process or process group that this program started. No other process is ever signalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessTarget {
    /// One process.
    Process(Pid),
    /// All processes of a group.
    Group(Pid),
    /// The group that the parent process leads as a shell's job.
    OwnGroup(Pid),
}

impl ProcessTarget {
    /// Sends `signal`, and after `timeout` SIGKILL if the target still exists.
    ///
    /// Does not wait for [`ProcessTarget::OwnGroup`]: the parent is in that group and waits for
    /// this process.
    pub(crate) fn terminate(self, signal: Signal, timeout: Duration) {
        self.send(signal);
        if matches!(self, Self::OwnGroup(_)) {
            return;
        }
        if !self.wait_until_gone(timeout) {
            self.send(Signal::KILL);
            self.wait_until_gone(Duration::from_secs(2));
        }
    }

    fn send(self, signal: Signal) {
        // Fails if the target has ended already, which is fine.
        let _ = match self {
            Self::Process(pid) => kill_process(pid, signal),
            Self::Group(pid) | Self::OwnGroup(pid) => kill_process_group(pid, signal),
        };
    }

    fn wait_until_gone(self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.exists() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
        true
    }

    fn exists(self) -> bool {
        match self {
            Self::Process(pid) => test_kill_process(pid).is_ok(),
            Self::Group(pid) | Self::OwnGroup(pid) => test_kill_process_group(pid).is_ok(),
        }
    }
}

impl fmt::Display for ProcessTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::Group(pid) => write!(f, "group {pid}"),
            Self::OwnGroup(pid) => write!(f, "own-group {pid}"),
        }
    }
}

impl FromStr for ProcessTarget {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, pid) = text.split_once(' ').context("expected a kind and a process id")?;
        // 0 would mean this process's own group, and 1 all processes.
        let pid = pid.parse().ok().filter(|&pid| pid > 1).and_then(Pid::from_raw);
        let pid = pid.context("invalid process id")?;
        match kind {
            "process" => Ok(Self::Process(pid)),
            "group" => Ok(Self::Group(pid)),
            "own-group" => Ok(Self::OwnGroup(pid)),
            _ => bail!("unknown kind of target: {kind}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn targets_are_written_and_parsed() {
        for text in ["process 4711", "group 12", "own-group 13"] {
            assert_eq!(text.parse::<ProcessTarget>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn invalid_targets_are_rejected() {
        for text in ["process 0", "group 1", "group -1", "process", "everything 12", ""] {
            assert!(text.parse::<ProcessTarget>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_group_that_ignores_the_first_signal_is_killed() {
        let script = "trap '' TERM; sleep 600 & wait; sleep 600";
        let mut child = Command::new("sh").args(["-c", script]).process_group(0).spawn().unwrap();
        let group: ProcessTarget = format!("group {}", child.id()).parse().unwrap();
        assert!(group.exists());
        let waiter = thread::spawn(move || child.wait().unwrap());
        group.terminate(Signal::TERM, Duration::from_millis(100));
        assert!(!waiter.join().unwrap().success());
        assert!(!group.exists());
    }
}
