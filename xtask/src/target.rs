//! A process, or a group of processes, to end.

use std::fmt;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{
    Pid, Signal, kill_process, kill_process_group, test_kill_process, test_kill_process_group,
};

/// One that this program started; only such ones are ever signalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Process(Pid),
    Group(Pid),
    /// The group that the parent itself leads, as a shell's job.
    OwnGroup(Pid),
}

impl Target {
    /// Sends `signal` and waits until the target is gone, at most for `patience`; then kills it.
    ///
    /// A parent's own group is not waited for: the parent is in it, and waits for us.
    pub(crate) fn end(self, signal: Signal, patience: Duration) {
        self.send(signal);
        if matches!(self, Self::OwnGroup(_)) {
            return;
        }
        if !self.gone_within(patience) {
            self.send(Signal::KILL);
            self.gone_within(Duration::from_secs(2));
        }
    }

    fn send(self, signal: Signal) {
        // The one error to expect is that it is gone already.
        let _ = match self {
            Self::Process(pid) => kill_process(pid, signal),
            Self::Group(pid) | Self::OwnGroup(pid) => kill_process_group(pid, signal),
        };
    }

    fn gone_within(self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.is_there() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
        true
    }

    fn is_there(self) -> bool {
        match self {
            Self::Process(pid) => test_kill_process(pid).is_ok(),
            Self::Group(pid) | Self::OwnGroup(pid) => test_kill_process_group(pid).is_ok(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::Group(pid) => write!(f, "group {pid}"),
            Self::OwnGroup(pid) => write!(f, "own-group {pid}"),
        }
    }
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, pid) = text.split_once(' ').context("a kind and a number")?;
        // 0 and 1 would mean our own group and everything.
        let pid = pid.parse().ok().filter(|&pid| pid > 1).and_then(Pid::from_raw);
        let pid = pid.context("the number of a process")?;
        match kind {
            "process" => Ok(Self::Process(pid)),
            "group" => Ok(Self::Group(pid)),
            "own-group" => Ok(Self::OwnGroup(pid)),
            _ => bail!("neither process nor group"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn survives_the_pipe() {
        for text in ["process 4711", "group 12", "own-group 13"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_would_hit_others() {
        for text in ["process 0", "group 1", "group -1", "process", "everything 12", ""] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn ends_a_whole_group_that_ignores_the_first_signal() {
        let script = "trap '' TERM; sleep 600 & wait; sleep 600";
        let mut child = Command::new("sh").args(["-c", script]).process_group(0).spawn().unwrap();
        let group: Target = format!("group {}", child.id()).parse().unwrap();
        assert!(group.is_there());
        let waiter = thread::spawn(move || child.wait().unwrap());
        group.end(Signal::TERM, Duration::from_millis(100));
        assert!(!waiter.join().unwrap().success());
        assert!(!group.is_there());
    }
}
