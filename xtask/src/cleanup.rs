//! The tasks that the reaper runs when its parent process ends.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};
use rustix::process::Signal;

use crate::process_target::ProcessTarget;
use crate::program;

/// A process, container or folder to clean up, sent to the reaper as one line of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CleanupTask {
    /// The running command. `None` if no command runs now.
    Command(Option<ProcessTarget>),
    /// The main process of a PostgreSQL server. Several servers may run.
    Server(ProcessTarget),
    /// The process of a Kafka broker.
    Broker(ProcessTarget),
    /// A server or broker that has ended by itself and needs no cleanup any more.
    ServerEnded(ProcessTarget),
    /// A container with a server in it.
    Container { engine: String, name: String },
    /// A folder with a server's data.
    Folder(PathBuf),
}

/// All registered cleanup tasks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CleanupList {
    command: Option<ProcessTarget>,
    servers: Vec<(ProcessTarget, Signal)>,
    containers: Vec<(String, String)>,
    folders: Vec<PathBuf>,
}

impl CleanupList {
    /// Adds a task. A command replaces the previous command.
    pub(crate) fn add(&mut self, task: CleanupTask) {
        match task {
            CleanupTask::Command(target) => self.command = target,
            // The data is thrown away, so an immediate shutdown is enough. PostgreSQL then stops
            // its child processes too; the broker has none.
            CleanupTask::Server(target) => self.servers.push((target, Signal::QUIT)),
            CleanupTask::Broker(target) => self.servers.push((target, Signal::KILL)),
            CleanupTask::ServerEnded(target) => {
                self.servers.retain(|(server, _)| *server != target);
            }
            CleanupTask::Container { engine, name } => self.containers.push((engine, name)),
            CleanupTask::Folder(folder) => self.folders.push(folder),
        }
    }

    /// Ends the command, then the servers, then removes containers and folders.
    pub(crate) fn run(self) {
        if let Some(command) = self.command {
            command.terminate(Signal::TERM, Duration::from_secs(5));
        }
        for (server, signal) in self.servers {
            server.terminate(signal, Duration::from_secs(10));
        }
        for (engine, name) in self.containers {
            let mut remove = Command::new(engine);
            remove.args(["rm", "--force", "--volumes", &name]);
            if !program::succeeds_within(Duration::from_secs(30), &mut remove) {
                eprintln!("xtask: failed to remove container {name}");
            }
        }
        for folder in self.folders {
            if let Err(error) = fs::remove_dir_all(&folder) {
                eprintln!("xtask: failed to remove {}: {error}", folder.display());
            }
        }
    }
}

impl fmt::Display for CleanupTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(Some(target)) => write!(f, "command {target}"),
            Self::Command(None) => f.write_str("command none"),
            Self::Server(target) => write!(f, "server {target}"),
            Self::Broker(target) => write!(f, "broker {target}"),
            Self::ServerEnded(target) => write!(f, "server-ended {target}"),
            Self::Container { engine, name } => write!(f, "container {engine} {name}"),
            Self::Folder(folder) => write!(f, "folder {}", folder.display()),
        }
    }
}

impl FromStr for CleanupTask {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let (kind, rest) = line.split_once(' ').context("expected a kind and its details")?;
        Ok(match kind {
            "command" if rest == "none" => Self::Command(None),
            "command" => Self::Command(Some(rest.parse()?)),
            "server" => Self::Server(rest.parse()?),
            "broker" => Self::Broker(rest.parse()?),
            "server-ended" => Self::ServerEnded(rest.parse()?),
            "container" => {
                let (engine, name) =
                    rest.split_once(' ').context("expected an engine and a name")?;
                Self::Container { engine: engine.to_owned(), name: name.to_owned() }
            }
            "folder" => Self::Folder(rest.into()),
            _ => bail!("unknown kind of cleanup task: {kind}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_written_and_parsed() {
        for line in [
            "command group 4711",
            "command none",
            "server process 4712",
            "broker process 4713",
            "server-ended process 4712",
            "container docker composable-rust-1",
            "folder /tmp/with a space/x",
        ] {
            assert_eq!(line.parse::<CleanupTask>().unwrap().to_string(), line);
        }
    }

    #[test]
    fn a_command_replaces_the_previous_one_and_folders_add_up() {
        let mut list = CleanupList::default();
        for line in ["command group 4711", "command none", "folder /a", "folder /b"] {
            list.add(line.parse().unwrap());
        }
        assert_eq!(list.command, None);
        assert_eq!(list.folders, [PathBuf::from("/a"), PathBuf::from("/b")]);
    }

    #[test]
    fn servers_are_listed_until_they_end() {
        let mut list = CleanupList::default();
        for line in [
            "server process 11",
            "server process 12",
            "broker process 13",
            "server-ended process 11",
        ] {
            list.add(line.parse().unwrap());
        }
        let server = |target: &str, signal| (target.parse().unwrap(), signal);
        let expected = [server("process 12", Signal::QUIT), server("process 13", Signal::KILL)];
        assert_eq!(list.servers, expected);
    }
}
