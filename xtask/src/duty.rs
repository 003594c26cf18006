//! What the guard is told to take down.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};
use rustix::process::Signal;

use crate::program;
use crate::target::Target;

/// One line from the parent to the guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Duty {
    /// The command that runs now, if one does.
    Command(Option<Target>),
    /// A PostgreSQL server's first process; there may be several servers.
    Server(Target),
    /// A Kafka broker's process.
    Broker(Target),
    /// That one has ended on its own.
    ServerEnded(Target),
    /// A container that a server runs in.
    Container { engine: String, name: String },
    /// A folder with servers' data.
    Folder(PathBuf),
}

/// All duties, as last told.
#[derive(Debug, Default)]
pub(crate) struct Duties {
    command: Option<Target>,
    servers: Vec<(Target, Signal)>,
    containers: Vec<(String, String)>,
    folders: Vec<PathBuf>,
}

impl Duties {
    pub(crate) fn note(&mut self, duty: Duty) {
        match duty {
            Duty::Command(target) => self.command = target,
            // Nobody needs this data. PostgreSQL's immediate shutdown ends its other processes too;
            // Java has none.
            Duty::Server(target) => self.servers.push((target, Signal::QUIT)),
            Duty::Broker(target) => self.servers.push((target, Signal::KILL)),
            Duty::ServerEnded(target) => self.servers.retain(|(server, _)| *server != target),
            Duty::Container { engine, name } => self.containers.push((engine, name)),
            Duty::Folder(folder) => self.folders.push(folder),
        }
    }

    /// Ends the command, then the servers, then removes what they leave.
    pub(crate) fn fulfil(self) {
        if let Some(command) = self.command {
            command.end(Signal::TERM, Duration::from_secs(5));
        }
        for (server, signal) in self.servers {
            server.end(signal, Duration::from_secs(10));
        }
        for (engine, name) in self.containers {
            let mut remove = Command::new(engine);
            remove.args(["rm", "--force", "--volumes", &name]);
            if !program::succeeds_within(Duration::from_secs(30), &mut remove) {
                eprintln!("xtask: container {name} could not be removed");
            }
        }
        for folder in self.folders {
            if let Err(error) = fs::remove_dir_all(&folder) {
                eprintln!("xtask: {} could not be removed: {error}", folder.display());
            }
        }
    }
}

impl fmt::Display for Duty {
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

impl FromStr for Duty {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let (kind, rest) = line.split_once(' ').context("a kind and its details")?;
        Ok(match kind {
            "command" if rest == "none" => Self::Command(None),
            "command" => Self::Command(Some(rest.parse()?)),
            "server" => Self::Server(rest.parse()?),
            "broker" => Self::Broker(rest.parse()?),
            "server-ended" => Self::ServerEnded(rest.parse()?),
            "container" => {
                let (engine, name) = rest.split_once(' ').context("an engine and a name")?;
                Self::Container { engine: engine.to_owned(), name: name.to_owned() }
            }
            "folder" => Self::Folder(rest.into()),
            _ => bail!("no such duty"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_pipe() {
        for line in [
            "command group 4711",
            "command none",
            "server process 4712",
            "broker process 4713",
            "server-ended process 4712",
            "container docker composable-rust-1",
            "folder /tmp/with a space/x",
        ] {
            assert_eq!(line.parse::<Duty>().unwrap().to_string(), line);
        }
    }

    #[test]
    fn only_the_last_command_counts_but_every_folder() {
        let mut duties = Duties::default();
        for line in ["command group 4711", "command none", "folder /a", "folder /b"] {
            duties.note(line.parse().unwrap());
        }
        assert_eq!(duties.command, None);
        assert_eq!(duties.folders, [PathBuf::from("/a"), PathBuf::from("/b")]);
    }

    #[test]
    fn every_server_counts_until_it_ends() {
        let mut duties = Duties::default();
        for line in [
            "server process 11",
            "server process 12",
            "broker process 13",
            "server-ended process 11",
        ] {
            duties.note(line.parse().unwrap());
        }
        let server = |target: &str, signal| (target.parse().unwrap(), signal);
        let left = [server("process 12", Signal::QUIT), server("process 13", Signal::KILL)];
        assert_eq!(duties.servers, left);
    }
}
